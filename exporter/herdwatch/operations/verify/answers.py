"""From what was seen to the answers of the runbook's questions. Nothing here asks anybody."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from herdwatch.collector.info import number
from herdwatch.operations.verify.sight import Replica, Sight, keys_of
from herdwatch.reports import Report

WARM = 0.9
"""The share of its primary's keys that a replica has at least that is called warm."""
DASH = "—"

RATIO_SECONDS = 600.0
"""How long a process must have lived for the hit ratio of a window to be its own: longer than any such window."""
IDLE = 1.0
"""Lookups a second below which a hit ratio says nothing: the exporter's own are among them."""
_COLD = {"CacheRestarted", "CacheKeysLost", "CacheStampede", "CacheHitRateLow"}

Verdict = Literal["good", "bad", "unknown", "note"]


@dataclass(frozen=True, slots=True)
class Answer:
    """One question, by its short name, and its answer. `bad` is what somebody has to see to; `note` has no side.

    `age` is how many seconds old the oldest value is that it rests on; None where nothing is known.
    """

    question: str
    verdict: Verdict
    text: str
    age: float | None = None


def answers(sight: Sight, *, application_job: str) -> list[Answer]:
    """All of them, in the order of the runbook. `application_job` is the scrape job of applications themselves."""
    scraped = _scraped(sight, application_job)
    if sight.failure:
        known = _singleflight(sight, scraped) if scraped else Answer("singleflight", "unknown", DASH)
        unknown = [Answer(name, "unknown", DASH) for name in ("warm-up", "replica", "how cold", "reports")]
        return [Answer("redis", "bad", sight.failure, 0.0), known, *unknown, *_alerts(sight)]
    return [
        _redis(sight),
        _singleflight(sight, scraped),
        _warmup(sight),
        _replica(sight),
        _cold(sight),
        _twice(sight, scraped),
        *_alerts(sight),
    ]


def _redis(sight: Sight) -> Answer:
    info = sight.info
    role = {"master": "primary", "slave": "replica"}.get(info.get("role", ""), "of an unknown role")
    version, uptime = info.get("redis_version", "?"), number(info, "uptime_in_seconds") or 0
    if info.get("loading") == "1":
        share = number(info, "loading_loaded_perc")
        loaded = DASH if share is None else f"{share:.0f} %"
        text = f"Redis {version} is loading its dataset and refuses every lookup; {loaded} is there"
        return Answer("redis", "bad", text, 0.0)
    return Answer("redis", "note", f"Redis {version}, {role}, started {span(uptime)} ago", 0.0)


def _scraped(sight: Sight, job: str) -> dict[str, list[bool]]:
    """What Prometheus scrapes from applications themselves: by service, whether each process has singleflight on."""
    found: dict[str, list[bool]] = {}
    for one in sight.past or ():
        if one.name == "singleflight_enabled" and one.labels.get("job") == job:
            found.setdefault(one.labels.get("service", ""), []).append(one.value > 0)
    return found


def fresh(sight: Sight) -> list[Report]:
    """The reports of processes that live; a warmer is none of them."""
    return [one for one in sight.reports if not one.stale(sight.now) and one.enabled is not None]


def _singleflight(sight: Sight, scraped: dict[str, list[bool]]) -> Answer:
    by_service = {service: list(states) for service, states in scraped.items()}
    for one in fresh(sight):
        if one.service not in scraped:
            by_service.setdefault(one.service, []).append(bool(one.enabled))
    states = [state for each in by_service.values() for state in each]
    off = sorted(name for name, value in sight.switches.items() if value.strip().lower() == "off")
    switched = f"; herdwatch:switches says off for {', '.join(off)}" if off else ""
    if sight.switches_hidden:
        switched = "; herdwatch:switches may not be read by this user"
    if not states:
        hint = f"; those that are scraped are not known: {sight.no_past}" if sight.past is None else ""
        return Answer("singleflight", "unknown", f"{DASH} no process reports{hint}{switched}")
    parts = ", ".join(f"{service} {sum(each)} of {len(each)}" for service, each in sorted(by_service.items()))
    text = f"on in {sum(states)} of {len(states)} processes ({parts}){switched}"
    return Answer("singleflight", "good" if all(states) and not off else "bad", text, _age(sight, fresh(sight)))


def _warmup(sight: Sight) -> Answer:
    warming = [one for one in sight.reports if one.warmup is not None]
    active = [one for one in warming if one.warmup is not None and one.warmup.active]
    dead = [one for one in active if one.stale(sight.now)]
    live = [one for one in active if one not in dead]
    if live:
        return Answer("warm-up", "note", f"running: {_progress(live)}", _age(sight, live))
    if dead:
        seconds = sight.now - max(one.at for one in dead)
        text = f"died {span(seconds)} ago without an end: {_progress(dead)}; begin it again"
        return Answer("warm-up", "bad", text, seconds)
    if warming:
        last = max(warming, key=lambda one: one.at)
        text = f"none is running; the last one ended: {_progress([last])}"
        return Answer("warm-up", "note", text, _age(sight, [last]))
    return Answer("warm-up", "note", "none is running", 0.0)


def _age(sight: Sight, found: Iterable[Report]) -> float:
    """How old the oldest of these reports is; 0 without one, as what Redis and Prometheus say now."""
    return max((max(0.0, sight.now - one.at) for one in found), default=0.0)


