"""What a report says of one cache in numbers."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from herdwatch.operations.report.curves import Curve

RECOVERED = 0.95
"""Share of the hit ratio before at which a cache is called recovered."""
STAYS = 120
"""Seconds for which it must stay there, where the time that was asked for is that long."""


@dataclass(frozen=True, slots=True)
class Peak:
    """A value and when it was reached first."""

    value: float
    at: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """Times are seconds since 1970, None is unknown. Without a first sign the extremes are those of the whole time.

    `ratio_before` is the median of the hit ratio before the first sign, `recovered` when it was back at 95 % of it
    and stayed, `dented` whether it ever was lower than that. `keys_before` is the last count before the first sign.
    `loads` are those of the cache, `database_loads` those of all caches of its database, None where it is the only one.
    """

    sign: float | None
    ratio_before: float | None = None
    ratio_lowest: Peak | None = None
    dented: bool = False
    recovered: int | None = None
    loads: Peak | None = None
    database_loads: Peak | None = None
    capacity: float | None = None
    keys_before: float | None = None
    keys_lowest: Peak | None = None
    keys_after: float | None = None

    @property
    def overload(self) -> float | None:
        """How many times its capacity the database got at most, from all of its caches."""
        loads = self.database_loads or self.loads
        return loads.value / self.capacity if loads and self.capacity else None


def verdict(sign: float | None, grid: Sequence[int], curves: Mapping[str, Curve]) -> Verdict:
    """Judge the curves of one cache, of which the first sign of trouble came at `sign`."""
    ratio, keys = _points(grid, curves.get("hit_ratio", ())), _points(grid, curves.get("keys", ()))
    since = grid[0] if sign is None and grid else sign or 0
    before = [value for at, value in ratio if sign is not None and at < sign]
    normal = statistics.median(before) if before else None
    lowest = _least(_after(ratio, since))
    dented = normal is not None and lowest is not None and lowest.value < RECOVERED * normal
    held = [value for at, value in keys if sign is not None and at < sign]
    return Verdict(
        sign,
        ratio_before=normal,
        ratio_lowest=lowest,
        dented=dented,
        recovered=_recovered(ratio, lowest.at, RECOVERED * normal) if dented and lowest and normal else None,
        loads=_most(_after(_points(grid, curves.get("loads", ())), since)),
        database_loads=_most(_after(_points(grid, curves.get("database_loads", ())), since)),
        capacity=max((value for _, value in _points(grid, curves.get("capacity", ()))), default=None),
        keys_before=held[-1] if held else None,
        keys_lowest=_least(_after(keys, since)),
        keys_after=keys[-1][1] if keys else None,
    )


def _points(grid: Sequence[int], curve: Curve) -> list[tuple[int, float]]:
    return [(at, value) for at, value in zip(grid, curve, strict=False) if value is not None]


def _after(points: Sequence[tuple[int, float]], since: float) -> list[tuple[int, float]]:
    return [one for one in points if one[0] >= since]


def _least(points: Iterable[tuple[int, float]]) -> Peak | None:
    at, value = min(points, key=lambda one: one[1], default=(0, None))
    return None if value is None else Peak(value, at)


def _most(points: Iterable[tuple[int, float]]) -> Peak | None:
    at, value = max(points, key=lambda one: one[1], default=(0, None))
    return None if value is None else Peak(value, at)


def _recovered(ratio: Sequence[tuple[int, float]], lowest: int, limit: float) -> int | None:
    """The first point after the lowest from which on the ratio is at the limit, and stays for a while."""
    back: int | None = None
    for at, value in ratio:
        if at < lowest:
            continue
        if value < limit:
            back = None
        elif back is None:
            back = at
        elif at - back >= STAYS:
            return back
    return back
