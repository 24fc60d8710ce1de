"""Times as the options of a backtest take them."""

from __future__ import annotations

from herdwatch import times
from herdwatch.errors import UsageError

LONGEST = 366 * 86_400
"""Seconds of history that one backtest takes."""
EVALUATIONS = range(5, 301)
"""Seconds between two evaluations."""


def period(since: str, until: str | None = None, *, now: float | None = None) -> tuple[int, int]:
    """Beginning and end in seconds since 1970, as `herdwatch.times.period` reads them, a year apart at most."""
    return times.period(since, until, longest=LONGEST, too_long="a year is the most that one backtest takes", now=now)


def evaluation(text: str) -> int:
    """Seconds between two evaluations; raises UsageError."""
    seconds = times.seconds(text)
    if seconds is None or seconds not in EVALUATIONS:
        raise UsageError(f"--evaluation: {text!r} is no time from 5s to 5m, in whole seconds")
    return seconds
