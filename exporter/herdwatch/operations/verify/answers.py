"""From what was seen to the answers of the runbook's questions. Nothing here asks anybody."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from herdwatch.collector.info import number, version
from herdwatch.guard.switches import NAMES, Switches
from herdwatch.operations.promote.endpoint import address
from herdwatch.operations.verify.sight import Replica, Sight, keys_of
from herdwatch.reports import Report

WARM = 0.9
"""The share of its primary's keys that a replica has at least that is called warm."""
COLD = 0.5
"""The share of what is normal below which a cache is cold, and its replica no warm one."""
BASELINE = 120
"""Scrape intervals that the rules look back for what is normal, as in bundle.windows."""
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


def answers(sight: Sight, *, cache_job: str, scrape_interval: float = 15.0) -> list[Answer]:
    """All of them, in the order of the runbook. `cache_job` is the scrape job of caches: what others say of
    singleflight comes from applications themselves.

    `scrape_interval`, in seconds, says over how long what is normal is measured.
    """
    scraped = _scraped(sight, cache_job)
    if sight.failure:
        known = _singleflight(sight, scraped) if scraped else Answer("singleflight", "unknown", DASH)
        unknown = [Answer(name, "unknown", DASH) for name in ("warm-up", "replica", "how cold", "reports")]
        return [Answer("redis", "bad", sight.failure, 0.0), known, *unknown, *_alerts(sight)]
    return [
        _redis(sight),
        _singleflight(sight, scraped),
        _warmup(sight),
        _replica(sight),
        _cold(sight, BASELINE * scrape_interval),
        _twice(sight, scraped),
        *_alerts(sight),
    ]


def _redis(sight: Sight) -> Answer:
    info = sight.info
    role = {"master": "primary", "slave": "replica"}.get(info.get("role", ""), "of an unknown role")
    name, uptime = version(info), number(info, "uptime_in_seconds") or 0
    server = name.capitalize() if name.startswith("valkey") else f"Redis {name or '?'}"
    if info.get("loading") == "1":
        share = number(info, "loading_loaded_perc")
        loaded = DASH if share is None else f"{share:.0f} %"
        text = f"{server} is loading its dataset and refuses every lookup; {loaded} is there"
        return Answer("redis", "bad", text, 0.0)
    return Answer("redis", "note", f"{server}, {role}, started {span(uptime)} ago", 0.0)


def _scraped(sight: Sight, cache_job: str) -> dict[str, list[bool]]:
    """What Prometheus scrapes from applications themselves: by service, whether each process has singleflight on."""
    found: dict[str, list[bool]] = {}
    for one in sight.past or ():
        if one.name == "singleflight_enabled" and one.labels.get("job") != cache_job:
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
    off, switched = _switched(sight, by_service)
    if not states:
        hint = f"; those that are scraped are not known: {sight.no_past}" if sight.past is None else ""
        who = _unread(sight) or "no process reports"
        return Answer("singleflight", "bad" if off else "unknown", f"{DASH} {who}{hint}{switched}")
    parts = ", ".join(f"{service} {sum(each)} of {len(each)}" for service, each in sorted(by_service.items()))
    text = f"on in {sum(states)} of {len(states)} processes ({parts}){switched}"
    verdict: Verdict = "good" if all(states) and not off else "bad"
    if verdict == "good" and sight.reports_hidden:
        verdict, text = "unknown", f"{text}; who reports is not known: {_unread(sight)}"
    return Answer("singleflight", verdict, text, _age(sight, fresh(sight)))


def _switched(sight: Sight, services: Iterable[str]) -> tuple[bool, str]:
    """Whether the hash turns singleflight off for one of these, or for another that it names; and all it turns off."""
    if sight.switches_hidden:
        return False, f"; herdwatch:switches {sight.switches_hidden}"
    said = {name: value.strip().lower() for name, value in sight.switches.items() if name.isprintable()}
    off = sorted(name for name, value in said.items() if value == "off" and name.rpartition("/")[2] in NAMES)
    if not off:
        return False, ""
    on = sorted(name for name, value in said.items() if value == "on" and name.rpartition("/")[2] in off)
    text = f"; herdwatch:switches says off for {', '.join(off)}{' and on for ' if on else ''}{', '.join(on)}"
    named = [name.removesuffix("/singleflight") for name in off if name.endswith("/singleflight")]
    return any(_is_off(said, service) for service in [*(list(services) or [""]), *named]), text


