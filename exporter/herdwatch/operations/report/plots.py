"""Which plots a cache gets, and how they stand on the page: a caption with names, the picture, its values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from herdwatch.operations.report.asked import Asked
from herdwatch.operations.report.curves import Curve
from herdwatch.operations.report.drawing import Band, Line, Mark, Plot, svg
from herdwatch.operations.report.happened import Firing
from herdwatch.operations.report.parts import figure, values
from herdwatch.operations.report.story import Story
from herdwatch.operations.report.words import safe
from herdwatch.times import span

PLOTS: Mapping[str, Sequence[tuple[str, str]]] = {
    "Hit ratio": (("hit_ratio", "hit ratio"), ("limit", "limit of CacheHitRateLow")),
    "Keys": (("keys", "keys"), ("baseline", "baseline, what is normal")),
    "Lookups a second": (("requests", "lookups"), ("hits", "hits"), ("misses", "misses")),
    "Loads a second that reached the database": (
        ("loads", "loads"),
        ("database_loads", "loads of all its caches"),
        ("capacity", "its capacity"),
    ),
    "Callers a second who shared another's load": (("coalesced", "coalesced"),),
    "In flight": (("in_flight", "loads that run"), ("waiting", "callers who wait")),
    "Warm-up, keys": (("warmed", "dealt with"), ("to_warm", "to load")),
}
"""Title, and of each line the curve and its name; a plot is drawn where its first curve has something to show."""


def figures(story: Story, wide: Sequence[Firing], asked: Asked, number: int) -> Iterator[str]:
    """The plots of one cache, all on the same axis of time, and a sentence about those that had nothing to show."""
    bands = [_band(one, asked) for one in (*wide, *story.firings)]
    marks = [Mark(one.at, f"new process at {asked.clock(one.at)}") for one in story.restarts]
    marks += [Mark(one.at, f"{one.command.upper()} at {asked.clock(one.at)}") for one in story.flushes]
    empty = []
    for place, (title, names) in enumerate(PLOTS.items(), 1):
        if not _worth_it(story.curves.get(names[0][0], ()), title):
            empty.append(title.lower())
            continue
        lines = [Line(name, story.curves[curve]) for curve, name in names if curve in story.curves]
        plot = Plot(title, lines, title == "Hit ratio", bands, marks)
        picture = svg(plot, asked, f"p{number}-{place}")
        yield figure(plot, picture, values(plot, asked, "UTC", asked.clock))
    if empty:
        yield f"<p>Not drawn, because there was nothing to show: {safe(', '.join(empty))}.</p>\n"


def _worth_it(curve: Curve, title: str) -> bool:
    """A warm-up that never ran is no warm-up; anything else is worth a plot when it is 0 as well."""
    return any(value is not None and (value > 0 or not title.startswith("Warm-up")) for value in curve)


def _band(one: Firing, asked: Asked) -> Band:
    end = asked.until if one.end is None else one.end
    lasted = f"for {span(round(end - one.start))}" + ("" if one.end is not None else " and on")
    name = f"{one.alert} ({one.severity or 'no severity'}) from {asked.clock(one.start)} {lasted}"
    return Band(one.start, end, one.severity, name)
