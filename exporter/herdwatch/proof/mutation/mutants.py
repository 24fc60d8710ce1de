"""Every mutant of a rule file: one rule, one change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import yaml
from yaml import MappingNode

from herdwatch.proof.mutation import operators, tree
from herdwatch.proof.mutation.rulefile import Rule, RuleFile, fields, scalar, value, with_field
from herdwatch.proof.mutation.text import clipped, line_of_change, milliseconds, render, span

OPERATORS = (
    "comparison",
    "threshold",
    "window",
    "for",
    "keep_firing_for",
    "matcher",
    "aggregation",
    "matching",
    "set",
    "arithmetic",
    "operand",
    "function",
    "label",
    "rule",
)
"""The names of all operators."""

_OTHER_SEVERITY = {"critical": "warning", "warning": "critical"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One rule with one change.

    `id` is rule/operator/place/variant and the same in every run while the rule's expression keeps its shape. `line`
    counts from 1 in the rule file. `node` is the mutated rule, None if it was removed; `expr` its expression.
    """

    id: str
    rule: Rule
    operator: str
    line: int
    before: str
    after: str
    node: MappingNode | None
    expr: tree.Node

    @property
    def change(self) -> str:
        """What it changes, on one line."""
        return f"{self.before} -> {self.after}"


def identity(rule: Rule) -> MappingNode:
    """The rule with its expression written anew and nothing changed: whatever kills it is no news of the tests."""
    return with_field(rule.node, "expr", render(rule.expr))


def mutants(file: RuleFile, rule: Rule) -> Iterator[Mutant]:
    """All mutants of a rule, none of them twice."""
    yield from _of_expression(file, rule)
    for field in ("for", "keep_firing_for"):
        yield from _of_span(rule, field)
    yield from _of_labels(rule)
    kind = rule.key[0]
    yield Mutant(
        f"{rule.name}/rule/removed",
        rule,
        "rule",
        rule.line,
        f"{kind}: {rule.key[1]}",
        "(removed)",
        None,
        rule.expr,
    )


def _of_expression(file: RuleFile, rule: Rule) -> Iterator[Mutant]:
    before = render(rule.expr)
    node = value(rule.node, "expr")
    first = rule.line_of("expr")
    last = first if node is None else node.end_mark.line + 1
    source = "\n".join(file.text.splitlines()[first - 1 : last])
    seen = {before}
    for operator, place, variant, expr in operators.mutations(rule.expr):
        after = render(expr)
        if after in seen:
            continue
        seen.add(after)
        yield Mutant(
            f"{rule.name}/{operator}/{'.'.join(map(str, place)) or '-'}/{variant}",
            rule,
            operator,
            first + line_of_change(source, before, after),
            *clipped(before, after),
            with_field(rule.node, "expr", after),
            expr,
        )


def _of_span(rule: Rule, field: str) -> Iterator[Mutant]:
    written = scalar(rule.node, field)
    length = milliseconds(written)
    if not length:
        return
    for variant, new in (("dropped", None), ("x2", span(length * 2)), ("x0.5", span(length // 2))):
        after = "(dropped)" if new is None else f"{field}: {new}"
        node = with_field(rule.node, field, new)
        yield _of_field(rule, field, rule.line_of(field), variant, (f"{field}: {written}", after), node)


def _of_labels(rule: Rule) -> Iterator[Mutant]:
    labels = value(rule.node, "labels")
    if not isinstance(labels, MappingNode):
        return
    for label, node in fields(labels):
        if not isinstance(node, yaml.ScalarNode):
            continue
        other = _OTHER_SEVERITY.get(node.value, "critical") if label == "severity" else f"{node.value}-mutant"
        for variant, new in (("dropped", None), ("value", other)):
            after = "(dropped)" if new is None else f"{label}: {new}"
            changed = with_field(rule.node, "labels", with_field(labels, label, new))
            line = node.start_mark.line + 1
            yield _of_field(rule, "label", line, f"{label}-{variant}", (f"{label}: {node.value}", after), changed)


def _of_field(rule: Rule, operator: str, line: int, variant: str, change: tuple[str, str], node: MappingNode) -> Mutant:
    before, after = (" ".join(text.split()) for text in change)
    return Mutant(f"{rule.name}/{operator}/{variant}", rule, operator, line, before, after, node, rule.expr)
