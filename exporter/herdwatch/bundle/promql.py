"""PromQL as data: one-line errors, the selectors of an expression, and the stand-ins for Grafana's variables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import promql_parser
from promql_parser import AggregateExpr, BinaryExpr, Call, Expr, MatrixSelector, VectorSelector

from herdwatch.errors import CheckFailed

Operator = Literal["=", "!=", "=~", "!~"]

_OPERATORS: tuple[tuple[promql_parser.MatchOp, Operator], ...] = (
    (promql_parser.MatchOp.Equal, "="),
    (promql_parser.MatchOp.NotEqual, "!="),
    (promql_parser.MatchOp.Re, "=~"),
    (promql_parser.MatchOp.NotRe, "!~"),
)
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_]\w*)(?:[.:][^}]*)?\}|([A-Za-z_]\w*))")
_DURATIONS = frozenset({"__interval", "__rate_interval", "__range"})
_NUMBERS = frozenset({"__interval_ms", "__range_s", "__range_ms", "__from", "__to"})
_SHOWN = 120

GRAFANA_BUILTINS = _DURATIONS | _NUMBERS
"""Variables that every dashboard has without defining them, as far as a PromQL query can use them."""


@dataclass(frozen=True, slots=True)
class Matcher:
    """One label matcher, such as `cache=~"users|carts"`."""

    label: str
    operator: Operator
    value: str


@dataclass(frozen=True, slots=True)
class Selector:
    """One series selector of an expression.

    `metric` is the name it asks for, empty where a regular expression or nothing names it. `matchers` are in the order
    written, without the name. `function` is the nearest function call around the selector (aggregation operators such
    as `sum` are none), or None. `is_range` tells `x[5m]` from `x`; the inside of a subquery is not a range selector.
    """

    metric: str
    matchers: tuple[Matcher, ...]
    function: str | None
    is_range: bool

    def matcher(self, label: str) -> Matcher | None:
        """The first matcher on `label`, or None."""
        return next((matcher for matcher in self.matchers if matcher.label == label), None)


def parse(expr: str, where: str) -> Expr:
    """The type-checked syntax tree of a PromQL expression.

    Raises CheckFailed with one line that starts with `where` and ends with the expression. Grafana's variables are no
    PromQL: a dashboard's query goes through `without_grafana_variables` first.
    """
    try:
        tree: Expr = promql_parser.parse(expr)
    except ValueError as error:
        raise CheckFailed(f"{where}: not valid PromQL: {_one_line(str(error))}, in: {_one_line(expr)}") from None
    return tree


def selectors(expr: str, where: str = "expression") -> list[Selector]:
    """Every series selector of an expression, left to right; raises CheckFailed as `parse` does."""
    return list(_visit(parse(expr, where), function=None, is_range=False))


def grafana_variables(expr: str) -> frozenset[str]:
    """The names after `$` and in `${}`, without their format; `$1` is a capture group of label_replace, not a name."""
    return frozenset(match[1] or match[2] for match in _VARIABLE.finditer(expr))


def without_grafana_variables(expr: str) -> str:
    """The expression with a plausible value for each Grafana variable, so that Prometheus's grammar accepts it.

    A built-in that stands for a time span becomes `5m`, one that stands for a number `300`, any other variable its own
    name.
    """
    return _VARIABLE.sub(lambda match: _stand_in(match[1] or match[2]), expr)


def _stand_in(name: str) -> str:
    if name in _DURATIONS:
        return "5m"
    return "300" if name in _NUMBERS else name


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"


def _visit(node: object, *, function: str | None, is_range: bool) -> Iterator[Selector]:
    if isinstance(node, VectorSelector):
        yield _selector(node, function, is_range)
    elif isinstance(node, MatrixSelector):
        yield _selector(node.vector_selector, function, True)
    elif isinstance(node, Call):
        for argument in node.args:
            yield from _visit(argument, function=node.func.name, is_range=False)
    else:
        for child in _children(node):
            yield from _visit(child, function=function, is_range=False)


def _children(node: object) -> tuple[object, ...]:
    if isinstance(node, AggregateExpr):
        return (node.param, node.expr)
    if isinstance(node, BinaryExpr):
        return (node.lhs, node.rhs)
    inner = getattr(node, "expr", None)
    return () if inner is None else (inner,)


def _selector(node: VectorSelector, function: str | None, is_range: bool) -> Selector:
    matchers = [_matcher(raw) for group in (node.matchers.matchers, *node.matchers.or_matchers) for raw in group]
    named = next((one.value for one in matchers if one.label == "__name__" and one.operator == "="), "")
    labels = tuple(matcher for matcher in matchers if matcher.label != "__name__")
    return Selector(node.name or named, labels, function, is_range)


def _matcher(raw: promql_parser.Matcher) -> Matcher:
    operator = next(text for op, text in _OPERATORS if op == raw.op)
    return Matcher(raw.name, operator, raw.value)
