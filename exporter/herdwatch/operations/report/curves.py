"""The curves of a report: one value, or none, at each point of time, for each cache."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from herdwatch.operations.report.asked import Asked, Result, batches, matcher
from herdwatch.prometheus import Api, TooMuch

Curve = tuple[float | None, ...]
"""Values at the points of `Asked.grid`; None where there was no sample, or no number."""

_OF_GUARD = (
    "sum by (cache) (max without (replica) (NAME{%s})"
    " unless on (cache, instance) (max by (cache, instance) (cache_primary{%s}) == 0))"
)

QUESTIONS: Mapping[str, str] = {
    "requests": "sum by (cache) (cache:requests:rate{%s})",
    "hits": "sum by (cache) (cache:hits:rate{%s})",
    "misses": "sum by (cache) (cache:misses:rate{%s})",
    "keys": "sum by (cache) (cache_instance:keys:current{%s})",
    "baseline": "sum by (cache) (cache_instance:keys:baseline{%s})",
    # As the rules have it where a capacity is given, and without one the same from its parts.
    "loads": "sum by (cache) (cache_database:loads:rate{%s})"
    " or sum by (cache) (cache_service:singleflight_executions:rate{%s})"
    " or sum by (cache) (cache:misses:rate{%s})",
    # A database is loaded by all caches in front of it, whichever of them are asked about.
    "database_loads": "max by (cache) (max by (cache, database) (herdwatch:capacity{%s}) ^ 0"
    " * on (database) group_left () sum by (database) (cache_database:loads:rate))",
    "capacity": "max by (cache) (herdwatch:capacity{%s})",
    "limit": 'max by (cache) (herdwatch:threshold{alert="CacheHitRateLow",%s})',
    "coalesced": "sum by (cache) (cache_service:singleflight_coalesced:rate{%s})",
    "in_flight": _OF_GUARD.replace("NAME", "singleflight_inflight"),
    "waiting": _OF_GUARD.replace("NAME", "singleflight_waiters"),
    "warmed": "sum by (cache) (cache_service:warmup_done:sum{%s})",
    "to_warm": "sum by (cache) (cache_service:warmup_target:sum{%s})",
    "warming": "max by (cache) (cache_service:warmup_active:max{%s})",
}
"""What is asked of Prometheus for each curve; %s is where the matcher of the caches stands."""


def curves(api: Api, asked: Asked, caches: Sequence[str]) -> dict[str, dict[str, Curve]]:
    """Every curve there is, by cache and name, the hit ratio among them; raises what the API raises.

    `database_loads` is there where a database gets loads of other caches too.
    """
    found: dict[str, dict[str, Curve]] = {cache: {} for cache in caches}
    for name, question in QUESTIONS.items():
        for some in batches(caches):
            for one in _range(api, asked, question, some):
                cache = one["metric"].get("cache", "")
                curve = on_grid(one.get("values", ()), asked)
                if cache in found and any(value is not None for value in curve):
                    found[cache][name] = curve
    for own in found.values():
        if own.get("database_loads") == own.get("loads"):
            own.pop("database_loads", None)
        if "hits" in own and "requests" in own:
            own["hit_ratio"] = tuple(map(_ratio, own["hits"], own["requests"]))
    return found


def on_grid(values: Sequence[Sequence[object]], asked: Asked) -> Curve:
    """Samples as Prometheus gives them, at the points of a curve."""
    curve: list[float | None] = [None] * len(asked.grid)
    for at, value in values:
        place = round((float(str(at)) - asked.since) / asked.step)
        number = float(str(value))
        if 0 <= place < len(curve) and math.isfinite(number):
            curve[place] = number
    return tuple(curve)


def _range(api: Api, asked: Asked, question: str, caches: Sequence[str]) -> Result:
    """The answer to a question about some caches; where it is too much, about half of them at a time."""
    try:
        expr = question.replace("%s", matcher("cache", caches))
        return api.query_range(expr, asked.since, asked.until, asked.step)
    except TooMuch:
        if len(caches) == 1:
            raise
        half = len(caches) // 2
        return [*_range(api, asked, question, caches[:half]), *_range(api, asked, question, caches[half:])]


def _ratio(hits: float | None, requests: float | None) -> float | None:
    return None if hits is None or not requests else min(1.0, hits / requests)
