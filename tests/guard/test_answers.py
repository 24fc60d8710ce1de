"""What callers of a Guard get and how they are counted: writes, limits, old values, strange bytes, switches."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis.asyncio

from herdwatch.guard import Guard, Shed, address
from herdwatch.guard.refresh import Coin, XFetch
from herdwatch.guard.store import RedisStore
from herdwatch.guard.testing import MemoryStore
from herdwatch.stack import RedisServer

KEY, LEASE = "user:1", "herdwatch:lease:{user:1}"
ROW = {"key": KEY, "call": 1}


class Source:
    """The database: it answers when its gate is open, and counts who asks."""

    def __init__(self, error: Exception | None = None, *, held: bool = False) -> None:
        self.error, self.calls, self.running, self.most = error, 0, 0, 0
        self.asked, self.gate = asyncio.Event(), asyncio.Event()
        if not held:
            self.gate.set()

    async def __call__(self, key: str) -> dict[str, Any]:
        self.calls += 1
        number = self.calls
        self.running += 1
        self.most = max(self.most, self.running)
        self.asked.set()
        try:
            await self.gate.wait()
        finally:
            self.running -= 1
        if self.error is not None:
            raise self.error
        return {"key": key, "call": number}


class Clock:
    """Time that moves when told."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def run(work: Coroutine[Any, Any, None], seconds: float = 20) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(seconds):
            await work

    asyncio.run(bounded())


@asynccontextmanager
async def guarding(server: RedisServer | str, **options: Any) -> AsyncIterator[Guard]:
    client = redis.asyncio.Redis.from_url(server if isinstance(server, str) else server.url)
    async with Guard(client, cache="users", service="profiles", registry=None, **options) as guard:
        yield guard


async def begin(count: int, ask: Callable[[], Awaitable[Any]], *, until: asyncio.Event | None = None) -> list[Any]:
    """Callers in tasks of their own, all of them waiting."""

    async def one() -> Any:
        return await ask()

    tasks = [asyncio.create_task(one()) for _ in range(count)]
    if until is not None:
        await until.wait()
    await asyncio.sleep(0.05)
    return tasks


async def outcomes(tasks: list[Any]) -> list[Any]:
    return await asyncio.gather(*tasks, return_exceptions=True)


def counted(guard: Guard) -> Counter[str]:
    sums: Counter[str] = Counter()
    for (family, _, label), number in guard.core.counts.totals().items():
        sums[f"{family.removeprefix('singleflight_').removesuffix('_total')} {label}".strip()] += number
    return sums


@pytest.fixture(autouse=True)
def _leave_nothing_behind(shared: RedisServer) -> Iterator[None]:
    yield
    with shared.client() as client:
        client.flushall()


def one_connection(server: RedisServer) -> RedisStore:
    client = redis.asyncio.Redis.from_url(server.url)
    return RedisStore(address.of(client, wanted=redis.asyncio.Redis, guard="Guard"), connections=1)


def test_a_pool_that_is_exhausted_is_redis_down_for_that_call(shared: RedisServer) -> None:
    async def work() -> None:
        store = one_connection(shared)
        async with Guard(store, cache="users", service="profiles", registry=None, timeout=0.2) as guard:
            slow = asyncio.create_task(store.run(("BLPOP", "nothing", 2), 30))
            await asyncio.sleep(0.05)
            source = Source()
            assert await guard.get(KEY, load=source, ttl=60) == ROW
            assert not slow.done()
            await slow
            assert await guard.get(KEY, load=source, ttl=60) == {"key": KEY, "call": 2}
            assert await guard.get(KEY, load=source, ttl=60) == {"key": KEY, "call": 2}

    run(work())


def test_a_delete_that_redis_never_saw_still_keeps_a_load_begun_before_from_filling(shared: RedisServer) -> None:
    async def work() -> None:
        source = Source(held=True)
        store = one_connection(shared)
        async with Guard(store, cache="users", service="profiles", registry=None, timeout=0.2) as guard:
            callers = await begin(1, lambda: guard.get(KEY, load=source, ttl=60), until=source.asked)
            slow = asyncio.create_task(store.run(("BLPOP", "nothing", 0.5), 5))
            await asyncio.sleep(0.05)
            assert await guard.delete(KEY) is False
            await slow
            source.gate.set()
            assert await outcomes(callers) == [ROW]
            with shared.client() as client:
                assert client.exists(KEY, LEASE) == 0

    run(work())


def test_a_load_that_lost_its_lease_gives_its_value_and_stores_nothing(shared: RedisServer) -> None:
    async def work() -> None:
        source = Source(held=True)
        async with guarding(shared) as guard:
            callers = await begin(3, lambda: guard.get(KEY, load=source, ttl=60), until=source.asked)
            with shared.client() as client:
                assert client.delete(LEASE) == 1
                source.gate.set()
                assert await outcomes(callers) == [ROW] * 3
                assert client.exists(KEY, LEASE) == 0

    run(work())


