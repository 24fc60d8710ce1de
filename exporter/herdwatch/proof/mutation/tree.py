"""A PromQL expression as a tree of values that can be taken apart and put together anew.

promql_parser's own nodes can be read but not built, and they do not know where they stand in the text. These can be
compared, replaced one at a time and written out again (`text.render`). Times are whole milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache
from typing import Any

import promql_parser
from promql_parser import VectorMatchCardinality

from herdwatch.bundle import promql
from herdwatch.bundle.promql import Matcher, Operator
from herdwatch.errors import CheckFailed
from herdwatch.proof.mutation.words import without_raw_strings

Place = tuple[int, ...]
"""Where a node stands: the number of the child to go to, from the root on."""

_MATCHING: dict[str, Operator] = {"Equal": "=", "NotEqual": "!=", "Re": "=~", "NotRe": "!~"}


@dataclass(frozen=True, slots=True)
class Number:
    """A number, also a negative one."""

    value: float


@dataclass(frozen=True, slots=True)
class Text:
    """A string, as arguments of functions are."""

    value: str


@dataclass(frozen=True, slots=True)
class Selector:
    """Series by name and matchers; with a `range` a range of each. `at` is `start()`, `end()`, seconds or nothing."""

    name: str
    matchers: tuple[Matcher, ...] = ()
    alternatives: tuple[tuple[Matcher, ...], ...] = ()
    range: int | None = None
    offset: int = 0
    at: str = ""


@dataclass(frozen=True, slots=True)
class Subquery:
    """An expression evaluated over a range, every `step` or, without one, at the evaluation interval."""

    inner: Node
    range: int
    step: int | None = None
    offset: int = 0
    at: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """A function and its arguments."""

    function: str
    arguments: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Labels:
    """A keyword and its labels: by, without, on, ignoring, group_left, group_right."""

    keyword: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Aggregate:
    """An aggregation; `parameter` is the k of topk, the label of count_values."""

    operator: str
    inner: Node
    grouping: Labels | None = None
    parameter: Node | None = None


@dataclass(frozen=True, slots=True)
class Negative:
    """A minus before an expression that is no number."""

    inner: Node


@dataclass(frozen=True, slots=True)
class Paren:
    """Parentheses as somebody wrote them."""

    inner: Node


@dataclass(frozen=True, slots=True)
class Binary:
    """An operator between two expressions. `fills` are what missing partners on the left and right count as."""

    operator: str
    left: Node
    right: Node
    is_bool: bool = False
    matching: Labels | None = None
    group: Labels | None = None
    fills: tuple[float | None, float | None] = (None, None)


Node = Number | Text | Selector | Subquery | Call | Aggregate | Negative | Paren | Binary


@lru_cache(maxsize=4096)
def parse(expr: str, where: str = "expression") -> Node:
    """The tree of an expression; raises CheckFailed with one line that begins with `where`."""
    return _node(promql.parse(without_raw_strings(expr), where), where)


def children(node: Node) -> tuple[Node, ...]:
    """The expressions in a node, left to right as they are written."""
    match node:
        case Call():
            return node.arguments
        case Aggregate():
            return (node.inner,) if node.parameter is None else (node.parameter, node.inner)
        case Binary():
            return (node.left, node.right)
        case Subquery() | Negative() | Paren():
            return (node.inner,)
    return ()


def places(node: Node, place: Place = ()) -> Iterator[tuple[Place, Node]]:
    """Every node of a tree with its place, from the root down and from left to right."""
    yield place, node
    for number, child in enumerate(children(node)):
        yield from places(child, (*place, number))


def replaced(node: Node, place: Place, new: Node) -> Node:
    """The tree with another node at `place`."""
    if not place:
        return new
    inside = list(children(node))
    inside[place[0]] = replaced(inside[place[0]], place[1:], new)
    return _with_children(node, inside)


def _with_children(node: Node, inside: Sequence[Node]) -> Node:
    match node:
        case Call():
            return replace(node, arguments=tuple(inside))
        case Aggregate():
            return replace(node, inner=inside[-1], parameter=inside[0] if node.parameter is not None else None)
        case Binary():
            return replace(node, left=inside[0], right=inside[1])
        case Subquery() | Negative() | Paren():
            return replace(node, inner=inside[0])
    return node


def _node(raw: Any, where: str) -> Node:
    match raw:
        case promql_parser.NumberLiteral():
            return Number(raw.val)
        case promql_parser.StringLiteral():
            return Text(raw.val)
        case promql_parser.VectorSelector():
            return _selector(raw)
        case promql_parser.MatrixSelector():
            return replace(_selector(raw.vector_selector), range=_milliseconds(raw.range))
        case promql_parser.SubqueryExpr():
            step = None if raw.step is None else _milliseconds(raw.step)
            return Subquery(
                _node(raw.expr, where), _milliseconds(raw.range), step, _milliseconds(raw.offset), _at(raw.at)
            )
        case promql_parser.Call():
            return Call(raw.func.name, tuple(_node(argument, where) for argument in raw.args))
        case promql_parser.AggregateExpr():
            return _aggregate(raw, where)
        case promql_parser.BinaryExpr():
            return _binary(raw, where)
        case promql_parser.UnaryExpr():
            return Negative(_node(raw.expr, where))
        case promql_parser.ParenExpr():
            return Paren(_node(raw.expr, where))
    raise CheckFailed(f"{where}: holds a {type(raw).__name__}, which cannot be mutated")


def _selector(raw: promql_parser.VectorSelector) -> Selector:
    return Selector(
        raw.name or "",
        tuple(_matcher(one) for one in raw.matchers.matchers),
        tuple(tuple(_matcher(one) for one in group) for group in raw.matchers.or_matchers),
        None,
        _milliseconds(raw.offset),
        _at(raw.at),
    )


def _matcher(raw: promql_parser.Matcher) -> Matcher:
    return Matcher(raw.name, _MATCHING[str(raw.op).rpartition(".")[2]], raw.value)


def _aggregate(raw: promql_parser.AggregateExpr, where: str) -> Aggregate:
    grouping = None
    if raw.modifier is not None:
        is_by = raw.modifier.type == promql_parser.AggModifierType.By
        grouping = Labels("by" if is_by else "without", tuple(raw.modifier.labels))
    parameter = None if raw.param is None else _node(raw.param, where)
    return Aggregate(str(raw.op), _node(raw.expr, where), grouping, parameter)


def _binary(raw: promql_parser.BinaryExpr, where: str) -> Binary:
    plain = Binary(str(raw.op), _node(raw.lhs, where), _node(raw.rhs, where))
    modifier = raw.modifier
    if modifier is None:
        return plain
    matching = group = None
    if modifier.matching is not None:
        includes = modifier.matching.type == promql_parser.LabelModifierType.Include
        matching = Labels("on" if includes else "ignoring", tuple(modifier.matching.labels))
    if modifier.card in (VectorMatchCardinality.ManyToOne, VectorMatchCardinality.OneToMany):
        many_left = modifier.card == VectorMatchCardinality.ManyToOne
        group = Labels("group_left" if many_left else "group_right", tuple(modifier.group_labels or ()))
    fills = modifier.fill_values
    return replace(
        plain,
        is_bool=modifier.return_bool,
        matching=matching,
        group=group,
        fills=(None, None) if fills is None else (fills.lhs, fills.rhs),
    )


def _milliseconds(span: timedelta | None) -> int:
    return 0 if span is None else span // timedelta(milliseconds=1)


def _at(raw: promql_parser.AtModifier | None) -> str:
    if raw is None:
        return ""
    if raw.type == promql_parser.AtModifierType.At:
        return "0.000" if raw.at is None else f"{raw.at.timestamp():.3f}"
    return "start()" if raw.type == promql_parser.AtModifierType.Start else "end()"
