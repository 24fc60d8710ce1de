"""Trees written as PromQL, and two texts of it laid side by side."""

from __future__ import annotations

import difflib
import json
import math
import re

from herdwatch.bundle.promql import Matcher
from herdwatch.proof.mutation.tree import (
    Aggregate,
    Binary,
    Call,
    Labels,
    Negative,
    Node,
    Number,
    Paren,
    Selector,
    Subquery,
    Text,
)
from herdwatch.proof.mutation.words import WORD, written_words

COMPARISONS = ("==", "!=", "<=", "<", ">=", ">")
ARITHMETIC = ("+", "-", "*", "/", "%", "atan2", "^")
SETS = ("and", "or", "unless")

_LEVELS = (("or",), ("and", "unless"), COMPARISONS, ("+", "-"), ("*", "/", "%", "atan2"), ("^",))
_PRECEDENCE = {operator: level for level, operators in enumerate(_LEVELS) for operator in operators}
_UNITS = (("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1))
_LENGTHS = dict(_UNITS, y=31_536_000_000)
_SPAN = re.compile(r"(\d+)(ms|[smhdwy])")
_SHOWN = 30
_CHANGED = 110


def render(node: Node) -> str:
    """The expression on one line. What is parsed from it is the same tree."""
    match node:
        case Number():
            return _number(node.value)
        case Text():
            return _quoted(node.value)
        case Selector():
            return _selector(node)
        case Subquery():
            step = "" if node.step is None else span(node.step)
            inner = render(node.inner)
            inside = f"({inner})" if isinstance(node.inner, (Binary, Negative, Number, Text)) else inner
            return f"{inside}[{span(node.range)}:{step}]{_when(node.offset, node.at)}"
        case Call():
            return f"{node.function}({', '.join(map(render, node.arguments))})"
        case Aggregate():
            grouping = f" {_labels(node.grouping)} " if node.grouping else ""
            parameter = "" if node.parameter is None else f"{render(node.parameter)}, "
            return f"{node.operator}{grouping}({parameter}{render(node.inner)})"
        case Negative():
            return f"-{_operand(node.inner, _PRECEDENCE['^'])}"
        case Paren():
            return f"({render(node.inner)})"
        case Binary():
            return _binary(node)


def span(milliseconds: int) -> str:
    """A duration as Prometheus writes it: `1m30s`."""
    rest, parts = abs(milliseconds), []
    for unit, length in _UNITS:
        if rest >= length:
            parts.append(f"{rest // length}{unit}")
            rest %= length
    return ("-" if milliseconds < 0 else "") + ("".join(parts) or "0s")


def milliseconds(text: str) -> int | None:
    """What `span` writes and Prometheus takes, `0` and `1y` too; None for anything else."""
    if text == "0":
        return 0
    if not re.fullmatch(f"(?:{_SPAN.pattern})+", text):
        return None
    return sum(int(number) * _LENGTHS[unit] for number, unit in _SPAN.findall(text))


def line_of_change(source: str, before: str, after: str) -> int:
    """Which line of `source`, from 0, says what `before` does where `after` begins to differ from it.

    `source` is the expression as somebody laid it out, with comments and in any of YAML's styles.
    """
    written = list(written_words(source))
    if not written:
        return 0
    old, new = ([word for word, _ in written_words(text)] for text in (before, after))
    differs = next(
        (n for n, (one, two) in enumerate(zip(old, new, strict=False)) if one != two), min(len(old), len(new))
    )
    # Modifiers stand before or after their operand, 60s is 1m: the same words are found, and others lie between them.
    blocks = difflib.SequenceMatcher(None, old, [word for word, _ in written], autojunk=False).get_matching_blocks()
    at = 0
    for block in blocks:
        if block.a > differs:
            break
        at = block.b + min(differs - block.a, max(block.size, 1))
    return source.count("\n", 0, written[min(at, len(written) - 1)][1])


def clipped(before: str, after: str) -> tuple[str, str]:
    """Both on one line each: what differs, with a little of what stands around it."""
    old, new = [match.span() for match in WORD.finditer(before)], [match.span() for match in WORD.finditer(after)]
    same = 0
    while same < min(len(old), len(new)) and before[slice(*old[same])] == after[slice(*new[same])]:
        same += 1
    tail = 0
    while tail < min(len(old), len(new)) - same and before[slice(*old[-1 - tail])] == after[slice(*new[-1 - tail])]:
        tail += 1
    return _cut(before, old, same, tail), _cut(after, new, same, tail)


def _cut(text: str, spans: list[tuple[int, int]], same: int, tail: int) -> str:
    start = spans[same][0] if same < len(spans) else len(text)
    end = spans[len(spans) - tail - 1][1] if len(spans) - tail > same else start
    first = next((begin for begin, _ in spans if begin >= start - _SHOWN), start)
    last = next((stop for _, stop in reversed(spans) if stop <= end + _SHOWN), end)
    changed = text[start:end]
    if len(changed) > _CHANGED:
        changed = f"{changed[: _CHANGED // 2].rstrip()} … {changed[-_CHANGED // 2 :].lstrip()}"
    around = f"{text[min(first, start) : start]}{changed}{text[end : max(last, end)]}"
    return f"{'… ' if first > 0 else ''}{around.strip()}{' …' if last < len(text) else ''}"


def _number(value: float) -> str:
    if math.isinf(value):
        return "Inf" if value > 0 else "-Inf"
    if math.isnan(value):
        return "NaN"
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 and str(value) != "-0.0" else repr(value)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _selector(node: Selector) -> str:
    groups = ([*node.matchers], *node.alternatives) if node.matchers else node.alternatives
    inside = " or ".join(",".join(map(_matcher, group)) for group in groups)
    braces = f"{{{inside}}}" if inside or not node.name else ""
    window = "" if node.range is None else f"[{span(node.range)}]"
    return f"{node.name}{braces}{window}{_when(node.offset, node.at)}"


def _matcher(matcher: Matcher) -> str:
    return f"{matcher.label}{matcher.operator}{_quoted(matcher.value)}"


def _when(offset: int, at: str) -> str:
    return (f" @ {at}" if at else "") + (f" offset {span(offset)}" if offset else "")


def _labels(labels: Labels) -> str:
    return f"{labels.keyword} ({', '.join(labels.names)})"


def _binary(node: Binary) -> str:
    level = _PRECEDENCE[node.operator]
    right_first = node.operator == "^"
    fills = zip(("left", "right"), node.fills, strict=True)
    words = [
        _operand(node.left, level + right_first),
        node.operator,
        "bool" if node.is_bool else "",
        _labels(node.matching) if node.matching else "",
        _labels(node.group) if node.group else "",
        *(f"fill_{side} ({_number(fill)})" for side, fill in fills if fill is not None),
        _operand(node.right, level + (not right_first)),
    ]
    return " ".join(filter(None, words))


def _operand(node: Node, level: int) -> str:
    """An operand, in parentheses where it would bind less than `level` without."""
    if isinstance(node, Binary):
        binds = _PRECEDENCE[node.operator]
    elif isinstance(node, Negative) or (isinstance(node, Number) and math.copysign(1, node.value) < 0):
        binds = _PRECEDENCE["*"]  # -2 ^ 2 is -(2 ^ 2)
    else:
        return render(node)
    return f"({render(node)})" if binds < level else render(node)
