"""What can be seen of one cache at this moment: its Redis, its replicas, its reporters, and its past in Prometheus."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from herdwatch import reports
from herdwatch.collector.failures import detail, reason, sentence
from herdwatch.collector.info import Fields, number, parse, server_time
from herdwatch.collector.parts import expect
from herdwatch.collector.resp import ProtocolError, ReplyError
from herdwatch.config import Cache
from herdwatch.errors import ConfigError, HerdwatchError, UsageError
from herdwatch.guard import switches
from herdwatch.operations.exchange import exchange
from herdwatch.operations.promote import observe
from herdwatch.operations.promote.endpoint import of_cache
from herdwatch.prometheus import Api
from herdwatch.reports import MalformedReport, Report

SECONDS = 1.0
"""Deadline of it all."""
MAX_REPLICAS = 10
DAY = 86_400.0
"""For so long what a cache held before its process started is asked for."""
_RECORDED = "cache_instance:keys:baseline|cache:hit_ratio:short"
_KEYS = "cache_instance:keys:current"
_BEFORE = "30m"
"""How far before the start of a process the one before it is looked for."""
_LATE = 120
"""Seconds after a start in which what is recorded may still be of the process before."""
_NOW = "singleflight_enabled|ALERTS"
"""What counts only as long as it is there."""
_BACK = "2m"
"""How long ago a sample may be that is shown: longer than the longest interval at which rules are evaluated."""
_HIDDEN = {"NOPERM": "may not be read by this user", "WRONGTYPE": "is no hash", "LOADING": "is still being loaded"}
_UNREAD = "could not be read"
_FAILURES = (OSError, ProtocolError, ReplyError, ConfigError, TimeoutError)


@dataclass(frozen=True, slots=True)
class Replica:
    """A replica as its primary and it itself tell: `keys` is None where it could not be asked, and `why` says why."""

    address: str
    state: str
    lag_bytes: float | None
    keys: int | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """One series of Prometheus: its labels, `__name__` among them, its last value, and when that was, Unix seconds."""

    labels: Mapping[str, str]
    value: float
    at: float

    @property
    def name(self) -> str:
        return self.labels.get("__name__", "")


@dataclass(frozen=True, slots=True)
class Sight:
    """All of it. `failure` is why Redis did not answer, and `no_past` why Prometheus did not; `past` is None then.

    `at` is Unix seconds of this machine, `now` of Redis. `reports` are those that could be read, old ones included;
    `reports_hidden` and `switches_hidden` say why the hash could not be. `before` is the most keys in the half hour
    before this process started, where it is younger than a day, and `since` the most that it has held itself.
    """

    cache: str
    instance: str
    at: float
    failure: str = ""
    now: float = 0.0
    info: Fields = field(default_factory=dict)
    reports: tuple[Report, ...] = ()
    reports_hidden: str = ""
    unreadable: int = 0
    switches: Mapping[str, str] = field(default_factory=dict)
    switches_hidden: str = ""
    replicas: tuple[Replica, ...] = ()
    past: tuple[Sample, ...] | None = None
    no_past: str = ""
    before: float | None = None
    since: float | None = None


async def see(cache: Cache, prometheus: Api | None = None, *, seconds: float = SECONDS) -> Sight:
    """Look once, for `seconds` at the longest; what does not answer by then is left out with its reason.

    Prometheus is asked for this cache's recording rules. Nothing is changed anywhere.
    """
    at, until = time.time(), time.monotonic() + seconds
    here, (past, no_past) = await asyncio.gather(_redis(cache, seconds), _past(cache.name, prometheus, seconds))
    sight = Sight(cache.name, cache.instance, at, past=past, no_past=no_past, **here)
    uptime = number(sight.info, "uptime_in_seconds")
    if prometheus is None or past is None or uptime is None or uptime > DAY:
        return sight
    before, since = await _life(sight, prometheus, int(uptime), until - time.monotonic())
    return replace(sight, before=before, since=since)


async def _redis(cache: Cache, seconds: float) -> dict[str, Any]:
    until = time.monotonic() + seconds
    commands = (("INFO",), ("HGETALL", reports.KEY), ("HGETALL", switches.KEY))
    try:
        info, told, switched = await exchange(cache, commands, seconds)
        fields = parse(expect(info, bytes))
    except _FAILURES as error:
        return {"failure": sentence(cache, reason(error), detail(cache, error)).removeprefix(f"cache {cache.name}: ")}
    if fields.get("redis_mode") == "sentinel":
        return {"failure": f"what answers at {cache.instance} is a Sentinel, which holds no keys; correct the url"}
    entries, reports_hidden = _hash(told)
    switched, switches_hidden = _hash(switched)
    found, unreadable = _reports(entries)
    return {
        "info": fields,
        "now": server_time(fields) or time.time(),
        "reports": found,
        "reports_hidden": reports_hidden,
        "unreadable": unreadable,
        "switches": {name.decode("utf-8", "replace"): value.decode("utf-8", "replace") for name, value in switched},
        "switches_hidden": switches_hidden,
        "replicas": await _replicas(cache, fields, until - time.monotonic()),
    }


def _hash(reply: Any) -> tuple[list[tuple[bytes, bytes]], str]:
    """The pairs of a HGETALL, or why there are none, in words: it was refused, as while a dataset is loaded."""
    try:
        words = [expect(one, bytes) for one in expect(reply, list)]
    except ReplyError as error:
        return [], _HIDDEN.get(error.code, _UNREAD)
    except ProtocolError:
        return [], _UNREAD
    return list(zip(words[::2], words[1::2], strict=False)), ""


def _reports(entries: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[Report, ...], int]:
    found, unreadable = [], 0
    for name, value in entries:
        try:
            found.append(reports.parse(name, value))
        except MalformedReport:
            unreadable += 1
    return tuple(found), unreadable


async def _replicas(cache: Cache, fields: Fields, seconds: float) -> tuple[Replica, ...]:
    told, end = islice(observe.replicas(fields), MAX_REPLICAS), number(fields, "master_repl_offset")
    return tuple(await asyncio.gather(*(_replica(cache, one, end, seconds) for one in told)))


async def _replica(cache: Cache, told: observe.Replica, end: float | None, seconds: float) -> Replica:
    """Ask a replica for its keys, with the login of its primary."""
    replica = Replica(str(told), told.state or "unknown", None if end is None else max(0.0, end - told.offset), None)
    try:
        (info,) = await exchange(of_cache(cache).at(told.host, told.port).cache, (("INFO",),), seconds)
        return replace(replica, keys=keys_of(parse(expect(info, bytes))))
    except _FAILURES as error:
        return replace(replica, why=reason(error))
    except UsageError:
        return replace(replica, why="its address cannot be used")


def keys_of(fields: Fields) -> int:
    """All keys of an INFO, every database together."""
    return sum(observe.keys(fields).values())


async def _past(cache: str, prometheus: Api | None, seconds: float) -> tuple[tuple[Sample, ...] | None, str]:
    """The last sample of each series. Of what is recorded a range says when that was; an instant vector would not."""
    if prometheus is None:
        return None, "no Prometheus is named"
    label, now = json.dumps(cache), time.time()
    exprs = (f'{{__name__=~"{_RECORDED}",cache={label}}}[{_BACK}]', f'{{__name__=~"{_NOW}",cache={label}}}')
    try:
        async with asyncio.timeout(seconds):
            found = await asyncio.gather(*(asyncio.to_thread(prometheus.query, expr, now) for expr in exprs))
    except TimeoutError:
        return None, f"Prometheus did not answer within {seconds:g} s"
    except HerdwatchError as error:
        return None, str(error)
    return tuple(sample for some in found for one in some if (sample := _sample(one)) is not None), ""


async def _life(sight: Sight, api: Api, uptime: int, seconds: float) -> tuple[float | None, float | None]:
    """The most keys before this process started, and the most it has had; None where that is not recorded."""
    start, label = sight.at - uptime, f"cache={json.dumps(sight.cache)}"
    asked = [asyncio.to_thread(api.query, f"max_over_time({_KEYS}{{{label}}}[{_BEFORE}])", start)]
    if uptime > _LATE:
        own = f"max_over_time({_KEYS}{{{label}}}[{uptime - _LATE + 1}s])"
        asked.append(asyncio.to_thread(api.query, own, sight.at))
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            found = await asyncio.gather(*asked)
    except (TimeoutError, HerdwatchError):
        return None, None
    before, since = (*(_most(some, sight.instance) for some in found), None)[:2]
    return before, since


def _most(found: list[dict[str, Any]], instance: str) -> float | None:
    """The value of this instance; without one, as after a failover to another address, the largest of its cache."""
    samples = [sample for one in found if (sample := _sample(one)) is not None]
    here = [one for one in samples if one.labels.get("instance") == instance]
    return max((one.value for one in here or samples), default=None)


def _sample(one: dict[str, Any]) -> Sample | None:
    values, labels = one.get("values", [one.get("value")]), one["metric"]
    try:
        at, value = values[-1]
        return Sample(labels, float(value), float(at))
    except (IndexError, TypeError, ValueError):
        return None
