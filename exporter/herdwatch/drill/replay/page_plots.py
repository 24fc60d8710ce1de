"""The plots of a drill's page: runs of one scenario on one axis, in seconds before and after the fault."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from herdwatch.drill.replay.results import Curves, Drill, Result
from herdwatch.operations.report.axes import Relative
from herdwatch.operations.report.curves import Curve
from herdwatch.operations.report.drawing import TALL, Limit, Line, Mark, Plot, svg
from herdwatch.operations.report.parts import figure, values
from herdwatch.operations.report.words import latency, safe, si

FIRST = "restart"
"""The scenario of which there are runs at every level of protection: its plots come first, and are the largest."""
MOST = 6
"""Lines of a plot that can be told apart."""
ROWS = 120
"""Rows of the table with a plot's values: a second each, for any run there is."""
TALLER = 220
CLOSE = 2.0
"""How much of the capacity a plot shows that is there because another one has no eye for it."""
FAR = 4.0
"""Peak per capacity from which on that one is there."""


@dataclass(frozen=True, slots=True)
class Metric:
    """What a plot shows. `held` says that it is held against the capacity, `rare` that it is no news while it is 0."""

    curve: str
    title: str
    ratio: bool = False
    written: Callable[[float | None], str] | None = None
    held: bool = False
    rare: bool = False


METRICS = (
    Metric("asked", "Queries a second asked for", held=True),
    Metric("sent", "Queries a second sent to the database", held=True),
    Metric("hit_ratio", "Hit ratio", ratio=True),
    Metric("p99", "Latency, 99th percentile", written=latency),
    Metric("failed", "Requests a second that failed", rare=True),
    Metric("shed", "Requests a second that were shed", rare=True),
)


@dataclass(frozen=True, slots=True)
class Group:
    """Runs that are drawn together, and the axis of all of them."""

    title: str
    runs: Sequence[Result]
    axis: Relative
    large: bool


def groups(results: Sequence[Result]) -> Iterator[Group]:
    """The runs by scenario, so many together as can be told apart; runs without any curve have an axis of a second."""
    scenarios = sorted(dict.fromkeys(one.scenario for one in results), key=lambda name: name != FIRST)
    for scenario in scenarios:
        runs = [one for one in results if one.scenario == scenario]
        axis = _axis([one.curves for one in runs])
        parts = [runs[begin : begin + MOST] for begin in range(0, len(runs), MOST)]
        for number, part in enumerate(parts, 1):
            title = f"{scenario}, part {number} of {len(parts)}" if len(parts) > 1 else scenario
            yield Group(title, part, axis, scenario == FIRST)


def _axis(curves: Sequence[Curves]) -> Relative:
    drawn = [(one.first, one.first + _length(one)) for one in curves if _length(one)]
    return Relative(min((begin for begin, _ in drawn), default=0), max((end for _, end in drawn), default=1))


def _length(curves: Curves) -> int:
    return max(len(getattr(curves, metric.curve)) for metric in METRICS)


def sections(drill: Drill) -> Iterator[str]:
    """A heading, the runs in words, and the plots of each group."""
    if not drill.results:
        return
    yield (
        "<p>Seconds before and after the fault, which is where ▼ and the dashed line are. A line holds the value of "
        "each second; where it is broken, there was nothing to count. What is over the "
        "scale of a plot lies at its upper edge.</p>\n"
    )
    for number, group in enumerate(groups(drill.results), 1):
        yield f'<h3 id="group-{number}">Scenario {safe(group.title)}</h3>\n<ul>\n'
        yield from (f"<li><strong>{safe(one.name)}</strong>: {safe(one.about)}</li>\n" for one in group.runs)
        yield "</ul>\n"
        yield from _figures(group, drill.capacity, number)


def _figures(group: Group, capacity: float, number: int) -> Iterator[str]:
    told: list[str] = []
    empty = []
    for metric in METRICS:
        lines = [Line(one.name, _on_axis(one.curves, metric.curve, group.axis)) for one in group.runs]
        if not _worth_it(lines, metric):
            empty.append(metric.title.lower())
            continue
        for plot in _plots(metric, lines, capacity, group):
            told.append(_figure(plot, group.axis, f"p{number}-{len(told) + 1}"))
    if told:
        yield f'<div class="{"single" if group.large else "pairs"}">\n{"".join(told)}</div>\n'
    if empty:
        yield f"<p>Not drawn, because there was nothing to show: {safe(', '.join(empty))}.</p>\n"


def _on_axis(curves: Curves, name: str, axis: Relative) -> Curve:
    """A curve with a value, or None, at each point of the axis."""
    given: Sequence[float | None] = getattr(curves, name)
    places = (at - curves.first for at in axis.grid)
    found = (given[place] if 0 <= place < len(given) else None for place in places)
    return tuple(value if value is not None and math.isfinite(value) else None for value in found)


def _worth_it(lines: Sequence[Line], metric: Metric) -> bool:
    return any(value is not None and (value > 0 or not metric.rare) for line in lines for value in line.curve)


def _plots(metric: Metric, lines: Sequence[Line], capacity: float, group: Group) -> Iterator[Plot]:
    """The plot, and beside one that the unprotected run fills another for those that stay near the capacity."""
    axis = group.axis
    marks = [Mark(0, "the fault")] if axis.since <= 0 < axis.until else []
    held = metric.held and math.isfinite(capacity) and capacity > 0
    limits = [Limit(capacity, f"capacity {si(capacity)}")] if held else []
    tall = TALLER if group.large else TALL
    yield Plot(metric.title, lines, metric.ratio, (), marks, limits, metric.written, tall=tall)
    most = max((value for line in lines for value in line.curve if value is not None), default=0.0)
    if held and most > FAR * capacity:
        yield Plot(
            f"{metric.title}, up to twice the capacity",
            lines,
            False,
            (),
            marks,
            limits,
            top=CLOSE * capacity,
            tall=tall,
        )


def _figure(plot: Plot, axis: Relative, id: str) -> str:
    picture = svg(plot, axis, id, lambda at, _: moment(at) if at else "fault")
    return figure(plot, picture, values(plot, axis, "after the fault", moment, ROWS))


def moment(at: int) -> str:
    """Seconds after the fault, with their sign."""
    return f"{at:+d} s"
