"""What a database has to bear when its cache restarts cold, as plain functions of a few numbers.

Rates are per second and times are seconds. Lookups come at random and independently of each other, with the popularity
of Zipf's law; a database that is asked for more than its capacity keeps serving its capacity. Real ones do worse.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache

from herdwatch.errors import UsageError
from herdwatch.operations.plan.zipf import Zipf
from herdwatch.operations.warm.pace import Speed

SEED_PACE = Speed()
COIN = 0.05
"""The share of hits that the seed refreshes in the background."""
SMALLEST, LARGEST = 1e-3, 1e12
"""What a rate or a time may be; a load may be shorter."""
_HALVINGS = 100


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be planned; raises UsageError naming the value that is none.

    `peak_rps` lookups a second on `keys` keys, in front of a database that takes `capacity` loads a second, each of
    `load_seconds`. `processes` of the application load at most `max_loads` each at the same time; values live for `ttl`
    seconds. `warm_rate` is what a warm-up may load a second, None for the seed's pace.
    """

    peak_rps: float
    capacity: float
    keys: int
    exponent: float = 1.0
    load_seconds: float = 0.02
    processes: int = 10
    max_loads: int = 64
    ttl: float = 3600.0
    warm_rate: float | None = None

    def __post_init__(self) -> None:
        for name in (one.name for one in fields(self) if one.name not in ("keys", "exponent")):
            value = getattr(self, name)
            least = SMALLEST / 1000 if name == "load_seconds" else SMALLEST
            if value is not None and not least <= value <= LARGEST:
                raise UsageError(f"{name} is {value!r}; it must be a number from {least:g} to {LARGEST:g}")
        law(self.keys, self.exponent)

    @property
    def law(self) -> Zipf:
        """The popularity of its keys."""
        return law(self.keys, self.exponent)


@lru_cache(maxsize=16)
def law(keys: int, exponent: float) -> Zipf:
    """The same law is not added up twice."""
    return Zipf(keys, exponent)


def needed_hit_ratio(peak_rps: float, capacity: float) -> float:
    """The hit ratio below which the database gets more than it takes: 1 - C/R, and 0 where it takes the whole peak."""
    return max(0.0, 1 - capacity / peak_rps)


def coalesced_loads(asked: Question, seconds: float = 1.0) -> float:
    """Loads that begin in the first `seconds` with singleflight over the fleet: each key that is looked up, once."""
    return asked.law.distinct(asked.peak_rps * seconds)


def loads_without_lease(asked: Question, seconds: float = 1.0) -> float:
    """The same where each process coalesces for itself: while a key is loaded, every other process that misses it too
    begins a load of its own. Never more than `processes` times as many, nor than there are lookups.
    """
    others, share = asked.processes - 1, min(asked.load_seconds, seconds) / asked.processes
    more = _added(asked, lambda rate: (1 + others * -math.expm1(-rate * share)) * -math.expm1(-rate * seconds))
    return min(asked.peak_rps * seconds, max(more, coalesced_loads(asked, seconds)))


def limit(asked: Question) -> float:
    """Loads a second that the limiters let through: processes * max_loads / load_seconds (Little's law)."""
    return asked.processes * asked.max_loads / asked.load_seconds


def limited_loads(asked: Question, seconds: float = 1.0) -> float:
    """Loads that begin in the first `seconds` with singleflight and the limiter."""
    return min(coalesced_loads(asked, seconds), limit(asked) * seconds)


def max_loads_for_capacity(asked: Question) -> int:
    """The limiter of one process with which all together load no more than the capacity; at least 1."""
    return max(1, math.floor(asked.capacity * asked.load_seconds / asked.processes * (1 + 1e-9)))


def keys_to_warm(asked: Question) -> int:
    """As few of the hottest keys as bring the needed hit ratio."""
    return asked.law.keys_for(needed_hit_ratio(asked.peak_rps, asked.capacity))


def loads_when_admitted(asked: Question) -> float:
    """Lookups a second that miss once these are warm and all the traffic is let in."""
    return asked.peak_rps * (1 - asked.law.mass(keys_to_warm(asked)))


def warm_paces(asked: Question) -> dict[str, float]:
    """Keys a second by what sets the pace: the database, the seed's batches, and the rate that is given if one is."""
    paces = {"capacity": asked.capacity, "seed": SEED_PACE.batch / SEED_PACE.pause}
    return paces if asked.warm_rate is None else {**paces, "rate": asked.warm_rate}


def tightest_pace(asked: Question) -> tuple[str, float]:
    """What a warm-up is held to: the rate that is given, else the seed's pace, or the database where it takes less."""
    paces = warm_paces(asked)
    name = min("seed" if asked.warm_rate is None else "rate", "capacity", key=lambda one: paces[one])
    return name, paces[name]


def refresh_loads_xfetch(asked: Question) -> float:
    """Loads a second of a warm cache whose keys are renewed shortly before they end: one a key and lifetime, of those
    keys that are looked up in one. A little too many: keys that are looked up rarely live on average a little longer.
    """
    return asked.law.distinct(asked.peak_rps * asked.ttl) / asked.ttl


def refresh_loads_coin(asked: Question) -> float:
    """Loads a second of a warm cache where every twentieth hit refreshes."""
    return COIN * asked.peak_rps


def fill_rate(asked: Question) -> float:
    """Loads a second that a cold cache fills with at most: the limiter's, and never more than the database serves."""
    return min(limit(asked), asked.capacity)


def recovery_seconds(asked: Question, ratio: float) -> float:
    """How long a cold cache needs until its own traffic has brought it to this hit ratio (under 1).

    Mean field: a key with lookup rate r is still cold with probability exp(-r * u) after u seconds of unhindered
    traffic. While more lookups miss than there are loads to be had, u goes slower than the clock, by just that share;
    so until then the time is the keys loaded over the fill rate, and from then on that of u. Loads that wait in a
    queue, and what expires meanwhile, are left out. Source: the independent reference model, as in Che, Tung and Wang,
    Hierarchical Web Caching Systems, JSAC 2002.
    """
    if ratio <= 0:
        return 0.0
    if ratio >= 1:
        raise UsageError(f"the ratio is {ratio!r}; it must be under 1, which no traffic reaches")
    rate = fill_rate(asked)
    goal = _traffic_until(asked, asked.peak_rps * (1 - ratio))
    free = min(goal, _traffic_until(asked, rate))
    return loaded_after(asked, free) / rate + (goal - free) + asked.load_seconds


def loaded_after(asked: Question, traffic: float) -> float:
    """The keys that are loaded after so many seconds of unhindered traffic."""
    return _added(asked, lambda rate: -math.expm1(-rate * traffic))


def missing_after(asked: Question, traffic: float) -> float:
    """The lookups a second that miss after so many seconds of unhindered traffic."""
    return _added(asked, lambda rate: rate * math.exp(-rate * traffic))


def _traffic_until(asked: Question, missing: float) -> float:
    """Seconds of unhindered traffic until so few lookups a second miss, more than 0."""
    low, high = 0.0, 1.0
    if missing >= asked.peak_rps:
        return 0.0
    while missing_after(asked, high) > missing:
        low, high = high, high * 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if high - low <= 1e-7 * high:
            break
        low, high = (middle, high) if missing_after(asked, middle) > missing else (low, middle)
    return high


def _added(asked: Question, of_rate: Callable[[float], float]) -> float:
    """The sum over all keys of something that depends on how often one of them is looked up."""
    return math.fsum(keys * of_rate(asked.peak_rps * probability) for keys, probability in asked.law.bands)
