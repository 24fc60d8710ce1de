"""A Reporter against a real Redis: what it writes, what the exporter makes of it, and that it never hurts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from tests.waiting import until

from herdwatch import reports
from herdwatch.collector import CacheCollector
from herdwatch.config import Cache
from herdwatch.guard import Guard, Reporter, SyncGuard
from herdwatch.guard.testing import MemoryStore, SyncMemoryStore
from herdwatch.metrics import LOOKUP_RESULTS, REFRESH_RESULTS, SCOPES, TRIGGERS
from herdwatch.stack import RedisServer, Supervisor, free_port

DEADLINE = 20.0
SWITCHES = "herdwatch:switches"
Make = Callable[..., SyncGuard]

WORKER = """
import sys, redis
from herdwatch.guard import Reporter, SyncGuard
url, service, hits, end = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
guard = SyncGuard(redis.Redis.from_url(url), cache="users", service=service, refresh=None)
Reporter(guard, every=3600)
for number in range(hits + 1):
    guard.get(service, load=lambda key: "value", ttl=60, group="users")
if end == "raise":
    raise SystemExit(3)
"""


@pytest.fixture
def empty(shared: RedisServer) -> RedisServer:
    with shared.client() as client:
        client.flushall()
    return shared


@pytest.fixture
def own(supervisor: Supervisor) -> Iterator[RedisServer]:
    """A Redis to be stopped and killed."""
    server = RedisServer(supervisor, name=f"own{time.monotonic_ns()}")
    yield server
    if server.process.running:
        server.process.send(signal.SIGCONT)
        server.kill()


@pytest.fixture
def make(empty: RedisServer) -> Iterator[Make]:
    guards: list[SyncGuard] = []

    def one(url: str = empty.url, *, service: str = "tests", **options: Any) -> SyncGuard:
        options = {"registry": None, "refresh": None, **options}
        guards.append(SyncGuard(redis.Redis.from_url(url), cache="users", service=service, **options))
        return guards[-1]

    yield one
    for guard in guards:
        guard.close()


def written(server: RedisServer) -> list[reports.Report]:
    with server.client() as client:
        return [reports.parse(field, value) for field, value in client.hgetall(reports.KEY).items()]


def now(server: RedisServer) -> float:
    with server.client() as client:
        seconds, microseconds = client.time()
    return float(seconds + microseconds / 1e6)


def use(guard: SyncGuard, hits: int, group: str = "users") -> None:
    for _ in range(hits + 1):
        assert guard.get(f"{group}:{guard.core.service}", load=lambda _: "value", ttl=60, group=group) == "value"


def test_what_is_written_is_a_report_whose_totals_are_the_guards(empty: RedisServer, make: Make) -> None:
    before, guard = now(empty), make()
    with Reporter(guard, every=30):
        use(guard, 4)
        use(guard, 0, "orders")
        with pytest.raises(ZeroDivisionError):
            guard.get("broken", load=lambda _: 1 // 0, ttl=60)
    [report] = written(empty)
    assert report.totals == guard.core.counts.totals()
    assert report.totals["cache_lookups_total", "users", "hit"] == 4
    assert report.totals["singleflight_errors_total", "default", ""] == 1
    assert (report.service, report.every, report.inflight, report.waiters) == ("tests", 30, 0, 0)
    assert report.enabled is True
    assert before - 0.1 <= report.start <= report.at <= now(empty)


def test_times_are_those_of_the_cache_and_not_of_this_host(
    empty: RedisServer, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = make()
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: 5.0)
        Reporter(guard).close()
    [report] = written(empty)
    assert now(empty) - 60 < report.start <= report.at <= now(empty)


def test_guards_of_one_service_and_redis_share_a_report_and_others_have_their_own(
    empty: RedisServer, make: Make
) -> None:
    async def on_a_loop() -> Guard:
        client = redis.asyncio.Redis.from_url(empty.url)
        async with Guard(client, cache="users", service="tests", registry=None, refresh=None) as guard:

            async def load(_key: str) -> str:
                return "value"

            for _ in range(3):
                await guard.get("k", load=load, ttl=60, group="users")
        await client.aclose()
        return guard

    guards = [asyncio.run(on_a_loop()), make(), make(service="other")]
    for guard in guards[1:]:
        use(guard, 5)  # type: ignore[arg-type]
    Reporter(*guards).close()
    found = {report.service: report for report in written(empty)}
    assert {service: report.totals["cache_lookups_total", "users", "hit"] for service, report in found.items()} == {
        "tests": 2 + 5,
        "other": 5,
    }


names = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=reports.MAX_NAME)
counts = st.integers(0, 2**63 - 1)
seconds = st.floats(0, 2**53, exclude_max=True, allow_nan=False)
families = [
    *[("cache_lookups_total", label) for label in LOOKUP_RESULTS],
    *[("singleflight_executions_total", label) for label in TRIGGERS],
    *[("singleflight_coalesced_total", label) for label in SCOPES],
    *[("cache_refreshes_total", label) for label in REFRESH_RESULTS],
    *[(f"singleflight_{name}_total", "") for name in ("requests", "stale", "shed", "errors")],
]
totals = st.dictionaries(
    st.tuples(st.sampled_from(families), names).map(lambda pair: (pair[0][0], pair[1], pair[0][1])), counts, max_size=30
)


@given(
    report=st.builds(
        reports.Report,
        service=names.filter(lambda name: "/" not in name),
        incarnation=names,
        start=seconds,
        at=seconds,
        every=seconds,
        totals=totals,
        inflight=counts,
        waiters=counts,
        enabled=st.sampled_from([None, True, False]),
        warmup=st.none() | st.builds(reports.Warmup, target=counts, done=counts, active=st.booleans()),
    )
)
def test_what_is_rendered_is_parsed_as_the_same_report(report: reports.Report) -> None:
    field, value = reports.render(report)
    assert reports.parse(field.encode(), value.encode()) == report


def run_worker(server: RedisServer, service: str, hits: int, end: str = "", code: int = 0) -> None:
    command = [sys.executable, "-c", WORKER, server.url, service, str(hits), end]
    assert subprocess.run(command, timeout=DEADLINE, check=False).returncode == code


def test_the_exporter_republishes_what_two_processes_counted_up_to_their_exit(empty: RedisServer) -> None:
    async def scrapes() -> dict[tuple[str, ...], float]:
        collector = CacheCollector(Cache(name="users", url=empty.url), timeout=5)
        await collector.scrape()  # the baseline
        await asyncio.gather(
            asyncio.to_thread(run_worker, empty, "profiles", 40), asyncio.to_thread(run_worker, empty, "profiles", 2)
        )
        await asyncio.to_thread(run_worker, empty, "orders", 7, "raise", 3)
        scrape = await collector.scrape()
        await collector.aclose()
        return {(name, *labels): value for name, labels, value in scrape.guard}

    found = asyncio.run(scrapes())
    lookups = [found["cache_lookups_total", "profiles", "users", result] for result in ("hit", "miss")]
    assert sum(lookups) == 41 + 3  # nobody kept the reporters, and nobody closed them
    assert found["cache_lookups_total", "orders", "users", "hit"] == 7
    assert found["singleflight_requests_total", "orders", "users"] == 1
    assert found["singleflight_executions_total", "orders", "users", "miss"] == 1
    assert (found["singleflight_enabled", "orders"], found["singleflight_inflight", "orders"]) == (1, 0)


def test_a_guard_that_reports_is_no_longer_scraped_and_one_that_only_reads_switches_still_is(
    empty: RedisServer, make: Make
) -> None:
    registry = CollectorRegistry()
    reporting, scraped = make(service="reporting", registry=registry), make(service="scraped", registry=registry)
    use(reporting, 1)
    use(scraped, 1)
    assert b'service="reporting"' in generate_latest(registry)
    with Reporter(reporting), Reporter(scraped, report=False):
        text = generate_latest(registry)
    assert b'service="reporting"' not in text
    labels = {"cache": "users", "service": "scraped", "group": "users", "result": "hit"}
    assert registry.get_sample_value("cache_lookups_total", labels) == 1
    assert [report.service for report in written(empty)] == ["reporting"]


def test_switches_are_read_at_the_start_and_again_and_the_services_own_wins(empty: RedisServer, make: Make) -> None:
    guard = make()
    switches = guard.core.switches
    with empty.client() as client:
        client.hset(SWITCHES, mapping={"singleflight": "off", "tests/limiter": "off", "other/refresh": "off"})
        with Reporter(guard, every=0.05):
            until(lambda: not switches.singleflight)
            assert (switches.limiter, switches.refresh) == (False, True)
            until(lambda: [one.enabled for one in written(empty)] == [False])
            client.hset(SWITCHES, mapping={"tests/singleflight": "on", "limiter": "on"})
            until(lambda: switches.singleflight)
            assert switches.limiter is False
            client.hset(SWITCHES, mapping={"tests/limiter": "on", "refresh": " OFF "})
            until(lambda: switches.limiter and not switches.refresh)


@pytest.mark.parametrize("value", ["", "no", "0", b"\xff", "offf"])
def test_garbage_and_a_hash_that_vanished_change_no_switch(empty: RedisServer, make: Make, value: str) -> None:
    guard = make()
    switches = guard.core.switches
    with empty.client() as client, Reporter(guard, every=0.05):
        client.hset(SWITCHES, mapping={"singleflight": "off", "refresh": "off"})
        until(lambda: not switches.singleflight)
        client.hset(SWITCHES, mapping={"singleflight": value, "refresh": value, "limiter": value, "tests/x": "off"})
        two_more_reports(empty)
        assert (switches.singleflight, switches.refresh, switches.limiter) == (False, False, True)
        client.flushall()
        two_more_reports(empty)
        assert (switches.singleflight, switches.refresh, switches.limiter) == (False, False, True)


def two_more_reports(server: RedisServer) -> None:
    for _ in range(2):
        since = now(server)
        until(lambda since=since: any(report.at > since for report in written(server)))


def test_reports_go_on_where_something_else_lies_at_the_switches(empty: RedisServer, make: Make) -> None:
    with empty.client() as client, Reporter(make(), every=0.05):
        client.delete(SWITCHES)
        client.set(SWITCHES, "off")
        two_more_reports(empty)


def test_reports_resume_when_what_lay_at_their_key_is_gone(empty: RedisServer, make: Make) -> None:
    with empty.client() as client:
        client.set(reports.KEY, "a string")
        with Reporter(make(), every=0.05):
            time.sleep(0.2)
            assert client.get(reports.KEY) == b"a string"
            client.delete(reports.KEY)
            until(lambda: written(empty))


def test_a_redis_that_stops_answering_never_blocks_the_application_and_reports_resume(
    own: RedisServer, make: Make
) -> None:
    guard = make(own.url, timeout=0.3)
    own.process.send(signal.SIGSTOP)
    began = time.monotonic()
    reporter = Reporter(guard, every=0.05, timeout=3.0)
    assert time.monotonic() - began < 2.5
    assert guard.get("k", load=lambda _: "value", ttl=60) == "value"
    assert time.monotonic() - began < 5
    own.process.send(signal.SIGCONT)
    until(lambda: written(own) and written(own)[0].totals)
    own.process.send(signal.SIGSTOP)
    time.sleep(0.2)
    began = time.monotonic()
    reporter.close()
    assert time.monotonic() - began < 9
    own.process.send(signal.SIGCONT)


def test_without_a_redis_nothing_fails_and_a_restarted_one_gets_all_totals_under_the_same_name(
    own: RedisServer, make: Make
) -> None:
    nowhere = make(f"redis://127.0.0.1:{free_port()}", timeout=0.3)
    Reporter(nowhere, timeout=0.3).close()
    guard = make(own.url, timeout=0.3)
    with Reporter(guard, every=0.05, timeout=0.3):
        use(guard, 3)
        until(lambda: written(own) and written(own)[0].totals)
        [first] = written(own)
        own.kill()
        use(guard, 0)
        own.restart()
        until(lambda: written(own))
        use(guard, 0)
    [second] = written(own)
    assert (second.service, second.incarnation) == (first.service, first.incarnation)
    assert second.totals == guard.core.counts.totals()
    assert abs(second.start - first.start) < 0.5


def test_reports_of_the_dead_are_removed_and_those_of_the_living_and_what_is_none_are_left(
    empty: RedisServer, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("herdwatch.guard.reporter._CLEAN_SECONDS", 0.0)
    at = now(empty)
    document = {"v": 1, "start": 1.0, "at": at, "every": 10, "groups": {}}
    fields = {
        "live/1": json.dumps(document),
        "slow/1": json.dumps({**document, "at": at - 300, "every": 200}),
        "dead/1": json.dumps({**document, "at": at - 61}),
        "dead/2": json.dumps({**document, "at": at - 5000, "every": 200}),
        "later/1": json.dumps({**document, "v": 2, "at": 1.0}),
        "garbage": "garbage",
        "garbage/2": b"\xff\x00",
    }
    with empty.client() as client:
        client.hset(reports.KEY, mapping=fields)
        with Reporter(make(), every=0.05):
            until(lambda: not client.hexists(reports.KEY, "dead/1"))
        left = {field.decode().partition("/")[0] for field in client.hkeys(reports.KEY)}
        assert left == {"live", "slow", "later", "garbage", "tests"}


def test_closing_twice_and_using_the_guard_afterwards_is_all_right(empty: RedisServer, make: Make) -> None:
    guard = make()
    reporter = Reporter(guard)
    reporter.close()
    reporter.close()
    use(guard, 1)
    assert len(written(empty)) == 1


def test_what_a_reporter_cannot_work_with_is_refused_with_a_reason(make: Make) -> None:
    with pytest.raises(ValueError, match="needs the guards"):
        Reporter()
    for every in (0, -1, 3601, float("nan")):
        with pytest.raises(ValueError, match="every is"):
            Reporter(make(), every=every)
    for guard in (
        SyncGuard(SyncMemoryStore(), cache="users", service="tests", registry=None),
        Guard(MemoryStore(), cache="users", service="tests", registry=None),
    ):
        with pytest.raises(ValueError, match="the guard of cache users has no Redis"):
            Reporter(guard)


def test_a_guard_that_was_refused_beside_another_is_still_scraped(make: Make) -> None:
    registry = CollectorRegistry()
    good = make(registry=registry)
    bad = SyncGuard(SyncMemoryStore(), cache="users", service="memory", registry=None)
    with contextlib.suppress(ValueError):
        Reporter(good, bad)
    assert b'service="tests"' in generate_latest(registry)
