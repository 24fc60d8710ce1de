"""The report schema: what an application writes into its cache and the exporter reads.

One hash in the cache, `herdwatch:reports`. A field is `<service>/<incarnation>`, one per process life, and
its value JSON::

    {"v": 1, "start": 1700000000.0, "at": 1700000100.0, "every": 10,
     "inflight": 0, "waiters": 0, "enabled": 1,
     "warmup": {"target": 10000, "done": 2500, "active": 1},
     "groups": {"users": {
         "lookups": {"hit": 900, "miss": 90, "stale": 7, "negative": 3},
         "requests": 90, "executions": {"miss": 20, "refresh": 5, "warm": 0},
         "coalesced": {"process": 60, "fleet": 10}, "stale": 0, "shed": 0, "errors": 0,
         "refreshes": {"ok": 5, "error": 0, "skipped": 0}}}}

`start` (of the process) and `at` (of the writing) are Unix seconds by the cache's own clock (Redis TIME), `every` is
the seconds between two reports, totals count since `start`. Everything but v, start, at, every and groups may be left
out; unknown keys are ignored. One HSET in any language writes it.

Standard library only: the guard, which applications import, stands on this module.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from herdwatch.metrics import LOOKUP_RESULTS, REFRESH_RESULTS, SCOPES, TRIGGERS

KEY = "herdwatch:reports"
VERSION = 1
MAX_BYTES = 65_536
MAX_NAME = 100
MIN_STALE_SECONDS = 60.0
_MAX_COUNT = 2**63

Place = tuple[str, str, str]
"""(family, group, value of the family's own label or "")"""

Totals = dict[Place, int]
"""Totals since the process began."""

_COUNTERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "lookups": ("cache_lookups_total", LOOKUP_RESULTS),
    "requests": ("singleflight_requests_total", ()),
    "executions": ("singleflight_executions_total", TRIGGERS),
    "coalesced": ("singleflight_coalesced_total", SCOPES),
    "stale": ("singleflight_stale_total", ()),
    "shed": ("singleflight_shed_total", ()),
    "errors": ("singleflight_errors_total", ()),
    "refreshes": ("cache_refreshes_total", REFRESH_RESULTS),
}
_KEYS = {family: key for key, (family, _) in _COUNTERS.items()}


class MalformedReport(ValueError):
    """A field of the hash that is no report; the message says why."""


class UnknownVersion(MalformedReport):
    """A report of a version that this herdwatch does not read."""


@dataclass(frozen=True, slots=True)
class Warmup:
    """Progress of a warm-up in keys; `active` stays true until the warmer writes its end."""

    target: int
    done: int
    active: bool


@dataclass(frozen=True, slots=True)
class Report:
    """One process's report, validated. Times are Unix seconds by the cache's clock."""

    service: str
    incarnation: str
    start: float
    at: float
    every: float
    totals: Totals
    inflight: int = 0
    waiters: int = 0
    enabled: bool | None = None
    warmup: Warmup | None = None

    def stale(self, now: float) -> bool:
        """True when the process has missed three reports, and at least a minute."""
        return now - self.at > max(3 * self.every, MIN_STALE_SECONDS)


def parse(field: bytes, value: bytes) -> Report:
    """Read one field of the hash; raises MalformedReport for anything that is not a report."""
    service, incarnation = _names(field)
    if len(value) > MAX_BYTES:
        raise MalformedReport(f"{len(value)} bytes, more than {MAX_BYTES}")
    try:
        data = json.loads(value)
    except (ValueError, RecursionError):
        raise MalformedReport("not JSON") from None
    data = _mapping(data, "the report")
    if data.get("v") != VERSION:
        raise UnknownVersion(f"version {data.get('v')!r}, not {VERSION}")
    warmup, enabled = data.get("warmup"), data.get("enabled")
    if enabled not in (None, 0, 1):
        raise MalformedReport("enabled is neither 0 nor 1")
    return Report(
        service=service,
        incarnation=incarnation,
        start=_seconds(data, "start"),
        at=_seconds(data, "at"),
        every=_seconds(data, "every"),
        totals=_totals(_mapping(data.get("groups"), "groups")),
        inflight=_count(data.get("inflight", 0), "inflight"),
        waiters=_count(data.get("waiters", 0), "waiters"),
        enabled=None if enabled is None else bool(enabled),
        warmup=None if warmup is None else _warmup(_mapping(warmup, "warmup")),
    )


