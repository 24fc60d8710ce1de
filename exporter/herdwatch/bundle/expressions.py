"""Whether a PromQL selector asks for something that exists, and does with it what its type bears."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from herdwatch.bundle import promql
from herdwatch.bundle.promql import Selector
from herdwatch.errors import CheckFailed
from herdwatch.metrics import FAMILIES

ALWAYS_THERE = ("up", "ALERTS", "herdwatch:threshold", "herdwatch:capacity")
"""Series that Prometheus itself makes, or that the rules record only where the configuration gives a value."""

COUNTERS = frozenset(
    [family.sample for family in FAMILIES if family.kind == "counter"]
    + [
        f"{family.name}_{part}"
        for family in FAMILIES
        if family.kind == "histogram"
        for part in ("bucket", "count", "sum")
    ]
)
"""The series that only grow: counters, and the three of a histogram."""

EXPORTED = COUNTERS | {family.sample for family in FAMILIES if family.kind != "histogram"}
"""The series of the exporter and of the guard, by the names that PromQL knows."""

NEEDS_COUNTER = ("rate", "irate", "increase")
_TAKES_COUNTER = (*NEEDS_COUNTER, "changes", "resets", "absent", "absent_over_time")


def expression_problems(expr: str, where: str, recorded: Iterable[str]) -> Iterator[str]:
    """What is wrong with one PromQL expression: grammar, a series nobody makes, a function its type does not bear."""
    try:
        selectors = promql.selectors(expr, where)
    except CheckFailed as error:
        yield str(error)
        return
    known = frozenset(recorded)
    for selector in selectors:
        problem = selector_problem(selector, known)
        if problem is not None:
            yield f"{where}: {problem}"


def selector_problem(selector: Selector, recorded: Collection[str]) -> str | None:
    """What is wrong with one selector; None where all is right. `recorded` are the names that the rules record."""
    metric = selector.metric
    if metric not in EXPORTED and metric not in ALWAYS_THERE and metric not in recorded:
        return f"nobody exports or records {metric or 'a series without a name'}"
    if selector.function in NEEDS_COUNTER and metric not in COUNTERS:
        return f"{selector.function}() needs a counter and {metric} is none"
    if metric in COUNTERS and selector.function not in _TAKES_COUNTER:
        # The seed's gauge is recorded under a counter's name; it is in `recorded`, not among the families.
        return f"{metric} is a counter; take its rate() or increase()"
    return None