@pytest.mark.parametrize("lease", [2.0, 0.0], ids=["lease", "no lease"])
def test_a_load_begun_before_a_delete_never_fills_and_is_joined_by_nobody(shared: RedisServer, lease: float) -> None:
    async def work() -> None:
        old, new = Source(held=True), Source(held=True)
        new.calls = 1
        async with guarding(shared, lease=lease) as guard:
            before = await begin(3, lambda: guard.get(KEY, load=old, ttl=60), until=old.asked)
            assert await guard.delete(KEY)
            after = await begin(3, lambda: guard.get(KEY, load=new, ttl=60), until=new.asked)
            old.gate.set()
            assert await outcomes(before) == [ROW] * 3
            with shared.client() as client:
                assert client.exists(KEY) == 0
            new.gate.set()
            assert await outcomes(after) == [{"key": KEY, "call": 2}] * 3
            assert await guard.get(KEY, load=old, ttl=60) == {"key": KEY, "call": 2}

    run(work())


@pytest.mark.parametrize("lease", [2.0, 0.0], ids=["lease", "no lease"])
def test_a_load_begun_before_a_set_never_overwrites_it(shared: RedisServer, lease: float) -> None:
    async def work() -> None:
        source = Source(held=True)
        async with guarding(shared, lease=lease) as guard:
            before = await begin(3, lambda: guard.get(KEY, load=source, ttl=60), until=source.asked)
            assert await guard.set(KEY, "written", ttl=60)
            assert await guard.get(KEY, load=source, ttl=60) == "written"
            source.gate.set()
            assert await outcomes(before) == [ROW] * 3
            assert await guard.get(KEY, load=source, ttl=60) == "written"
            assert source.calls == 1

    run(work())


@pytest.mark.parametrize("follower", [False, True])
def test_an_old_value_on_its_way_during_a_delete_is_given_to_nobody_after_it(follower: bool) -> None:
    class Slow(MemoryStore):
        """Redis has answered, and the answer is still on its way."""

        on_its_way, arrives = asyncio.Event(), asyncio.Event()

        async def get(self, key: str, within: float) -> bytes | None:
            raw = await super().get(key, within)
            self.on_its_way.set()
            await self.arrives.wait()
            return raw

    async def work() -> None:
        store = Slow()
        async with Guard(store, cache="users", service="profiles", registry=None) as guard:
            await guard.set(KEY, "old", ttl=60)
            callers = await begin(1 + follower, lambda: guard.get(KEY, load=Source(), ttl=60), until=store.on_its_way)
            await guard.delete(KEY)
            store.arrives.set()
            assert await outcomes(callers) == [ROW] * (1 + follower)

    run(work())


def test_1000_callers_of_one_cold_key_are_one_load(shared: RedisServer) -> None:
    async def work() -> None:
        source = Source(held=True)
        async with guarding(shared) as guard:
            callers = await begin(1000, lambda: guard.get(KEY, load=source, ttl=60), until=source.asked)
            source.gate.set()
            assert await outcomes(callers) == [ROW] * 1000
            sums = counted(guard)
        assert source.calls == sums["executions miss"] == 1
        assert sums["coalesced process"] == 999
        assert sums["requests"] == sums["cache_lookups miss"] == 1000

    run(work())


def test_10000_cold_keys_never_run_more_loaders_at_once_than_allowed(shared: RedisServer) -> None:
    async def work() -> None:
        source = Source(held=True)
        options = {"max_loads": 20, "max_wait": 50.0, "max_waiting": 10_000, "timeout": 40.0}
        async with guarding(shared, **options) as guard:
            tasks = [asyncio.create_task(guard.get(f"user:{n}", load=source, ttl=60)) for n in range(10_000)]
            while source.running < 20:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)
            source.gate.set()
            found = await outcomes(tasks)
            assert [one["key"] for one in found] == [f"user:{n}" for n in range(10_000)]
            sums = counted(guard)
        assert source.most == 20
        assert source.calls == sums["executions miss"] == sums["requests"] == 10_000

    run(work(), 60)


def test_a_load_that_gets_no_slot_in_time_is_shed(shared: RedisServer) -> None:
    async def work() -> None:
        busy, source = Source(held=True), Source()
        async with guarding(shared, max_loads=1, max_wait=0.2, max_waiting=1) as guard:
            first = await begin(1, lambda: guard.get("user:0", load=busy, ttl=60), until=busy.asked)
            waiting = await begin(3, lambda: guard.get(KEY, load=source, ttl=60))
            with pytest.raises(Shed):  # one load is in line, and one more is turned away at once
                await guard.get("user:2", load=source, ttl=60)
            assert not any(one.done() for one in waiting)
            assert [type(error) for error in await outcomes(waiting)] == [Shed] * 3
            assert counted(guard)["shed"] == 4
            busy.gate.set()
            await outcomes(first)
            assert await guard.get(KEY, load=source, ttl=60) == ROW

    run(work())


