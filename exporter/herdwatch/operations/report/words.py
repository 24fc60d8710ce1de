"""Numbers, times and names as a report writes them, and text that is safe in HTML and XML."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from html import escape as escaped

from herdwatch.times import span

UNKNOWN = "-"
_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SIZES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def safe(text: str) -> str:
    """Text as it may stand in an element or an attribute; what no XML may hold is shown as a replacement."""
    return escaped(_NOT_IN_XML.sub("�", text))


def si(value: float | None) -> str:
    """A number in three digits with its SI prefix, such as 1.25k; what is under a thousandth is 0."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    for size, prefix in _SIZES:
        if abs(value) >= size * 0.9995:
            return f"{_digits(value / size)}{prefix}"
    return _digits(value)


def percent(value: float | None) -> str:
    """A ratio in percent, such as 94.2 %."""
    return UNKNOWN if value is None or not math.isfinite(value) else f"{_digits(100 * value)} %"


def times_over(value: float | None) -> str:
    """How many times something, such as 6.2 times."""
    return UNKNOWN if value is None else f"{_digits(value)} times"


def latency(value: float | None) -> str:
    """Seconds that somebody waited, such as 81 ms or 1.25 s."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    return f"{_digits(value)} s" if value == 0 or abs(value) >= 0.9995 else f"{_digits(1000 * value)} ms"


def relative(seconds: float) -> str:
    """A distance in time with its sign, such as +1m 5s."""
    whole = round(seconds)
    return f"{'-' if whole < 0 else '+'}{span(abs(whole))}"


def named(names: Sequence[str], most: int) -> str:
    """Names in a row, so many at most."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _digits(value: float) -> str:
    if abs(value) >= 99.95:
        return f"{value:.0f}" if abs(value) < 1e15 else f"{value:.2e}"
    places = 1 if abs(value) >= 9.995 else 2 if abs(value) >= 0.1 else 3
    text = f"{value:.{places}f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
