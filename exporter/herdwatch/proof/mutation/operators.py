"""What is done to an expression: each operator yields, under a short name, what could stand where a node stands."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

from herdwatch.bundle.promql import Matcher, Operator
from herdwatch.proof.mutation.text import ARITHMETIC, COMPARISONS, SETS
from herdwatch.proof.mutation.tree import (
    Aggregate,
    Binary,
    Call,
    Labels,
    Negative,
    Node,
    Number,
    Place,
    Selector,
    Subquery,
    places,
    replaced,
)

Changed = Iterator[tuple[str, Node]]

_COMPARED = {
    "<": ("<=", ">"),
    "<=": ("<", ">="),
    ">": (">=", "<"),
    ">=": (">", "<="),
    "==": ("!=",),
    "!=": ("==",),
}
_CALCULATED = {"+": "-", "-": "+", "*": "/", "/": "*", "%": "/", "^": "*", "atan2": "/"}
_SETS = {"and": ("or", "unless"), "or": ("and", "unless"), "unless": ("and", "or")}
# group is not there: it is written where labels matter and the value does not.
_AGGREGATED = {
    "sum": ("max", "count"),
    "max": ("min", "sum"),
    "min": ("max", "sum"),
    "avg": ("max", "min"),
    "count": ("sum", "max"),
    "stddev": ("stdvar",),
    "stdvar": ("stddev",),
    "topk": ("bottomk",),
    "bottomk": ("topk",),
}
_CALLED = {
    "rate": ("increase", "irate", "delta"),
    "irate": ("rate", "idelta"),
    "increase": ("rate", "delta"),
    "delta": ("increase", "idelta"),
    "idelta": ("delta", "irate"),
    "deriv": ("delta", "rate"),
    "max_over_time": ("min_over_time", "avg_over_time"),
    "min_over_time": ("max_over_time", "avg_over_time"),
    "avg_over_time": ("max_over_time", "min_over_time"),
    "sum_over_time": ("count_over_time", "max_over_time"),
    "count_over_time": ("sum_over_time", "present_over_time"),
    "last_over_time": ("max_over_time", "min_over_time"),
    "present_over_time": ("count_over_time", "last_over_time"),
    "stddev_over_time": ("stdvar_over_time",),
    "stdvar_over_time": ("stddev_over_time",),
    "changes": ("resets", "count_over_time"),
    "resets": ("changes", "count_over_time"),
    "clamp_min": ("clamp_max",),
    "clamp_max": ("clamp_min",),
    "ceil": ("floor",),
    "floor": ("ceil",),
    "absent_over_time": ("present_over_time",),
}
_NEGATED: dict[str, Operator] = {"=": "!=", "!=": "=", "=~": "!~", "!~": "=~"}


def mutations(tree: Node) -> Iterator[tuple[str, Place, str, Node]]:
    """Operator, place, variant and the whole tree with that change, for every change there is to an expression."""
    for place, node in places(tree):
        for name, operator in _OPERATORS.items():
            for variant, new in operator(node):
                yield name, place, variant, replaced(tree, place, new)


def _comparison(node: Node) -> Changed:
    if isinstance(node, Binary) and node.operator in COMPARISONS:
        yield from ((other, replace(node, operator=other)) for other in _COMPARED[node.operator])
        if node.is_bool:
            yield "no-bool", replace(node, is_bool=False)
        # What stands left of a comparison is what it filters; right of it is the limit.
        yield "removed", node.left


def _threshold(node: Node) -> Changed:
    if isinstance(node, Number):
        if node.value == 0 or math.isnan(node.value):
            yield "1", Number(1.0)
            return
        if math.isfinite(node.value):
            yield "x1.5", Number(node.value * 1.5)
            yield "x0.5", Number(node.value / 2)
        yield "0", Number(0.0)
    elif isinstance(node, Binary) and node.operator in ARITHMETIC:
        for side in ("left", "right"):
            operand = getattr(node, side)
            if isinstance(operand, Number) and operand.value:
                negative = Number(-operand.value)
                yield (
                    f"-{side}",
                    replace(node, left=negative) if side == "left" else replace(node, right=negative),
                )


def _window(node: Node) -> Changed:
    if not isinstance(node, (Selector, Subquery)):
        return
    if node.range is not None:
        yield "x2", replace(node, range=node.range * 2)
        if node.range > 1:
            yield "x0.5", replace(node, range=node.range // 2)
    if node.offset:
        yield "no-offset", replace(node, offset=0)
        yield "offset-x2", replace(node, offset=node.offset * 2)
    if node.at:
        yield "no-at", replace(node, at="")


def _matcher(node: Node) -> Changed:
    if not isinstance(node, Selector):
        return
    for number, matcher in enumerate(node.matchers):
        before, after = node.matchers[:number], node.matchers[number + 1 :]
        yield f"{matcher.label}-dropped", replace(node, matchers=before + after)
        changes = (
            ("negated", replace(matcher, operator=_NEGATED[matcher.operator])),
            ("value", replace(matcher, value=_another_value(matcher))),
        )
        for variant, changed in changes:
            yield f"{matcher.label}-{variant}", replace(node, matchers=(*before, changed, *after))


def _another_value(matcher: Matcher) -> str:
    if matcher.operator in ("=", "!="):
        return f"{matcher.value}-mutant"
    first, bar, _ = matcher.value.partition("|")
    # One of several alternatives is more of a change than a word that nothing bears.
    return first if bar and not any(sign in matcher.value for sign in "()[]\\") else f"(?:{matcher.value})-mutant"


def _aggregation(node: Node) -> Changed:
    if not isinstance(node, Aggregate):
        return
    yield from ((other, replace(node, operator=other)) for other in _AGGREGATED.get(node.operator, ()))
    yield "removed", node.inner
    if node.grouping is not None:
        other = "without" if node.grouping.keyword == "by" else "by"
        yield other, replace(node, grouping=replace(node.grouping, keyword=other))
        yield from ((f"no-{label}", replace(node, grouping=left)) for label, left in _fewer(node.grouping))


def _matching(node: Node) -> Changed:
    if not isinstance(node, Binary):
        return
    if node.matching is not None:
        if not node.matching.names and node.group is None:
            yield f"no-{node.matching.keyword}", replace(node, matching=None)
        yield from ((f"no-{label}", replace(node, matching=left)) for label, left in _fewer(node.matching))
    if node.group is not None:
        side = node.group.keyword
        yield from ((f"{side}-no-{label}", replace(node, group=left)) for label, left in _fewer(node.group))


def _fewer(labels: Labels) -> Iterator[tuple[str, Labels]]:
    for label in labels.names:
        yield label, replace(labels, names=tuple(name for name in labels.names if name != label))


def _set(node: Node) -> Changed:
    if isinstance(node, Binary) and node.operator in SETS:
        yield from ((other, replace(node, operator=other)) for other in _SETS[node.operator])


def _arithmetic(node: Node) -> Changed:
    if isinstance(node, Binary) and node.operator in ARITHMETIC:
        other = _CALCULATED[node.operator]
        yield other, replace(node, operator=other)
    elif isinstance(node, Negative):
        yield "no-sign", node.inner


def _operand(node: Node) -> Changed:
    """One operand of a set or arithmetic operator is dropped; named is the one that goes."""
    if isinstance(node, Binary) and node.operator not in COMPARISONS:
        yield "left", node.right
        yield "right", node.left


def _function(node: Node) -> Changed:
    if isinstance(node, Call):
        yield from ((other, replace(node, function=other)) for other in _CALLED.get(node.function, ()))
        if node.arguments and not isinstance(node.arguments[0], Number):
            yield "removed", node.arguments[0]


_OPERATORS: dict[str, Callable[[Node], Changed]] = {
    "comparison": _comparison,
    "threshold": _threshold,
    "window": _window,
    "matcher": _matcher,
    "aggregation": _aggregation,
    "matching": _matching,
    "set": _set,
    "arithmetic": _arithmetic,
    "operand": _operand,
    "function": _function,
}
