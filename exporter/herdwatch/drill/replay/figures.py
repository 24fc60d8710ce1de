"""From what the processes of a run wrote down to its figures."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from herdwatch.drill.replay.frames import Outcome
from herdwatch.drill.replay.logs import Load, Noted
from herdwatch.drill.replay.results import Curves

WARM = 0.95
"""The hit ratio at which a cache counts as recovered."""
SUSTAINED = 2
"""Seconds for which it has to hold."""
_BAD = (Outcome.FAILED, Outcome.REFUSED, Outcome.GAVE_UP)


@dataclass(frozen=True, slots=True)
class Users:
    """What the users of a time had: how many there were, failed and were shed, and latencies in seconds."""

    requests: int
    failed: int
    shed: int
    p50: float | None
    p99: float | None


def busiest(times: Iterable[float], window: float = 1.0) -> float:
    """The most events in any window of so many seconds, per second."""
    ordered = sorted(times)
    most = first = 0
    for last, at in enumerate(ordered):
        while at - ordered[first] >= window:
            first += 1
        most = max(most, last - first + 1)
    return most / window


def users(load: Load, begin: float, end: float) -> Users:
    """Those whose requests were due in a time of time.monotonic()."""
    first, last = _between(load, begin, end)
    latencies, failed, shed = [], 0, 0
    for number in range(first, last):
        outcome = load.outcomes[number]
        failed += outcome in _BAD
        if outcome == Outcome.SHED:
            shed += 1
        else:
            latencies.append(load.latencies[number])
    latencies.sort()
    return Users(last - first, failed, shed, quantile(latencies, 0.5), quantile(latencies, 0.99))


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """The value that this share of the ordered values does not exceed, by nearest rank; None without values."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def _between(load: Load, begin: float, end: float) -> tuple[int, int]:
    total = len(load.outcomes)

    def number(at: float) -> int:
        return min(total, max(0, math.ceil((at - load.at) * load.rate)))

    return number(begin), number(end)


def hit_ratios(noted: Sequence[Noted], edges: Sequence[float]) -> list[float | None]:
    """The hit ratio of all processes together between each two of the times."""
    ratios: list[float | None] = []
    for begin, end in pairwise(edges):
        hits = lookups = 0
        for one in noted:
            hits_then, lookups_then = _counted(one, begin)
            hits_now, lookups_now = _counted(one, end)
            hits, lookups = hits + hits_now - hits_then, lookups + lookups_now - lookups_then
        ratios.append(hits / lookups if lookups > 0 else None)
    return ratios


def _counted(noted: Noted, at: float) -> tuple[int, int]:
    """What a process had counted by a time, as of its last sample."""
    place = bisect_left(noted.samples, at, key=lambda one: one.at)
    return (noted.samples[place - 1].hits, noted.samples[place - 1].lookups) if place else (0, 0)


def recovered(ratios: Sequence[float | None]) -> int | None:
    """The second from which on the hit ratio was WARM again for a while; 0 if it never fell, None if it stayed low."""
    low = [place for place, ratio in enumerate(ratios) if ratio is None or ratio < WARM]
    if not low:
        return 0
    for begin in range(low[0], len(ratios) - SUSTAINED + 1):
        if all(ratio is not None and ratio >= WARM for ratio in ratios[begin : begin + SUSTAINED]):
            return begin
    return None


def curves(load: Load, noted: Sequence[Noted], zero: float, *, before: int, after: int) -> Curves:
    """A value a second, from `before` seconds before the fault at `zero` to `after` seconds after it."""
    edges = [zero + second for second in range(-before, after + 1)]
    seconds = [users(load, begin, end) for begin, end in pairwise(edges)]
    asked = [query.asked for one in noted for query in one.queries]
    sent = [query.began for one in noted for query in one.queries if query.began is not None]
    return Curves(
        first=-before,
        asked=_counts(asked, edges),
        sent=_counts(sent, edges),
        hit_ratio=tuple(hit_ratios(noted, edges)),
        p50=tuple(one.p50 for one in seconds),
        p99=tuple(one.p99 for one in seconds),
        failed=tuple(float(one.failed) for one in seconds),
        shed=tuple(float(one.shed) for one in seconds),
    )


def _counts(times: Iterable[float], edges: Sequence[float]) -> tuple[float, ...]:
    ordered = sorted(times)
    places = [bisect_left(ordered, edge) for edge in edges]
    return tuple(float(end - begin) for begin, end in pairwise(places))
