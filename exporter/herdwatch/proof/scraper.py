"""What one scrape of a modelled cache brings: the families of the exporter and the guard, as Prometheus labels them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from herdwatch.metrics import FAILURE_REASONS, FLUSH_COMMANDS
from herdwatch.proof.model import Cache, Node, Service

Sample = tuple[str, Mapping[str, str], float]

MEGABYTE = 1_000_000.0
BYTES_PER_KEY = 300.0
ROOM = 3
"""Memory of a cache that is not meant to evict, in working sets."""

GROUP = "profile"


def of_cache(cache: Cache, now: int, *, job: str, watched: bool) -> Iterator[Sample]:
    """All targets of a cache; `watched` tells whether an exporter lives that could probe them."""
    for node in cache.nodes:
        if node.watched:
            yield from _of_target(cache, node, now, job, watched and node.target_up)


def of_applications(cache: Cache, *, job: str) -> Iterator[Sample]:
    """Services that are scraped themselves, each process with its part of the counts."""
    for service in cache.services:
        for instance in service.instances if service.present else ():
            target = {"job": job, "instance": instance}
            yield "up", target, 1.0
            labels = {**target, "cache": cache.name, "service": service.name}
            for name, more, value in _of_service(service):
                part = value if name.endswith("_enabled") else value / len(service.instances)
                yield name, {**labels, **more}, part


def _of_target(cache: Cache, node: Node, now: int, job: str, answers: bool) -> Iterator[Sample]:
    target = {"job": job, "instance": node.instance}
    if cache.labelled:
        target |= {"cache": cache.name, "team": cache.team}
    yield "up", target, float(answers)
    if not answers:
        return
    alive = node.state in ("up", "loading")
    yield "cache_up", target, float(alive)
    if not alive:
        reason = "timeout" if node.state == "hung" else node.reason
        assert reason in FAILURE_REASONS  # noqa: S101 - a scenario that misspells one models nothing
        yield "cache_failure", {**target, "reason": reason}, 1.0
        return
    for name, more, value in _of_redis(node, cache.limit or ROOM * cache.working_set):
        yield name, {**target, **more}, value
    yield from _reported(cache, node, now, target)


def _reported(cache: Cache, node: Node, now: int, target: Mapping[str, str]) -> Iterator[Sample]:
    """Reports are kept in the cache, in one of its shards, and go to its replicas like any key.

    A loading Redis hands none out. Counters are the exporter's, which remembers them; gauges are the reports', which
    one that began empty has not got for a while.
    """
    first = next(iter(cache.primaries), None)
    if node.state == "loading" or (node.primary and node is not first) or not node.link_up:
        return
    for service in cache.services:
        if service.instances:
            continue
        fresh = service.present and now >= max(service.silent_until, node.started + 10)
        for name, more, value in _of_service(service):
            if fresh or name.endswith("_total"):
                yield name, {**target, "service": service.name, **more}, value


def _of_redis(node: Node, limit: float) -> Iterator[Sample]:
    for db, count in {"0": 0.0, **node.keys}.items():
        yield "cache_keys", {"db": db}, float(round(count))
        yield "cache_expiring_keys", {"db": db}, float(round(count * 0.9))
    requests = round(node.hits) + round(node.misses)
    yield "cache_hits_total", {}, float(round(node.hits))
    yield "cache_misses_total", {}, float(round(node.misses))
    yield "cache_requests_total", {}, float(requests)
    yield "cache_hit_ratio", {}, round(node.hits) / requests if requests else 0.0
    yield "cache_start_time_seconds", {}, float(node.started)
    for command in FLUSH_COMMANDS:
        yield "cache_flushes_total", {"command": command}, float(node.flushes if command == "flushall" else 0)
    yield "cache_loading", {}, float(node.state == "loading")
    yield "cache_evicted_keys_total", {}, float(round(node.evicted))
    yield "cache_expired_keys_total", {}, float(round(node.expired))
    yield "cache_memory_used_bytes", {}, MEGABYTE + node.total * BYTES_PER_KEY
    yield "cache_memory_max_bytes", {}, MEGABYTE + limit * BYTES_PER_KEY
    yield "cache_connected_clients", {}, 20.0
    yield "cache_primary", {}, float(node.primary)
    if node.primary:
        yield "cache_connected_replicas", {}, float(node.replicas)
    else:
        yield "cache_replica_link_up", {}, float(node.link_up)


def _of_service(service: Service) -> Iterator[Sample]:
    group = {"group": GROUP}
    yield "cache_lookups_total", {**group, "result": "hit"}, float(round(service.hits))
    yield "cache_lookups_total", {**group, "result": "miss"}, float(round(service.misses))
    yield "singleflight_requests_total", group, float(round(service.misses))
    yield "singleflight_executions_total", {**group, "trigger": "miss"}, float(round(service.executions))
    yield "singleflight_coalesced_total", {**group, "scope": "process"}, float(round(service.coalesced))
    yield "cache_refreshes_total", {**group, "result": "ok"}, float(round(service.refreshes))
    yield "cache_refreshes_total", {**group, "result": "error"}, float(round(service.refresh_errors))
    if service.enabled is not None:
        yield "singleflight_enabled", {}, float(service.enabled)
    if service.warmup is not None:
        target, done, active = service.warmup
        yield "cache_warmup_target_keys", {}, float(round(target))
        yield "cache_warmup_done_keys", {}, float(round(done))
        yield "cache_warmup_active", {}, float(active)
