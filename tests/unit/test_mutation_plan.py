"""What is left out of a play: only what cannot change its verdict."""

from __future__ import annotations

from pathlib import Path

import pytest

from herdwatch.proof.mutation import reads, rulefile, suite
from herdwatch.proof.mutation.plan import Plan, Rulebook, plan
from herdwatch.proof.mutation.tree import parse

RULES = """\
groups:
  - name: g
    rules:
      - {record: a, expr: raw_a}
      - {record: b, expr: a * 2}
      - {record: c, expr: raw_c}
      - {alert: OnB, expr: b > 1}
      - {alert: OnC, expr: c > 1, annotations: {also: '{{ query "a" }}'}}
      - {alert: Alone, expr: raw > 1}
      - {alert: Inhibited, expr: 'raw > 1 unless on () ALERTS{alertname="Alone"}'}
"""
ALERTS = [("alert", name) for name in ("Alone", "Inhibited", "OnB", "OnC")]


def _plan(tmp_path: Path, rule: str, *rows: str, series: str = "raw") -> Plan | None:
    (tmp_path / "rules.yml").write_text(RULES)
    (tmp_path / "x.test.yml").write_text(
        "rule_files: [rules.yml]\ntests:\n- input_series: [{series: " + repr(series) + ", values: 1x9}]\n"
        "  promql_expr_test:\n" + "".join(f"  - {row}\n" for row in rows)
    )
    file = rulefile.load(tmp_path / "rules.yml")
    [case] = suite.load(tmp_path / "x.test.yml", [file.path], lambda _: file)
    [changed] = [one for one in file.rules if one.name == rule]
    return plan(case, Rulebook.of(case), changed)


def _names(planned: Plan | None) -> list[str]:
    assert planned is not None
    return sorted(name for _, name in planned.keys)


def test_a_case_that_reads_nothing_of_a_rule_is_not_played(tmp_path: Path) -> None:
    assert _plan(tmp_path, "a", "{expr: c, eval_time: 1m}", "{expr: raw_a, eval_time: 1m}") is None


def test_played_are_a_rule_those_that_depend_on_it_and_what_these_read(tmp_path: Path) -> None:
    # OnC depends on a too, through its annotation, and reads c.
    assert _names(_plan(tmp_path, "a", "{expr: b, eval_time: 1m}")) == ["OnB", "OnC", "a", "b", "c"]
    # What Alone inhibits depends on it.
    planned = _plan(tmp_path, "Alone", "{expr: 'ALERTS{alertname=\"Alone\"}', eval_time: 1m}")
    assert _names(planned) == ["Alone", "Inhibited"]


def test_of_a_list_of_alerts_only_those_that_are_played_are_expected(tmp_path: Path) -> None:
    row = (
        "{expr: sum by (alertname) (ALERTS), eval_time: 1m, exp_samples: "
        "[{labels: '{alertname=\"OnB\"}', value: 1}, {labels: '{alertname=\"Alone\"}', value: 1}]}"
    )
    planned = _plan(tmp_path, "OnB", row)
    assert _names(planned) == ["OnB", "a", "b"]
    assert planned is not None
    [expected] = planned.expectations
    assert "OnB" in rulefile.written(expected.node)
    assert "Alone" not in rulefile.written(expected.node)


@pytest.mark.parametrize(
    "expr",
    [
        "sum(ALERTS)",
        "ALERTS or vector(0)",
        "absent(ALERTS)",
        "topk(1, ALERTS)",
        "count by (cache) (ALERTS)",
        "{job='x'}",
    ],
)
def test_a_question_about_all_alerts_at_once_plays_them_all(tmp_path: Path, expr: str) -> None:
    assert {name for _, name in ALERTS} <= set(_names(_plan(tmp_path, "OnB", f'{{expr: "{expr}", eval_time: 1m}}')))


def test_alerts_among_the_series_of_a_test_are_not_told_from_those_of_the_rules(tmp_path: Path) -> None:
    row = "{expr: sum by (alertname) (ALERTS), eval_time: 1m}"
    assert {name for _, name in ALERTS} <= set(_names(_plan(tmp_path, "OnB", row, series='ALERTS{alertname="OnB"}')))


def test_a_case_is_played_for_as_long_as_it_would_be(tmp_path: Path) -> None:
    planned = _plan(tmp_path, "c", "{expr: c, eval_time: 1m}", "{expr: b, eval_time: 9m}")
    assert planned is not None
    assert [(one.expr, one.at) for one in planned.expectations] == [("c", 60_000), ("vector(0)", 540_000)]


@pytest.mark.parametrize(
    ("expr", "read"),
    [
        ('ALERTS{alertname="OnB"}', ["OnB"]),
        ('ALERTS_FOR_STATE{alertname=~"On.*"}', ["OnB", "OnC"]),
        ('count(ALERTS{alertname!="OnB",alertname!~"A.*"})', ["Inhibited", "OnC"]),
        ("rate(a[5m]) + unknown", ["a"]),
        ('{__name__="a"}', ["a"]),
        ('{__name__=~"a|b"}', ["Alone", "Inhibited", "OnB", "OnC", "a"]),
        ("not PromQL", ["Alone", "Inhibited", "OnB", "OnC", "a"]),
    ],
)
def test_what_an_expression_reads(expr: str, read: list[str]) -> None:
    assert sorted(name for _, name in reads.of_text(expr, [*ALERTS, ("record", "a")])) == read


@pytest.mark.parametrize(
    ("expr", "is_per_alert"),
    [
        ('count_over_time(ALERTS{alertstate="firing"}[3h])', True),
        ("sum by (alertname, cache) (count_over_time(ALERTS[1h])) > bool 0", True),
        ("max without (cache) (ALERTS)", True),
        ("ALERTS unless on (alertname) ALERTS offset 5m", True),
        ("sum by (cache) (ALERTS)", False),
        ("max without (alertname) (ALERTS)", False),
        ("ALERTS and on (cache) ALERTS", False),
        ("ALERTS and up", False),
        ("absent_over_time(ALERTS[1h])", False),
        ('label_replace(ALERTS, "alertname", "x", "", "")', False),
        ("up", False),
    ],
)
def test_alerts_are_told_apart_where_each_makes_samples_of_its_own(expr: str, is_per_alert: bool) -> None:
    assert reads.is_per_alert(parse(expr)) is is_per_alert
