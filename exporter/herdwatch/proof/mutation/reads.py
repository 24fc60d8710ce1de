"""What rules and expectations read: which records, which alerts. Where that cannot be told they read everything."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator

from herdwatch.errors import CheckFailed
from herdwatch.proof.mutation import tree
from herdwatch.proof.mutation.rulefile import Rule, fields, value
from herdwatch.proof.mutation.text import ARITHMETIC, COMPARISONS, SETS
from herdwatch.proof.mutation.tree import Aggregate, Binary, Call, Labels, Node, Number, Paren, Selector, Subquery

Key = tuple[str, str]
"""Of a rule: "alert" or "record", and its name. Rules of one key are taken together."""

Keys = frozenset[Key]

ALERT_SERIES = ("ALERTS", "ALERTS_FOR_STATE")

_WORD = re.compile(r"[A-Za-z_:][\w:]*")
_BUILT_NAME = re.compile(r"%[-+# 0]*[sv]|\bprint(?:ln)?\b")
_ALIKE = re.compile(r"\w+_over_time")
_PER_SERIES = frozenset({"abs", "ceil", "changes", "clamp_max", "clamp_min", "floor", "resets", "round", "timestamp"})
_PER_GROUP = frozenset({"sum", "min", "max", "avg", "count", "group", "stddev", "stdvar"})


def of_tree(expr: Node, known: Collection[Key]) -> Keys:
    """The rules of `known` whose series the expression selects."""
    selectors = [node for _, node in tree.places(expr) if isinstance(node, Selector)]
    return frozenset(key for node in selectors for key in _selected(node, known))


def of_text(expr: str, known: Collection[Key]) -> Keys:
    """The same for an expression as text; one that cannot be parsed reads everything."""
    try:
        return of_tree(tree.parse(expr), known)
    except CheckFailed:
        return frozenset(known)


def of_rule(rule: Rule, known: Collection[Key]) -> Keys:
    """What a rule reads in its expression and in the templates of its labels and annotations."""
    return of_tree(rule.expr, known) | _of_templates(rule, known)


def is_per_alert(expr: Node) -> bool:
    """Whether each alert makes samples of its own in the result, labelled with its alertname.

    If so, the samples of an alert are the same whatever the others do, also if there are no others.
    """
    match expr:
        case Selector():
            return expr.name in ALERT_SERIES
        case Paren() | Subquery():
            return is_per_alert(expr.inner)
        case Call():
            known = expr.function in _PER_SERIES or (
                _ALIKE.fullmatch(expr.function) is not None and expr.function != "absent_over_time"
            )
            return known and _one_is(expr.arguments)
        case Aggregate():
            apart = _keeps_alertname(expr.grouping, "by", "without")
            return expr.operator in _PER_GROUP and apart and is_per_alert(expr.inner)
        case Binary():
            if expr.operator in SETS:
                apart = expr.matching is None or _keeps_alertname(expr.matching, "on", "ignoring")
                return apart and is_per_alert(expr.left) and is_per_alert(expr.right)
            return expr.operator in (*ARITHMETIC, *COMPARISONS) and _one_is((expr.left, expr.right))
    return False


def alertname(labels: str) -> str | None:
    """The alertname in an expected sample's labels, None if there is none."""
    try:
        node = tree.parse(labels)
    except CheckFailed:
        return None
    matchers = node.matchers if isinstance(node, Selector) else ()
    return next((one.value for one in matchers if one.label == "alertname" and one.operator == "="), None)


def _one_is(nodes: Iterable[Node]) -> bool:
    """One of the nodes is per alert, and the others are numbers."""
    rest = [node for node in nodes if not isinstance(node, Number)]
    return len(rest) == 1 and is_per_alert(rest[0])


def _keeps_alertname(labels: Labels | None, including: str, excluding: str) -> bool:
    if labels is None:
        return False
    names = "alertname" in labels.names
    return (labels.keyword == including and names) or (labels.keyword == excluding and not names)


def _selected(node: Selector, known: Collection[Key]) -> Iterator[Key]:
    named = [one for one in node.matchers if one.label == "__name__"]
    name = node.name or next((one.value for one in named if one.operator == "="), "")
    if not name or node.alternatives:
        yield from known
    elif name in ALERT_SERIES:
        yield from (key for key in known if key[0] == "alert" and _may_be(node, key[1]))
    elif ("record", name) in known:
        yield "record", name


def _may_be(node: Selector, alert: str) -> bool:
    """Whether the matchers on alertname let this alert through; a regular expression that Python cannot read does."""
    for matcher in node.matchers:
        if matcher.label != "alertname":
            continue
        if matcher.operator in ("=", "!="):
            same = matcher.value == alert
        else:
            try:
                same = re.fullmatch(matcher.value, alert) is not None
            except re.error:
                continue
        if same is matcher.operator.startswith("!"):
            return False
    return True


def _of_templates(rule: Rule, known: Collection[Key]) -> Keys:
    texts = [node.value for field in ("labels", "annotations") for _, node in fields(value(rule.node, field))]
    asking = [text for text in texts if isinstance(text, str) and "query" in text]
    if any(_BUILT_NAME.search(text) for text in asking):
        return frozenset(known)
    words = {word for text in asking for word in _WORD.findall(text)}
    alerts = not words.isdisjoint(ALERT_SERIES)
    return frozenset(key for key in known if (alerts if key[0] == "alert" else key[1] in words))
