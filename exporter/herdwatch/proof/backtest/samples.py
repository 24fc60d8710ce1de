"""Samples as a Prometheus's API gives them -> the points of a play, with the markers that the API hides.

When a scrape no longer shows a series, or fails, Prometheus marks the series as ended at that very time; so it does,
one interval later, when a target is gone. Nothing is marked while Prometheus itself is down.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median_low

from herdwatch.proof.plays import Point

Sample = tuple[int, float]
"""Milliseconds since 1970, and the value."""
Times = Sequence[int]
"""Milliseconds since 1970, in order."""
GAP = 1.6
"""Scrape intervals without a sample that are a gap."""
INTERVAL = 15_000
"""The scrape interval, in milliseconds, of who was scraped but once."""


@dataclass(frozen=True, slots=True)
class Window:
    """From `start` up to, without, `end`, in seconds since 1970, on the grid of evaluations every `evaluation`."""

    start: int
    end: int
    evaluation: int

    def second(self, at: int) -> int:
        """The second of a play that begins with the window, never before the sample and never on the grid."""
        second = math.ceil(at / 1000) - self.start
        return second + 1 if second % self.evaluation == 0 else second


def points(samples: Sequence[Sample], ends: Times, window: Window) -> list[Point]:
    """Samples and end markers, at most one a second: of two in one second the later counts, and a sample goes first."""
    placed: dict[int, float | None] = {window.second(at): None for at in ends}
    placed.update((window.second(at), value) for at, value in samples)
    return [(second, placed[second]) for second in sorted(placed) if 0 <= second < window.end - window.start]


def interval(times: Times) -> int:
    """The scrape interval, in milliseconds: what most neighbours are apart."""
    return median_low([later - earlier for earlier, later in pairwise(times)]) if len(times) > 1 else INTERVAL


def ends(samples: Times, scrapes: Times | None, alive: Times, until: int) -> Iterator[int]:
    """When Prometheus marked a series as ended, up to `until`.

    `scrapes` are the times at which its target was scraped, with success or without, None where that is unknown;
    `alive` those at which anything was scraped.
    """
    every = interval(scrapes if scrapes is not None else samples)
    for last, following in pairwise([*samples, until + every]):
        scrape = None if scrapes is None else _first(scrapes, last + every // 2)
        if scrape is not None and scrape - last <= GAP * every:
            if following > scrape + every // 2:
                yield scrape
        elif _target_went(last, scrape if scrape is not None else following, every, alive):
            yield last + every


def _target_went(last: int, back: int, every: int, alive: Times) -> bool:
    """Two scrapes or more were left out, while others went on."""
    others = _first(alive, last + every * 6 // 10)
    return back - last > (1 + GAP) * every and others is not None and others <= last + GAP * every


def _first(times: Times, after: int) -> int | None:
    at = bisect_right(times, after)
    return times[at] if at < len(times) else None


def holes(alive: Times, start: int, end: int, longest: int) -> Iterator[tuple[int, int]]:
    """Beginning and end of each time of more than `longest` milliseconds in which nothing was scraped at all."""
    within = alive[bisect_left(alive, start) : bisect_left(alive, end)]
    for earlier, later in pairwise([start, *within, end]):
        if later - earlier > longest:
            yield earlier, later


def target_of(labels: Mapping[str, str], targets: Sequence[Mapping[str, str]]) -> int | None:
    """The number of the target that a series comes from: the one with the most labels among those it has all of."""
    found = [n for n, target in enumerate(targets) if target.items() <= labels.items()]
    return max(found, key=lambda n: len(targets[n]), default=None)
