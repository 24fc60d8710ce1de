"""The benchmark of key groups, made small: what it counts, prints and says without its peer. No time is asserted."""

from __future__ import annotations

from io import StringIO
from typing import NoReturn

import pytest
from rich.console import Console
from tests.waiting import until

from herdwatch.drill.bench import key_groups
from herdwatch.errors import ToolError
from herdwatch.stack import RedisServer, Supervisor

KEYS = 2000


def test_both_comparisons_are_made_and_judged_and_nobody_goes_on_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> NoReturn:
        raise ToolError(f"{name} is not installed")

    monkeypatch.setattr(key_groups, "find", missing)
    for name, small in {"CPU_ROUNDS": 1, "COUNTS": 1, "GET_ROUNDS": 2, "GET_SECONDS": 0.1}.items():
        monkeypatch.setattr(key_groups, name, small)
    console = Console(file=StringIO(), width=120, highlight=False)
    with Supervisor() as supervisor:
        redis = RedisServer(supervisor)
        with redis.client() as client:
            client.mset({f"user:{number}": number for number in range(KEYS)})
            key_groups.measure(supervisor, redis, console, keys=KEYS)
            assert supervisor.dead() == []
            until(lambda: len(client.client_list()) == 1)
    assert isinstance(console.file, StringIO)
    printed = console.file.getvalue()
    assert "without redis_exporter: redis_exporter is not installed" in printed
    assert "a count of 5 key groups among 2,000 keys" in printed
    assert printed.count("aim: ") == 2
