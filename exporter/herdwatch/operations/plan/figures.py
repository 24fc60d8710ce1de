"""Every figure of a plan, declared once: what it is, how it is computed, its formula in words, and its sources.

In a formula `{R}`, `{C}`, … are the numbers of the question; what else it may name is in `rows.symbols`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from herdwatch.operations.plan import arithmetic as of
from herdwatch.operations.plan.arithmetic import Question

_SEED = "seed (Thundering Herd: Cache Restart Resilience)"
ROOT_CAUSE = f"{_SEED}, Root Cause"
SINGLEFLIGHT = f"{_SEED}, Solution 1"
REFRESH = f"{_SEED}, Solution 2"
WARMING = f"{_SEED}, Solution 3"
REPLICA = f"{_SEED}, Solution 4"
ZIPF = "Breslau et al., INFOCOM 1999: Web Caching and Zipf-like Distributions"
OCCUPANCY = "Flajolet et al., 1992: Birthday paradox, coupon collectors, caching algorithms and self-organizing search"
LEASE = "Nishtala et al., NSDI 2013: Scaling Memcache at Facebook"
LITTLE = "Little, 1961: A Proof for the Queuing Formula L = λW"
XFETCH = "Vattani et al., VLDB 2015: Optimal Probabilistic Cache Stampede Prevention"
MEAN_FIELD = "Che et al., JSAC 2002: Hierarchical Web Caching Systems"
OURS = "arithmetic"

PER_SECOND = "loads/s"
NINETY_FIVE = 0.95

_NEEDED = "needed"
_FIRST = "first second after a cold restart"
_WARM = "to warm before traffic is admitted"
_BACK = "a cold cache comes back by its own traffic"
_CALM = "background refresh on a calm day at the peak"


@dataclass(frozen=True, slots=True)
class Figure:
    """`name` is for programs, `what` and `formula` for people; `number` is None where the question has none."""

    part: str
    name: str
    what: str
    unit: str
    number: Callable[[Question], float | None]
    formula: str
    sources: tuple[str, ...]


def _warm_at(pace: str) -> Callable[[Question], float | None]:
    def long(asked: Question) -> float | None:
        rate = of.warm_paces(asked).get(pace)
        return None if rate is None else of.keys_to_warm(asked) / rate

    return long


FIGURES = (
    Figure(
        *(_NEEDED, "needed_hit_ratio", "hit ratio that the database needs", "ratio"),
        lambda asked: of.needed_hit_ratio(asked.peak_rps, asked.capacity),
        "1 - C / R = 1 - {C} / {R}, at least 0",
        (ROOT_CAUSE,),
    ),
    Figure(
        *(_FIRST, "unguarded", "no guard", PER_SECOND),
        lambda asked: asked.peak_rps,
        "R: every lookup misses, as long as no load has come back",
        (ROOT_CAUSE,),
    ),
    Figure(
        *(_FIRST, "singleflight", "singleflight, with the lease over the fleet", PER_SECOND),
        of.coalesced_loads,
        "different keys in R lookups: sum of 1 - (1 - p(k))^R, p(k) = k^-s / H for k = 1 … N",
        (SINGLEFLIGHT, OCCUPANCY, ZIPF),
    ),
    Figure(
        *(_FIRST, "singleflight_without_lease", "singleflight in each process alone", PER_SECOND),
        of.loads_without_lease,
        "sum of (1 - e^-r) * (1 + (P - 1) * (1 - e^(-r * L / P))), r = R * p(k): whoever misses a key while another "
        "process loads it loads it too; P times as many at most",
        (SINGLEFLIGHT, LEASE),
    ),
    Figure(
        *(_FIRST, "limiter", "singleflight and the limiter", PER_SECOND),
        of.limited_loads,
        "min(singleflight, P * M / L = {P} * {M} / {L} s = {limit}); other loads wait or are shed",
        (LITTLE,),
    ),
    Figure(
        *(_FIRST, "limiter_for_capacity", "M that holds the database", "loads at a time"),
        of.max_loads_for_capacity,
        "C * L / P = {C} * {L} s / {P}, rounded down, at least 1: Guard(…, max_loads=M)",
        (LITTLE,),
    ),
    Figure(
        *(_FIRST, "background_refresh", "background refresh", PER_SECOND),
        lambda asked: asked.peak_rps,
        "R: no help, because it renews what is there, and nothing is",
        (REFRESH,),
    ),
    Figure(
        *(_FIRST, "warm_before_admitting", "warm before traffic is admitted", PER_SECOND),
        of.loads_when_admitted,
        "R * (1 - h), h = p(1) + … + p(K) = {h}; before that the pace of the warm-up, below",
        (WARMING,),
    ),
    Figure(
        *(_FIRST, "replica", "a warm replica is promoted", PER_SECOND),
        lambda _: 0.0,
        "0: no key is lost",
        (REPLICA,),
    ),
    Figure(
        *(_WARM, "keys_to_warm", "K, the hottest keys", "keys"),
        of.keys_to_warm,
        "the smallest K with p(1) + … + p(K) >= 1 - C / R; {share} of all keys",
        (ZIPF,),
    ),
    Figure(
        *(_WARM, "warm_seconds_capacity", "at the database's capacity", "s"),
        _warm_at("capacity"),
        "K / C, which leaves nothing for anybody else",
        (OURS,),
    ),
    Figure(
        *(_WARM, "warm_seconds_seed", "at the seed's pace", "s"),
        _warm_at("seed"),
        "K / ({batch} every {pause} ms), as herdwatch warm does by default",
        (WARMING,),
    ),
    Figure(*(_WARM, "warm_seconds_rate", "at the given rate", "s"), _warm_at("rate"), "K / {rate}", (OURS,)),
    Figure(
        *(_BACK, "recovery_seconds_needed", "to the needed hit ratio", "s"),
        lambda asked: of.recovery_seconds(asked, of.needed_hit_ratio(asked.peak_rps, asked.capacity)),
        "keys fill at min(P * M / L, C) = {fill} a second while more lookups miss than that, then as they are looked "
        "up; within 5 % of lookups simulated one by one in the first part, up to a fifth too long in the second",
        (MEAN_FIELD,),
    ),
    Figure(
        *(_BACK, "recovery_seconds_95", "to a hit ratio of 0.95", "s"),
        lambda asked: of.recovery_seconds(asked, NINETY_FIVE),
        "the same",
        (MEAN_FIELD,),
    ),
    Figure(
        *(_CALM, "refresh_xfetch", "XFetch, the guard's default", PER_SECOND),
        of.refresh_loads_xfetch,
        "one a key and ttl: different keys in R * ttl lookups / ttl, at most",
        (XFETCH,),
    ),
    Figure(
        *(_CALM, "refresh_coin", "a coin, 5 % of the hits", PER_SECOND),
        of.refresh_loads_coin,
        "0.05 * R",
        (REFRESH,),
    ),
)
