"""The catalogue under our rules: everything is told as it should be, but for what is known not to be."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from herdwatch import cli
from herdwatch.errors import ToolError
from herdwatch.promtool import Promtool
from herdwatch.proof.catalogue import INCIDENTS
from herdwatch.proof.known import KNOWN
from herdwatch.proof.names import translate
from herdwatch.proof.plays import Series
from herdwatch.proof.score import PHASES, PLAY_TIMEOUT, Score, reason, score
from herdwatch.proof.trials import RuleSet, run, run_recordings

OURS = RuleSet("herdwatch")
STEP = 15


@pytest.fixture(scope="module")
def ours() -> Score:
    """Evaluated at every scrape only, which takes a third of the time and tells ten seconds later at most."""
    return score(OURS, 15, step=STEP)


def test_what_is_missed_is_what_is_known_to_be(ours: Score) -> None:
    known = {name for name, one in KNOWN.items() if one.interval <= ours.interval}
    assert {one.trial.incident.name: (one.seconds, one.wrong) for one in ours.failures if not reason(one)} == {}
    assert known == {one.trial.incident.name for one in ours.failures}


def test_one_incident_is_one_page(ours: Score) -> None:
    assert {one.trial.incident.name: one.pages for one in ours.pages_due if one.pages != 1} == {}


def test_incidents_that_share_a_play_are_judged_as_they_are_alone(ours: Score) -> None:
    names = ("cold-restart", "flush-of-one-shard-of-three", "singleflight-off-and-stampede", "nightly-purge")
    numbers = [number for number, one in enumerate(INCIDENTS) if one.name in names]
    for number in numbers:
        together = ours.verdicts[number].trial
        [alone] = run(
            OURS,
            [INCIDENTS[number]],
            promtool=Promtool(timeout=PLAY_TIMEOUT),
            interval=15,
            phases=PHASES[15],
            step=STEP,
        )
        assert alone.phase == together.phase
        assert [one for one in alone.firings if one.alert != "HerdwatchWatchdog"] == list(together.firings)


class Interrupted(Promtool):
    """One whose first run is interrupted, and whose others end only when they are told to."""

    def __init__(self) -> None:
        self.first, self.stopped = threading.Lock(), threading.Event()

    def answers(self, path: Path) -> str:
        if self.first.acquire(blocking=False):
            raise KeyboardInterrupt
        assert self.stopped.wait(20)
        raise ToolError(f"{path} was given up")

    def stop(self) -> None:
        self.stopped.set()


def test_an_interrupt_ends_what_is_played_at_the_same_time() -> None:
    promtool = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        run(OURS, [one for one in INCIDENTS if one.alone][:2], promtool=promtool, interval=15, phases=PHASES[15])
    assert promtool.stopped.is_set()
    promtool = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        run_recordings(promtool=promtool)
    assert promtool.stopped.is_set()


SEED = """
groups:
  - name: seed
    rules:
      - {alert: CacheRestarted, expr: cache_keys < 1000, for: 1m, labels: {severity: critical}}
"""


def test_other_rules_are_scored_beside_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "theirs.yml").write_text(SEED)
    arguments = ["score", "--rules", str(tmp_path / "theirs.yml"), "--only", "refilled-slowly", "--only", "tiny-cache"]
    assert cli.run([*arguments, "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first["rules"] == "herdwatch"
    assert (first["recall"], first["quiet"], first["precision"]) == (1.0, 1.0, 1.0)
    # A minute is too late for the one, and few keys are no news for the other.
    assert (second["recall"], second["quiet"]) == (0.0, 0.0)
    assert cli.run(arguments) == 0
    shown = capsys.readouterr().out
    assert "3 plays: 1 incidents, 2 calm days" in shown
    assert "a page was not delivered within 50 s" in shown


def test_the_names_of_redis_exporter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules = "groups: [{name: g, rules: [{alert: RedisDown, expr: redis_up == 0, labels: {severity: critical}}]}]"
    (tmp_path / "theirs.yml").write_text(rules)
    arguments = ["score", "--rules", str(tmp_path / "theirs.yml"), "--names", "redis_exporter", "--only", "redis-down"]
    assert cli.run([*arguments, "--json"]) == 0
    theirs = json.loads(capsys.readouterr().out)[1]
    assert (theirs["recall"], theirs["cause_named"]) == (1.0, 1.0)


def test_a_translation_keeps_samples_and_ends() -> None:
    labels = {"cache": "c", "instance": "i", "job": "herdwatch"}
    ours = [
        Series("cache_start_time_seconds", labels, [(7, -100.0), (22, None)]),
        Series("cache_keys", {**labels, "db": "3"}, [(7, 5.0)]),
        Series("cache_primary", labels, [(7, 1.0), (22, 0.0)]),
        Series("up", labels, [(7, 1.0)]),
        Series("singleflight_enabled", labels, [(7, 1.0)]),
    ]
    made = {(one.name, one.labels.get("db") or one.labels.get("role")): list(one.points) for one in _theirs(ours)}
    assert made == {
        ("redis_start_time_seconds", None): [(7, -100.0), (22, None)],
        ("redis_uptime_in_seconds", None): [(7, 107.0), (22, None)],
        ("redis_db_keys", "db3"): [(7, 5.0)],
        ("redis_instance_info", "master"): [(7, 1.0), (22, None)],
        ("redis_instance_info", "slave"): [(7, None), (22, 1.0)],
        ("up", None): [(7, 1.0)],
    }


def test_of_a_redis_that_hangs_redis_exporter_says_nothing() -> None:
    labels = {"cache": "c", "instance": "i", "job": "herdwatch"}
    made = _theirs(
        [
            Series("up", labels, [(7, 1.0), (22, 1.0)]),
            Series("cache_up", labels, [(7, 1.0), (22, 0.0)]),
            Series("cache_failure", {**labels, "reason": "timeout"}, [(22, 1.0)]),
        ]
    )
    assert {one.name: list(one.points) for one in made} == {
        "up": [(7, 1.0), (22, 0.0)],
        "redis_up": [(7, 1.0), (22, None)],
    }


def _theirs(series: list[Series]) -> list[Series]:
    return list(translate(series, "redis_exporter"))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--rules", "none.yml"], 2, "--rules none.yml: is no file"),
        (["--names", "other"], 2, "--names other: is none of herdwatch, redis_exporter"),
        (["--interval", "20"], 2, "--interval 20: is none of 5, 15, 30, 60 (seconds)"),
        (["--only", "nonsense"], 2, "no incident has that in its name; all: cold-restart, "),
        (["--rules", "broken.yml", "--only", "tiny"], 1, "broken.yml:3: not valid YAML"),
        (["--rules", "empty.yml", "--only", "tiny"], 1, "empty.yml: holds no rule"),
        (["--rules", "expression.yml", "--only", "tiny"], 1, "expression.yml"),
        (["--rules", "foreign.yml", "--only", "tiny"], 1, "foreign.yml: knows none of the catalogue's metrics"),
    ],
)
def test_bad_input_is_a_sentence_and_never_a_score(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.yml").write_text("groups:\n  - {name: [\n")
    (tmp_path / "foreign.yml").write_text("groups: [{name: g, rules: [{alert: A, expr: redis_up == 0}]}]\n")
    (tmp_path / "empty.yml").write_text("groups: []\n")
    (tmp_path / "expression.yml").write_text("groups: [{name: g, rules: [{alert: A, expr: 'sum('}]}]\n")
    assert cli.run(["score", *arguments]) == code
    shown = capsys.readouterr()
    assert message in shown.err
    assert "Traceback" not in shown.err
    assert "told" not in shown.out
