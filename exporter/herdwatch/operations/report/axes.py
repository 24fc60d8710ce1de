"""The edges of a plot: round values at its left, round moments below it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

LARGEST = 1e15
"""What is larger is drawn as this."""
TICKS = 5
_SECONDS = (5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800)


class Axis(Protocol):
    """A time in whole seconds, and the points of the curves that are drawn over it, each `step` after the last."""

    @property
    def since(self) -> int:
        """Where it begins."""

    @property
    def until(self) -> int:
        """Where it ends."""

    @property
    def seconds(self) -> int:
        """How long it is."""

    @property
    def step(self) -> int:
        """Seconds between two points of a curve."""

    @property
    def grid(self) -> Sequence[int]:
        """The times of a curve's points."""


@dataclass(frozen=True, slots=True)
class Relative:
    """Seconds before and after something that happened at 0; a curve has a point for each second of it."""

    since: int
    until: int
    step: int = 1

    @property
    def seconds(self) -> int:
        """How long it is."""
        return self.until - self.since

    @property
    def grid(self) -> Sequence[int]:
        """The beginnings of its seconds."""
        return range(self.since, self.until, self.step)


def scale(values: Iterable[float | None]) -> tuple[float, float]:
    """The value at the upper edge, and the distance of the lines of the grid."""
    most = min(LARGEST, max((value for value in values if value is not None), default=0.0))
    if most < 1e-3:
        return 1.0, 0.5
    size = 10.0 ** math.floor(math.log10(most / 4))
    step = next(factor * size for factor in (1, 2, 2.5, 5, 10) if most / (factor * size) <= 4 + 1e-9)
    return step * math.ceil(most / step - 1e-9), step


def moments(axis: Axis) -> list[int]:
    """Whole minutes or hours inside the time, few enough to be written side by side."""
    step = next((size for size in _SECONDS if axis.seconds / size <= TICKS), _SECONDS[-1])
    return list(range(-(-axis.since // step) * step, axis.until + 1, step))


def utc(at: int, step: int) -> str:
    """A time of day in UTC, as short as the distance to the next one allows."""
    form = "%H:%M:%S" if step < 60 else "%m-%d" if step >= 86_400 else "%H:%M"
    return datetime.fromtimestamp(at, UTC).strftime(form)