def test_where_no_slot_is_free_an_old_value_is_given_if_there_is_one(shared: RedisServer) -> None:
    async def work() -> None:
        busy, clock = Source(held=True), Clock()
        async with guarding(shared, max_loads=1, stale=60.0, refresh=None, clock=clock) as guard:
            assert await guard.get(KEY, load=Source(), ttl=10) == ROW
            clock.now += 11
            first = await begin(1, lambda: guard.get("user:0", load=busy, ttl=60), until=busy.asked)
            assert await guard.get(KEY, load=Source(), ttl=10) == ROW
            assert counted(guard)["stale"] == 1
            busy.gate.set()
            await outcomes(first)

    run(work())


def test_an_old_value_is_given_while_one_load_renews_it(shared: RedisServer) -> None:
    async def work() -> None:
        source, clock = Source(), Clock()
        async with guarding(shared, stale=60.0, clock=clock) as guard:
            assert await guard.get(KEY, load=source, ttl=10) == ROW
            clock.now += 11
            source.gate.clear()
            assert [await guard.get(KEY, load=source, ttl=10) for _ in range(5)] == [ROW] * 5
            await asyncio.sleep(0.05)
            source.gate.set()
            await asyncio.sleep(0.05)
            assert await guard.get(KEY, load=source, ttl=10) == {"key": KEY, "call": 2}
            sums = counted(guard)
            assert (sums["stale"], sums["executions refresh"], sums["cache_refreshes ok"]) == (5, 1, 1)

    run(work())


def test_an_old_value_stands_in_for_a_load_that_fails_up_to_the_limit_and_not_beyond(shared: RedisServer) -> None:
    async def work() -> None:
        source, clock = Source(), Clock()
        async with guarding(shared, stale=60.0, ttl_jitter=0.0, refresh=None, clock=clock) as guard:
            assert await guard.get(KEY, load=source, ttl=10) == ROW
            source.error = ZeroDivisionError()
            clock.now += 69
            assert await guard.get(KEY, load=source, ttl=10) == ROW
            clock.now += 2
            with pytest.raises(ZeroDivisionError):
                await guard.get(KEY, load=source, ttl=10)
            assert source.calls == 3
            assert counted(guard)["errors"] == 2

    run(work())


@pytest.mark.parametrize(("negative_ttl", "calls"), [(10.0, 1), (0.0, 3)])
def test_that_there_is_none_is_remembered_for_a_time_of_its_own(
    shared: RedisServer, negative_ttl: float, calls: int
) -> None:
    async def work() -> None:
        asked: list[str] = []

        async def nobody(key: str) -> None:
            asked.append(key)

        async with guarding(shared, negative_ttl=negative_ttl) as guard:
            assert [await guard.get(KEY, load=nobody, ttl=60) for _ in range(3)] == [None] * 3
            assert len(asked) == calls
            assert counted(guard)["cache_lookups negative"] == 3 - calls
            with shared.client() as client:
                assert client.ttl(KEY) <= 10

    run(work())


TRUNCATED, UNDECODABLE = b"hw\x01\x00abc", b"hw\x01\x00" + bytes(4) + b"\x7f" * 16 + b"{"


@pytest.mark.parametrize("there", [b"42", b"", TRUNCATED, UNDECODABLE, None], ids=str)
def test_what_is_not_ours_is_a_counted_miss_and_the_load_replaces_it(shared: RedisServer, there: bytes | None) -> None:
    async def work() -> None:
        with shared.client() as client:
            client.hset(KEY, "field", "value") if there is None else client.set(KEY, there)
        async with guarding(shared) as guard:
            assert [await guard.get(KEY, load=Source(), ttl=60) for _ in range(2)] == [ROW, ROW]
            sums = counted(guard)
            assert (sums["cache_lookups miss"], sums["cache_lookups hit"]) == (1, 1)

    run(work())


def test_everyone_gets_a_copy_of_their_own_that_is_the_same_on_a_miss_and_a_hit(shared: RedisServer) -> None:
    async def work() -> None:
        async def load(_: str) -> dict[Any, Any]:
            await asyncio.sleep(0.05)
            return {1: (2, 3)}

        async with guarding(shared) as guard:
            found = await outcomes(await begin(3, lambda: guard.get(KEY, load=load, ttl=60)))
            found.append(await guard.get(KEY, load=load, ttl=60))
            assert found == [{"1": [2, 3]}] * 4
            found[0]["1"].append(4)
            assert found[1:] == [{"1": [2, 3]}] * 3

    run(work())


