"""Rules of others under the catalogue: what no play answers is said, so that nobody takes the score for more."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from herdwatch import cli
from herdwatch.bundle.location import bundle_root
from herdwatch.proof import score as scores
from herdwatch.proof.catalogue import INCIDENTS
from herdwatch.proof.foreign import Foreign
from herdwatch.proof.known import KNOWN
from herdwatch.proof.trials import RuleSet

DOWN = "redis_up == 0"


def written(folder: Path, *rules: str, group: str = "") -> Path:
    """A rule file of one group; its first rule is at line 4, or one later where `group` says more of the group."""
    path = folder / "theirs.yml"
    lines = [*([f"    {group}"] if group else []), "    rules:", *(f"      - {{{rule}}}" for rule in rules)]
    path.write_text("\n".join(["groups:", "  - name: g", *lines, ""]))
    return path


def alert(expr: str, name: str = "RedisDown", severity: str = "critical") -> str:
    return f"alert: {name}, expr: '{expr}', labels: {{severity: {severity}}}"


UNANSWERED = {
    "a label that no series of the name has": (
        'redis_up{job="redis"} == 0',
        'no incident that was played has redis_up with job="redis"; there job is "herdwatch"',
    ),
    "a label that is missing": (
        'redis_up{env!="",role=~"a.*"} == 0',
        'no incident that was played has redis_up with env!="", role=~"a.*"; there env is missing; there role is '
        "missing",
    ),
    "a name that nobody has": ("nosuch == 0 or redis_up == 2", "no incident that was played has nosuch"),
    "names by a pattern": (
        '{__name__=~"nosuch.*"} or redis_up == 2',
        'no incident that was played has __name__=~"nosuch.*"',
    ),
    "an alert that is not declared": (
        'ALERTS{alertname="Nosuch"} and redis_up == 0',
        'no alert of these rules has alertname="Nosuch"',
    ),
    "an alert that is, and a record": ('ALERTS{alertname="RedisDown"} or a:b{x="y"} or redis_up == 2', None),
}


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Mapping[str, str]]:
    """What the rules of others are played on where a Redis is down."""
    rules = RuleSet("theirs", (written(tmp_path_factory.mktemp("rules"), alert(DOWN)),), "redis_exporter")
    [verdict] = scores.score(rules, 15, incidents=[one for one in INCIDENTS if one.name == "redis-down"]).verdicts
    return verdict.trial.series


@pytest.mark.parametrize("sentence", UNANSWERED)
def test_a_selector_that_finds_no_series_is_told_with_file_and_line(
    tmp_path: Path, series: Sequence[Mapping[str, str]], sentence: str
) -> None:
    expr, told = UNANSWERED[sentence]
    path = written(tmp_path, alert(expr), "record: 'a:b', expr: redis_up")
    theirs = Foreign.load([path], "redis_exporter")
    assert theirs.unanswered(series) == ([] if told is None else [f"{path}:4: {told}"])


def test_a_severity_that_nobody_knows_is_told_and_what_a_page_would_be(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        alert(DOWN, severity="P1"),
        alert(DOWN, "RedisGone", "P1"),
        alert(DOWN, "RedisOdd", '"{{ $labels.severity }}"'),
        f"alert: RedisAway, expr: {DOWN}",
    )
    assert Foreign.load([path], "redis_exporter").severities() == [
        f"{path}:4: the severity 'P1' counts as a warning; what counts as a page is critical, page, emergency, high",
        f"{path}:7: no severity counts as a warning; what counts as a page is critical, page, emergency, high",
    ]


def test_a_group_is_evaluated_at_its_own_interval_or_it_is_said_that_it_is_not(tmp_path: Path) -> None:
    path = written(tmp_path, alert(DOWN), group="interval: 1m")
    assert Foreign.load([path], "redis_exporter").step(5) == 60
    with path.open("a") as file:
        file.write(f"  - name: h\n    rules:\n      - {{{alert(DOWN, 'RedisGone')}}}\n")
    both = Foreign.load([path], "redis_exporter")
    assert both.step(5) == 5
    assert both.slower(5) == [
        f"{path}: the group g is evaluated every 5 s here, and every 60 s by Prometheus: it would tell up to 55 s later"
    ]


def test_what_a_score_leaves_out_is_in_the_table_and_in_the_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, alert('redis_up{job="redis"} == 0', severity="P1"), alert(DOWN), group="interval: 1m")
    arguments = ["score", "--rules", str(path), "--names", "redis_exporter", "--only", "redis-down"]
    assert cli.run([*arguments, "--json"]) == 0
    theirs = json.loads(capsys.readouterr().out)[1]
    assert [note.partition(" ")[0] for note in theirs["notes"]] == [f"{path}:5:", f"{path}:5:"]
    [after] = [one["after"] for one in theirs["incidents"][0]["fired"]]
    assert (theirs["recall"], after > 0) == (1.0, True)
    assert cli.run(arguments) == 0
    shown = capsys.readouterr().out
    assert all(note in shown for note in theirs["notes"])


def test_the_json_says_what_is_known_of_a_miss_and_counts_nothing_where_nothing_was_played(
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = "cold-restart-between-two-scrapes"
    cli.run(["score", "--only", name, "--least", "0", "--json"])
    [ours] = json.loads(capsys.readouterr().out)
    assert ours["incidents"][0]["reason"] == KNOWN[name].reason
    assert (ours["recall"], ours["quiet"], ours["precision"]) == (0.0, None, None)


def test_a_rendered_bundle_of_ours_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    path = bundle_root() / "alerts" / "herdwatch.rules.yml"
    assert cli.run(["score", "--rules", str(path), "--only", "tiny"]) == 2
    shown = capsys.readouterr()
    assert f"--rules {path}:7: records herdwatch:cache, as a rendered bundle of herdwatch does, which" in shown.err
    assert shown.out == ""


def test_least_holds_for_rules_of_others_where_it_is_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, alert("redis_up == 2"))
    arguments = ["score", "--rules", str(path), "--names", "redis_exporter", "--only", "redis-down"]
    assert cli.run(arguments) == 0
    assert cli.run([*arguments, "--least", "0.5"]) == 1
    assert f"recall of {path} at a scrape interval of 15 s is 0.000, below 0.5" in capsys.readouterr().err


def test_a_calm_day_on_which_our_rules_page_is_no_pass_unless_it_is_known(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["score", "--only", "small-service-taken-out-of-use"]
    assert cli.run(arguments) == 0
    assert capsys.readouterr().out.splitlines()[2].split()[3:6] == ["-", "-", "0/1"]
    monkeypatch.setattr(scores, "KNOWN", {})
    assert cli.run(arguments) == 1
    shown = capsys.readouterr().err
    assert "small-service-taken-out-of-use: herdwatch at a scrape interval of 15 s tells what nobody should" in shown


def test_least_without_an_incident_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["score", "--only", "tiny", "--least", "0.5"]) == 2
    assert "--least 0.5: --only tiny leaves calm days, and no incident to be told" in capsys.readouterr().err
