"""What promtool calls a success although nothing was tested is told with its line, and what is right is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from herdwatch.promtool import Promtool, Result, testfiles

RULES = """
groups:
  - name: targets
    rules:
      - record: job:up:sum
        expr: sum by (job) (up{job!=""})
      - alert: TargetDown
        expr: up == 0
        for: 1m
        labels: {severity: critical}
        annotations:
          summary: '{{ range query "max(build_info)" }}{{ .Labels.version }}{{ end }}'
      - alert: TargetFlaps
        expr: changes(up[5m]) > 2
        labels: {severity: "{{ $labels.severity }}"}
      - alert: Deadman
        expr: vector(1)
"""
HEAD = """rule_files: [rules.yml]
evaluation_interval: 15s
tests:
"""
QUIET = """  - name: a target that is up
    interval: 15s
    input_series:
      - {series: 'up{job="a"}', values: 1x9}
    alert_rule_test:
      - {eval_time: 2m, alertname: TargetDown}
"""
"""A test that is right; each fault below spoils one thing in it."""

DOWN = QUIET.replace("1x9", "0x9").replace("TargetDown", "TargetFlaps")


@pytest.fixture(scope="module")
def promtool() -> Promtool:
    return Promtool()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rules.yml").write_text(RULES)
    return tmp_path


def run(promtool: Promtool, folder: Path, tests: str, head: str = HEAD) -> tuple[str, ...]:
    """The problems of the last test of a file, by itself."""
    (folder / "x.test.yml").write_text(head + tests)
    file = testfiles.read(folder / "x.test.yml", "x.test.yml")
    assert file.tests
    return promtool.test_case(file, file.tests[-1], always_firing=["Deadman"]).problems


def test_a_test_that_is_right_passes(promtool: Promtool, folder: Path) -> None:
    assert run(promtool, folder, QUIET) == ()


FAULTS = {
    "an alert misspelt": (
        QUIET.replace("TargetDown", "TragetDown"),
        "9: the test 'a target that is up' names the alert 'TragetDown', which no rule file declares; "
        "did you mean 'TargetDown'?",
    ),
    "a recorded series taken for an alert": (
        QUIET.replace("TargetDown", '"job:up:sum"'),
        "9: the test 'a target that is up' names the alert 'job:up:sum', which no rule file declares",
    ),
    "an alert misspelt in a query": (
        f"{QUIET}    promql_expr_test:\n      - {{expr: 'ALERTS{{alertname=\"Down\"}}', eval_time: 1m}}\n",
        "11: the test 'a target that is up' asks ALERTS for 'Down', which no rule file declares",
    ),
    "alerts misspelt in a regular expression": (
        f"{QUIET}    promql_expr_test:\n      - {{expr: 'ALERTS{{alertname=~\"Down.*\"}}', eval_time: 1m}}\n",
        "11: the test 'a target that is up' asks ALERTS for 'Down.*', which no rule file declares",
    ),
    "a query of a misspelt series that expects nothing": (
        f"{QUIET}    promql_expr_test:\n      - {{expr: 'job:up:smu > 1', eval_time: 1m}}\n",
        "11: the test 'a target that is up' reads job:up:smu, which no rule records and no input series gives, and so "
        "expects nothing",
    ),
    "an input series misspelt": (
        QUIET.replace("up{", "upp{"),
        "7: the test 'a target that is up' gives the series upp{job=\"a\"}, which no rule and no query of the test "
        "reads",
    ),
    "no input series": (
        "".join(line for line in QUIET.splitlines(keepends=True) if "series" not in line),
        "7: the test 'a target that is up' expects TargetDown not to fire, and gives no sample of anything that it "
        "reads",
    ),
    "no input series that the alert reads": (
        QUIET.replace('up{job="a"}', "build_info"),
        "9: the test 'a target that is up' expects TargetDown not to fire, and gives no sample of anything that it "
        "reads",
    ),
    "an input series without a sample": (
        QUIET.replace("    alert_rule", "      - {series: up, values: _x4 stale _}\n    alert_rule"),
        "8: the test 'a target that is up' gives the series up no sample",
    ),
    "a row before the first sample": (
        QUIET.replace("1x9", "_x3 _ 1x9").replace("2m", "59s"),
        "9: the test 'a target that is up' expects TargetDown not to fire at 59s, before anything that it reads has a "
        "sample",
    ),
    "no expectation": (
        QUIET.partition("    alert_rule_test")[0],
        "4: the test 'a target that is up' expects nothing: it has no row in alert_rule_test or promql_expr_test",
    ),
    "no expectation and no name": (
        "  - {interval: 15s}\n",
        "4: the test expects nothing: it has no row in alert_rule_test or promql_expr_test",
    ),
}


@pytest.mark.parametrize(("tests", "sentence"), FAULTS.values(), ids=FAULTS)
def test_what_tests_nothing_is_told_with_its_line(promtool: Promtool, folder: Path, tests: str, sentence: str) -> None:
    assert run(promtool, folder, tests) == (f"x.test.yml:{sentence}",)


MAY_BE_QUIET = {
    "from the first sample on": ("up == 0", "_x3 _ 1x9", "1m"),
    "what fires for want of series": ("absent(up) and on () vector(0) > 1", "_x9 1x9", "1m"),
    "what reads none": ("vector(0) > 1", "1x9", "0s"),
    "by way of a record and of another alert": ('sum(job:up:sum) > 9 and ALERTS{alertname="Deadman"}', "1x9", "1m"),
}


@pytest.mark.parametrize(("expr", "values", "at"), MAY_BE_QUIET.values(), ids=MAY_BE_QUIET)
def test_an_alert_that_could_have_fired_may_be_expected_not_to(
    promtool: Promtool, folder: Path, expr: str, values: str, at: str
) -> None:
    (folder / "rules.yml").write_text(RULES.replace("expr: up == 0", f"expr: '{expr}'"))
    assert run(promtool, folder, QUIET.replace("1x9", values).replace("2m", at)) == ()


def test_a_record_of_what_has_no_sample_is_none_either(promtool: Promtool, folder: Path) -> None:
    (folder / "rules.yml").write_text(RULES.replace("expr: up == 0", "expr: job:up:sum == 0"))
    tests = QUIET.replace('up{job="a"}', "build_info")
    [problem] = run(promtool, folder, tests)
    assert problem.endswith("gives no sample of anything that it reads")


def test_a_series_that_no_selector_of_its_name_matches_is_told(promtool: Promtool, folder: Path) -> None:
    (folder / "rules.yml").write_text(RULES.replace("up == 0", 'up{job="a"} == 0').replace("changes(up", "changes(x"))
    unnamed = QUIET.replace('{job="a"}', "")
    assert [problem.partition(" gives")[2] for problem in run(promtool, folder, unnamed)] == [
        " the series up, which no rule and no query of the test reads"
    ]


@pytest.mark.parametrize(
    "query",
    [
        "sum(node_x)",
        '{__name__=~"node_.*"} offset 5m',
        'rate(node_x{a!="b"}[5m:1m]) / 2',
        "topk(scalar(node_x), up)",
        '{__name__=~"\\\\Qnode_x\\\\E"}',  # Go understands it, Python does not
    ],
)
def test_a_series_that_only_a_query_of_the_test_reads_is_right(promtool: Promtool, folder: Path, query: str) -> None:
    row = f"    promql_expr_test:\n      - {{expr: 'count({query}) > 9', eval_time: 1m}}\n"
    tests = QUIET.replace("    alert_rule", "      - {series: node_x, values: 1x9}\n    alert_rule")
    assert run(promtool, folder, tests + row) == ()


def test_a_series_that_only_a_template_of_an_annotation_reads_is_right(promtool: Promtool, folder: Path) -> None:
    given = "      - {series: 'build_info{version=\"1\"}', values: 1x9}\n"
    assert run(promtool, folder, QUIET.replace("    alert_rule", f"{given}    alert_rule")) == ()


def test_an_alert_that_fires_unmentioned_is_told_with_its_first_evaluation(promtool: Promtool, folder: Path) -> None:
    [problem] = run(promtool, folder, DOWN)
    assert problem == (
        "x.test.yml:4: at 1m the alert TargetDown begins to fire, and no row of the test mentions it; expect it in "
        "alert_rule_test, or ask for it by a query of ALERTS"
    )


def test_an_alert_that_resolves_before_the_last_row_is_told_too(promtool: Promtool, folder: Path) -> None:
    [problem] = run(promtool, folder, DOWN.replace("0x9", "1 0x5 1x99").replace("2m", "20m"))
    assert "at 1m15s the alert TargetDown begins to fire" in problem


def test_an_alert_that_always_fires_is_told_where_nobody_said_that_it_does(promtool: Promtool, folder: Path) -> None:
    (folder / "x.test.yml").write_text(HEAD + QUIET)
    file = testfiles.read(folder / "x.test.yml", "x.test.yml")
    [problem] = promtool.test_case(file, file.tests[0]).problems
    assert problem.startswith("x.test.yml:4: at 0s the alert Deadman begins to fire")


@pytest.mark.parametrize(
    "query",
    ["ALERTS", 'ALERTS{severity="critical"}', 'ALERTS{alertname=~"Target.*",job="b"}', 'ALERTS{alertstate!="pending"}'],
)
def test_a_query_of_alerts_mentions_all_that_it_could_show(promtool: Promtool, folder: Path, query: str) -> None:
    row = f"    promql_expr_test:\n      - {{expr: 'count({query}) > 9', eval_time: 1m}}\n"
    assert run(promtool, folder, DOWN + row) == ()


@pytest.mark.parametrize(
    "query", ['ALERTS{severity="info"}', 'ALERTS{alertname!~"Target.*"}', 'ALERTS{alertstate="pending"}', "up"]
)
def test_a_query_that_cannot_show_an_alert_does_not_mention_it(promtool: Promtool, folder: Path, query: str) -> None:
    row = f"    promql_expr_test:\n      - {{expr: 'count({query}) > 9', eval_time: 1m}}\n"
    [problem] = run(promtool, folder, DOWN + row)
    assert "the alert TargetDown begins to fire" in problem


def test_anchors_and_merge_keys_of_other_tests_keep_their_meaning(promtool: Promtool, folder: Path) -> None:
    first = QUIET.replace("  - name", "  - &first\n    name").replace("- {series", "- &up {series")
    second = "  - {<<: *first, name: again, input_series: [{<<: *up, values: 0x9}]}\n"
    [problem] = run(promtool, folder, first + second)
    assert problem.startswith("x.test.yml:10: at 2m the alert TargetDown is not as expected (test 'again' at line 11)")


@pytest.mark.parametrize("label", ["no", "1_000", "0777", "2024-01-01", "1:30", "é", '"a\\tb"'])
def test_a_label_is_what_promtool_reads_whatever_yaml_calls_it(promtool: Promtool, folder: Path, label: str) -> None:
    text = label.strip('"').replace("\\t", "\t")
    series = f"'up{{job=\"{text}\"}}'" if "\t" not in text else "'up{job=\"a\\tb\"}'"
    row = f"eval_time: 2m, alertname: TargetDown, exp_alerts: [{{exp_labels: {{severity: critical, job: {label}}}}}]"
    tests = QUIET.replace("'up{job=\"a\"}', values: 1x9", f"{series}, values: 0x9").replace(
        "eval_time: 2m, alertname: TargetDown", row
    )
    (folder / "rules.yml").write_text(RULES.replace('"max(build_info)"', '"vector(1)"').replace("summary: ", "# "))
    assert run(promtool, folder, tests) == ()


ORDER = """groups:
  - name: second
    rules: [{record: a, expr: up}]
  - name: first
    rules: [{alert: TargetDown, expr: a == 0}]
