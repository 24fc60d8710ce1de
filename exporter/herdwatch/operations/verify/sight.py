"""What can be seen of one cache at this moment: its Redis, its replicas, its reporters, and its past in Prometheus."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from herdwatch import reports
from herdwatch.collector.failures import reason, sentence
from herdwatch.collector.info import Fields, number, pairs, parse, server_time
from herdwatch.collector.resp import ProtocolError, ReplyError
from herdwatch.config import Cache
from herdwatch.errors import ConfigError, HerdwatchError
from herdwatch.guard import switches
from herdwatch.operations.exchange import exchange
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
        if isinstance(info, ReplyError):
            raise info
    except _FAILURES as error:
        detail = str(error) if isinstance(error, ConfigError) else ""
        return {"failure": sentence(cache, reason(error), detail).removeprefix(f"cache {cache.name}: ")}
    fields = parse(info)
    if fields.get("redis_mode") == "sentinel":
        return {"failure": f"what answers at {cache.instance} is a Sentinel, which holds no keys; correct the url"}
    found, unreadable = _reports(told)
    return {
        "info": fields,
        "now": server_time(fields) or time.time(),
        "reports": found,
        "reports_hidden": _hidden(told),
        "unreadable": unreadable,
        "switches": {
            name.decode("utf-8", "replace"): value.decode("utf-8", "replace") for name, value in _hash(switched)
        },
        "switches_hidden": _hidden(switched),
        "replicas": await _replicas(cache, fields, until - time.monotonic()),
    }


def _hash(reply: Any) -> list[tuple[bytes, bytes]]:
    """The pairs of a HGETALL; none where it was refused, as while a dataset is loaded."""
    return list(zip(reply[::2], reply[1::2], strict=False)) if isinstance(reply, list) else []


def _hidden(reply: Any) -> str:
    """Why a HGETALL gives nothing, in words; empty where it was answered."""
    if not isinstance(reply, ReplyError):
        return "" if isinstance(reply, list) else "did not answer"
    known = {"NOPERM": "may not be read by this user", "WRONGTYPE": "is no hash", "LOADING": "is still being loaded"}
    return known.get(reply.code, "could not be read")


def _reports(reply: Any) -> tuple[tuple[Report, ...], int]:
    found, unreadable = [], 0
    for name, value in _hash(reply):
        try:
            found.append(reports.parse(name, value))
        except MalformedReport:
            unreadable += 1
    return tuple(found), unreadable


async def _replicas(cache: Cache, fields: Fields, seconds: float) -> tuple[Replica, ...]:
    told = [pairs(fields[name]) for name in (f"slave{place}" for place in range(MAX_REPLICAS)) if name in fields]
    end = number(fields, "master_repl_offset")
    return tuple(await asyncio.gather(*(_replica(cache, one, end, seconds) for one in told)))


async def _replica(cache: Cache, told: dict[str, str], end: float | None, seconds: float) -> Replica:
    """Ask a replica for its keys, with the login of its primary."""
    address, offset = f"{told.get('ip')}:{told.get('port')}", number(told, "offset")
    lag = None if end is None or offset is None else max(0.0, end - offset)
    replica = Replica(address, told.get("state", "unknown"), lag, None)
    try:
        (info,) = await exchange(_at(cache, address), (("INFO",),), seconds)
        if isinstance(info, ReplyError):
            raise info
    except (*_FAILURES, ValueError) as error:
        why = reason(error) if isinstance(error, _FAILURES) else "its address cannot be used"
        return Replica(replica.address, replica.state, lag, None, why)
    return Replica(replica.address, replica.state, lag, keys_of(parse(info)))


def _at(cache: Cache, address: str) -> Cache:
    scheme = "rediss" if urlsplit(cache.url).scheme == "rediss" else "redis"
    return Cache.model_validate({**cache.__dict__, "url": f"{scheme}://{address}", "username": cache.user})


def keys_of(fields: Fields) -> int:
    """All keys of an INFO, every database together."""
    databases = (pairs(value) for name, value in fields.items() if name[:2] == "db" and name[2:].isdigit())
    return sum(int(number(one, "keys") or 0) for one in databases)


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
