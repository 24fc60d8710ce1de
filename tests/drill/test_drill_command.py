"""`herdwatch drill` as one meets it: what it refuses, and what is left when it is interrupted."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.drill_runs import GOOD
from tests.leftovers import processes_in

from herdwatch.cli import run
from herdwatch.drill.replay import session, verdicts
from herdwatch.drill.replay.command import listed
from herdwatch.drill.replay.levels import Level
from herdwatch.drill.replay.results import Drill, Result
from herdwatch.drill.replay.scenarios import SCENARIOS
from herdwatch.drill.replay.session import Audience, Order
from herdwatch.errors import StackError
from herdwatch.stack import RedisServer, Supervisor
from herdwatch.stack import postgres as embedded


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["earthquake"], "no scenario 'earthquake'; there is: restart, flush, hang"),
        (["restart:armour"], "restart:armour: no level 'armour'; there is: none, singleflight"),
        (["flush:replica"], "flush:replica: replica is for a restart that was planned: restart:replica"),
        (["flush", "--all"], "--all plays every scenario; give it without names of some"),
        (["flush", "flush:limiter"], "a run can be in a drill once: flush-limiter, flush-limiter"),
        (["--database", "host=x hunter2"], "--database: no connection string that PostgreSQL's clients read"),
        (["--database", "postgresql://me:hunter2@db/x"], "--database: a password does not belong on a command line"),
        (["--database", "postgresql://me:a@hunter2@db/x"], "--database: a password does not belong on a command line"),
        (["--database", ""], "--database: no connection string that PostgreSQL's clients read"),
        (["singleflight-off:none"], "without a guard there is no singleflight to switch off"),
        (["--out", "drill.json"], "--out drill.json: it must end in .html"),
        (["--record", "nowhere"], "--record nowhere: is no folder; make it first"),
        (["--multiple", "2"], "Invalid value for '--multiple'"),
        (["--scrape-interval", "7"], "--scrape-interval 7: it must be 5 or 15"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, list) else "",
)
def test_what_cannot_be_played_is_one_sentence_and_starts_nothing(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(["drill", "--out", str(tmp_path / "drill.html"), *arguments]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert sentence in told.err
    assert told.err.count("\n") == 1
    assert "hunter2" not in told.err
    assert list(tmp_path.iterdir()) == []


def test_one_core_is_not_enough(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert run(["drill"]) == 2
    assert "a drill needs 2 cores, and there is 1" in capsys.readouterr().err


def test_a_page_that_is_somebody_elses_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "drill.html"
    page.write_text("my own notes")
    assert run(["drill", "--out", str(page)]) == 2
    assert "is no page of a drill" in capsys.readouterr().err
    assert page.read_text() == "my own notes"


def test_a_file_that_is_somebody_elses_json_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "drill.json"
    data.write_text('{"mine": 1}')
    assert run(["drill", "--out", str(tmp_path / "drill.html")]) == 2
    assert f"--out: {data} exists and is no drill's" in capsys.readouterr().err
    assert data.read_text() == '{"mine": 1}'


def test_a_database_that_refuses_ends_it_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", "hunter2")
    assert run(["drill", "--database", "host=127.0.0.1 port=1", "--out", str(tmp_path / "drill.html")]) == 1
    told = capsys.readouterr()
    assert told.err.startswith("herdwatch: the database refuses: ")
    assert "hunter2" not in told.out + told.err
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield int(other.getsockname()[1])


def test_a_port_that_somebody_took_is_said(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "free_port", lambda: taken)
    with Supervisor() as supervisor:
        with pytest.raises(StackError, match=r"^redis .*Address already in use"):
            RedisServer(supervisor, port=taken)
        with pytest.raises(StackError, match=r"^postgresql .*Address already in use"):
            embedded.PostgresServer(supervisor)


def test_the_list_has_every_scenario_and_every_level() -> None:
    text = "\n".join(listed())
    for one in SCENARIOS.values():
        assert f"{one.name} " in text
        assert one.about in text
    for level in Level:
        assert level.about in text


def test_the_short_set_climbs_the_ladder_and_all_is_everything() -> None:
    assert session.SHORT[0].level == Level.NONE
    assert {run.scenario.name for run in session.ALL} == set(SCENARIOS)
    assert {run.level for run in session.ALL if run.scenario.name == "restart"} == set(Level)
    assert {session.parse(one.name.replace(f"-{one.level}", f":{one.level}")) for one in session.ALL} == set(
        session.ALL
    )


@pytest.mark.parametrize("moment", ["Starting PostgreSQL", "The database takes"])
def test_ctrl_c_stops_everything(moment: str, tmp_path: Path) -> None:
    folder, out = tmp_path / "t", tmp_path / "drill.html"
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "herdwatch", "drill", "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    next(line for line in process.stdout if line.startswith(moment))
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=60)
    assert (process.returncode, complaint) == (130, "herdwatch: interrupted\n")
    assert processes_in(str(folder)) == []
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (KeyboardInterrupt(), 130, "it was interrupted"),
        (SystemExit(143), 143, "it was interrupted"),
        (StackError("prometheus has ended: it wrote no log"), 1, "prometheus has ended: it wrote no log"),
    ],
    ids=["Ctrl-C", "SIGTERM", "a server died"],
)
def test_what_was_played_is_kept_and_marked_as_partial(
    error: BaseException,
    code: int,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def play(order: Order, audience: Audience, keep: Callable[[Drill], None]) -> Drill:
        drill = Drill(order.seed, 100.0, 20.0, 20.0, order.interval, {}, {}, results=[GOOD], partial="not over")
        keep(drill)
        audience.ended(GOOD)
        raise error

    monkeypatch.setattr(session, "play", play)
    out = tmp_path / "drill.html"
    try:
        got = run(["drill", "--out", str(out)])
    except SystemExit as ended:
        got = int(str(ended.code))
    assert got == code
    kept = json.loads(out.with_suffix(".json").read_text())
    assert (kept["partial"], kept["passed"], kept["results"][0]["name"]) == (told, False, GOOD.name)
    assert told in out.read_text()
    assert f"This drill is partial: {told}." in capsys.readouterr().out


@pytest.mark.parametrize(("result", "code"), [(GOOD, 0), (replace(GOOD, failed=3), 1)], ids=["as it should be", "not"])
def test_a_whole_drill_succeeds_if_everything_is_as_it_should_be(
    result: Result, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def play(order: Order, _: Audience, keep: Callable[[Drill], None]) -> Drill:
        drill = Drill(order.seed, 100.0, 20.0, 20.0, order.interval, {}, {}, results=[result])
        verdicts.judge(drill)
        keep(drill)
        return drill

    monkeypatch.setattr(session, "play", play)
    assert run(["drill", "--out", str(tmp_path / "drill.html")]) == code
    told = capsys.readouterr()
    assert (result.name in told.out, "PostgreSQL counted what" in told.out) == (True, True)
    wrong = "herdwatch: not as it should be: restart-limiter: nobody failed beyond those shed on purpose\n"
    assert told.err == ("" if code == 0 else wrong)
    assert json.loads((tmp_path / "drill.json").read_text())["passed"] is (code == 0)
    assert run(["drill", "--out", str(tmp_path / "drill.html")]) == code  # written over, as it is a drill's