"""


@pytest.mark.parametrize(
    ("order", "fires"),
    [("", True), ("group_eval_order: [second, first]\n", True), ("group_eval_order: [first, second]\n", False)],
)
def test_groups_run_in_the_order_given_or_else_in_that_of_the_rule_file(
    promtool: Promtool, folder: Path, order: str, fires: bool
) -> None:
    (folder / "rules.yml").write_text(ORDER)
    expected = ", exp_alerts: [{exp_labels: {job: a}}]" if fires else ""
    tests = QUIET.replace("1x9", "0x9").replace("2m, alertname: TargetDown", f"0s, alertname: TargetDown{expected}")
    for _ in range(5):
        assert run(promtool, folder, tests, order + HEAD) == ()


def test_two_groups_of_one_name_have_no_order(promtool: Promtool, folder: Path) -> None:
    (folder / "more.yml").write_text(RULES)
    problems = run(promtool, folder, QUIET, HEAD.replace("rules.yml", "'*s.yml', 'm*.yml'"))
    assert problems == (
        "more.yml:3: the group targets is at rules.yml:3 too; no group_eval_order can tell the two apart, so they "
        "would run in random order; rename one",
    )


def test_rule_files_in_folders_of_odd_names_are_found(promtool: Promtool, folder: Path) -> None:
    odd = folder / "a[1]*\\ b"
    odd.mkdir()
    (odd / "rules.yml").write_text(RULES)
    assert run(promtool, odd, QUIET) == ()
    assert run(promtool, odd, DOWN) != ()


def test_a_key_that_promtool_refuses_is_told_with_its_own_line(promtool: Promtool, folder: Path) -> None:
    tests = QUIET + QUIET.replace("alertname: TargetDown", "alertname: TargetDown, expected: []")
    [problem] = run(promtool, folder, tests, "# why\n" * 9 + HEAD)
    assert problem.startswith("x.test.yml:24: field expected not found")


def test_an_expectation_that_cannot_be_evaluated_is_told_with_its_line(promtool: Promtool, folder: Path) -> None:
    row = "    promql_expr_test:\n      - {expr: 'sum(up', eval_time: 1m, exp_samples: [{labels: '{}', value: 1}]}\n"
    [problem] = run(promtool, folder, QUIET + row)
    assert problem.startswith("x.test.yml:11: at 1m the query sum(up cannot be evaluated: ")


def test_a_whole_file_is_counted_and_its_failures_are_told_with_their_lines(promtool: Promtool, folder: Path) -> None:
    path = folder / "x.test.yml"
    path.write_text(HEAD + QUIET + DOWN.replace("Flaps", "Down").replace("is up", "is down"))
    found = promtool.test_rules(path)
    assert found.checked == 2
    assert [problem.splitlines()[0] for problem in found.problems] == [
        f"{path}:15: at 2m the alert TargetDown is not as expected (test 'a target that is down' at line 10)"
    ]
    path.write_text(HEAD + QUIET)
    assert promtool.test_rules(path) == Result(1)
