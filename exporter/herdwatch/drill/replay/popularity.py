"""Who asks: users 1 to `keys`, the first the most popular, by Zipf's law."""

from __future__ import annotations

import random
from itertools import accumulate


def shares(keys: int, exponent: float) -> list[float]:
    """The share of the requests that each user makes."""
    weights = [rank**-exponent for rank in range(1, keys + 1)]
    whole = sum(weights)
    return [weight / whole for weight in weights]


class Popularity:
    """Throws the dice; the same users for the same seed."""

    def __init__(self, keys: int, exponent: float, seed: int) -> None:
        self._users = range(1, keys + 1)
        self._weights = list(accumulate(shares(keys, exponent)))
        self._random = random.Random(seed)  # noqa: S311 - traffic, not secrets

    def users(self, count: int) -> list[int]:
        """Who asks next."""
        return self._random.choices(self._users, cum_weights=self._weights, k=count)
