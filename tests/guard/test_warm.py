"""Loading ahead of lookups: what Guard.warm does beside lookups, writes, other processes, and without Redis."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis.asyncio

from herdwatch import reports
from herdwatch.errors import CacheUnavailable, RemoteLoadError
from herdwatch.guard import Guard, Reporter
from herdwatch.guard.testing import MemoryStore
from herdwatch.reports import Warmup
from herdwatch.stack import RedisServer, free_port

KEY = "user:1"
LEASE = "herdwatch:lease:{user:1}"


class Source:
    """A database whose answers wait until it is opened."""

    def __init__(self, *, held: bool = False, answer: Any = "row") -> None:
        self.calls, self.answer = 0, answer
        self.asked, self.gate = asyncio.Event(), asyncio.Event()
        if not held:
            self.gate.set()

    async def __call__(self, _: str) -> Any:
        self.calls += 1
        self.asked.set()
        await self.gate.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def run(work: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await work

    asyncio.run(bounded())


@asynccontextmanager
async def guarding(store: Any = None, **options: Any) -> AsyncIterator[Guard]:
    store = redis.asyncio.Redis.from_url(store.url) if isinstance(store, RedisServer) else store or MemoryStore()
    async with Guard(store, cache="users", service="warmer", registry=None, **options) as guard:
        yield guard


def listened_to(server: RedisServer) -> bool:
    with server.client() as client:
        return bool(client.pubsub_numsub(LEASE)[0][1])


def counted(guard: Guard) -> dict[str, int]:
    """What is not zero, by the end of its name and its label."""
    sums: Counter[str] = Counter()
    for (family, _, label), number in guard.core.counts.totals().items():
        sums[f"{family.removesuffix('_total').rpartition('_')[2]} {label}".strip()] += number
    return dict(+sums)


async def warm(guard: Guard, source: Source, key: str = KEY) -> str:
    return await guard.warm(key, load=source, ttl=60)


def test_a_cold_key_is_loaded_and_counted_as_warm_and_a_warm_one_is_left_alone() -> None:
    async def work() -> None:
        source = Source()
        async with guarding() as guard:
            assert await guard.cold([KEY, "user:2", KEY]) == [KEY, "user:2"]
            assert await warm(guard, source) == "loaded"
            assert await guard.cold([KEY, "user:2"]) == ["user:2"]
            assert await warm(guard, source) == "warm"
            assert counted(guard) == {"executions warm": 1}
            assert await guard.get(KEY, load=source, ttl=60) == "row"
            assert (source.calls, counted(guard)) == (1, {"executions warm": 1, "lookups hit": 1})

    run(work())


def test_a_key_that_the_loader_does_not_know_is_remembered_as_absent() -> None:
    async def work() -> None:
        async with guarding() as guard:
            source = Source(answer=None)
            assert await warm(guard, source) == "absent"
            assert await warm(guard, source) == "warm"
            assert source.calls == 1

    run(work())


def test_who_looks_up_a_key_that_is_being_warmed_shares_that_load() -> None:
    async def work() -> None:
        source = Source(held=True)
        async with guarding() as guard:
            warming = asyncio.create_task(warm(guard, source))
            await source.asked.wait()
            lookup = asyncio.create_task(guard.get(KEY, load=source, ttl=60))
            while not guard.core.waiting() > 1:
                await asyncio.sleep(0)
            source.gate.set()
            assert (await warming, await lookup, source.calls) == ("loaded", "row", 1)
            assert counted(guard) == {
                "executions warm": 1,
                "requests": 1,
                "lookups miss": 1,
                "coalesced process": 1,
            }

    run(work())


def test_a_key_that_somebody_looks_up_is_not_loaded_a_second_time() -> None:
    async def work() -> None:
        source = Source(held=True)
        async with guarding() as guard:
            lookup = asyncio.create_task(guard.get(KEY, load=source, ttl=60))
            await source.asked.wait()
            warming = asyncio.create_task(warm(guard, source))
            while not guard.core.waiting() > 1:
                await asyncio.sleep(0)
            source.gate.set()
            assert (await warming, await lookup, source.calls) == ("shared", "row", 1)
            assert counted(guard) == {"executions miss": 1, "requests": 1, "lookups miss": 1}

    run(work())


def test_a_value_that_was_written_during_the_load_is_not_overwritten(shared: RedisServer) -> None:
    async def work() -> None:
        source = Source(held=True)
        async with guarding(shared) as guard, guarding(shared) as application:
            await application.delete(KEY)
            warming = asyncio.create_task(warm(guard, source))
            await source.asked.wait()
            assert await application.set(KEY, "newer", ttl=60)
            source.gate.set()
            assert await warming == "shared"
            assert await application.get(KEY, load=Source(answer="not asked"), ttl=60) == "newer"

    run(work())


def test_another_process_that_loads_the_key_is_waited_for_and_its_failure_told(shared: RedisServer) -> None:
    async def work() -> None:
        async with guarding(shared) as guard, guarding(shared) as application:
            for answer in ("theirs", ConnectionError("no database")):
                await application.delete(KEY)
                source, ours = Source(held=True, answer=answer), Source()
                lookup = asyncio.create_task(application.get(KEY, load=source, ttl=60))
                await source.asked.wait()
                warming = asyncio.create_task(warm(guard, ours))
                while not listened_to(shared):
                    await asyncio.sleep(0.01)
                source.gate.set()
                told, _ = await asyncio.gather(warming, lookup, return_exceptions=True)
                assert told == "shared" or isinstance(told, RemoteLoadError)
                assert isinstance(told, str) == isinstance(answer, str)
                assert ours.calls == 0

    run(work())


def test_without_redis_nothing_is_loaded() -> None:
    async def work() -> None:
        nowhere = redis.asyncio.Redis(port=free_port())
        source = Source()
        async with guarding(nowhere) as guard:
            with pytest.raises(CacheUnavailable):
                await warm(guard, source)
            with pytest.raises(CacheUnavailable):
                await guard.cold([KEY])
        assert source.calls == 0

    run(work())


def test_what_the_loader_raises_is_raised_and_the_next_try_begins_anew() -> None:
    async def work() -> None:
        async with guarding() as guard:
            with pytest.raises(ConnectionError, match="no database"):
                await warm(guard, Source(answer=ConnectionError("no database")))
            assert await warm(guard, Source()) == "loaded"
            assert counted(guard) == {"executions warm": 2, "errors": 1}

    run(work())


def test_the_report_of_a_warmer_tells_how_far_it_is_and_nothing_of_singleflight(shared: RedisServer) -> None:
    async def work() -> None:
        async with guarding(shared) as guard:
            guard.core.warmup = Warmup(target=10, done=3, active=True)
            with Reporter(guard):
                guard.core.warmup = Warmup(target=10, done=10, active=False)

    run(work())
    with shared.client() as client:
        (told,) = [json.loads(value) for field, value in client.hgetall(reports.KEY).items() if b"warmer/" in field]
        client.flushall()
    assert told["warmup"] == {"target": 10, "done": 10, "active": 0}
    assert "enabled" not in told
