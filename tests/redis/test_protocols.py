"""RESP2 and RESP3 carry the same: what an answer is made of differs, what a scrape says does not."""

from __future__ import annotations

import asyncio
import json

import pytest

from herdwatch import reports
from herdwatch.collector import CacheCollector, Scrape
from herdwatch.config import Cache
from herdwatch.stack import RedisServer, Supervisor

Values = dict[tuple[str, ...], float]

MOVING = {
    "cache_collector_duration_seconds",
    "cache_commands_processed_total",
    "cache_connected_clients",
    "cache_hit_ratio",
    "cache_hits_total",
    "cache_memory_used_bytes",
    "cache_misses_total",
    "cache_requests_total",
    "cache_start_time_seconds",
}
"""Families that another scrape, another connection or the next second changes."""


@pytest.fixture(scope="module")
def redis(supervisor: Supervisor) -> RedisServer:
    """A Redis with all that a scrape reads: keys in two databases, flushes, a report."""
    redis = RedisServer(supervisor, name="protocols")
    with redis.client() as client, redis.client(db=3) as third:
        third.flushdb()
        third.set("user:1", 1)
        client.mset({f"user:{number}": number for number in range(200)})
        client.expire("user:1", 1000)
        now = float(client.time()[0])
        group = {"lookups": {"hit": 5, "miss": 3}, "requests": 3, "executions": {"miss": 1}}
        document = {"v": 1, "start": now - 5, "at": now, "every": 600, "groups": {"users": group}, "enabled": 1}
        client.hset(reports.KEY, "app/1", json.dumps(document))
    return redis


def scraped(redis: RedisServer, protocol: int) -> Values:
    async def run() -> Scrape:
        collector = CacheCollector(Cache(name="users", url=redis.url), timeout=2, protocol=protocol)
        try:
            return await collector.scrape()
        finally:
            await collector.aclose()

    found = asyncio.run(run())
    assert found.failure is None
    return {(name, *labels): value for name, labels, value in (*found.samples, *found.guard)}


def test_a_scrape_says_the_same_in_both_protocols(redis: RedisServer) -> None:
    second, third = scraped(redis, 2), scraped(redis, 3)
    assert second.keys() == third.keys()
    assert {key: value for key, value in second.items() if key[0] not in MOVING} == {
        key: value for key, value in third.items() if key[0] not in MOVING
    }
    assert second["cache_keys", "0"] == 201
    assert ("singleflight_requests_total", "app", "users") in second


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_hash_of_no_reports_is_no_failure(supervisor: Supervisor, protocol: int) -> None:
    redis = RedisServer(supervisor, name=f"empty{protocol}")
    assert scraped(redis, protocol)["cache_collector_success", "reports"] == 1


@pytest.mark.parametrize("protocol", [2, 3])
def test_what_is_no_hash_fails_alone(supervisor: Supervisor, protocol: int) -> None:
    redis = RedisServer(supervisor, name=f"string{protocol}")
    with redis.client() as client:
        client.set(reports.KEY, "not a hash")
    found = scraped(redis, protocol)
    assert found["cache_collector_success", "reports"] == 0
    assert found["cache_collector_success", "commandstats"] == 1
    assert found["cache_up",] == 1


@pytest.mark.parametrize(("protocol", "hellos"), [(2, 0), (3, 1)])
def test_the_protocol_asked_for_is_the_one_spoken(supervisor: Supervisor, protocol: int, hellos: int) -> None:
    redis = RedisServer(supervisor, name=f"spoken{protocol}")
    scraped(redis, protocol)
    with redis.client() as client:
        assert client.info("commandstats").get("cmdstat_hello", {"calls": 0})["calls"] == hellos
