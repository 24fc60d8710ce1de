"""Mutants of small rules under the real promtool: which are killed, which survive, and what is no score."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from herdwatch.errors import CheckFailed, HerdwatchError, UsageError
from herdwatch.proof.mutation import Request, mutate, run
from herdwatch.proof.mutation.run import Run
from herdwatch.proof.mutation.session import Verdict

RULES = """\
groups:
  - name: first
    rules:
      - record: job:errors:rate
        expr: sum by (job) (rate(errors_total[1m]))
      - record: job:unused
        expr: sum by (job) (up)
  - name: second
    rules:
      - alert: Errors
        expr: job:errors:rate > 5
        for: 30s
        labels: {severity: critical}
        annotations: {summary: "{{ $labels.job }} fails"}
      - alert: Down
        expr: up{job=~"api|web"} == 0
        labels: {severity: warning}
"""
FIRES = {"exp_labels": {"job": "api", "severity": "critical"}, "exp_annotations": {"summary": "api fails"}}
TESTS = {
    "rule_files": ["rules.yml"],
    "evaluation_interval": "15s",
    "tests": [
        {
            "name": "errors fire after half a minute",
            "interval": "10s",
            "input_series": [
                {"series": 'errors_total{job="api",instance="a"}', "values": "0x12 97+97x30"},
                {"series": 'errors_total{job="api",instance="b"}', "values": "0x12 97+97x30"},
            ],
            "alert_rule_test": [
                {"eval_time": "2m45s", "alertname": "Errors", "exp_alerts": []},
                {"eval_time": "3m", "alertname": "Errors", "exp_alerts": [FIRES]},
            ],
        },
        {
            "name": "what is down is listed, and nothing else",
            "interval": "10s",
            "input_series": [
                {"series": 'up{job="api"}', "values": "1x6 0x30"},
                {"series": 'up{job="db"}', "values": "1x6 0x30"},
            ],
            "promql_expr_test": [
                {
                    "expr": 'sum by (alertname, job, severity) (ALERTS{alertstate="firing"})',
                    "eval_time": "2m",
                    "exp_samples": [{"labels": '{alertname="Down",job="api",severity="warning"}', "value": 1}],
                }
            ],
        },
    ],
}


@pytest.fixture
def request_(tmp_path: Path) -> Request:
    (tmp_path / "rules.yml").write_text(RULES)
    (tmp_path / "Errors.test.yml").write_text(yaml.safe_dump(TESTS))
    return Request([tmp_path / "rules.yml"], [str(tmp_path / "*.test.yml")])


def _verdicts(ran: Run) -> dict[str, Verdict]:
    return {result.mutant.id: result.verdict for result in ran.results}


def test_what_a_test_pins_down_is_killed_and_what_none_does_survives(request_: Request) -> None:
    ran = run(request_)
    verdicts = _verdicts(ran)
    for killed in (
        "job:errors:rate/window/0.0/x2",
        "job:errors:rate/aggregation/-/removed",
        "Errors/for/x0.5",
        "Errors/label/severity-value",
        "Errors/rule/removed",
        "Down/comparison/-/!=",
        "Down/matcher/0/job-dropped",
    ):
        assert verdicts[killed] is Verdict.KILLED, killed
    # There are never exactly five errors a second.
    assert verdicts["Errors/comparison/-/>="] is Verdict.SURVIVED
    # A range where a rule wants a vector.
    assert verdicts["job:errors:rate/function/0/removed"] is Verdict.INVALID
    # No expectation depends on it.
    assert {verdict for id, verdict in verdicts.items() if id.startswith("job:unused/")} == {Verdict.SURVIVED}
    assert 0 < ran.controls < len(ran.results)
    # What is left out of a play cannot matter.
    assert verdicts == _verdicts(run(replace(request_, whole=True)))
    assert verdicts == _verdicts(run(replace(request_, first=0)))


def test_a_killer_is_named_by_file_line_and_test(request_: Request) -> None:
    [killed] = [one for one in run(replace(request_, names=["Down"])).results if one.mutant.id == "Down/rule/removed"]
    assert killed.killer.startswith(request_.tests[0].replace("*", "Errors"))
    assert killed.killer.endswith("'what is down is listed, and nothing else'")


def test_a_sample_is_the_same_for_the_same_seed(request_: Request) -> None:
    narrowed = replace(request_, names=["Down"], sample=5, seed=7)
    first, second = run(narrowed), run(narrowed)
    assert _verdicts(first) == _verdicts(second)
    assert len(first.results) == 5
    assert len(first.mutants) > 30


def test_the_score_is_printed_and_one_that_is_too_low_has_failed(
    request_: Request, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = replace(request_, names=["Errors"])
    mutate(asked, least=0.5)
    text = capsys.readouterr().out
    assert (
        f"{asked.rules[0]}:11: Errors/comparison/-/>=\n    - job:errors:rate > 5\n    + job:errors:rate >= 5\n" in text
    )
    with pytest.raises(CheckFailed, match=r"% of the mutants are killed, at least 99 % should be"):
        mutate(asked, least=0.99, as_json=True)
    data = json.loads(capsys.readouterr().out)
    assert data["killed"] + data["survived"] == sum(one["verdict"] != "invalid" for one in data["mutants"])
    assert data["score"] == pytest.approx(data["killed"] / (data["killed"] + data["survived"]))


EQUIVALENT = """\
- reason: Nobody has exactly five.
  mutants:
    - {id: Errors/comparison/-/>=, change: "job:errors:rate > 5 -> job:errors:rate >= 5"}
