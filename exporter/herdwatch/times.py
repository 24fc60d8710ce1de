"""Times as options take them and as people read them."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import promql_parser

from herdwatch.errors import UsageError


def period(since: str, until: str | None, *, longest: int, too_long: str, now: float | None = None) -> tuple[int, int]:
    """Beginning and end in seconds since 1970, from ages such as 30d or times such as 2026-05-01T12:00; UTC if unsaid.

    At most `longest` seconds lie between them; `too_long` is what is said of more. Raises UsageError, which names the
    option.
    """
    now = time.time() if now is None else now
    start, end = moment(since, "--since", now), int(now) if until is None else moment(until, "--until", now)
    if end > now:
        raise UsageError("--until: lies in the future, of which no Prometheus has a history")
    if start >= end:
        raise UsageError("--since: it must lie before --until, which is now by default")
    if end - start > longest:
        raise UsageError(f"--since: {too_long}")
    return start, end


def moment(text: str, option: str, now: float) -> int:
    """A time, in seconds since 1970."""
    age = seconds(text)
    if age is not None:
        return int(now) - age
    try:
        read = datetime.fromisoformat(text)
        return int((read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError, OSError):
        raise UsageError(
            f"{option}: {text!r} is no age such as 30d, 12h or 90m, and no time such as 2026-05-01T12:00"
        ) from None


def seconds(text: str) -> int | None:
    """A duration in Prometheus's notation, such as 90m, in whole seconds; None where it is none."""
    try:
        span = promql_parser.parse_duration(text).total_seconds()
    except (ValueError, OverflowError):
        return None
    return int(span) if span == int(span) else None


def clock(at: float) -> str:
    """A time as reports and errors write it, in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def span(length: int) -> str:
    """Seconds as people read them, the two largest units: 2d 3h, 14m 30s."""
    parts = []
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        count, length = divmod(length, size)
        parts.append(f"{count}{unit}" if count else "")
    first = next((n for n, part in enumerate(parts) if part), 3)
    return " ".join(filter(None, parts[first : first + 2])) or "0s"
