"""The values of one series as text, one word a scrape, so that a recording is small and a change to it can be read.

The first value is written out, and each next one as the difference to the one before: `1200 +35 +31 = -1231`; `.` is a
scrape without the series. A word that repeats carries its number: `=x20` is twenty scrapes of the same value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from decimal import Context, Decimal, Inexact
from itertools import groupby

from herdwatch.proof.plays import Point

Values = Sequence[float | None]
"""One value a scrape; None where the scrape did not show the series."""

# Enough digits for the difference of any two floats.
_EXACT = Context(prec=2_000, traps=[Inexact])
_WORD = re.compile(r"(\.|=|[+-]?[0-9]+(?:\.[0-9]+)?)(?:x([1-9][0-9]*))?")


def encode(values: Values) -> str:
    """The text that `decode` reads as these values; raises ValueError for a value that is no finite number."""
    runs = ((word, len(list(run))) for word, run in groupby(_words(values)))
    return " ".join(word if times == 1 else f"{word}x{times}" for word, times in runs)


def decode(text: str) -> list[float | None]:
    """One value a scrape; raises ValueError naming the word that is none."""
    values: list[float | None] = []
    last: Decimal | None = None
    for word in text.split():
        match = _WORD.fullmatch(word)
        if match is None:
            raise ValueError(f"{word!r} is neither a value nor a difference, and not '=' or '.'")
        for _ in range(int(match[2] or 1)):
            last = _next(match[1], last)
            values.append(None if last is None else float(last))
    return values


def points(values: Values, first: int, step: int) -> list[Point]:
    """The samples as Prometheus stores them: a series that a scrape no longer shows gets one stale marker."""
    found: list[Point] = []
    shown = False
    for number, value in enumerate(values):
        if value is not None or shown:
            found.append((first + number * step, value))
        shown = value is not None
    return found


def _words(values: Values) -> Iterator[str]:
    last: Decimal | None = None
    for value in values:
        if value is None:
            last = None
            yield "."
            continue
        if not math.isfinite(value):
            raise ValueError(f"{value!r} cannot be recorded: only finite numbers can")
        now = _decimal(value)
        if last is None:
            yield f"{now:f}"
        else:
            yield "=" if now == last else f"{_EXACT.subtract(now, last):+f}"
        last = now


def _decimal(value: float) -> Decimal:
    return Decimal(repr(value)) if value != int(value) else Decimal(int(value))


def _next(word: str, last: Decimal | None) -> Decimal | None:
    if word == ".":
        return None
    if last is None:
        if word == "=" or word[0] == "+":
            raise ValueError(f"{word!r} follows no value")
        return Decimal(word)
    if word == "=":
        return last
    if word[0] not in "+-":
        raise ValueError(f"{word!r} follows a value, so it must be a difference with its sign")
    return _EXACT.add(last, Decimal(word))