"""


def test_a_survivor_with_a_reason_is_no_survivor(request_: Request, capsys: pytest.CaptureFixture[str]) -> None:
    # The list is found beside the tests.
    (request_.rules[0].parent / "equivalent-mutants.yml").write_text(EQUIVALENT)
    mutate(replace(request_, names=["Errors"]), least=0.5, as_json=True)
    data = json.loads(capsys.readouterr().out)
    assert data["equivalent"] == 1
    [row] = [one for one in data["mutants"] if one["equivalent"]]
    assert (row["id"], row["equivalent"]) == ("Errors/comparison/-/>=", "Nobody has exactly five.")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("-/>=", "-/=>", r"equivalent-mutants\.yml:3: there is no mutant Errors/comparison/-/=>"),
        (">= 5", ">= 6", r":3: Errors/comparison/-/>= is now another change: job:errors:rate > 5 -> .* >= 5"),
        (">=", "<", r":3: Errors/comparison/-/< is not equivalent, it is killed by .*Errors\.test\.yml:"),
        ("reason: Nobody has exactly five.", "reason: ''", r":1: an entry has a reason and a list of mutants"),
        ("id: Errors/comparison/-/>=", "name: x", r":3: a mutant has an id and a change"),
    ],
)  # fmt: skip
def test_a_list_of_equivalent_mutants_that_is_wrong_has_failed(
    request_: Request, old: str, new: str, problem: str
) -> None:
    path = request_.rules[0].parent / "equivalent-mutants.yml"
    path.write_text(EQUIVALENT.replace(old, new))
    with pytest.raises(CheckFailed, match=problem):
        mutate(replace(request_, names=["Errors"]), least=0.5)


def _spoil(rules: Path, tests: Path, fault: str) -> None:
    content = json.loads(json.dumps(TESTS))
    match fault:
        case "yaml":
            rules.write_text("groups:\n  - name: [")
        case "promql":
            rules.write_text(RULES.replace("> 5", "> > 5"))
        case "no rule":
            rules.write_text("groups: []")
        case "no tests":
            content["tests"] = []
        case "nothing expected":
            del content["tests"][1]["promql_expr_test"]
        case "other rules":
            (rules.parent / "other.yml").write_text(RULES)
            content["rule_files"] = ["other.yml"]
        case "failing":
            content["tests"][0]["alert_rule_test"][1]["exp_alerts"] = []
        case "when":
            content["tests"][0]["alert_rule_test"][1]["eval_time"] = "soon"
    tests.write_text(yaml.safe_dump(content))
    if fault == "no mapping":
        tests.write_text("- 1")


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ("yaml", r"rules\.yml:2: not valid YAML"),
        ("promql", r"rules\.yml:10: Errors: not valid PromQL"),
        ("no rule", r"rules\.yml:1: holds no rule"),
        ("no tests", r"Errors\.test\.yml:\d+: has no tests"),
        ("no mapping", r"Errors\.test\.yml:1: a test file is a mapping"),
        ("nothing expected", r"Errors\.test\.yml:\d+: 'what is down is listed, and nothing else' expects nothing"),
        ("other rules", r"Errors\.test\.yml:\d+: its rule_files do not name .*rules\.yml"),
        ("failing", r"Errors\.test\.yml:\d+: 'errors fire after half a minute' fails before any mutation: .*Errors"),
        ("when", r"Errors\.test\.yml:\d+: eval_time: a duration such as 5m is wanted"),
    ],
)
def test_rules_and_tests_that_are_wrong_are_an_error_with_a_place_and_no_score(
    request_: Request, fault: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _spoil(request_.rules[0], request_.rules[0].parent / "Errors.test.yml", fault)
    with pytest.raises(CheckFailed, match=problem):
        mutate(request_)
    assert capsys.readouterr().out == ""


def test_a_pattern_or_a_name_that_finds_nothing_is_an_error(request_: Request) -> None:
    with pytest.raises(UsageError, match=r"--tests none/\*\.yml: matches no file"):
        run(replace(request_, tests=["none/*.yml"]))
    with pytest.raises(
        UsageError, match=r"no rule is called Donw; there are Down, Errors, job:errors:rate, job:unused"
    ):
        run(replace(request_, names=["Donw"]))
    with pytest.raises(HerdwatchError, match=r"none\.yml: cannot be read: No such file"):
        run(replace(request_, rules=[Path("none.yml")]))
