"""What a report is asked for, and how Prometheus is asked: in answers of bounded size."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from herdwatch import times
from herdwatch.prometheus import TooMuch

LONGEST = 7 * 86_400
"""Seconds that one report takes: the time of an incident, not the history of a service."""
POINTS = 1000
"""Points of one curve."""
PIECE = 6 * 3600
"""Seconds of raw samples in one answer."""
SHORTEST = 60
"""Seconds of a piece that is still halved when it is too much."""
SEVERAL = 25
"""Caches, or processes, in one question."""

Result = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Asked:
    """From `since` to `until`, in seconds since 1970; `caches` narrow it to some, none is all.

    `interval` is the time between two scrapes: no curve has points that are closer.
    """

    since: int
    until: int
    caches: tuple[str, ...] = ()
    interval: float = 15.0

    @property
    def seconds(self) -> int:
        """How long it is."""
        return self.until - self.since

    @property
    def step(self) -> int:
        """Seconds between two points of a curve: a multiple of the interval."""
        least = max(1, math.ceil(self.interval))
        return least * max(1, math.ceil(self.seconds / POINTS / least))

    def clock(self, at: float) -> str:
        """A time in UTC, without its date where all of the time is one day."""
        whole = times.clock(at)
        return whole[11:] if whole[:10] == times.clock(self.since)[:10] == times.clock(self.until)[:10] else whole

    @property
    def grid(self) -> tuple[int, ...]:
        """The times of a curve's points."""
        return tuple(range(self.since, self.until + 1, self.step))


def period(since: str, until: str | None, *, now: float | None = None) -> tuple[int, int]:
    """Beginning and end, as `herdwatch.times.period` reads them, a week apart at most."""
    too_long = "a week is the most that one report takes; give the hours of the incident"
    return times.period(since, until, longest=LONGEST, too_long=too_long, now=now)


def matcher(label: str, values: Sequence[str]) -> str:
    """The matcher that lets in these values of a label and no others; any value but the empty one where there is none.

    The values are taken as they are: nothing in them is a pattern, and no quote ends the string.
    """
    pattern = "|".join(map(re.escape, values)) if values else ".+"
    return f"{label}=~{json.dumps(pattern, ensure_ascii=False)}"


def cut(start: int, end: int, longest: int) -> Iterator[tuple[int, int]]:
    """A time in pieces."""
    for begin in range(start, end, longest):
        yield begin, min(begin + longest, end)


def batches(values: Sequence[str], size: int = SEVERAL) -> Iterator[Sequence[str]]:
    """Values, so many at a time."""
    for begin in range(0, len(values), size):
        yield values[begin : begin + size]


def in_time(ask: Callable[[int, int], Result], start: int, end: int) -> Iterator[Result]:
    """The answers for each piece of a time, in order; one that is too much is asked for by halves."""
    waiting = list(cut(start, end, PIECE))[::-1]
    while waiting:
        begin, until = waiting.pop()
        try:
            yield ask(begin, until)
        except TooMuch:
            if until - begin < 2 * SHORTEST:
                raise
            middle = (begin + until) // 2
            waiting += [(middle, until), (begin, middle)]
