"""Zipf's law on N keys: what share of the lookups the hottest carry, and how many different keys many lookups touch.

The key of rank k is looked up with probability k**-s / H, H being the sum of k**-s over all ranks. Sums over many ranks
are Euler and Maclaurin's, from rank 1,000 on: nine digits and more are right. What depends on each single key is added
up rank by rank for up to 100,000 keys, and for more by bands of ranks that lie within 2 % of each other: for exponents
up to 3 that is off by less than 1 in 10,000 (`RELATIVE_ERROR`), and 50,000,000 keys take milliseconds.

Sources: Breslau, Cao, Fan, Phillips and Shenker, Web Caching and Zipf-like Distributions, INFOCOM 1999; Flajolet, Gardy
and Thimonier, Birthday paradox, coupon collectors, caching algorithms and self-organizing search, 1992.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

from herdwatch.errors import UsageError

EXACT = 100_000
"""Up to so many keys each counts by itself."""
MAX_KEYS = 10**12
MAX_EXPONENT = 5.0
RELATIVE_ERROR = 1e-4
"""Of what is added up by bands, for exponents up to 3; it grows with the square of the exponent."""
_HEAD = 1000
_SINGLE = 100
_BAND = 1.02


class Band(NamedTuple):
    """Neighbouring ranks: how many keys, and with what probability a lookup is of one of them, on their average."""

    keys: int
    probability: float


@dataclass(frozen=True)
class Zipf:
    """The law with exponent `exponent` on `keys` keys; raises UsageError for what is no such law.

    Up to `exact` keys are added up one by one.
    """

    keys: int
    exponent: float
    exact: int = EXACT

    def __post_init__(self) -> None:
        if isinstance(self.keys, bool) or not isinstance(self.keys, int) or not 1 <= self.keys <= MAX_KEYS:
            raise UsageError(f"keys is {self.keys!r}; it must be a whole number from 1 to {MAX_KEYS:,}")
        if not 0 <= self.exponent <= MAX_EXPONENT:
            raise UsageError(f"Zipf's exponent is {self.exponent!r}; it must be from 0 to {MAX_EXPONENT:g}")

    def mass(self, hottest: int) -> float:
        """The share of all lookups that so many of the hottest keys carry: the hit ratio once these are warm."""
        return min(1.0, self._sum(min(hottest, self.keys)) / self._whole) if hottest > 0 else 0.0

    def keys_for(self, ratio: float) -> int:
        """As few of the hottest as carry this share of the lookups; 0 for a ratio of 0 or less, all for 1 or more."""
        if ratio <= 0:
            return 0
        if ratio >= 1:
            return self.keys
        return min(self.keys, bisect_left(range(self.keys), ratio, key=lambda rank: self.mass(rank + 1)) + 1)

    def distinct(self, lookups: float) -> float:
        """The different keys that so many lookups touch, on average: the sum of 1 - (1 - p)**lookups.

        A part of a lookup is one that happens with this probability.
        """
        if lookups <= 1:
            return max(0.0, lookups)
        bands = self._one_by_one if self.keys <= self.exact else self.bands
        return math.fsum(keys * _touched(probability, lookups) for keys, probability in bands)

    @cached_property
    def bands(self) -> tuple[Band, ...]:
        """The first hundred ranks one by one, then ranks that lie within 2 % of each other as one."""
        return tuple(self._made(_SINGLE))

    @cached_property
    def _one_by_one(self) -> tuple[Band, ...]:
        return tuple(self._made(self.keys))

    def _made(self, head: int) -> Iterator[Band]:
        first = min(head, self.keys)
        for rank in range(1, first + 1):
            yield Band(1, rank**-self.exponent / self._whole)
        while first < self.keys:
            last = min(self.keys, int(first * _BAND) + 1)
            yield Band(last - first, between(first + 1, last, self.exponent) / self._whole / (last - first))
            first = last

    @cached_property
    def _head(self) -> tuple[float, ...]:
        """The sums of k**-s over the first 0, 1, 2, … ranks."""
        weights = (rank**-self.exponent for rank in range(1, min(self.keys, _HEAD) + 1))
        return tuple(accumulate(weights, initial=0.0))

    @cached_property
    def _whole(self) -> float:
        return self._sum(self.keys)

    def _sum(self, ranks: int) -> float:
        if ranks <= _HEAD:
            return self._head[ranks]
        return self._head[_HEAD] + between(_HEAD + 1, ranks, self.exponent)


def between(first: int, last: int, exponent: float) -> float:
    """The sum of k**-s from rank `first` to rank `last`, both included, by Euler and Maclaurin's formula.

    The first term that is left out is under s * (s + 1) * (s + 2) / 720 * first**(-s - 3).
    """
    log, rest = math.log(last / first), 1 - exponent
    integral = first**rest * (math.expm1(rest * log) / rest if rest else log)
    ends = (first**-exponent + last**-exponent) / 2
    return float(integral + ends + exponent / 12 * (first ** (-exponent - 1) - last ** (-exponent - 1)))


def _touched(probability: float, lookups: float) -> float:
    """The probability that one of so many lookups, at least one, is of a key with this probability."""
    return 1.0 if probability >= 1 else -math.expm1(lookups * math.log1p(-probability))