def render(report: Report) -> tuple[str, str]:
    """The field and the value that `parse` reads as this report."""
    data: dict[str, Any] = {"v": VERSION, "start": report.start, "at": report.at, "every": report.every}
    data |= {"inflight": report.inflight, "waiters": report.waiters}
    if report.enabled is not None:
        data["enabled"] = int(report.enabled)
    if report.warmup is not None:
        warmup = report.warmup
        data["warmup"] = {"target": warmup.target, "done": warmup.done, "active": int(warmup.active)}
    groups: dict[str, dict[str, Any]] = {}
    for (family, group, label), total in report.totals.items():
        counters = groups.setdefault(group, {})
        if label:
            counters.setdefault(_KEYS[family], {})[label] = total
        else:
            counters[_KEYS[family]] = total
    data["groups"] = groups
    value = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return f"{report.service}/{report.incarnation}", value


def _names(field: bytes) -> tuple[str, str]:
    try:
        service, separator, incarnation = field.decode("utf-8").partition("/")
    except UnicodeDecodeError:
        raise MalformedReport("the field is not UTF-8") from None
    if not separator or not incarnation:
        raise MalformedReport("the field is not <service>/<incarnation>")
    return check_name(service), check_name(incarnation)


def check_name(text: str) -> str:
    """The text, if it can be the name of a cache, service, incarnation or group; else MalformedReport, a ValueError."""
    # Separators are allowed but not printable to Python, so a text that is not asks for a look at each character.
    plain = text.isprintable() or not any(unicodedata.category(character)[0] == "C" for character in text)
    if not plain or not 0 < len(text) <= MAX_NAME:
        raise MalformedReport(f"{text[:MAX_NAME]!r} is no name: a name is 1 to {MAX_NAME} printable characters")
    return text


def _mapping(data: Any, *what: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise MalformedReport(f"{' '.join(what)} is not an object")
    return data


def _count(value: Any, what: str) -> int:
    if not _is_count(value):
        raise MalformedReport(f"{what} is not a count")
    return int(value)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MAX_COUNT  # True is an int to Python, and no count


def _seconds(data: Mapping[str, Any], key: str) -> float:
    value = data.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 2**53 or math.isnan(value):
        raise MalformedReport(f"{key} is not a number of seconds")
    return float(value)


def _warmup(data: Mapping[str, Any]) -> Warmup:
    target, done = (_count(data.get(key, 0), f"warmup.{key}") for key in ("target", "done"))
    return Warmup(target, done, data.get("active") in (1, True))


@lru_cache(maxsize=1_000)
def _places(group: str) -> Mapping[str, Place | Mapping[str, Place]]:
    """Where each counter of a group goes, by its key in a report; shared by the reports of all processes."""
    check_name(group)
    return {
        key: {label: (family, group, label) for label in labels} if labels else (family, group, "")
        for key, (family, labels) in _COUNTERS.items()
    }


def _totals(groups: Mapping[str, Any]) -> Totals:
    # Five hundred reports are tens of thousands of numbers a scrape, so nothing here is made twice.
    totals: Totals = {}
    for name, counters in groups.items():
        places = _places(name)
        for key, value in _mapping(counters, "group", name).items():
            place = places.get(key)
            if isinstance(place, tuple):
                totals[place] = _count(value, key)
            elif place is not None:
                for label, total in _mapping(value, key).items():
                    if label not in place:
                        continue
                    if not _is_count(total):
                        raise MalformedReport(f"{key}.{label} is not a count")
                    totals[place[label]] = total
    return totals