def _progress(found: Iterable[Report]) -> str:
    return ", ".join(
        f"{one.service} has dealt with {one.warmup.done:,} of {one.warmup.target:,} keys"
        for one in found
        if one.warmup is not None
    )


def _replica(sight: Sight) -> Answer:
    info, keys = sight.info, keys_of(sight.info)
    if info.get("role") == "slave":
        up = info.get("master_link_status") == "up"
        primary = f"{info.get('master_host')}:{info.get('master_port')}"
        text = f"this is one of {primary}; its link is {'up' if up else 'down'}"
        return Answer("replica", "good" if up else "bad", text, 0.0)
    if not sight.replicas:
        return Answer("replica", "note", "there is none: a restart begins with what is on disk, or with nothing", 0.0)
    warm = [one for one in sight.replicas if _is_warm(one, keys)]
    parts = "; ".join(_of_replica(one, keys) for one in sight.replicas)
    return Answer("replica", "good" if warm else "bad", f"{len(warm)} of {len(sight.replicas)} warm: {parts}", 0.0)


def _is_warm(replica: Replica, keys: int) -> bool:
    return replica.state == "online" and replica.keys is not None and replica.keys >= WARM * keys


def _of_replica(replica: Replica, keys: int) -> str:
    lag = "" if replica.lag_bytes is None else f", {replica.lag_bytes:,.0f} bytes behind"
    if replica.keys is None:
        return f"{replica.address} {replica.state}{lag}, could not be asked for its keys ({replica.why})"
    share = f"{replica.keys / keys:.0%}" if keys else f"{replica.keys:,}"
    return f"{replica.address} {replica.state}{lag}, with {share} of the keys"


def _cold(sight: Sight) -> Answer:
    keys = keys_of(sight.info)
    baseline, baseline_age = _value(sight, "cache_instance:keys:baseline", instance=sight.instance)
    hits, misses = number(sight.info, "keyspace_hits") or 0.0, number(sight.info, "keyspace_misses") or 0.0
    ratio, ratio_age = _value(sight, "cache:hit_ratio:short")
    parts = [f"{keys:,} keys"]
    if baseline:
        parts[0] += f", {keys / baseline:.0%} of what is normal ({baseline:,.0f})"
    elif sight.past is None:
        parts[0] += f"; what is normal is not known: {sight.no_past}"
    uptime = number(sight.info, "uptime_in_seconds") or 0.0
    if ratio is not None and uptime > RATIO_SECONDS:  # before, it is that of the process before
        parts.append(f"hit ratio now {ratio:.2f}")
    asked = hits + misses >= max(1.0, uptime * IDLE)
    parts.append(f"hit ratio since Redis started {hits / (hits + misses):.2f}" if asked else "hardly a lookup so far")
    verdict: Verdict = "note" if not baseline else "good" if keys >= 0.5 * baseline else "bad"
    if _COLD & _firing(sight):
        verdict = "bad"
    return Answer("how cold", verdict, "; ".join(parts), max(baseline_age, ratio_age))


def _value(sight: Sight, name: str, **labels: str) -> tuple[float | None, float]:
    """The largest value of these series, and how old the oldest of them is; None and 0 without any."""
    found = [
        one
        for one in sight.past or ()
        if one.name == name
        and not math.isnan(one.value)
        and all(one.labels.get(label) == value for label, value in labels.items())
    ]
    if not found:
        return None, 0.0
    return max(one.value for one in found), max(0.0, sight.at - min(one.at for one in found))


def _twice(sight: Sight, scraped: dict[str, list[bool]]) -> Answer:
    reporting, age = Counter(one.service for one in fresh(sight)), _age(sight, fresh(sight))
    both = sorted(set(reporting) & set(scraped))
    unreadable = f"; {sight.unreadable} entries of herdwatch:reports are no reports" if sight.unreadable else ""
    if both:
        text = f"counted twice, scraped and by reports: {', '.join(both)}; keep one of the two{unreadable}"
        return Answer("reports", "bad", text, age)
    if sight.past is None:
        text = f"services that report: {len(reporting)}; who is scraped too is not known{unreadable}"
        return Answer("reports", "unknown", text, age)
    text = f"no service counts twice; reporting: {len(reporting)}, scraped: {len(scraped)}{unreadable}"
    return Answer("reports", "good", text, age)


def _alerts(sight: Sight) -> list[Answer]:
    if sight.past is None:
        return []
    firing = sorted(_firing(sight))
    return [Answer("alerts", "bad" if firing else "good", ", ".join(firing) or "none is firing", 0.0)]


def _firing(sight: Sight) -> set[str]:
    return {
        one.labels.get("alertname", "")
        for one in sight.past or ()
        if one.name == "ALERTS" and one.labels.get("alertstate") == "firing"
    }


def span(seconds: float) -> str:
    """Seconds in the two largest units that people say."""
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86_400
    if days:
        return f"{days:.0f} d {hours % 24:.0f} h"
    if hours:
        return f"{hours:.0f} h {minutes % 60:.0f} min"
    return f"{minutes:.0f} min {seconds % 60:.0f} s" if minutes else f"{seconds:.0f} s"
