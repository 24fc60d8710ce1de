"""Loading ahead of lookups: what Guard.warm does beside lookups, writes, other processes, and without Redis."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis.asyncio

from herdwatch import reports
from herdwatch.errors import CacheUnavailable, RemoteLoadError
from herdwatch.guard import Guard, Reporter
from herdwatch.guard.hot_keys import HotKeys
from herdwatch.guard.testing import MemoryStore
from herdwatch.journals import Group
from herdwatch.reports import Warmup
from herdwatch.stack import RedisServer, free_port

KEY = "user:1"
LEASE = "herdwatch:lease:{user:1}"
FOREIGN = ("plain", "list", "hash", "set")


def put_foreign(client: redis.Redis) -> None:
    client.set("plain", "42")
    client.rpush("list", "one", "two")
    client.hset("hash", "field", "value")
    client.sadd("set", "member")


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
            assert await guard.look([KEY, "user:2", KEY]) == {KEY: "cold", "user:2": "cold"}
            assert await warm(guard, source) == "loaded"
            assert await guard.look([KEY, "user:2"]) == {KEY: "warm", "user:2": "cold"}
            assert await warm(guard, source) == "warm"
            assert counted(guard) == {"executions warm": 1}
            assert await guard.get(KEY, load=source, ttl=60) == "row"
            assert (source.calls, counted(guard)) == (1, {"executions warm": 1, "lookups hit": 1})

    run(work())


@pytest.mark.parametrize("lease", [2.0, 0.0])
def test_a_key_that_the_loader_does_not_know_is_absent_and_no_answer_to_those_who_look_it_up(lease: float) -> None:
    async def work() -> None:
        async with guarding(lease=lease) as guard:
            assert await warm(guard, Source(answer=None)) == "absent"
            assert await guard.look([KEY]) == {KEY: "cold"}
            assert await guard.get(KEY, load=Source(), ttl=60) == "row"

    run(work())


@pytest.mark.parametrize("lease", [2.0, 0.0])
def test_what_the_guard_did_not_write_or_cannot_read_is_left_alone(shared: RedisServer, lease: float) -> None:
    class Pickle:
        dumps, loads = staticmethod(pickle.dumps), staticmethod(pickle.loads)

    async def work() -> None:
        async with guarding(shared, lease=lease) as guard, guarding(shared, serializer=Pickle()) as other:
            await other.set("pickled", {"a"}, ttl=60)
            before = contents()
            found = await guard.look([*FOREIGN, "empty", "pickled", KEY])
            assert found == {**dict.fromkeys([*FOREIGN, "empty", "pickled"], "foreign"), KEY: "cold"}
            source = Source()
            for key in (*FOREIGN, "empty", "pickled"):
                assert await warm(guard, source, key) == "foreign"
            assert contents() == before
            if not lease:
                assert source.calls == 0

    def contents() -> dict[bytes, bytes | None]:
        return {key: client.dump(key) for key in client.scan_iter()}

    with shared.client() as client:
        client.flushall()
        put_foreign(client)
        client.set("empty", "")
        run(work())
        client.flushall()


@pytest.mark.parametrize("lease", [2.0, 0.0])
@pytest.mark.parametrize("key", FOREIGN)
def test_what_comes_during_the_load_and_is_no_value_of_a_guard_is_left_alone(
    shared: RedisServer, key: str, lease: float
) -> None:
    async def work() -> None:
        async with guarding(shared, lease=lease) as guard:
            source = Source(held=True)
            warming = asyncio.create_task(warm(guard, source, key))
            await source.asked.wait()
            put_foreign(client)
            source.gate.set()
            assert await warming == "foreign"
            assert await guard.look([key]) == {key: "foreign"}
            assert client.exists(f"herdwatch:lease:{{{key}}}") == 0

    with shared.client() as client:
        client.flushall()
        run(work())
        client.flushall()


def test_an_old_value_of_the_guard_s_own_is_replaced(shared: RedisServer) -> None:
    async def work() -> None:
        for lease in (2.0, 0.0):
            async with guarding(shared, lease=lease, stale=60, refresh=None) as guard:
                await guard.set(KEY, "old", ttl=0.01)
                await asyncio.sleep(0.02)
                assert await warm(guard, Source()) == "loaded"
                assert await guard.get(KEY, load=Source(answer="not asked"), ttl=60) == "row"

    run(work())
    with shared.client() as client:
        client.flushall()


def test_a_key_that_redis_cannot_be_asked_for_is_not_remembered_as_hot() -> None:
    hot = HotKeys(10)
    hot.look(["user:1", "user:\udcff", "\ud83d", "\ude00"])
    assert hot.group() == Group(4, 0, {"user:1": 1})


def test_a_user_who_may_not_store_is_told_before_anything_is_loaded(shared: RedisServer) -> None:
    async def work() -> None:
        store = redis.asyncio.Redis.from_url(f"redis://half:secret@127.0.0.1:{shared.port}")
        async with guarding(store) as guard, guarding(shared) as whole:
            with pytest.raises(CacheUnavailable, match="eval") as caught:
                await guard.may_warm(KEY)
            assert caught.value.refused
            source = Source()
            with pytest.raises(CacheUnavailable, match=r"did not take the value of 'user:1'.*eval") as caught:
                await warm(guard, source)
            assert caught.value.refused
            await whole.may_warm(KEY)

    with shared.client() as client:
        client.execute_command("ACL", "SETUSER", "half", "on", ">secret", "~*", "+@all", "-eval")
        run(work())
        client.execute_command("ACL", "DELUSER", "half")
        client.flushall()


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
                await guard.look([KEY])
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
