"""Times as options take them."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import promql_parser

from herdwatch.errors import UsageError

LONGEST = 366 * 86_400
"""Seconds of history that one backtest takes."""
EVALUATIONS = range(5, 301)
"""Seconds between two evaluations."""


def period(since: str, until: str | None = None, *, now: float | None = None) -> tuple[int, int]:
    """Beginning and end in seconds since 1970, from ages such as 30d or times such as 2026-05-01T12:00; UTC if unsaid.

    Raises UsageError, which names the option.
    """
    now = time.time() if now is None else now
    start, end = moment(since, "--since", now), int(now) if until is None else moment(until, "--until", now)
    if end > now:
        raise UsageError("--until: lies in the future, of which no Prometheus has a history")
    if start >= end:
        raise UsageError("--since: it must lie before --until, which is now by default")
    if end - start > LONGEST:
        raise UsageError("--since: a year is the most that one backtest takes")
    return start, end


def moment(text: str, option: str, now: float) -> int:
    """A time, in seconds since 1970."""
    age = _seconds(text)
    if age is not None:
        return int(now) - age
    try:
        read = datetime.fromisoformat(text)
        return int((read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError, OSError):
        raise UsageError(
            f"{option}: {text!r} is no age such as 30d, 12h or 90m, and no time such as 2026-05-01T12:00"
        ) from None


def evaluation(text: str) -> int:
    """Seconds between two evaluations; raises UsageError."""
    seconds = _seconds(text)
    if seconds is None or seconds not in EVALUATIONS:
        raise UsageError(f"--evaluation: {text!r} is no time from 5s to 5m, in whole seconds")
    return seconds


def _seconds(text: str) -> int | None:
    try:
        span = promql_parser.parse_duration(text).total_seconds()
    except (ValueError, OverflowError):
        return None
    return int(span) if span == int(span) else None
