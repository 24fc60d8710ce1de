"""What is played and what comes out: series go in, intervals in which alerts fire come out. Times are whole seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Point = tuple[int, float | None]
"""When, in seconds since the play begins, and the value; None is the marker that a series has ended."""


@dataclass(frozen=True, slots=True)
class Series:
    """One series as a scraper stores it: `points` in the order of time, at most one a second."""

    name: str
    labels: Mapping[str, str]
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Play:
    """So many seconds of series under one name."""

    name: str
    series: Sequence[Series]
    seconds: int


@dataclass(frozen=True, slots=True)
class Firing:
    """An alert that fired from `start` up to, without, `end`: two evaluations. `end` is None if the play ended first.

    `labels` are the alert's own, severity among them, without alertname and alertstate.
    """

    alert: str
    labels: Mapping[str, str]
    start: int
    end: int | None
