"""Reports of hundreds of processes, of processes gone wrong, and of nobody: what they cost and what they may do."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from herdwatch import reports
from herdwatch.collector import CacheCollector, Scrape
from herdwatch.config import Cache
from herdwatch.metrics import REPUBLISHED
from herdwatch.promtool import Promtool
from herdwatch.stack import ExporterServer, RedisServer, Supervisor, free_port, http

REPORTERS = 500
SCRAPES = 1000
MAX_PAIRS = 200
SERIES_OF_A_PAIR = 15
MAX_SERVICES = 100
SERIES_OF_A_SERVICE = 6
GROUP = {
    "lookups": {"hit": 900_000, "miss": 90_000, "stale": 7, "negative": 3},
    "requests": 90_000,
    "executions": {"miss": 20_000, "refresh": 5, "warm": 1},
    "coalesced": {"process": 60_000, "fleet": 10_000},
    "refreshes": {"ok": 5, "error": 0, "skipped": 0},
    **dict.fromkeys(("stale", "shed", "errors"), 0),
}


@pytest.fixture(scope="module")
def redis(supervisor: Supervisor) -> RedisServer:
    return RedisServer(supervisor, name="reported")


@pytest.fixture
def exporter(supervisor: Supervisor, redis: RedisServer) -> Iterator[str]:
    """The address of an exporter of this Redis alone, which has seen no report yet."""
    listen = f"127.0.0.1:{free_port()}"
    file = supervisor.folder / "scale.yaml"
    file.write_text(yaml.safe_dump({"caches": [{"name": "users", "url": redis.url}], "exporter": {"listen": listen}}))
    server = ExporterServer(supervisor, file, listen=listen)
    yield server.url
    server.process.stop()
    supervisor.forget(server.process)


@pytest.fixture(autouse=True)
def empty(redis: RedisServer) -> None:
    with redis.client() as client:
        client.flushall()


def now(redis: RedisServer) -> float:
    with redis.client() as client:
        return float(client.time()[0])


def document(at: float, groups: Mapping[str, Any], **more: Any) -> str:
    return json.dumps({"v": 1, "start": at - 50, "at": at, "every": 10, "enabled": 1, "groups": groups, **more})


def write(redis: RedisServer, fields: Mapping[str | bytes, str | bytes]) -> None:
    with redis.client() as client:
        client.hset(reports.KEY, mapping=dict(fields))  # type: ignore[arg-type]


def scraped(redis: RedisServer, *before: Callable[[], object]) -> list[Scrape]:
    """A scrape after each of these, by one collector."""

    async def run() -> list[Scrape]:
        collector = CacheCollector(Cache(name="users", url=redis.url), timeout=20)
        found = []
        for action in before:
            await asyncio.to_thread(action)
            found.append(await collector.scrape())
        await collector.aclose()
        return found

    return asyncio.run(run())


def total(scrape: Scrape, family: str) -> float:
    return sum(value for name, _, value in scrape.guard if name == family)


def counted(redis: RedisServer) -> tuple[int, int]:
    """How often Redis was asked for the whole hash, and how often it has read from a connection."""
    with redis.client() as client:
        calls = client.info("commandstats").get("cmdstat_hgetall", {"calls": 0})["calls"]
        return calls, client.info("stats")["total_reads_processed"]


def test_five_hundred_reporters_cost_one_round_trip_a_scrape_and_are_all_counted(redis: RedisServer) -> None:
    at = now(redis)
    readings: list[tuple[int, int]] = []

    def report(lookups: int) -> None:
        groups = {"users": {**GROUP, "requests": lookups}, "carts": GROUP}
        write(redis, {f"profiles/{number:032x}": document(at, groups) for number in range(REPORTERS)})

    def read() -> None:
        readings.append(counted(redis))

    found = scraped(redis, lambda: report(1_000), lambda: report(1_003), *[read] * 5)
    assert total(found[1], "singleflight_requests_total") == 3 * REPORTERS
    calls, reads = zip(*readings, strict=True)
    assert [later - first for first, later in pairwise(calls)] == [1] * 4
    # Two more each time are our own two questions, and a third is that the next client connects anew.
    own = (counted(redis)[1], counted(redis)[1])
    assert [later - first for first, later in pairwise(reads)] == [own[1] - own[0] + 1] * 4


def families(exporter: str, path: str = "/metrics") -> dict[str, list[dict[str, str]]]:
    """The labels of every sample of a page, by name; promtool has read the page too."""
    status, text = http.get(f"{exporter}{path}", seconds=30)
    assert status == 200
    assert Promtool().check_metrics(text).problems == ()
    found: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found


def dropped(exporter: str) -> dict[str, float]:
    text = http.get(f"{exporter}/metrics", seconds=30)[1]
    lines = re.findall(r'herdwatch_reports_dropped_total\{cache="users",reason="(\w+)"\} (\S+)', text)
    return {reason: float(count) for reason, count in lines}


def growth(exporter: str) -> dict[str, float]:
    """What one scrape adds to the reports that were dropped."""
    before, after = dropped(exporter), dropped(exporter)
    return {reason: count - before.get(reason, 0) for reason, count in after.items() if count > before.get(reason, 0)}


def test_reports_that_are_stale_malformed_or_foreign_are_dropped_and_counted(redis: RedisServer, exporter: str) -> None:
    at = now(redis)
    write(
        redis,
        {
            "app/good": document(at, {"users": GROUP}),
            **{f"old/{number}": document(at - 500, {"old": GROUP}) for number in range(3)},
            **{f"next/{number}": document(at, {"next": GROUP}, v=2) for number in range(5)},
            "broken/1": "{",
            "broken/2": document(at, {"broken": {"requests": -1}}),
            b"\xff/1": document(at, {"broken": GROUP}),
        },
    )
    dropped(exporter)  # whether a page tells of its own scrape or of the one before, from here on they are the same
    assert growth(exporter) == {"stale": 3, "version": 5, "malformed": 3}
    labels = families(exporter)["singleflight_requests_total"]
    assert labels == [{"service": "app", "group": "users"}]


GROUPS = [(f"profiles/{one}", [f"user:{one}:{two}" for two in range(100)]) for one in range(100)]
SERVICES = [(f"service-{one}/1", ["users"]) for one in range(10_000)]


@pytest.mark.parametrize("names", [pytest.param(GROUPS, id="groups"), pytest.param(SERVICES, id="services")])
def test_ten_thousand_names_make_no_more_series_than_the_cap_and_are_counted(
    redis: RedisServer, exporter: str, names: list[tuple[str, list[str]]]
) -> None:
    at = now(redis)
    one = {"requests": 1, "executions": {"miss": 1}}
    write(redis, {field: document(at, dict.fromkeys(groups, one)) for field, groups in names})
    dropped(exporter)
    assert growth(exporter)["too_many"] > 9_000
    found = families(exporter)
    published = [labels for family in REPUBLISHED for labels in found.get(family.sample, [])]
    assert len(published) <= MAX_PAIRS * SERIES_OF_A_PAIR + MAX_SERVICES * SERIES_OF_A_SERVICE
    assert 0 < len(found["singleflight_requests_total"]) <= MAX_PAIRS


ESCAPED = ('"} 1\\ncache_up 0', "back\\\\slash\\", 'quo"te', "{}", "a,b=c", "# HELP", "é\u2028", " ")
REFUSED = ("x" * 101, "\x00", "new\nline", '"} 1\ncache_up 0', "")


def test_names_that_would_break_the_exposition_are_escaped_or_refused(redis: RedisServer, exporter: str) -> None:
    at = now(redis)
    write(redis, {f"{name}/{number}": document(at, {name: GROUP}) for number, name in enumerate(ESCAPED + REFUSED)})
    for path in ("/metrics", "/probe?target=users"):
        found = families(exporter, path)
        labels = found["singleflight_requests_total"]
        assert sorted(one["group"] for one in labels) == sorted(one["service"] for one in labels) == sorted(ESCAPED)
        assert found["cache_up"] == [{}]
    assert growth(exporter) == {"malformed": len(REFUSED)}


@pytest.mark.parametrize("value", [b"x" * 10_000_000, b"[" * 10_000_000, b'{"v":1,"groups":{"g":' * 500_000])
def test_a_value_of_ten_megabytes_is_no_report_and_costs_nobody_the_scrape(
    redis: RedisServer, exporter: str, value: bytes
) -> None:
    write(redis, {"app/good": document(now(redis), {"users": GROUP}), "app/huge": value})
    dropped(exporter)
    assert growth(exporter) == {"malformed": 1}
    text = http.get(f"{exporter}/probe?target=users", seconds=30)[1]
    assert "\ncache_up 1.0\n" in text
    assert '\ncache_collector_success{collector="reports"} 1.0\n' in text


def test_an_idle_cache_that_is_scraped_a_thousand_times_has_at_most_a_lookup_a_scrape(
    redis: RedisServer, exporter: str
) -> None:
    def lookups() -> int:
        with redis.client() as client:
            stats = client.info("stats")
        return int(stats["keyspace_hits"] + stats["keyspace_misses"])

    before = lookups()
    for _ in range(SCRAPES):
        assert http.get(f"{exporter}/probe?target=users")[0] == 200
    assert 0 <= lookups() - before <= SCRAPES
