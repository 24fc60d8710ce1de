"""Plots as inline SVG: step lines with gaps, bands behind them for alerts, and marks for restarts.

The outer picture is as wide as the page and as high in pixels, so that its text keeps its size on a telephone; the
lines are in a picture inside it that is stretched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from herdwatch.operations.report.asked import Asked
from herdwatch.operations.report.curves import Curve
from herdwatch.operations.report.words import named, percent, safe, si

WIDTH, HEIGHT = 1000, 100
"""The stretched picture's own units."""
TOP, TALL, BELOW = 18, 130, 22
"""Pixels above the lines, of the lines, and below them."""
LARGEST = 1e15
"""What is larger is drawn as this."""
TICKS = 5
_SECONDS = (5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800)
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
class Plot:
    """What is drawn into one picture. `ratio` says that the values are shares of one, and not numbers."""

    title: str
    lines: Sequence[Line]
    ratio: bool = False
    bands: Sequence[Band] = ()
    marks: Sequence[Mark] = ()

    @property
    def text(self) -> Callable[[float | None], str]:
        """How its values are written."""
        return percent if self.ratio else si


def svg(plot: Plot, asked: Asked, id: str) -> str:
    """The picture; `id` begins the ids in it."""
    top, step = _scale(plot)
    parts = [
        f'<svg class="plot" width="100%" height="{TOP + TALL + BELOW}" role="img" aria-labelledby="{id}-t {id}-d">',
        f'<title id="{id}-t">{safe(plot.title)}</title>',
        f'<desc id="{id}-d">{safe(_described(plot))}</desc>',
        f'<svg x="0" y="{TOP}" width="100%" height="{TALL}" viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none"'
        ' overflow="visible">',
        *(_band(one, asked) for one in plot.bands),
        *(f'<path class="grid" d="M0 {_y(value, top)}H{WIDTH}"/>' for value in _levels(top, step)),
        *(f'<path class="grid" d="M{_x(at, asked)} 0V{HEIGHT}"/>' for at in _moments(asked)),
        *(_mark(one, asked) for one in plot.marks),
        *(f'<path class="line c{n}" d="{_path(one.curve, asked, top)}"/>' for n, one in enumerate(plot.lines)),
        "</svg>",
        *_labels(plot, asked, _levels(top, step), top),
        "</svg>",
    ]
    return "\n".join(parts)


def _scale(plot: Plot) -> tuple[float, float]:
    """The value at the upper edge, and the distance of the lines of the grid."""
    if plot.ratio:
        return 1.0, 0.25
    values = (value for line in plot.lines for value in line.curve if value is not None)
    most = min(LARGEST, max(values, default=0.0))
    if most < 1e-3:
        return 1.0, 0.5
    size = 10.0 ** math.floor(math.log10(most / 4))
    step = next(factor * size for factor in (1, 2, 2.5, 5, 10) if most / (factor * size) <= 4 + 1e-9)
    return step * math.ceil(most / step - 1e-9), step


def _levels(top: float, step: float) -> list[float]:
    return [step * number for number in range(round(top / step) + 1)]


def _moments(asked: Asked) -> list[int]:
    """Whole minutes or hours inside the time, few enough to be written side by side."""
    step = next((size for size in _SECONDS if asked.seconds / size <= TICKS), _SECONDS[-1])
    return list(range(-(-asked.since // step) * step, asked.until + 1, step))


def _x(at: float, asked: Asked) -> str:
    return _short(WIDTH * min(1.0, max(0.0, (at - asked.since) / asked.seconds)))


def _y(value: float, top: float) -> str:
    return _short(HEIGHT * (1 - min(1.0, max(0.0, value / top))))


def _short(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")


def _path(curve: Curve, asked: Asked, top: float) -> str:
    """Steps: a value holds until the next point. Without a sample there is no line."""
    parts: list[str] = []
    before: str | None = None
    at = asked.since
    for at, value in zip(asked.grid, curve, strict=False):
        now, x = None if value is None else _y(value, top), _x(at, asked)
        if before is not None and now != before:
            parts.append(f"H{x}")
        if now is not None and now != before:
            parts.append(f"M{x} {now}" if before is None else f"V{now}")
        before = now
    if before is not None:
        parts.append(f"H{_x(at + asked.step, asked)}")
    return "".join(parts)


def _band(band: Band, asked: Asked) -> str:
    start, end = float(_x(band.start, asked)), float(_x(band.end, asked))
    kind = band.kind if band.kind in _SEVERITIES else "other"
    wide = _short(max(end - start, 2.0))
    shape = f'x="{_short(min(start, WIDTH - 2.0))}" y="0" width="{wide}" height="{HEIGHT}"'
    return f'<rect class="band {kind}" {shape}><title>{safe(band.name)}</title></rect>'


def _mark(mark: Mark, asked: Asked) -> str:
    return f'<path class="mark" d="M{_x(mark.at, asked)} 0V{HEIGHT}"><title>{safe(mark.name)}</title></path>'


def _labels(plot: Plot, asked: Asked, levels: Sequence[float], top: float) -> Iterator[str]:
    """Numbers above their lines at the left edge, times below, a pointer above each mark."""
    for value in levels:
        y = TOP + TALL * float(_y(value, top)) / HEIGHT - 3
        yield f'<text class="level" x="2" y="{_short(y)}">{safe(plot.text(value))}</text>'
    moments = _moments(asked)
    for at in moments:
        share = float(_x(at, asked)) / WIDTH
        anchor = "start" if share < 0.04 else "end" if share > 0.96 else "middle"
        y, text = TOP + TALL + BELOW - 6, _time(at, moments)
        yield f'<text class="time" x="{_short(100 * share)}%" y="{y}" text-anchor="{anchor}">{text}</text>'
    for mark in plot.marks:
        share = float(_x(mark.at, asked)) / WIDTH
        yield f'<text class="pointer" x="{_short(100 * share)}%" y="{TOP - 5}" text-anchor="middle">▼</text>'


def _time(at: int, moments: Sequence[int]) -> str:
    step = moments[1] - moments[0] if len(moments) > 1 else 60
    form = "%H:%M:%S" if step < 60 else "%m-%d" if step >= 86_400 else "%H:%M"
    return datetime.fromtimestamp(at, UTC).strftime(form)


def _described(plot: Plot) -> str:
    """What a plot shows, in words."""
    told = []
    for line in plot.lines:
        values = [value for value in line.curve if value is not None]
        if values:
            least, most, last = (plot.text(value) for value in (min(values), max(values), values[-1]))
            told.append(f"{line.name}: from {least} to {most}, {last} at the end.")
    behind = [*(band.name for band in plot.bands), *(mark.name for mark in plot.marks)]
    return " ".join([*told, f"Behind the lines: {named(behind, 10)}."] if behind else told)
