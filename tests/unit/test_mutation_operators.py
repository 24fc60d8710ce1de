"""What each operator makes of an expression, and how the mutants of a rule are named and placed."""

from __future__ import annotations

from pathlib import Path

import pytest

from herdwatch.proof.mutation import operators, rulefile
from herdwatch.proof.mutation.mutants import OPERATORS, Mutant, mutants
from herdwatch.proof.mutation.text import render
from herdwatch.proof.mutation.tree import parse

MADE = [
    ("comparison", "x < 5", ["x <= 5", "x > 5", "x"]),
    ("comparison", "x == bool y", ["x != bool y", "x == y", "x"]),
    ("threshold", "x > 5", ["x > 7.5", "x > 2.5", "x > 0"]),
    ("threshold", "x * 0", ["x * 1"]),
    ("threshold", "x + 2", ["x + -2", "x + 3", "x + 1", "x + 0"]),
    ("window", "rate(x[1m])", ["rate(x[2m])", "rate(x[30s])"]),
    ("window", "x offset 5m", ["x", "x offset 10m"]),
    ("window", "rate(x[1m])[1h:1m]", [
        "rate(x[1m])[2h:1m]", "rate(x[1m])[30m:1m]", "rate(x[2m])[1h:1m]", "rate(x[30s])[1h:1m]",
    ]),
    ("window", "x @ end()", ["x"]),
    ("matcher", 'x{a="b"}', ["x", 'x{a!="b"}', 'x{a="b-mutant"}']),
    ("matcher", 'x{a=~"b|c"}', ["x", 'x{a!~"b|c"}', 'x{a=~"b"}']),
    ("matcher", 'x{a=~"b.+"}', ["x", 'x{a!~"b.+"}', 'x{a=~"(?:b.+)-mutant"}']),
    ("aggregation", "sum by (a, b) (x)", [
        "max by (a, b) (x)", "count by (a, b) (x)", "x", "sum without (a, b) (x)", "sum by (b) (x)", "sum by (a) (x)",
    ]),
    ("matching", "x and on (a, b) y", ["x and on (b) y", "x and on (a) y"]),
    ("matching", "x and on () y", ["x and y"]),
    ("matching", "x * on (a) group_left (t) y", ["x * on () group_left (t) y", "x * on (a) group_left () y"]),
    ("set", "x and y", ["x or y", "x unless y"]),
    ("set", "a or b and c", ["a and b and c", "a unless b and c", "a or b or c", "a or b unless c"]),
    ("arithmetic", "x / y", ["x * y"]),
    ("arithmetic", "-x", ["x"]),
    ("operand", "x unless y", ["y", "x"]),
    ("operand", "x * 2", ["2", "x"]),
    ("function", "rate(x[1m])", ["increase(x[1m])", "irate(x[1m])", "delta(x[1m])", "x[1m]"]),
    ("function", "absent(x)", ["x"]),
]  # fmt: skip


@pytest.mark.parametrize(("operator", "expr", "expected"), MADE)
def test_an_operator_makes_these_of_an_expression(operator: str, expr: str, expected: list[str]) -> None:
    made = [render(tree) for name, _, _, tree in operators.mutations(parse(expr)) if name == operator]
    # Swapping an operator may need parentheses to leave the rest as it was.
    assert [text.replace("(", "").replace(")", "") for text in made] == [
        text.replace("(", "").replace(")", "") for text in expected
    ]


def test_what_a_swapped_operator_would_take_from_its_neighbours_is_held_together() -> None:
    made = {render(tree) for name, _, _, tree in operators.mutations(parse("a or b and c")) if name == "set"}
    assert made == {"a and (b and c)", "a unless (b and c)", "a or (b or c)", "a or b unless c"}


RULES = """\
groups:
  - name: g
    interval: 15s
    rules:
      # A comment.
      - record: x:rate
        expr: sum by (job) (rate(x[1m]))
        labels: {tier: db}
      - alert: High
        expr: |
          x:rate
            > 5
        for: 2m
        keep_firing_for: 1m
        labels:
          severity: critical
          team: "{{ $labels.job }}"
        annotations: {summary: "a: b"}
      - alert: High
        expr: x:rate > 10
"""


