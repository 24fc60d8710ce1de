"""Every option of a guard with its default, in one place."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypedDict

from herdwatch.guard.refresh import Refresh, XFetch
from herdwatch.guard.values import Json, Serializer


class Options(TypedDict, total=False):
    """The keyword arguments of Guard and SyncGuard; Settings has the defaults and what they mean."""

    serializer: Serializer
    stale: float
    negative_ttl: float
    ttl_jitter: float
    refresh: Refresh | None
    load_timeout: float
    lease: float
    timeout: float
    connections: int
    max_loads: int
    max_wait: float
    max_waiting: int
    hot_keys: int
    clock: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Settings:
    """Options of a guard, validated. Times are seconds; raises ValueError naming the option."""

    serializer: Serializer = field(default_factory=Json)
    """How a value becomes bytes: Json(), Raw(), or your own with dumps and loads."""
    stale: float = 0.0
    """How long beyond its ttl a value may still be given, while it is loaded anew or when that fails."""
    negative_ttl: float = 10.0
    """ttl of the answer "there is none" (the loader returned None); 0 does not store it."""
    ttl_jitter: float = 0.1
    """A value lives for ttl * uniform(1 - ttl_jitter, 1), so that what was loaded together does not end together."""
    refresh: Refresh | None = field(default_factory=XFetch)
    """When a hit renews its value in the background; None: never."""
    load_timeout: float = 30.0
    """The longest that a load may take."""
    lease: float = 2.0
    """What a dead leader costs the other processes; extended every third of it while the load runs. 0: no lease."""
    timeout: float = 1.0
    """The longest that one caller waits on Redis, all round trips together."""
    connections: int = 50
    """Connections to Redis, one process."""
    max_loads: int = 64
    """Loads that run at the same time, one process."""
    max_wait: float = 5.0
    """How long a load waits for one of these slots before its callers are turned away."""
    max_waiting: int = 1000
    """Loads that wait for a slot at the same time; one more is turned away at once."""
    hot_keys: int = 4000
    """Counters, a group, of the keys that are looked up most; twice as many at times. 0: they are not counted."""
    clock: Callable[[], float] = time.time
    """Unix seconds; tests set their own."""

    def __post_init__(self) -> None:
        for name in ("stale", "negative_ttl", "lease", "max_wait", "max_waiting", "hot_keys"):
            self._refuse(name, lambda value: value >= 0, "0 or more")
        for name in ("load_timeout", "timeout"):
            self._refuse(name, lambda value: value > 0, "more than 0")
        for name in ("connections", "max_loads"):
            self._refuse(name, lambda value: value >= 1, "1 or more")
        self._refuse("ttl_jitter", lambda value: 0 <= value < 1, "at least 0 and below 1")
        for name in ("connections", "max_loads", "max_waiting", "hot_keys"):
            self._refuse(name, lambda value: isinstance(value, int), "a whole number")
        if 0 < self.lease < 0.05:
            raise ValueError(f"lease is {self.lease!r}; it must be 0 or at least 0.05 seconds")

    def _refuse(self, name: str, right: Callable[[float], bool], words: str) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError(f"{name} is {value!r}; it must be a number")
        if not right(value):
            raise ValueError(f"{name} is {value!r}; it must be {words}")
