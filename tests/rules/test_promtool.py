"""The promtool wrapper with the real promtool: what it counts, and that no run passes having tested nothing."""

from __future__ import annotations

import re
import sys
import threading
from pathlib import Path

import pytest
import yaml

from herdwatch import tools
from herdwatch.bundle import rules
from herdwatch.bundle.location import bundle_root
from herdwatch.errors import ToolError
from herdwatch.promtool import Promtool, Result

ALERTS = bundle_root() / "alerts"

RULES = """
groups:
  - name: only
    rules:
      - alert: TargetDown
        expr: up == 0
"""
TWO_GROUPS = """
groups:
  - name: first
    rules:
      - record: up:count
        expr: count(up)
  - name: second
    rules:
      - alert: TargetDown
        expr: up == 0
"""
RIGHT = {
    "rule_files": ["rules.yml"],
    "evaluation_interval": "5s",
    "tests": [
        {
            "name": "a target that is down fires",
            "interval": "15s",
            "input_series": [{"series": "up", "values": "1 0x9"}],
            "alert_rule_test": [
                {"eval_time": "0s", "alertname": "TargetDown", "exp_alerts": []},
                {"eval_time": "1m", "alertname": "TargetDown", "exp_alerts": [{"exp_labels": {}}]},
            ],
            "promql_expr_test": [{"expr": "up", "eval_time": "1m", "exp_samples": [{"labels": "up", "value": 0}]}],
        }
    ],
}
"""A test file that passes; each fault below spoils one thing in it."""


@pytest.fixture(scope="module")
def promtool() -> Promtool:
    return Promtool()


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """The folder with the rule file; a test file is written beside it."""
    (tmp_path / "rules.yml").write_text(RULES)
    return tmp_path


def run(promtool: Promtool, folder: Path, content: object) -> Result:
    path = folder / "x.test.yml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return promtool.test_rules(path)


def spoiled(**changes: object) -> dict[str, object]:
    return {key: value for key, value in {**RIGHT, **changes}.items() if value is not None}


def fake(folder: Path, code: str, *, timeout: float = 30) -> Promtool:
    """A promtool that does what `code` says."""
    path = folder / "promtool"
    path.write_text(f"#!{sys.executable} -IS\nimport sys, time\n{code}\n")
    path.chmod(0o755)
    return Promtool(tools.Tool("promtool", path, "2.42.0", "PATH"), timeout=timeout)


def test_rules_are_counted(promtool: Promtool) -> None:
    path = ALERTS / "herdwatch.rules.yml"
    assert promtool.check_rules(path) == Result(len(rules.load(path.read_text(), path.name)))


def test_the_rules_that_a_configuration_names_are_counted(promtool: Promtool) -> None:
    of_the_rules = promtool.check_rules(ALERTS / "herdwatch.rules.yml")
    assert promtool.check_config(ALERTS / "prometheus.yml") == of_the_rules


def test_samples_of_an_exposition_are_counted(promtool: Promtool) -> None:
    text = '# HELP cache_keys Keys.\n# TYPE cache_keys gauge\ncache_keys{db="0"} 1\n\ncache_keys{db="1"} 2\n'
    assert promtool.check_metrics(text) == Result(2)


def test_expectations_of_a_test_file_are_counted(promtool: Promtool, written: Path) -> None:
    assert run(promtool, written, RIGHT) == Result(3)


def test_a_result_is_right_exactly_when_it_has_no_problem() -> None:
    assert Result(3).ok
    assert not Result(3, ("wrong",)).ok


def test_it_knows_its_version(promtool: Promtool) -> None:
    assert promtool.version == tools.find("promtool").version


def test_an_expectation_that_is_not_met_is_told_with_the_test_and_what_came_instead(
    promtool: Promtool, written: Path
) -> None:
    wrong = yaml.safe_load(yaml.safe_dump(RIGHT))
    wrong["tests"][0]["alert_rule_test"][1]["exp_alerts"] = []
    found = run(promtool, written, wrong)
    told = "\n".join(found.problems)
    assert found.checked == 3
    assert "at 1m the alert TargetDown is not as expected (test 'a target that is down fires' at line" in told
    assert told.endswith(
        '  expected:\n    no alert\n  got:\n    0:\n      Labels:{alertname="TargetDown"}\n      Annotations:{}'
    )


ONE = RIGHT["tests"][0]