@pytest.fixture
def file(tmp_path: Path) -> rulefile.RuleFile:
    (tmp_path / "rules.yml").write_text(RULES)
    return rulefile.load(tmp_path / "rules.yml")


def _all(file: rulefile.RuleFile) -> dict[str, Mutant]:
    made = [mutant for rule in file.rules for mutant in mutants(file, rule)]
    by_id = {mutant.id: mutant for mutant in made}
    assert len(by_id) == len(made), "an id names one mutant"
    return by_id


@pytest.mark.parametrize(
    ("id", "line", "change"),
    [
        ("x:rate/window/0.0/x2", 7, "sum by (job) (rate(x[1m])) -> sum by (job) (rate(x[2m]))"),
        ("x:rate/label/tier-value", 8, "tier: db -> tier: db-mutant"),
        ("x:rate/rule/removed", 6, "record: x:rate -> (removed)"),
        ("High/comparison/-/>=", 12, "x:rate > 5 -> x:rate >= 5"),
        ("High/threshold/1/x1.5", 12, "x:rate > 5 -> x:rate > 7.5"),
        ("High/for/dropped", 13, "for: 2m -> (dropped)"),
        ("High/for/x2", 13, "for: 2m -> for: 4m"),
        ("High/for/x0.5", 13, "for: 2m -> for: 1m"),
        ("High/keep_firing_for/x0.5", 14, "keep_firing_for: 1m -> keep_firing_for: 30s"),
        ("High/label/severity-value", 16, "severity: critical -> severity: warning"),
        ("High/label/team-dropped", 17, 'team: {{ $labels.job }} -> (dropped)'),
        ("High/rule/removed", 9, "alert: High -> (removed)"),
        ("High#2/comparison/-/<", 20, "x:rate > 10 -> x:rate < 10"),
    ],
)  # fmt: skip
def test_a_mutant_has_an_id_a_line_and_one_change(file: rulefile.RuleFile, id: str, line: int, change: str) -> None:
    mutant = _all(file)[id]
    assert (mutant.line, mutant.change) == (line, change)


def test_every_mutant_is_of_a_known_operator(file: rulefile.RuleFile) -> None:
    assert {mutant.operator for mutant in _all(file).values()} <= set(OPERATORS)


def test_a_rule_is_written_word_for_word_but_for_its_change(file: rulefile.RuleFile, tmp_path: Path) -> None:
    mutant = _all(file)["High/for/x2"]
    assert mutant.node is not None
    path = tmp_path / "mutant.yml"
    path.write_text(file.written({rule.index: rule.node for rule in file.rules} | {mutant.rule.index: mutant.node}))
    again = rulefile.load(path)
    assert [rule.expr for rule in again.rules] == [rule.expr for rule in file.rules]
    assert rulefile.scalar(again.groups[0], "interval") == "15s"
    high = again.rules[1].node
    assert rulefile.scalar(high, "for") == "4m"
    assert rulefile.scalar(rulefile.value(high, "labels"), "team") == "{{ $labels.job }}"
    assert rulefile.scalar(rulefile.value(high, "annotations"), "summary") == "a: b"


def test_anchors_and_merge_keys_are_followed_and_words_of_yaml_stay_words(tmp_path: Path) -> None:
    path = tmp_path / "rules.yml"
    path.write_text(
        "groups:\n- name: g\n  rules:\n"
        "  - &first {alert: A, expr: x > 1, for: 1m, labels: {severity: yes, since: 2024-01-01}}\n"
        "  - {<<: *first, alert: B}\n"
    )
    file = rulefile.load(path)
    [first, second] = file.rules
    made = {mutant.id: mutant for mutant in mutants(file, first)}
    changed = made["A/for/x2"].node
    assert changed is not None
    path.write_text(file.written({first.index: changed, second.index: second.node}))
    again = rulefile.load(path)
    assert [rulefile.scalar(rule.node, "for") for rule in again.rules] == ["2m", "1m"]
    assert "severity: yes" in path.read_text()
    assert "since: 2024-01-01" in path.read_text()
