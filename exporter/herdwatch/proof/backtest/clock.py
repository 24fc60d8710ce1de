"""Rules that read the clock: a play begins at second 0, so what they read is moved to the time that is played."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|`[^`]*`|#[^\n]*|\w+|\s+|.", re.DOTALL)
_OF_NOW = frozenset({"minute", "hour", "day_of_week", "day_of_month", "day_of_year", "days_in_month", "month", "year"})


def shifted(expr: str, seconds: int) -> str:
    """The expression as it reads when its second 0 is `seconds` since 1970; the same text if it reads no clock."""
    tokens = _TOKEN.findall(expr)
    for at in range(len(tokens) - 1, -1, -1):
        word = tokens[at]
        if word != "timestamp" and word != "time" and word not in _OF_NOW:
            continue
        opening = _next(tokens, at)
        if opening is None or tokens[opening] != "(":
            continue
        closing = _closing(tokens, opening)
        if word == "time" or word == "timestamp":
            tokens[at] = f"({word}"
            tokens[closing] = f") + {seconds})"
        elif _next(tokens, opening) == closing:
            tokens[closing] = f"vector(time() + {seconds}))"
    return "".join(tokens)


def _next(tokens: list[str], at: int) -> int | None:
    """The next token that says something."""
    return next((n for n in range(at + 1, len(tokens)) if not tokens[n].isspace() and tokens[n][0] != "#"), None)


def _closing(tokens: list[str], opening: int) -> int:
    depth = 0
    for at in range(opening, len(tokens)):
        first = tokens[at][0]
        quoted = first in "\"'`#"
        depth += 0 if quoted else tokens[at].count("(") - tokens[at].count(")")
        if depth == 0:
            return at
    return len(tokens) - 1