NOTHING_TESTED = {
    "no tests": (spoiled(tests=[]), "has no tests"),
    "tests left out": (spoiled(tests=None), "has no tests"),
    "tests that are no list": (spoiled(tests={"name": "x"}), "has no tests"),
    "no rule files": (spoiled(rule_files=[]), "names no rule_files"),
    "rule files left out": (spoiled(rule_files=None), "names no rule_files"),
    "rule files that match nothing": (
        spoiled(rule_files=["rules.yml", "nosuch-*.yml"]),
        "rule_files: nosuch-*.yml matches no file",
    ),
    "a test that expects nothing": (
        spoiled(tests=[ONE, {"name": "says nothing", "interval": "15s", "input_series": []}]),
        "the test 'says nothing' expects nothing: it has no row",
    ),
    "a test without a name that expects nothing": (spoiled(tests=[{}]), "the test expects nothing: it has no row"),
    "a test that is no mapping": (spoiled(tests=[ONE, 7]), "the test expects nothing: it has no row"),
    "a misspelt alert": (
        spoiled(
            tests=[
                {"name": "quiet", "alert_rule_test": [{"eval_time": "1m", "alertname": "TragetDown", "exp_alerts": []}]}
            ]
        ),
        "the test 'quiet' names the alert 'TragetDown', which no rule file declares; did you mean 'TargetDown'?",
    ),
    "an alert left out": (
        spoiled(tests=[{"name": "quiet", "alert_rule_test": [{"eval_time": "1m", "exp_alerts": []}]}]),
        "the test 'quiet' names the alert '', which no rule file declares",
    ),
}


@pytest.mark.parametrize(("content", "sentence"), NOTHING_TESTED.values(), ids=NOTHING_TESTED)
def test_a_test_file_that_tests_nothing_has_failed(
    promtool: Promtool, written: Path, content: object, sentence: str
) -> None:
    problems = run(promtool, written, content).problems
    assert any(
        re.match(rf"{re.escape(str(written / 'x.test.yml'))}:\d+: {re.escape(sentence)}", told) for told in problems
    )


@pytest.mark.parametrize("order", [["first"], ["first", "second", "third"], [], ["first", "second", "second"]])
def test_a_group_eval_order_that_is_not_exactly_the_groups_has_failed(
    promtool: Promtool, written: Path, order: list[str]
) -> None:
    (written / "rules.yml").write_text(TWO_GROUPS)
    [problem] = run(promtool, written, spoiled(group_eval_order=order)).problems
    assert problem.endswith(
        ": group_eval_order must name every group and nothing else, or they run in random order: first, second"
    )
    assert run(promtool, written, spoiled(group_eval_order=["first", "second"])).ok


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("tests: [\n", ":2: not valid YAML: expected the node content, but found '<stream end>'"),
        ("rule_files: [rules.yml]\ntests: [}\n", ":2: not valid YAML: expected the node content, but found '}'"),
        ("tests: []\n---\ntests: []\n", ":2: not valid YAML: but found another document"),
        ("a: &a 3\ntests:\n- <<: *a\n", ":1: a merge key (<<) takes a mapping or a list of them"),
        ("[" * 9999, ":1: not valid YAML: nested too deeply"),
        ("- a\n", ":1: a test file is a mapping with rule_files and tests"),
        ("", ":1: a test file is a mapping with rule_files and tests"),
    ],
)
def test_what_is_no_test_file_is_told_with_its_line(
    promtool: Promtool, written: Path, content: str, sentence: str
) -> None:
    assert run(promtool, written, content).problems == (f"{written / 'x.test.yml'}{sentence}",)


def test_a_test_file_that_cannot_be_read_is_told(promtool: Promtool, written: Path) -> None:
    (written / "bytes.test.yml").write_bytes(b"\xff\xfe")
    for name in ("bytes.test.yml", "missing.test.yml"):
        [problem] = promtool.test_rules(written / name).problems
        assert problem.startswith(f"{written / name}: cannot be read: ")


def test_a_key_that_promtool_does_not_know_is_told(promtool: Promtool, written: Path) -> None:
    told = run(promtool, written, spoiled(evaluation_intervall="5s"))
    assert any("evaluation_intervall" in problem for problem in told.problems)


def test_a_rule_file_that_is_broken_is_told_by_promtool(promtool: Promtool, written: Path) -> None:
    (written / "rules.yml").write_text(RULES.replace("up == 0", "up == "))
    for found in (promtool.check_rules(written / "rules.yml"), run(promtool, written, RIGHT)):
        assert any("parse error" in problem for problem in found.problems)


@pytest.mark.parametrize("content", ["groups: []\n", "groups:\n  - name: empty\n    rules: []\n", ""])
def test_a_rule_file_without_a_rule_has_failed(promtool: Promtool, written: Path, content: str) -> None:
    (written / "rules.yml").write_text(content)
    assert promtool.check_rules(written / "rules.yml") == Result(0, (f"{written / 'rules.yml'}: holds no rule",))