def _is_off(said: Mapping[str, str], service: str) -> bool:
    state = Switches()
    state.apply({name.encode(): value.encode() for name, value in said.items()}, service)
    return not state.singleflight


def _unread(sight: Sight) -> str:
    return f"herdwatch:reports {sight.reports_hidden}" if sight.reports_hidden else ""


def _warmup(sight: Sight) -> Answer:
    if sight.reports_hidden:
        return Answer("warm-up", "unknown", f"{DASH} {_unread(sight)}")
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
        primary = address(info.get("master_host", ""), info.get("master_port", ""))
        text = f"this is one of {primary}; its link is {'up' if up else 'down'}"
        return Answer("replica", "good" if up else "bad", text, 0.0)
    if not sight.replicas:
        return Answer("replica", "note", "there is none: a restart begins with what is on disk, or with nothing", 0.0)
    wanted = max(WARM * keys, COLD * (_normal(sight) or 0.0), 1.0)
    warm = [one for one in sight.replicas if one.state == "online" and (one.keys or 0) >= wanted]
    parts = "; ".join(_of_replica(one, keys, _normal(sight)) for one in sight.replicas)
    return Answer("replica", "good" if warm else "bad", f"{len(warm)} of {len(sight.replicas)} warm: {parts}", 0.0)


def _of_replica(replica: Replica, keys: int, normal: float | None) -> str:
    lag = "" if replica.lag_bytes is None else f", {replica.lag_bytes:,.0f} bytes behind"
    if replica.keys is None:
        return f"{replica.address} {replica.state}{lag}, could not be asked for its keys ({replica.why})"
    share = f"{replica.keys / keys:.0%} of the keys" if keys else f"{replica.keys:,} keys"
    cold = f", {replica.keys / normal:.0%} of what is normal" if normal and replica.keys < COLD * normal else ""
    return f"{replica.address} {replica.state}{lag}, with {share}{cold}"


def _cold(sight: Sight, window: float) -> Answer:
    keys, uptime = keys_of(sight.info), number(sight.info, "uptime_in_seconds") or 0.0
    baseline, baseline_age = _value(sight, "cache_instance:keys:baseline", instance=sight.instance)
    hits, misses = number(sight.info, "keyspace_hits") or 0.0, number(sight.info, "keyspace_misses") or 0.0
    ratio, ratio_age = _value(sight, "cache:hit_ratio:short")
    parts = [f"{keys:,} keys"]
    if baseline:
        parts[0] += f", {keys / baseline:.0%} of the most of the last {_brief(window)} ({baseline:,.0f})"
    elif sight.past is None:
        parts[0] += f"; what is normal is not known: {sight.no_past}"
    if sight.before:
        parts[0] += f", {keys / sight.before:.0%} of the most before it started ({sight.before:,.0f})"
    elif baseline and uptime < window:
        parts.append("what there was before it started is not known")
    if ratio is not None and uptime > RATIO_SECONDS:  # before, it is that of the process before
        parts.append(f"hit ratio now {ratio:.2f}")
    asked = hits + misses >= max(1.0, uptime * IDLE)
    parts.append(f"hit ratio since Redis started {hits / (hits + misses):.2f}" if asked else "hardly a lookup so far")
    return Answer("how cold", _coldness(sight, keys, uptime, window), "; ".join(parts), max(baseline_age, ratio_age))


def _coldness(sight: Sight, keys: int, uptime: float, window: float) -> Verdict:
    """Good only against a past that is not this process's own alone: a cold one that stays as it is looks normal."""
    normal = _normal(sight)
    if _COLD & _firing(sight) or (normal and keys < COLD * normal):
        return "bad"
    return "good" if normal and (uptime >= window or sight.before) else "note"


def _normal(sight: Sight) -> float | None:
    """What the cache held of late, or before a process that has never come near to that; None where neither is known.

    Once a process was warm, later losses are not those of its restart.
    """
    baseline, _ = _value(sight, "cache_instance:keys:baseline", instance=sight.instance)
    refilled = sight.before is not None and (sight.since or 0.0) >= COLD * sight.before
    known = [one for one in (baseline, None if refilled else sight.before) if one]
    return max(known, default=None)


def _brief(seconds: float) -> str:
    """Seconds as the rules write them."""
    minutes, hours = seconds / 60, seconds / 3600
    return f"{hours:g}h" if hours.is_integer() else f"{minutes:g}m" if minutes.is_integer() else f"{seconds:g}s"


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
    if sight.reports_hidden:
        return Answer("reports", "unknown", f"{DASH} {_unread(sight)}")
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