@pytest.mark.parametrize("policy", [XFetch(beta=1e12), Coin(1.0)], ids=["XFetch", "Coin"])
def test_a_refresh_is_one_load_in_the_background_and_hits_go_on(shared: RedisServer, policy: Any) -> None:
    async def work() -> None:
        source = Source()
        async with guarding(shared, refresh=policy) as guard:
            assert await guard.get(KEY, load=source, ttl=60) == ROW
            source.gate.clear()
            for _ in range(10):
                assert await guard.get(KEY, load=source, ttl=60) == ROW
                await asyncio.sleep(0.01)
            assert source.calls == 2
            guard.core.switches.refresh = False
            source.gate.set()
            await asyncio.sleep(0.05)
            assert await guard.get(KEY, load=source, ttl=60) == {"key": KEY, "call": 2}
            sums = counted(guard)
            assert (sums["cache_lookups hit"], sums["executions refresh"], sums["requests"]) == (11, 1, 1)
            assert (sums["cache_refreshes ok"], sums["cache_refreshes skipped"]) == (1, 0)

    run(work())


def test_a_refresh_that_fails_is_counted_and_not_tried_again_at_the_pace_of_the_hits(shared: RedisServer) -> None:
    async def work() -> None:
        source = Source()
        async with guarding(shared, refresh=Coin(1.0)) as guard:
            assert await guard.get(KEY, load=source, ttl=60) == ROW
            source.error = ZeroDivisionError()
            for _ in range(20):
                assert await guard.get(KEY, load=source, ttl=60) == ROW
                await asyncio.sleep(0.005)
            sums = counted(guard)
            assert source.calls == 2
            assert (sums["errors"], sums["cache_refreshes error"], sums["cache_lookups hit"]) == (1, 1, 20)

    run(work())


def test_the_coin_falls_as_often_as_it_should() -> None:
    random.seed(1)
    assert 400 < sum(Coin(0.05).due(0, 60, 1) for _ in range(10_000)) < 600


def test_without_singleflight_every_caller_loads_and_the_value_is_stored(shared: RedisServer) -> None:
    async def work() -> None:
        source = Source(held=True)
        async with guarding(shared) as guard:
            guard.core.switches.singleflight = False
            callers = await begin(5, lambda: guard.get(KEY, load=source, ttl=60), until=source.asked)
            source.gate.set()
            assert sorted(one["call"] for one in await outcomes(callers)) == [1, 2, 3, 4, 5]
            assert (await guard.get_many([KEY], load=source, ttl=60))[KEY]["key"] == KEY
            assert source.calls == counted(guard)["executions miss"] == 5

    run(work())


def test_without_the_limiter_all_loads_run_at_once(shared: RedisServer) -> None:
    async def work() -> None:
        source = Source(held=True)
        async with guarding(shared, max_loads=1) as guard:
            guard.core.switches.limiter = False
            keys = iter(range(5))
            callers = await begin(5, lambda: guard.get(f"user:{next(keys)}", load=source, ttl=60), until=source.asked)
            source.gate.set()
            await outcomes(callers)
        assert source.most == 5

    run(work())


def test_many_keys_are_one_mget_and_each_that_missed_is_loaded_once(shared: RedisServer) -> None:
    async def work() -> None:
        source = Source(held=True)
        async with guarding(shared) as guard, guarding(shared) as writer:
            await writer.set("user:3", "there", ttl=60)
            with shared.client() as client:
                client.config_resetstat()
                single = await begin(1, lambda: guard.get("user:2", load=source, ttl=60), until=source.asked)
                keys = ["user:3", "user:2", "user:1", "user:3"]
                many = await begin(2, lambda: guard.get_many(keys, load=source, ttl=60))
                source.gate.set()
                first, second = await outcomes(many)
                assert client.info("commandstats")["cmdstat_mget"]["calls"] == 2
            assert list(first) == ["user:3", "user:2", "user:1"]
            assert first == second == {"user:3": "there", "user:2": (await single[0]), "user:1": first["user:1"]}
            assert source.calls == counted(guard)["cache_lookups hit"] == 2
            assert await guard.get_many([], load=source, ttl=60) == {}

    run(work())


def test_one_of_many_loads_that_fails_is_raised_after_the_others_are_stored(shared: RedisServer) -> None:
    async def work() -> None:
        async def load(key: str) -> str:
            await asyncio.sleep(0 if key == KEY else 0.1)
            if key == KEY:
                raise ZeroDivisionError
            return key

        async with guarding(shared) as guard:
            with pytest.raises(ZeroDivisionError):
                await guard.get_many([KEY, "user:2", "user:3"], load=load, ttl=60)
            with shared.client() as client:
                assert client.exists(KEY, "user:2", "user:3") == 2

    run(work())