@pytest.mark.parametrize(
    ("rules", "sentence"), [("groups: []\n", ":1: holds no rule"), ("groups: [\n", ":2: not valid YAML: ")]
)
def test_a_test_of_a_rule_file_that_holds_no_rule_has_failed(
    promtool: Promtool, written: Path, rules: str, sentence: str
) -> None:
    (written / "rules.yml").write_text(rules)
    [problem] = run(promtool, written, RIGHT).problems
    assert problem.startswith(f"{written / 'rules.yml'}{sentence}")


def test_rules_that_are_there_twice_are_told(promtool: Promtool, written: Path) -> None:
    (written / "rules.yml").write_text(RULES + "      - alert: TargetDown\n        expr: up == 0\n")
    assert any("duplicate rule" in problem for problem in promtool.check_rules(written / "rules.yml").problems)


def test_a_configuration_that_leads_to_no_rule_has_failed(promtool: Promtool, tmp_path: Path) -> None:
    path = tmp_path / "prometheus.yml"
    path.write_text("scrape_configs: []\n")
    assert promtool.check_config(path) == Result(0, (f"{path}: leads to no rule",))


@pytest.mark.parametrize("text", ["", "\n \n", "# HELP cache_keys Keys.\n# TYPE cache_keys gauge\n"])
def test_an_exposition_without_a_sample_has_failed(promtool: Promtool, text: str) -> None:
    assert promtool.check_metrics(text) == Result(0, ("metrics: holds no sample",))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("# HELP cache_keys_total Keys.\n# TYPE cache_keys_total gauge\ncache_keys_total 1\n", "_total"),
        ("# TYPE cache_keys gauge\ncache_keys 1\n", "no help text"),
        ("cache keys 1\n", "error while linting"),
    ],
)
def test_a_bad_exposition_is_told(promtool: Promtool, text: str, problem: str) -> None:
    assert any(problem in told for told in promtool.check_metrics(text).problems)


def test_a_promtool_that_hangs_is_told_after_the_timeout(tmp_path: Path) -> None:
    slow = fake(tmp_path, "time.sleep(60)", timeout=0.2)
    with pytest.raises(ToolError, match=r"^/.*/promtool did not end within 0\.2 s$"):
        slow.check_metrics("a 1\n")


def test_a_promtool_that_is_stopped_ends_what_it_runs_and_runs_nothing_more(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    slow = fake(tmp_path, f"open({str(begun)!r}, 'w').close()\ntime.sleep(60)", timeout=40)
    raised: list[ToolError] = []

    def run_it() -> None:
        try:
            slow.check_metrics("a 1\n")
        except ToolError as error:
            raised.append(error)

    thread = threading.Thread(target=run_it)
    thread.start()
    for _ in range(2_000):
        if begun.exists():
            break
        thread.join(0.01)
    slow.stop()
    thread.join(30)
    assert not thread.is_alive()
    [error] = raised
    assert str(error) == f"{tmp_path / 'promtool'} was stopped"
    with pytest.raises(ToolError, match="was stopped"):
        slow.check_metrics("a 1\n")


def test_a_promtool_that_is_not_there_is_told(tmp_path: Path) -> None:
    gone = Promtool(tools.Tool("promtool", tmp_path / "promtool", "2.42.0", "PATH"))
    with pytest.raises(ToolError, match=r"^/.*/promtool cannot be started: No such file or directory$"):
        gone.check_metrics("a 1\n")


def test_a_promtool_that_fails_without_a_word_is_told_with_its_exit_code(tmp_path: Path) -> None:
    mute = fake(tmp_path, "sys.exit(7)")
    assert mute.check_rules(Path("a.yml")) == Result(0, ("a.yml: promtool ended with exit code 7",))


def test_a_promtool_that_says_success_and_nothing_else_has_failed(tmp_path: Path) -> None:
    vain = fake(tmp_path, "print('SUCCESS: 0 rules found')")
    assert vain.check_rules(Path("a.yml")) == Result(0, ("a.yml: holds no rule",))


@pytest.mark.parametrize(
    "fault",
    [
        "rule_files: ['/no/such/file.yml']\ntests: []\n",
        "rule_files: ['']\ntests: []\n",
        "rule_files: [none.yml]\ngroup_eval_order: [[a]]\ntests: null\n",
        "rule_files: [none.yml]\ntests: [3, {alert_rule_test: [4]}]\n",
    ],
)
def test_a_test_file_of_the_wrong_shape_is_told_and_raises_nothing(fault: str, tmp_path: Path) -> None:
    file = tmp_path / "odd.test.yml"
    file.write_text(fault)
    problems = Promtool().test_rules(file).problems
    assert problems
    assert all(problem.startswith(str(file)) for problem in problems)
