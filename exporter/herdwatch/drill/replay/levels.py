"""How well the application is protected: each level has what those before it have."""

from __future__ import annotations

from enum import StrEnum

from herdwatch.drill.replay.scale import Scale
from herdwatch.guard.refresh import XFetch
from herdwatch.guard.settings import Options


class Level(StrEnum):
    """None, and the guards of the seed in their order; the limiter bounds what singleflight cannot."""

    NONE = "none"
    SINGLEFLIGHT = "singleflight"
    REFRESH = "refresh"
    LIMITER = "limiter"
    WARM = "warm"
    REPLICA = "replica"

    @property
    def about(self) -> str:
        """In words."""
        return _ABOUT[self]

    @property
    def guards(self) -> str:
        """Those that it has, in words."""
        names = [level.value for level in Level if level != Level.NONE and self.has(level)]
        if self == Level.REPLICA:
            names.remove(Level.WARM)
        return f"with {', '.join(names[:-1])}{' and ' if names[:-1] else ''}{names[-1]}" if names else "without a guard"

    def has(self, other: Level) -> bool:
        """Whether this level includes the other one."""
        return list(Level).index(self) >= list(Level).index(other)


_ABOUT = {
    Level.NONE: "no guard: read, load what is missing, store it",
    Level.SINGLEFLIGHT: "one load for everyone who misses the same key",
    Level.REFRESH: "values are renewed before they end, and given while they are renewed",
    Level.LIMITER: "fewer loads at a time than the database has connections; who finds no place is turned away",
    Level.WARM: "no traffic is admitted before a warm-up has reached the hit ratio that the database needs",
    Level.REPLICA: "a warm replica takes over before the old primary restarts, in place of a warm-up",
}
_ENOUGH = 1_000_000
REDIS_SECONDS = 0.5
"""That a lookup waits for Redis; one that hangs leaves its users time for the database."""


def options(level: Level, scale: Scale) -> Options:
    """The guard's options at this level."""
    chosen: Options = {
        "hot_keys": scale.keys,
        "refresh": None,
        "timeout": REDIS_SECONDS,
        "max_loads": _ENOUGH,
        "max_waiting": _ENOUGH,
    }
    if level.has(Level.REFRESH):
        chosen |= {"refresh": XFetch(), "stale": scale.stale}
    if level.has(Level.LIMITER):
        chosen |= {"max_loads": scale.loads, "max_wait": scale.wait, "max_waiting": 1000}
    return chosen
