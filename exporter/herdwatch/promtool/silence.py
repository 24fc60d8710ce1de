"""Rows that expect an alert not to fire when it could not: nothing that its rules read has had a sample by then."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import yaml

from herdwatch.promtool import nodes, reading
from herdwatch.promtool.reading import Read
from herdwatch.promtool.rulefiles import Rule

BUILT_IN = ("ALERTS", "ALERTS_FOR_STATE")
"""Series that Prometheus itself writes."""

_FROM_NOTHING = re.compile(
    r"\b(absent|absent_over_time|vector|hour|minute|month|year|days_in_month|day_of_(week|month|year))\s*\("
)
"""What can have a value where no series has one."""
_OMITTED = re.compile(r"_(?:x(\d+))?|stale")
_CLOCK = re.compile(r"(?:(\d+)(ms|[smhdwy]))")
_MILLISECONDS = {
    "ms": 1,
    "s": 1_000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 604_800_000,
    "y": 31_536_000_000,
}


def milliseconds(clock: str) -> int:
    """A time as test files and promtool write it, such as 1h15m; what is none counts as 0, promtool refuses it."""
    return sum(int(number) * _MILLISECONDS[unit] for number, unit in _CLOCK.findall(clock))


def faults(test: yaml.Node, quiet: Iterable[tuple[int, str, str]], rules: Sequence[Rule]) -> Iterator[tuple[int, str]]:
    """Lines and what is wrong there; `quiet` are line, time and alert of each row that expects no alert to fire."""
    every = milliseconds(nodes.text(nodes.value(test, "interval")) or "")
    first: dict[str, float] = {}
    for node in nodes.items(nodes.value(test, "input_series")):
        text = nodes.text(nodes.value(node, "series")) or ""
        labels = reading.series(text)
        if labels is None:
            return
        begins = _begins(nodes.text(nodes.value(node, "values")) or "", every)
        if begins == math.inf:
            yield nodes.line(node), f"gives the series {text} no sample"
        name = labels["__name__"]
        first[name] = min(begins, first.get(name, math.inf))
    for line, clock, alert in quiet:
        yield from ((line, fault) for fault in _early(clock, alert, first, rules))


def _early(clock: str, alert: str, first: Mapping[str, float], rules: Sequence[Rule]) -> Iterator[str]:
    exprs = [rule.expr for rule in _behind(alert, rules)]
    reads = [reading.expression(expr) for expr in exprs]
    if not any(read.selectors for read in reads) or any(map(_FROM_NOTHING.search, exprs)):
        return
    begins = min(
        (at for name, at in first.items() if any(_names(read, name) for read in reads)),
        default=math.inf,
    )
    if begins == math.inf:
        yield f"expects {alert} not to fire, and gives no sample of anything that it reads"
    elif milliseconds(clock) < begins:
        yield f"expects {alert} not to fire at {clock}, before anything that it reads has a sample"


def _behind(alert: str, rules: Sequence[Rule]) -> list[Rule]:
    """The rules of an alert, and those that they read, at whatever remove."""
    found = [rule for rule in rules if rule.is_alert and rule.name == alert]
    for one in found:  # It grows while it is read.
        read = reading.expression(one.expr)
        found += [rule for rule in rules if rule not in found and any(_names(read, made) for made in _makes(rule))]
    return found


def _names(read: Read, metric: str) -> bool:
    return read.takes({"__name__": metric}, known_only=True)


def _makes(rule: Rule) -> tuple[str, ...]:
    return BUILT_IN if rule.is_alert else (rule.name,)


def _begins(values: str, every: int) -> float:
    """Milliseconds until the first sample of a series, infinity where it has none."""
    place = 0
    for word in values.split():
        omitted = _OMITTED.fullmatch(word)
        if omitted is None:
            return place * every
        place += int(omitted[1] or 1)
    return math.inf
