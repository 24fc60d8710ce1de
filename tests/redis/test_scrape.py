"""The collector against a real Redis: every family, right values, both formats."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from starlette.testclient import TestClient
from tests.stopping import stopped
from tests.waiting import until

from herdwatch import config as configuration
from herdwatch import reports, server
from herdwatch.bundle.location import bundle_root
from herdwatch.collector import CacheCollector, Scrape
from herdwatch.config import Cache
from herdwatch.metrics import BY_SAMPLE, GUARD_COUNTERS, GUARD_GAUGES, PROBE, REDIS
from herdwatch.promtool import Promtool
from herdwatch.server import Exporter
from herdwatch.stack import RedisServer, Supervisor

TEXT = "text/plain"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
REPLICA_ONLY = {"cache_replica_link_up"}
WITH_REPLICAS_ONLY = {"cache_replication_lag_bytes"}
WHEN_DOWN_ONLY = {"cache_failure", "cache_collector_failure"}


def values(scrape: Scrape) -> dict[tuple[str, ...], float]:
    return {(name, *labels): value for name, labels, value in (*scrape.samples, *scrape.guard)}


def scraped(redis: RedisServer, *more: Callable[[], object], **cache: Any) -> list[dict[tuple[str, ...], float]]:
    """The values of one scrape, then of one more after each of the given actions, by one collector."""

    async def run() -> list[dict[tuple[str, ...], float]]:
        collector = CacheCollector(Cache(name="users", url=redis.url, **cache), timeout=2)
        found = [values(await collector.scrape())]
        for action in more:
            await asyncio.to_thread(action)
            found.append(values(await collector.scrape()))
        await collector.aclose()
        return found

    return asyncio.run(run())


def page(redis: RedisServer, path: str, accept: str = TEXT) -> str:
    exporter = Exporter(configuration.single(redis.url), runbooks=bundle_root() / "runbooks")
    with TestClient(exporter.app) as client:
        answer = client.get(path, headers={"accept": accept})
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(accept.partition(";")[0])
        client.portal.call(exporter.aclose) if client.portal else None
    return answer.text


def report(misses: int, redis: RedisServer, **more: object) -> None:
    with redis.client() as client:
        now = float(client.time()[0])
        counts = {"lookups": {"hit": 5, "miss": misses}, "requests": misses, "executions": {"miss": 1}}
        users = {**counts, "coalesced": {"process": misses - 1, "fleet": 0}, "stale": 0, "shed": 0, "errors": 0}
        groups = {"users": {**users, "refreshes": {"ok": 1}}}
        document = {"v": 1, "start": now - 5, "at": now, "every": 10, "groups": groups, **more}
        client.hset(reports.KEY, "app/1", json.dumps({**document, "warmup": {"target": 9, "done": 4, "active": 1}}))


def test_every_declared_family_is_there_on_a_primary(supervisor: Supervisor) -> None:
    redis = RedisServer(supervisor, name="families")
    report(3, redis, enabled=1)
    found = {name for name, *_ in scraped(redis)[0]}
    declared = {family.name for family in (*PROBE, *REDIS, *GUARD_COUNTERS, *GUARD_GAUGES)}
    assert found == declared - REPLICA_ONLY - WITH_REPLICAS_ONLY - WHEN_DOWN_ONLY


def test_keys_hits_misses_and_flushes_are_those_that_were_made(supervisor: Supervisor) -> None:
    redis = RedisServer(supervisor, name="counts")
    with redis.client() as client, redis.client(db=3) as third:
        client.mset({f"key:{number}": number for number in range(50)})
        client.expire("key:1", 1000)
        third.set("other", 1)
        for number in range(60):
            client.get(f"key:{number}")

        before, flushed = scraped(redis, client.flushall)

    assert (before["cache_keys", "0"], before["cache_keys", "3"]) == (50, 1)
    assert before["cache_expiring_keys", "0"] == 1
    assert (before["cache_hits_total",], before["cache_flushes_total", "flushall"]) == (50, 0)
    # The collector's own look at the reports is a lookup too, and misses while there are none.
    assert before["cache_misses_total",] in (10, 11)
    assert (flushed["cache_keys", "0"], flushed["cache_keys", "3"]) == (0, 0)
    assert flushed["cache_flushes_total", "flushall"] == 1
    assert flushed["cache_start_time_seconds",] == before["cache_start_time_seconds",]


def test_a_restart_is_a_new_start_time_and_a_kept_connection_does_not_hide_it(supervisor: Supervisor) -> None:
    redis = RedisServer(supervisor, name="restarted")

    def restart() -> None:
        time.sleep(1.1)  # start times are whole seconds
        redis.kill()
        redis.restart()

    before, after = scraped(redis, restart)
    assert after["cache_up",] == 1
    assert after["cache_start_time_seconds",] > before["cache_start_time_seconds",]
    assert (before["cache_restarts_total",], after["cache_restarts_total",]) == (0, 1)


def test_primary_and_replica_each_tell_their_side(supervisor: Supervisor) -> None:
    primary = RedisServer(supervisor, name="primary")
    replica = RedisServer(supervisor, "--replicaof", "127.0.0.1", str(primary.port), name="replica")
    until(lambda: scraped(replica)[0]["cache_replica_link_up",] == 1, every=0.2)
    until(lambda: scraped(primary)[0]["cache_connected_replicas",] == 1, every=0.2)

    assert scraped(primary)[0]["cache_primary",] == 1
    until(lambda: scraped(primary)[0]["cache_replication_lag_bytes",] == 0, every=0.2)
    with stopped(replica):
        with primary.client() as client:
            client.set("large", b"x" * 100_000)
        assert 100_000 < scraped(primary)[0]["cache_replication_lag_bytes",] < 101_000
    found = scraped(replica)[0]
    assert found["cache_primary",] == 0
    assert ("cache_connected_replicas",) not in found
    primary.kill()
    until(lambda: scraped(replica)[0]["cache_replica_link_up",] == 0, every=0.2)


def test_a_loading_redis_is_up_and_says_so(supervisor: Supervisor) -> None:
    # Redis answers once in 2 MB of what it loads: a hundred keys of 20 kB, 0.3 s.
    redis = RedisServer(supervisor, "--key-load-delay", "3000", name="loading")
    with redis.client(socket_timeout=30) as client:
        for number in range(2000):
            client.set(f"key:{number}", os.urandom(20_000))
        client.save()
    redis.kill()
    redis.restart()
    found = scraped(redis)[0]
    assert (found["cache_up",], found["cache_loading",]) == (1, 1)
    assert 0 <= found["cache_loading_progress_ratio",] < 1
    assert found["cache_collector_success", "info"] == 1
    assert found["cache_collector_success", "reports"] == 0
    redis.kill()


def test_reports_are_republished_and_a_restart_of_redis_never_makes_a_counter_fall(supervisor: Supervisor) -> None:
    redis = RedisServer(supervisor, name="reports")
    report(100, redis)

    def wipe() -> None:
        redis.kill()
        redis.restart()

    found = scraped(redis, lambda: report(130, redis), wipe, lambda: report(135, redis))
    coalesced = [one["singleflight_coalesced_total", "app", "users", "process"] for one in found]
    assert coalesced == [0, 30, 30, 35]


@pytest.mark.parametrize("path", ["/metrics", "/probe?target=cache"])
def test_promtool_accepts_the_text_format(shared: RedisServer, path: str) -> None:
    report(7, shared, enabled=1)
    text = page(shared, path)
    assert Promtool().check_metrics(text).problems == ()
    assert "_created" not in text


def test_promtool_accepts_several_caches_on_the_terminal_and_each_is_named(
    shared: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    report(7, shared, enabled=1)
    caches = [{"name": name, "url": shared.url, "team": name * 2} for name in "ab"]
    server.once(configuration.parse(json.dumps({"caches": caches}), "caches.json"))
    text = capsys.readouterr().out
    assert Promtool().check_metrics(text).problems == ()
    for name in "ab":
        target = f'cache="{name}",instance="{shared.address}"'
        assert f'\ncache_up{{{target},team="{name}{name}"}} 1.0\n' in text
        assert f'\nsingleflight_enabled{{{target},service="app",team="{name}{name}"}} 1.0\n' in text


def test_both_formats_say_the_same(shared: RedisServer) -> None:
    report(7, shared, enabled=1)
    text = page(shared, "/probe?target=cache")
    openmetrics = page(shared, "/probe?target=cache", OPENMETRICS)
    assert openmetrics.endswith("# EOF\n")
    plain = {sample.name for metric in parse_text(text) for sample in metric.samples}
    modern = {sample.name for metric in parse_openmetrics(openmetrics) for sample in metric.samples}
    assert plain == modern
    assert plain <= set(BY_SAMPLE)


def test_families_on_the_wire_have_the_declared_types(shared: RedisServer) -> None:
    for metric in parse_text(page(shared, "/probe?target=cache")):
        for sample in metric.samples:
            kind = BY_SAMPLE[sample.name].kind
            assert metric.type == ("gauge" if kind == "info" else kind)


def test_the_exporter_s_own_page_shows_itself_and_its_only_cache(shared: RedisServer) -> None:
    text = page(shared, "/metrics")
    assert 'herdwatch_build_info{version="' in text
    assert "process_cpu_seconds_total" in text
    assert "cache_up 1.0" in text
    assert "herdwatch_build_info" not in page(shared, "/probe?target=cache")
