"""Plots as inline SVG: step lines with gaps, bands behind them for alerts, and marks for restarts.

The outer picture is as wide as the page and as high in pixels, so that its text keeps its size on a telephone; the
lines are in a picture inside it that is stretched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from herdwatch.operations.report.axes import Axis, moments, scale, utc
from herdwatch.operations.report.curves import Curve
from herdwatch.operations.report.words import named, percent, safe, si

WIDTH, HEIGHT = 1000, 100
"""The stretched picture's own units."""
TOP, TALL, BELOW = 18, 130, 22
"""Pixels above the lines, of the lines, and below them."""
_SEVERITIES = ("critical", "warning")


@dataclass(frozen=True, slots=True)
class Line:
    """A curve and what it is called."""

    name: str
    curve: Curve


@dataclass(frozen=True, slots=True)
class Band:
    """A time that is shown behind the lines; `kind` is critical, warning, or anything else for what is neither."""

    start: float
    end: float
    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment."""

    at: float
    name: str


@dataclass(frozen=True, slots=True)
class Limit:
    """A value that the lines are held against, from edge to edge, with its name."""

    value: float
    name: str


@dataclass(frozen=True, slots=True)
class Plot:
    """What is drawn into one picture. `ratio` says that the values are shares of one, and not numbers.

    `written` says how else they are written, `top` cuts off what is larger, `tall` is the height of the lines, in
    pixels.
    """

    title: str
    lines: Sequence[Line]
    ratio: bool = False
    bands: Sequence[Band] = ()
    marks: Sequence[Mark] = ()
    limits: Sequence[Limit] = ()
    written: Callable[[float | None], str] | None = None
    top: float | None = None
    tall: int = TALL

    @property
    def text(self) -> Callable[[float | None], str]:
        """How its values are written."""
        return self.written or (percent if self.ratio else si)


def svg(plot: Plot, axis: Axis, id: str, time: Callable[[int, int], str] = utc) -> str:
    """The picture; `id` begins the ids in it, `time` writes a moment of which the next is so many seconds away."""
    top, step = _scale(plot)
    levels = [step * number for number in range(round(top / step) + 1)]
    whole, tall = TOP + plot.tall + BELOW, plot.tall
    parts = [
        f'<svg class="plot" width="100%" height="{whole}" role="img" aria-labelledby="{id}-t {id}-d">',
        f'<title id="{id}-t">{safe(plot.title)}</title>',
        f'<desc id="{id}-d">{safe(_described(plot))}</desc>',
        f'<svg x="0" y="{TOP}" width="100%" height="{tall}" viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none"'
        ' overflow="visible">',
        *(_band(one, axis) for one in plot.bands),
        *(f'<path class="grid" d="M0 {_y(value, top)}H{WIDTH}"/>' for value in levels),
        *(f'<path class="grid" d="M{_x(at, axis)} 0V{HEIGHT}"/>' for at in moments(axis)),
        *(_mark(one, axis) for one in plot.marks),
        *(f'<path class="line c{n}" d="{_path(one.curve, axis, top)}"/>' for n, one in enumerate(plot.lines)),
        *(f'<path class="limit" d="M0 {_y(one.value, top)}H{WIDTH}"/>' for one in plot.limits),
        "</svg>",
        *_labels(plot, axis, levels, top, time),
        "</svg>",
    ]
    return "\n".join(parts)


def _scale(plot: Plot) -> tuple[float, float]:
    if plot.ratio:
        return 1.0, 0.25
    if plot.top is not None:
        return scale([plot.top])
    return scale([*(value for line in plot.lines for value in line.curve), *(one.value for one in plot.limits)])


def _x(at: float, axis: Axis) -> str:
    return _short(WIDTH * min(1.0, max(0.0, (at - axis.since) / axis.seconds)))


def _y(value: float, top: float) -> str:
    return _short(HEIGHT * (1 - min(1.0, max(0.0, value / top))))


def _short(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")


def _path(curve: Curve, axis: Axis, top: float) -> str:
    """Steps: a value holds until the next point. Without a sample there is no line."""
    parts: list[str] = []
    before: str | None = None
    at = axis.since
    for at, value in zip(axis.grid, curve, strict=False):
        now, x = None if value is None else _y(value, top), _x(at, axis)
        if before is not None and now != before:
            parts.append(f"H{x}")
        if now is not None and now != before:
            parts.append(f"M{x} {now}" if before is None else f"V{now}")
        before = now
    if before is not None:
        parts.append(f"H{_x(at + axis.step, axis)}")
    return "".join(parts)


def _band(band: Band, axis: Axis) -> str:
    start, end = float(_x(band.start, axis)), float(_x(band.end, axis))
    kind = band.kind if band.kind in _SEVERITIES else "other"
    wide = _short(max(end - start, 2.0))
    shape = f'x="{_short(min(start, WIDTH - 2.0))}" y="0" width="{wide}" height="{HEIGHT}"'
    return f'<rect class="band {kind}" {shape}><title>{safe(band.name)}</title></rect>'


def _mark(mark: Mark, axis: Axis) -> str:
    return f'<path class="mark" d="M{_x(mark.at, axis)} 0V{HEIGHT}"><title>{safe(mark.name)}</title></path>'


def _labels(
    plot: Plot, axis: Axis, levels: Sequence[float], top: float, time: Callable[[int, int], str]
) -> Iterator[str]:
    """Numbers above their lines at the left edge, times below, a pointer above each mark."""
    for value in levels:
        y = TOP + plot.tall * float(_y(value, top)) / HEIGHT - 3
        yield f'<text class="level" x="2" y="{_short(y)}">{safe(plot.text(value))}</text>'
    for limit in plot.limits:
        y = TOP + plot.tall * float(_y(limit.value, top)) / HEIGHT - 4
        yield f'<text class="limited" x="100%" y="{_short(y)}" text-anchor="end">{safe(limit.name)}</text>'
    times = moments(axis)
    step = times[1] - times[0] if len(times) > 1 else 60
    for at in times:
        share = float(_x(at, axis)) / WIDTH
        anchor = "start" if share < 0.04 else "end" if share > 0.96 else "middle"
        y, text = TOP + plot.tall + BELOW - 6, safe(time(at, step))
        yield f'<text class="time" x="{_short(100 * share)}%" y="{y}" text-anchor="{anchor}">{text}</text>'
    for mark in plot.marks:
        share = float(_x(mark.at, axis)) / WIDTH
        yield f'<text class="pointer" x="{_short(100 * share)}%" y="{TOP - 5}" text-anchor="middle">▼</text>'


def _described(plot: Plot) -> str:
    """What a plot shows, in words."""
    told = []
    for line in plot.lines:
        values = [value for value in line.curve if value is not None]
        if values:
            least, most, last = (plot.text(value) for value in (min(values), max(values), values[-1]))
            told.append(f"{line.name}: from {least} to {most}, {last} at the end.")
    told += [f"Against {limit.name}." for limit in plot.limits]
    behind = [*(band.name for band in plot.bands), *(mark.name for mark in plot.marks)]
    return " ".join([*told, f"Behind the lines: {named(behind, 10)}."] if behind else told)
