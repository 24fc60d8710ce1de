"""Arithmetic of the benchmark: medians over rounds, ratios within a round, verdicts against an aim."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of what the rounds gave, and the quartiles around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Raises ValueError when there are none."""
        if not values:
            raise ValueError("no round gave a figure")
        low, _, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
        return cls(statistics.median(values), low, high)


def ratio(mine: Sequence[float], base: Sequence[float]) -> Spread:
    """How many times `base` it was, round by round: what slows the machine for a while slows both."""
    return Spread.of([one / other for one, other in zip(mine, base, strict=True)])


def beyond(mine: Sequence[float], base: Sequence[float]) -> Spread:
    """How much more than `base` it was, round by round."""
    return Spread.of([one - other for one, other in zip(mine, base, strict=True)])


def p99(values: Sequence[float]) -> float:
    """The value that one in a hundred exceeds; raises ValueError when there are fewer than two."""
    if len(values) < 2:
        raise ValueError("a 99th percentile needs two values or more")
    return statistics.quantiles(values, n=100)[98]


def verdict(text: str, share: float) -> str:
    """One line about an aim; `share` is the figure as a part of what was aimed at."""
    return f"aim: {text}: {'met' if share <= 1 else 'MISSED'}, {share:.2f} of it"
