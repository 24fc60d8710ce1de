"""When a hit renews its value in the background, before the value ends."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Protocol

_FARTHEST = 54 * math.log(2.0)
"""random() is a multiple of 2**-53 below 1, so -log(1 - random()) is at most 53 log 2."""


class Refresh(Protocol):
    """Decides for one hit; all times in seconds, `now` and `expires_at` by the same clock."""

    def due(self, now: float, expires_at: float, load_seconds: float) -> bool: ...


@dataclass(frozen=True, slots=True)
class XFetch:
    """Early expiry with a probability that grows as the end nears, and with the time that a load takes.

    A `beta` over 1 renews earlier. Optimal in Vattani, Chierichetti and Lowenstein, "Optimal Probabilistic Cache
    Stampede Prevention", VLDB 2015.
    """

    beta: float = 1.0

    def due(self, now: float, expires_at: float, load_seconds: float) -> bool:
        lead = load_seconds * self.beta
        if now + lead * _FARTHEST < expires_at:
            return False  # no throw of the dice reaches that far
        # random() may be 0, whose logarithm is not a number; 1 - random() never is.
        return now - lead * math.log(1.0 - random.random()) >= expires_at  # noqa: S311  no secret


@dataclass(frozen=True, slots=True)
class Coin:
    """The same probability for every hit: 5 % of requests, as many articles show it.

    A hot key is then loaded far more often than it changes; XFetch needs about one load a lifetime.
    """

    probability: float = 0.05

    def due(self, now: float, expires_at: float, load_seconds: float) -> bool:  # noqa: ARG002  XFetch's signature
        return random.random() < self.probability  # noqa: S311  no secret
