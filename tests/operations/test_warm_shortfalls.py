"""A warm-up that does not come to what was wanted: what it leaves alone, goes on with, and says at its end."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis.asyncio
from tests.waiting import until

from herdwatch.guard import Guard
from herdwatch.operations.warm import Keys, Outcome, Pace, Speed, Warmer, as_json, as_text, plan_of
from herdwatch.operations.warm.workers import in_threads
from herdwatch.stack import RedisServer

NAMES = tuple(f"user:{number}" for number in range(100))
EQUAL = Keys(NAMES, "the journal of profiles", "default", (10,) * 100, 1000)


@pytest.fixture
def server(shared: RedisServer) -> Iterator[RedisServer]:
    yield shared
    with shared.client() as client:
        client.flushall()


def run(server: RedisServer, load: Callable[[str], Any], keys: Keys = EQUAL, **options: Any) -> Outcome:
    async def called(key: str) -> Any:
        await asyncio.sleep(0)
        return load(key)

    async def work() -> Outcome:
        client = redis.asyncio.Redis.from_url(server.url)
        async with Guard(client, cache="users", service="warmer", registry=None, max_loads=100) as guard:
            async with asyncio.timeout(60):
                speed = options.pop("speed", Speed(batch=1000, pause=0.0))
                return await Warmer(guard, called, keys, ttl=60, speed=speed, **options).run()

    return asyncio.run(work())


def test_values_of_another_guard_and_of_none_are_left_alone_counted_and_told(server: RedisServer) -> None:
    with server.client() as client:
        for name in NAMES[:30]:
            client.rpush(name, "a job")
        for name in NAMES[30:60]:
            client.set(name, pickle.dumps({name}))
        before = {name: client.dump(name) for name in NAMES[:60]}
        outcome = run(server, lambda key: key)
        assert {name: client.dump(name) for name in NAMES[:60]} == before
    assert (outcome.state.foreign, outcome.state.loaded, outcome.state.done) == (60, 40, 100)
    told = as_text(outcome)
    assert "40 loaded, 60 left alone" in told
    assert "60 are no values of this guard and were left alone; name the guard of their application" in told
    assert outcome.problems == ["60 of 100 keys hold no values of this guard"]
    assert '"foreign": 60' in as_json(outcome)


def test_it_goes_on_down_the_journal_while_the_wanted_share_is_short(server: RedisServer) -> None:
    asked: list[str] = []

    def load(key: str) -> str | None:
        asked.append(key)
        return None if key in NAMES[:18] else key

    outcome = run(server, load, until=0.25)
    assert outcome.share is not None
    assert outcome.share >= 0.25
    assert 43 <= len(asked) < 60  # and no further than it takes
    assert (outcome.short, outcome.problems) == (False, [])
    assert outcome.state.target == outcome.state.done == len(asked)


def test_a_share_that_the_journal_cannot_carry_is_told_at_both_ends_and_no_success(server: RedisServer) -> None:
    half = Keys(NAMES, "the journal of profiles", "default", (5,) * 100, 1000, at=1000.0)
    assert plan_of(half, Speed(), until=0.95, clock=lambda: 1180.0).splitlines()[1:] == [
        "the journal was written 3 min ago",
        "0.95 is wanted and cannot be reached: all these keys together carry 50.0%",
    ]
    outcome = run(server, lambda key: key, half, until=0.95)
    assert outcome.problems == ["0.95 was wanted, 50.0% is reached"]
    assert "the warm ones carry 50.0% of the lookups in the journal of profiles; 0.95 was wanted" in as_text(outcome)
    assert '"short": true' in as_json(outcome)
    slow = plan_of(half, Speed(rate=1), until=0.5, silence=60, clock=lambda: 1180.0).splitlines()
    assert slow[2:] == ["this takes 100 s at the least, and the silence ends after 60 s"]
    assert len(plan_of(half, Speed(), until=0.5, silence=60, clock=lambda: 1180.0).splitlines()) == 2


def test_a_loader_that_forgot_its_return_stores_nothing_and_is_no_success(server: RedisServer) -> None:
    outcome = run(server, lambda _: None, until=0.5)
    assert (outcome.state.absent, outcome.state.done) == (50, 50)  # and the rest of the journal is not tried
    assert outcome.problems[0].startswith("the loader returned None for 50 of 50 keys: is it the loader of these keys")
    with server.client() as client:
        assert client.keys("user:*") == []


def test_a_few_keys_without_a_value_are_rows_that_were_deleted(server: RedisServer) -> None:
    outcome = run(server, lambda key: None if key in NAMES[:20] else key)
    assert (outcome.state.absent, outcome.problems) == (20, [])


def test_a_value_that_cannot_be_stored_is_not_what_the_loader_raised(server: RedisServer) -> None:
    def load(key: str) -> Any:
        if key == "user:1":
            raise LookupError
        return {key} if key in NAMES[2:5] else key

    outcome = run(server, load, speed=Speed(concurrency=1, pause=0))
    told = as_text(outcome)
    assert told.splitlines()[2:] == [
        "what the loader raised: 1 LookupError; the first of these keys: user:1",
        "what the guard raised for values that it cannot store: 3 TypeError; "
        "the first of these keys: user:2, user:3, user:4",
    ]
    assert outcome.problems == [
        "1 keys are not warm because the loader failed",
        "3 keys are not warm because the guard cannot store their values",
    ]


def test_a_key_cannot_write_to_the_terminal(server: RedisServer) -> None:
    def load(_: str) -> str:
        raise LookupError

    told = as_text(run(server, load, Keys(("user:\x1b[2J\u202e",), "a test")))
    assert told.endswith("the first of these keys: user:\\x1b[2J\\u202e")


def test_a_loader_that_ends_the_process_has_failed(server: RedisServer) -> None:
    def load(key: str) -> str:
        if key == "user:1":
            raise SystemExit(3)
        if key == "user:2":
            raise KeyboardInterrupt
        return key

    threaded = in_threads(load, 5)

    async def work() -> Outcome:
        client = redis.asyncio.Redis.from_url(server.url)
        async with Guard(client, cache="users", service="warmer", registry=None) as guard, asyncio.timeout(60):
            return await Warmer(guard, threaded, EQUAL, ttl=60, speed=Speed(batch=1000, pause=0.0)).run()

    outcome = asyncio.run(work())
    assert outcome.state.failures == {"SystemExit": 2}
    assert outcome.state.loaded == 98
    again = run(server, lambda key: load("user:1" if key == "user:2" else key))
    assert (again.state.failures, again.state.warm) == ({"SystemExit": 2}, 98)


def test_a_user_who_may_not_store_is_told_so_and_the_database_is_not_asked(server: RedisServer) -> None:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "half", "on", ">secret", "~*", "+@all", "-eval")
    asked: list[str] = []

    async def work() -> Outcome:
        client = redis.asyncio.Redis.from_url(f"redis://half:secret@127.0.0.1:{server.port}")
        async with Guard(client, cache="users", service="warmer", registry=None) as guard, asyncio.timeout(60):

            async def load(key: str) -> str:
                asked.append(key)
                return key

            return await Warmer(guard, load, EQUAL, ttl=60).run()

    outcome = asyncio.run(work())
    assert asked == []
    assert outcome.stopped.startswith("Redis refuses: ")
    assert "'eval'" in outcome.stopped
    with server.client() as client:
        client.execute_command("ACL", "DELUSER", "half")


def test_loads_that_fail_are_slow_however_soon_they_fail() -> None:
    """A database that refuses whatever is more than eight loads at the same time, and does so at once."""

    async def work() -> tuple[list[int], float | None]:
        pace, widths = Pace(Speed(latency=0.02, concurrency=100)), []
        for _ in range(100):
            widths.append(pace.width)
            for _ in range(widths[-1]):
                await pace.enter()
            for number in range(widths[-1]):
                pace.leave(0.01 if number < 8 else 0.001, failed=number >= 8)
        return widths, pace.latency

    widths, latency = asyncio.run(work())
    assert max(widths) == 16  # the doubling ends with the first round that is refused
    assert set(widths[20:]) <= {6, 7, 8, 9}
    assert latency == 0.01


def test_a_loader_that_blocks_runs_in_as_many_threads_as_allowed_and_each_is_used_again() -> None:
    threads: set[int] = set()

    def load(key: str) -> str:
        threads.add(threading.get_ident())
        return key

    async def work() -> None:
        threaded = in_threads(load, 4)
        assert await asyncio.gather(*map(threaded, NAMES)) == list(NAMES)
        for name in NAMES:
            await threaded(name)

    asyncio.run(work())
    assert 1 <= len(threads) <= 4


def test_a_load_that_nobody_waits_for_any_more_keeps_its_thread_and_one_in_line_is_not_begun() -> None:
    opened, running, most, asked = threading.Event(), 0, 0, []
    lock = threading.Lock()

    def load(key: str) -> str:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            asked.append(key)
        opened.wait(60)
        with lock:
            running -= 1
        return key

    async def work() -> None:
        threaded = in_threads(load, 3)
        for names in (NAMES[:3], NAMES[3:6]):
            tasks = [asyncio.create_task(threaded(name)) for name in names]
            await asyncio.to_thread(until, lambda: running == 3, "three loads")
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        opened.set()
        assert await asyncio.wait_for(threaded("user:last"), 60) == "user:last"

    asyncio.run(work())
    assert (most, set(asked)) == (3, {*NAMES[:3], "user:last"})
