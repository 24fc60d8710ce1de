"""The warm-up against a real Redis: what it loads, what it leaves alone, and what it survives."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis.asyncio
from tests.waiting import until

from herdwatch import reports
from herdwatch.guard import Guard, SyncGuard
from herdwatch.operations.warm import Keys, Outcome, Pace, Speed, Warmer, guard_like, warm, warming_guard
from herdwatch.stack import RedisServer

FAST = Speed(batch=1000, pause=0.0)
NAMES = tuple(f"user:{number}" for number in range(500))


@dataclass
class Database:
    """A loader that remembers who asked; `held` keeps its answers back, `failing` raises for these keys."""

    held: asyncio.Event | None = None
    failing: frozenset[str] = frozenset()
    asked: list[str] = field(default_factory=list)
    running: int = 0
    most: int = 0
    after: Callable[[int], None] = lambda _: None

    async def __call__(self, key: str) -> Any:
        self.asked.append(key)
        self.running += 1
        self.most = max(self.most, self.running)
        self.after(len(self.asked))
        try:
            await asyncio.sleep(0) if self.held is None else await self.held.wait()
        finally:
            self.running -= 1
        if key in self.failing:
            raise ConnectionError("password=hunter2")
        return None if key == "user:absent" else {"key": key}


@pytest.fixture
def server(shared: RedisServer) -> Iterator[RedisServer]:
    yield shared
    with shared.client() as client:
        client.flushall()


def guard_of(server: RedisServer, **options: Any) -> Guard:
    client = redis.asyncio.Redis.from_url(server.url)
    return Guard(client, cache="users", service="warmer", registry=None, max_loads=100, **options)


def run(server: RedisServer, database: Database, names: tuple[str, ...] = NAMES, **options: Any) -> Outcome:
    async def work() -> Outcome:
        async with guard_of(server) as guard, asyncio.timeout(60):
            warmer = Warmer(guard, database, Keys(names, "a test"), **{"ttl": 60, "speed": FAST, **options})
            return await warm(warmer, guard)

    return asyncio.run(work())


def stored(server: RedisServer) -> set[str]:
    with server.client() as client:
        return {key.decode() for key in client.keys("user:*")}


def test_every_key_is_loaded_once_the_hottest_first_and_a_second_run_finds_all_of_them_warm(
    server: RedisServer,
) -> None:
    database = Database()
    outcome = run(server, database, (*NAMES, "user:absent"), speed=Speed(concurrency=1, pause=0))
    assert tuple(database.asked) == (*NAMES, "user:absent")
    assert (outcome.state.loaded, outcome.state.absent, outcome.stopped) == (500, 1, "")
    assert stored(server) == set(NAMES)
    again = run(server, database, (*NAMES, "user:absent"))
    assert (again.state.warm, again.state.loaded, len(database.asked)) == (500, 0, 502)


def test_no_more_loads_run_at_the_same_time_than_allowed(server: RedisServer) -> None:
    database = Database()
    run(server, database, speed=Speed(batch=1000, pause=0, concurrency=7))
    assert 1 < database.most <= 7


def test_a_loader_that_fails_for_some_keys_stops_nothing_and_its_words_are_not_told(server: RedisServer) -> None:
    failing = frozenset(NAMES[::50])
    outcome = run(server, Database(failing=failing))
    assert stored(server) == set(NAMES) - failing
    assert outcome.state.failures == Counter(ConnectionError=10)
    assert len(outcome.state.first("failures")) == 5
    assert set(outcome.state.first("failures")) < failing
    assert "hunter2" not in repr(outcome)


def test_a_database_that_fails_for_every_key_is_left_in_peace(server: RedisServer) -> None:
    database = Database(failing=frozenset(NAMES))
    outcome = run(server, database, max_failures=20, speed=Speed(concurrency=5))
    assert outcome.stopped == "the last 20 loads failed, one after the other"
    assert 20 <= len(database.asked) <= 25


@pytest.mark.parametrize("speed", [Speed(concurrency=1, pause=0), FAST], ids=["one at a time", "all at once"])
def test_keys_that_always_fail_among_warm_ones_do_not_stop_a_second_run(server: RedisServer, speed: Speed) -> None:
    failing = frozenset(NAMES[::20])
    run(server, Database(failing=failing), speed=speed)
    again = run(server, Database(failing=failing), max_failures=20, speed=speed)
    assert (again.stopped, again.state.warm, again.state.failed) == ("", 475, 25)


@pytest.mark.parametrize("every", [10, 2])
def test_a_database_that_is_down_is_left_in_peace_however_many_keys_are_warm(server: RedisServer, every: int) -> None:
    run(server, Database(), NAMES[::every])
    database = Database(failing=frozenset(NAMES))
    outcome = run(server, database, max_failures=20, speed=Speed(concurrency=1, pause=0))
    assert outcome.stopped == "the last 20 loads failed, one after the other"
    assert 20 <= len(database.asked) <= 30


def test_one_failure_ends_it_where_one_is_too_many_though_keys_before_it_are_warm(server: RedisServer) -> None:
    run(server, Database(), NAMES[:100])
    database = Database(failing=frozenset(NAMES))
    assert run(server, database, max_failures=1, speed=Speed(concurrency=1, pause=0)).stopped
    assert database.asked == [NAMES[100]]


def test_a_user_who_may_not_is_told_at_once_and_nothing_is_loaded(server: RedisServer) -> None:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "reader", "on", ">secret", "~herdwatch:reports", "+info", "+hgetall")
    database = Database()

    async def work(url: str) -> Outcome:
        store = redis.asyncio.Redis.from_url(url)
        async with Guard(store, cache="users", service="warmer", registry=None) as guard, asyncio.timeout(30):
            return await Warmer(guard, database, Keys(NAMES, "a test"), ttl=60, speed=FAST).run()

    for login in ("reader:secret", "reader:wrong"):
        outcome = asyncio.run(work(f"redis://{login}@127.0.0.1:{server.port}"))
        assert outcome.stopped.startswith("Redis refuses: ")
        assert "a warm-up needs the application's user: give --guard" in outcome.stopped
        assert "secret" not in outcome.stopped
    assert database.asked == []
    with server.client() as client:
        client.execute_command("ACL", "DELUSER", "reader")


def test_a_redis_that_restarts_in_the_middle_is_warm_at_the_end(server: RedisServer) -> None:
    def at(count: int) -> None:
        if count == 250:
            server.kill()
            asyncio.get_running_loop().call_later(0.3, server.restart)

    outcome = run(server, Database(after=at), speed=Speed(concurrency=5))
    assert stored(server) == set(NAMES)
    assert (outcome.state.done, outcome.stopped) == (500, "")
    assert outcome.state.lost > 0


def test_a_redis_that_does_not_come_back_ends_it_with_a_sentence_and_loads_no_more(server: RedisServer) -> None:
    def at(count: int) -> None:
        if count == 100:
            server.kill()

    database = Database(after=at)
    try:
        outcome = run(server, database, patience=0.3, speed=Speed(concurrency=5))
    finally:
        server.restart()
    assert outcome.stopped.startswith("Redis has not answered for 0.3 s")
    assert len(database.asked) < 130


def test_a_redis_that_takes_no_values_ends_it_before_the_database_has_worked_for_nothing(server: RedisServer) -> None:
    with server.client() as client:
        client.config_set("maxmemory", 1)
        try:
            database = Database()
            outcome = run(server, database)
        finally:
            client.config_set("maxmemory", 0)
    assert outcome.stopped.startswith("Redis answers and takes no values: ")
    assert "maxmemory" in outcome.stopped
    assert database.asked == []


def test_who_stops_it_waits_for_the_loads_in_the_air_alone(server: RedisServer) -> None:
    async def work() -> None:
        database = Database(held=asyncio.Event())
        async with guard_of(server) as guard, asyncio.timeout(30):
            warmer = Warmer(guard, database, Keys(NAMES, "a test"), ttl=60, speed=Speed(concurrency=3))
            running = asyncio.create_task(warm(warmer, guard))
            while database.running < 3:
                await asyncio.sleep(0.01)
            warmer.stop()
            assert database.held is not None
            database.held.set()
            outcome = await running
        assert (outcome.interrupted, outcome.state.loaded, len(database.asked)) == (True, 3, 3)

    asyncio.run(work())


def test_its_report_is_active_until_its_end_and_says_nothing_of_singleflight(server: RedisServer) -> None:
    seen: list[dict[str, Any]] = []

    def told() -> dict[str, Any]:
        with server.client() as client:
            found = client.hgetall(reports.KEY)
            return json.loads(next(iter(found.values()))) if found else {}

    def at(count: int) -> None:
        if count == 1:
            until(lambda: told() != {}, "a report")
            seen.append(told())

    run(server, Database(after=at))
    assert {name: seen[0]["warmup"][name] for name in ("target", "active")} == {"target": 500, "active": 1}
    end = told()
    assert end["warmup"] == {"target": 500, "done": 500, "active": 0}
    assert end["groups"]["default"]["executions"] == {"miss": 0, "refresh": 0, "warm": 500}
    assert "enabled" not in end


def test_the_warm_keys_carry_the_share_that_the_journal_counts() -> None:
    keys = Keys(("a", "b", "c"), "a journal", "default", (50, 30, 5), 100)
    assert keys.share() == pytest.approx(0.85)
    assert keys.share({"a", "c"}) == pytest.approx(0.55)
    assert keys.until(0.8).names == ("a", "b")
    assert keys.until(0.5).names == ("a",)
    assert keys.until(0.99).names == ("a", "b", "c")
    assert Keys(("a",), "a file").share() is None


def test_the_guard_of_the_application_gives_its_address_and_its_options(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = redis.Redis(port=server.port)
    application = SyncGuard(client, cache="users", service="app", registry=None, negative_ttl=99, lease=1.5)
    module = type("app", (), {"guard": application})
    monkeypatch.setitem(__import__("sys").modules, "an_application", module)

    async def work() -> None:
        async with warming_guard(guard_like("an_application:guard"), cache="users", concurrency=3) as guard:
            assert guard.address == application.address
            assert (guard.core.settings.negative_ttl, guard.core.settings.lease) == (99, 1.5)
            assert guard.core.settings.max_loads == 3
            assert await guard.warm("user:1", load=Database(), ttl=60) == "loaded"

    asyncio.run(work())
    assert application.get("user:1", load=lambda _: "not asked", ttl=60) == {"key": "user:1"}
    application.close()
    client.close()


class Time:
    """A clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def begun(speed: Speed, loads: int, seconds: float) -> list[float]:
    """When each load begins if each takes so long, one after the other."""
    clock = Time()
    pace = Pace(speed, clock=clock, sleep=clock.sleep)

    async def work() -> list[float]:
        moments = []
        for _ in range(loads):
            await pace.enter()
            moments.append(clock.now - 100.0)
            clock.now += seconds
            pace.leave(seconds)
        return moments

    return asyncio.run(work())


