"""The benchmark's own machinery: workers and their failures, arithmetic, what is counted. No time is asserted."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from herdwatch import cli
from herdwatch.drill.bench import asyncio_candidates, figures, herds, hits, overheads, parts, peers, threads_candidates
from herdwatch.drill.bench.crew import Worker
from herdwatch.drill.bench.orders import PROFILE, VALUES, Order
from herdwatch.drill.bench.setting import Candidate, Setting, calls, spent
from herdwatch.errors import StackError, ToolError
from herdwatch.stack import RedisServer, Supervisor

OPEN = {"asyncio": asyncio_candidates.OPEN, "threads": threads_candidates.OPEN}
NOBODY = Candidate("nobody", "none", "asyncio")
NOBODY_AS_PEER = replace(NOBODY, peer=True)


@pytest.fixture(scope="module")
def servers() -> Iterator[list[RedisServer]]:
    with Supervisor() as supervisor:
        yield [RedisServer(supervisor), RedisServer(supervisor, name="counter")]


@pytest.fixture
def setting(servers: list[RedisServer], tmp_path: Path) -> Setting:
    redis, counter = servers
    console = Console(file=StringIO(), width=200, highlight=False)
    return Setting(console, redis, counter, peers=None, rounds=2, folder=tmp_path)


def printed(setting: Setting) -> str:
    assert isinstance(setting.console.file, StringIO)
    return setting.console.file.getvalue()


def script(code: str, tmp_path: Path) -> Worker:
    """A worker that says it is ready and then does what `code` does."""
    ready = 'import sys, time; print(\'{"ready": {"redis": "8"}}\', flush=True)\n'
    return Worker("somebody", [sys.executable, "-c", ready + code], env={}, log=tmp_path / "log")


def test_a_worker_answers_one_line_for_each_request(tmp_path: Path) -> None:
    with script("for line in sys.stdin: print(line, end='', flush=True)", tmp_path) as worker:
        assert worker.versions == {"redis": "8"}
        assert worker.ask("hits", seconds=10, key="a") == {"do": "hits", "seconds": 10, "key": "a"}
        assert worker.ask("herd", seconds=10)["do"] == "herd"


def test_a_worker_that_fails_is_one_sentence_with_its_last_words(tmp_path: Path) -> None:
    failing = "sys.stdin.readline(); raise LookupError('no such key')"
    told = r"^the worker of somebody ended with exit code 1: LookupError: no such key$"
    with script(failing, tmp_path) as worker, pytest.raises(StackError, match=told):
        worker.ask("hits", seconds=10)


def test_a_worker_that_ended_before_it_was_asked_is_the_same_sentence(tmp_path: Path) -> None:
    with script("", tmp_path) as worker:
        worker._child.wait(10)
        with pytest.raises(StackError, match=r"ended with exit code 0: it wrote no log$"):
            worker.ask("hits", seconds=10)


def test_a_worker_that_does_not_answer_in_time_is_killed(tmp_path: Path) -> None:
    with script("time.sleep(60)", tmp_path) as worker:
        with pytest.raises(StackError, match=r"^the worker of somebody did not answer within 0\.2 s$"):
            worker.ask("hits", seconds=0.2)
        assert worker._child.wait(10) == -9


def test_what_is_no_json_object_is_quoted(tmp_path: Path) -> None:
    told = r"answered b'\[1\]', which is no JSON object"
    with (
        script("print('[1]', flush=True); sys.stdin.read()", tmp_path) as worker,
        pytest.raises(StackError, match=told),
    ):
        worker.ask("hits", seconds=10)


def test_a_worker_that_cannot_be_started_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"somebody cannot be started: No such file or directory: gone"):
        Worker("somebody", ["gone"], env={}, log=tmp_path / "log")


def test_the_failure_of_one_caller_is_in_the_answer_and_ends_nothing(setting: Setting) -> None:
    with setting.hire(NOBODY) as worker:
        for _ in range(2):
            answer = worker.ask("herd", seconds=10, key="k", callers=2)
            assert answer["wrong"] == ["LookupError: nobody is here to be asked for k"] * 2
            assert len(answer["times"]) == 2


def test_our_own_failure_ends_the_benchmark(setting: Setting) -> None:
    told = "the worker of nobody ended with exit code 1: KeyError: 'dance'"
    with setting.lineup([NOBODY]) as lineup, pytest.raises(StackError, match=told):
        setting.in_turn(lineup, lambda _, workers, __: workers[0].ask("dance", seconds=10))


def test_a_peer_that_fails_is_told_once_and_left_out_and_the_others_go_on(setting: Setting) -> None:
    setting.peers = Path(sys.executable)
    turns: list[str] = []

    def measure(candidate: Candidate, workers: list[Worker], number: int) -> int:
        turns.append(candidate.label)
        if candidate.peer:
            workers[0].ask("dance", seconds=10)
        return number

    with setting.lineup([NOBODY_AS_PEER, NOBODY]) as lineup:
        assert setting.in_turn(lineup, measure) == {NOBODY: [0, 1]}
        assert lineup[NOBODY_AS_PEER][0]._child.poll() == 1
    assert turns == ["nobody", "nobody", "nobody"]
    assert printed(setting) == "without nobody: the worker of nobody ended with exit code 1: KeyError: 'dance'\n"


def test_a_peer_whose_package_is_missing_is_left_out_of_the_line(setting: Setting) -> None:
    setting.peers = Path(sys.executable)
    with setting.lineup([Candidate("cashews", "cashews", "asyncio", peer=True)]) as lineup:
        assert lineup == {}
    assert "ModuleNotFoundError: No module named 'cashews'" in printed(setting)


def test_without_their_environment_no_peer_takes_part(setting: Setting) -> None:
    assert setting.present([NOBODY_AS_PEER, NOBODY]) == [NOBODY]


def test_a_ratio_is_taken_within_each_round() -> None:
    # The second round is ten times slower for both: the medians of all figures would not show that mine costs double.
    assert figures.ratio([2.0, 20.0, 2.0], [1.0, 10.0, 1.0]) == figures.Spread(2.0, 2.0, 2.0)
    assert figures.beyond([3.0, 5.0, 4.0], [1.0, 1.0, 1.0]) == figures.Spread(3.0, 2.5, 3.5)


def test_one_round_is_its_own_spread_and_none_is_an_error() -> None:
    assert figures.Spread.of([7.0]) == figures.Spread(7.0, 7.0, 7.0)
    with pytest.raises(ValueError, match="no round gave a figure"):
        figures.Spread.of([])


def test_rounds_that_one_side_lacks_are_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        figures.ratio([1.0, 2.0], [1.0])


def test_a_verdict_says_how_much_of_the_aim_was_used() -> None:
    assert figures.verdict("p99 at most 60 ms", 0.871) == "aim: p99 at most 60 ms: met, 0.87 of it"
    assert figures.verdict("p99 at most 60 ms", 1.2) == "aim: p99 at most 60 ms: MISSED, 1.20 of it"


def test_a_hundredth_of_the_values_is_above_p99() -> None:
    assert figures.p99([float(number) for number in range(1, 1000)]) == 990.0
    with pytest.raises(ValueError, match="two values"):
        figures.p99([1.0])


def test_commands_are_counted_in_scripts_too_and_without_our_own_asking(setting: Setting) -> None:
    with setting.redis.client() as client:
        before = calls(client)
        client.set("a", "b")
        client.eval("return redis.call('GET', 'a')", 0)
        client.info("server")
        assert spent(before, calls(client)) == {"set": 1, "eval": 1, "get": 1}


def test_the_processes_of_a_herd_are_one_outcome() -> None:
    answers = [{"times": [1.0, 2.0], "loads": 1, "wrong": []}, {"times": [3.0], "loads": 1, "wrong": ["E: e"]}]
    both = herds.outcome(answers, {"get": 2, "set": 1}, None)
    assert (both.times, both.loads, both.total, both.wrong) == ([1.0, 2.0, 3.0], 2, 3, ["E: e"])
    assert herds.outcome(answers, {}, 7).loads == 7


def test_loaders_count_themselves_here_and_in_redis(setting: Setting) -> None:
    order = Order("guard", setting.redis.url, counter=setting.counter.url)
    with setting.counter.client() as counter:
        counter.delete("loads")
        assert order.load_in_thread("k") == VALUES["raw"]
        assert asyncio.run(order.load("k")) == VALUES["raw"]
        assert counter.get("loads") == b"2"
    assert order.loads == 2


def test_the_value_is_a_hundred_bytes_raw_and_about_as_many_as_json() -> None:
    assert len(VALUES["raw"]) == 100
    assert 90 <= len(str(PROFILE)) <= 130


@pytest.mark.parametrize("line", hits.LINES, ids=lambda line: line[2])
def test_every_candidate_of_a_hit_is_one_that_its_worker_opens(line: tuple[str, str, str]) -> None:
    kind, value, _ = line
    assert {one.name for one in hits.candidates(kind, value)} <= OPEN[kind].keys()


@pytest.mark.parametrize("herd", herds.LINES, ids=lambda herd: herd.title)
def test_every_candidate_of_a_herd_is_one_that_its_worker_opens(herd: herds.Herd) -> None:
    for candidate in herd.candidates:
        assert candidate.name in OPEN[candidate.kind]


def test_every_part_has_its_measure() -> None:
    assert {part.measure for part in overheads.PARTS} == parts.MEASURES.keys()


@pytest.mark.parametrize("kind", ["asyncio", "threads"])
def test_a_small_herd_runs_without_peers_and_is_served_by_one_load(setting: Setting, kind: str) -> None:
    setting.rounds = 1
    [line] = [one for one in herds.LINES if one.processes == 1 and one.candidates[0].kind == kind]
    assert f"{line.title}: 1 load in every round: met, 1.00 of it" in "\n".join(
        herds.line(setting, replace(line, callers=20))
    )
    assert "no cache: one waits, all follow" in printed(setting)
    assert "cashews" not in printed(setting)


def test_two_processes_share_one_load(setting: Setting) -> None:
    setting.rounds = 1
    [line] = [one for one in herds.LINES if one.processes > 1]
    verdicts = herds.line(setting, replace(line, callers=10, processes=2))
    assert verdicts == [f"aim: {line.title}: 1 load in every round: met, 1.00 of it"]


@pytest.mark.parametrize("line", hits.LINES, ids=lambda line: line[2])
def test_a_hit_is_measured_beside_a_bare_get(
    setting: Setting, line: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hits, "SAMPLE_SECONDS", 0.01)
    assert re.search(
        r"^aim: Hit, .*: at most 1\.10 of redis-py GET.*: (met|MISSED), \d\.\d\d of it$", hits.line(setting, *line)
    )


def test_a_candidate_that_gives_another_value_is_told(setting: Setting) -> None:
    told = "forgetful loaded where every call hits, or gave another value"
    with setting.hire(Candidate("bare", "bare", "asyncio")) as worker, pytest.raises(StackError, match=told):
        hits.sample(Candidate("forgetful", "guard", "asyncio"), worker, 10)  # asks for a key that is not there


def test_the_pins_of_the_peers_are_names_and_versions_alone() -> None:
    for line in peers.PINS.read_text(encoding="utf-8").splitlines():
        assert re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9.]*", line), line


def test_an_environment_that_has_these_pins_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    (tmp_path / "herdwatch-pins.txt").write_text(peers.contents(), encoding="utf-8")
    assert peers.python(tmp_path) == tmp_path / "bin" / "python"


def test_an_environment_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ToolError, match=r"^python -m venv failed with exit code 1: .*Not a directory.*$"):
        peers.python(tmp_path / "file" / "peers")


def test_peers_that_cannot_be_installed_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "pins.txt").write_text("no such thing\n")
    with pytest.raises(ToolError, match=r"^pip install failed with exit code 1: ERROR: .*'no such thing'.*$"):
        peers.run([sys.executable, "-m", "pip", "install", "-r", str(tmp_path / "pins.txt")])


def test_only_what_can_be_measured_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["bench", "moon"]) == 2
    assert "'moon' is not one of 'exporter', 'guard'" in capsys.readouterr().err
