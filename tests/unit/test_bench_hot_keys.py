"""The benchmark of hot keys: it prints what it is for and measures the truth. No time is asserted."""

from __future__ import annotations

import time
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from herdwatch import journals
from herdwatch.drill.bench import hot_keys
from herdwatch.drill.bench.setting import Setting
from herdwatch.stack import RedisServer


def test_recall_is_one_where_the_counters_suffice_and_less_beside_a_journal_of_other_keys(tmp_path: Path) -> None:
    traffic = hot_keys.zipf(20_000, 500)
    assert hot_keys.recall(traffic, tmp_path) == 1.0
    [file] = tmp_path.glob("*")
    assert journals.read(file).total == 20_000
    others = journals.Group(10**9, 0, {f"other:{number}": 10**6 for number in range(1000)})
    journal = journals.Journal("bench", "bench", time.time(), {"default": others})
    file.write_text("".join(journals.lines(journal)))
    assert hot_keys.recall(traffic, tmp_path) == 0.0


def test_it_compares_on_and_off_and_ends_with_a_verdict_for_each_aim(
    shared: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("_KEYS", 2_000), ("_LOOKUPS", 5_000), ("_CALLS", 50)):
        monkeypatch.setattr(hot_keys, name, value)
    out = StringIO()
    setting = Setting(Console(file=out, width=200), shared, shared, None, 2, tmp_path)
    verdicts = hot_keys.run(setting)
    assert "Guard.get on a Redis" in out.getvalue()
    assert "Guard.get on a store that answers at once" in out.getvalue()
    assert "Recall of the journal's top 1,000, 5,000 lookups by Zipf's law: 1.000" in out.getvalue()
    assert [line.split(":")[1].strip() for line in verdicts] == [
        "Hit that counts its key",
        "Recall of the top 1,000",
    ]
    assert verdicts[1].endswith(": met, 0.90 of it")