def test_the_seed_s_ten_thousand_keys_take_ten_seconds() -> None:
    moments = begun(Speed(), 10_000, 0.0)
    assert moments[99] == 0.0
    assert moments[100] == pytest.approx(0.1)
    assert moments[-1] == pytest.approx(9.9)
    assert Speed().seconds(10_000) == pytest.approx(9.9)


@pytest.mark.parametrize("seconds", [0.0, 0.0007, 0.02])
def test_a_rate_is_kept_in_every_tenth_of_a_second(seconds: float) -> None:
    moments = begun(Speed(rate=500), 1000, seconds)
    assert all(later - first >= 0.1 for first, later in zip(moments, moments[57:], strict=False))


def test_the_database_s_latency_bounds_how_many_loads_run_at_the_same_time() -> None:
    """A database with four places: with eight loads at the same time each takes twice as long."""

    async def work() -> list[int]:
        pace, widths = Pace(Speed(latency=0.02, concurrency=100)), []
        for _ in range(200):
            widths.append(pace.width)
            for _ in range(widths[-1]):
                await pace.enter()
            for _ in range(widths[-1]):
                pace.leave(0.01 * max(1.0, widths[-1] / 4))
        return widths

    widths = asyncio.run(work())
    assert widths[:5] == [1, 2, 4, 8, 16]  # the first that is too wide ends the doubling
    assert set(widths[20:]) <= {6, 7, 8, 9}
