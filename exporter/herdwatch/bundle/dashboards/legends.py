"""Which labels a query leaves on its series: a legend that names another is blank there, in every line of the graph."""

from __future__ import annotations

import re
from typing import Any

import promql_parser
from promql_parser import AggregateExpr, BinaryExpr, Call, NumberLiteral, VectorMatchCardinality, VectorSelector

from herdwatch.bundle import promql
from herdwatch.errors import CheckFailed

_IN_LEGEND = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_SCALARS = ("time", "scalar", "pi")
_SAME_LABELS = ("histogram_quantile", "sort", "sort_desc", "clamp_min", "clamp_max", "abs", "deriv", "changes")
_PICKING = re.compile(r"\b(?:topk|bottomk)\b")
_SET_OPERATION = re.compile(r"\b(?:and|unless)\b")


def blank_labels(legend: str, expr: str) -> list[str]:
    """The labels that a legend names and no series of the query has; none where that cannot be known."""
    try:
        kept = _kept(promql.parse(expr, ""))
    except CheckFailed:
        return []
    return [] if kept is None else [name for name in _IN_LEGEND.findall(legend) if name not in kept]


def _kept(node: Any) -> frozenset[str] | None:
    """The labels that may be left; None where any may be."""
    if isinstance(node, AggregateExpr):
        return _of_aggregation(node)
    if isinstance(node, BinaryExpr):
        return _of_operation(node)
    if isinstance(node, Call):
        if node.func.name in _SAME_LABELS:
            return _kept(next(argument for argument in reversed(node.args) if not isinstance(argument, NumberLiteral)))
        return frozenset() if node.func.name == "vector" else None
    if isinstance(node, VectorSelector):
        return _of_level(node.name or "")
    inner = getattr(node, "expr", None) or getattr(node, "vector_selector", None)
    return None if inner is None else _kept(inner)


def _of_level(metric: str) -> frozenset[str] | None:
    """What a recorded series is named after, and the team that comes with a cache; a configured one may have more."""
    level, colon, _ = metric.partition(":")
    return frozenset([*level.split("_"), "team"]) if colon and level != "herdwatch" else None


def _of_aggregation(node: AggregateExpr) -> frozenset[str] | None:
    if _PICKING.match(str(node.op)):
        return _kept(node.expr)
    if node.modifier is None:
        return frozenset()
    by = node.modifier.type == promql_parser.AggModifierType.By
    return frozenset(node.modifier.labels) if by and node.param is None else None


def _of_operation(node: BinaryExpr) -> frozenset[str] | None:
    if _is_scalar(node.lhs) or _is_scalar(node.rhs):
        return _kept(node.rhs if _is_scalar(node.lhs) else node.lhs)
    left, right = _kept(node.lhs), _kept(node.rhs)
    operator, modifier = str(node.op), node.modifier
    if operator == "or":
        return None if left is None or right is None else left | right
    if modifier is None or _SET_OPERATION.match(operator):
        return left
    many, more = (right if modifier.card == VectorMatchCardinality.OneToMany else left), modifier.group_labels or []
    return None if many is None else many | frozenset(more)


def _is_scalar(node: Any) -> bool:
    while isinstance(node, (promql_parser.ParenExpr, promql_parser.UnaryExpr)):
        node = node.expr
    return isinstance(node, NumberLiteral) or (isinstance(node, Call) and node.func.name in _SCALARS)
