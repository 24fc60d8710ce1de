"""What other exporters call the same things, so that the rules people run today can be tried."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from herdwatch.errors import UsageError
from herdwatch.metrics import BY_SAMPLE
from herdwatch.proof.plays import Series

REDIS_EXPORTER: Mapping[str, str] = {
    "cache_keys": "redis_db_keys",
    "cache_expiring_keys": "redis_db_keys_expiring",
    "cache_hits_total": "redis_keyspace_hits_total",
    "cache_misses_total": "redis_keyspace_misses_total",
    "cache_start_time_seconds": "redis_start_time_seconds",
    "cache_loading": "redis_loading_dump_file",
    "cache_evicted_keys_total": "redis_evicted_keys_total",
    "cache_expired_keys_total": "redis_expired_keys_total",
    "cache_memory_used_bytes": "redis_memory_used_bytes",
    "cache_memory_max_bytes": "redis_memory_max_bytes",
    "cache_connected_clients": "redis_connected_clients",
    "cache_connected_replicas": "redis_connected_slaves",
    "cache_replica_link_up": "redis_master_link_up",
}
"""redis_exporter's names for the families of ours that it has too."""

STATES = frozenset({"ALERTS", "ALERTS_FOR_STATE"})
"""The series in which Prometheus writes down what its alerts say."""

MADE = ("redis_uptime_in_seconds", "redis_instance_info")
"""Names of redis_exporter for what we measure in another way."""

NAMES = ("herdwatch", "redis_exporter")


def known_names(names: str) -> frozenset[str]:
    """Every metric that a play can have under these names; `up` is known to all."""
    if names == "herdwatch":
        return frozenset(("up", *BY_SAMPLE))
    return frozenset(("up", "redis_up", *REDIS_EXPORTER.values(), *MADE))


def translate(series: Iterable[Series], names: str) -> Iterator[Series]:
    """The same series under other names; raises UsageError for names that are not known.

    The seed's rules ask for what herdwatch exports or records. redis_exporter's `redis_uptime_in_seconds` and
    `redis_instance_info` are made from the start time and the role.
    """
    if names not in NAMES:
        raise UsageError(f"--names {names}: is none of {', '.join(NAMES)}")
    given = list(series)
    if names == "herdwatch":
        yield from given
        return
    hung = _unanswered(given)
    for one in given:
        if one.name == "up":
            yield Series("up", one.labels, [(at, 0.0 if (_instance(one), at) in hung else up) for at, up in one.points])
        elif one.name == "cache_up":
            points = [(at, None if (_instance(one), at) in hung else up) for at, up in one.points]
            yield Series("redis_up", one.labels, points)
        else:
            yield from _redis_exporter(one)


def _unanswered(series: Iterable[Series]) -> frozenset[tuple[str, int]]:
    """Where and when redis_exporter does not answer: it waits for a Redis that hangs until Prometheus gives up."""
    timeouts = (one for one in series if one.name == "cache_failure" and one.labels["reason"] == "timeout")
    return frozenset((_instance(one), at) for one in timeouts for at, value in one.points if value)


def _instance(one: Series) -> str:
    return one.labels.get("instance", "")


def _redis_exporter(one: Series) -> Iterator[Series]:
    if one.name in REDIS_EXPORTER:
        labels = dict(one.labels)
        if "db" in labels:
            labels["db"] = f"db{labels['db']}"
        yield Series(REDIS_EXPORTER[one.name], labels, one.points)
    if one.name == "cache_start_time_seconds":
        uptime = [(at, None if start is None else at - start) for at, start in one.points]
        yield Series("redis_uptime_in_seconds", one.labels, uptime)
    if one.name == "cache_primary":
        for role, value in (("master", 1.0), ("slave", 0.0)):
            points = [(at, 1.0 if is_primary == value else None) for at, is_primary in one.points]
            yield Series("redis_instance_info", {**one.labels, "role": role}, points)
