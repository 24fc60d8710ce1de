"""What a Guard refuses when it is made or called, its groups, and what the registry shows of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
import redis.asyncio
from prometheus_client import CollectorRegistry, generate_latest
from redis.asyncio.sentinel import Sentinel

from herdwatch.guard import Guard
from herdwatch.guard.testing import MemoryStore

KEY = "user:1"


class Source:
    """The database: it answers when its gate is open, and counts who asks."""

    def __init__(self, *, held: bool = False) -> None:
        self.calls, self.asked, self.gate = 0, asyncio.Event(), asyncio.Event()
        if not held:
            self.gate.set()

    async def __call__(self, key: str) -> str:
        self.calls += 1
        self.asked.set()
        await self.gate.wait()
        return key


def run(work: Coroutine[Any, Any, None], seconds: float = 20) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(seconds):
            await work

    asyncio.run(bounded())


async def begin(count: int, ask: Callable[[], Awaitable[Any]], until: asyncio.Event) -> list[Any]:
    """Callers in tasks of their own, all of them waiting."""

    async def one() -> Any:
        return await ask()

    tasks = [asyncio.create_task(one()) for _ in range(count)]
    await until.wait()
    await asyncio.sleep(0.05)
    return tasks


SENTINEL = Sentinel([("127.0.0.1", 1)]).master_for("primary")


@pytest.mark.parametrize(
    "client",
    [redis.Redis(), redis.asyncio.RedisCluster("127.0.0.1", 1), "redis://127.0.0.1", SENTINEL, None],
    ids=lambda client: type(client).__name__,
)
def test_a_client_of_the_wrong_kind_is_refused_when_the_guard_is_made(client: Any) -> None:
    with pytest.raises(TypeError, match="Guard"):
        Guard(client, cache="users", service="profiles", registry=None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ttl_jitter": 1.0}, "ttl_jitter is 1.0; it must be at least 0 and below 1"),
        ({"timeout": 0}, "timeout is 0; it must be more than 0"),
        ({"load_timeout": float("inf")}, "load_timeout is inf; it must be a number"),
        ({"lease": -1}, "lease is -1; it must be 0 or more"),
        ({"lease": 0.01}, "lease is 0.01; it must be 0 or at least 0.05"),
        ({"max_loads": 0}, "max_loads is 0; it must be 1 or more"),
        ({"connections": True}, "connections is True; it must be a number"),
        ({"max_waiting": "many"}, "max_waiting is 'many'; it must be a number"),
        ({"cache": ""}, "'' is no name"),
        ({"service": "a/b"}, "service is 'a/b'; a service's name has no slash"),
        ({"service": "two\nlines"}, "is no name"),
    ],
    ids=str,
)
def test_an_option_that_cannot_be_is_refused_when_the_guard_is_made(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        Guard(MemoryStore(), **{"cache": "users", "service": "profiles", "registry": None, **options})


@pytest.mark.parametrize("ttl", [0, -1, float("inf"), float("nan"), "60", None])
def test_a_ttl_that_cannot_be_is_refused_and_nothing_is_loaded(ttl: Any) -> None:
    async def work() -> None:
        source = Source()
        async with Guard(MemoryStore(), cache="users", service="profiles", registry=None) as guard:
            for call in (
                lambda: guard.get(KEY, load=source, ttl=ttl),
                lambda: guard.get_many([KEY], load=source, ttl=ttl),
                lambda: guard.set(KEY, 1, ttl=ttl),
            ):
                with pytest.raises(ValueError, match="ttl is"):
                    await call()
            with pytest.raises(ValueError, match="ttl is"):
                guard.cached(key=str, ttl=ttl)
            with pytest.raises(ValueError, match="no name"):
                await guard.get(KEY, load=source, ttl=60, group="two\nlines")
        assert source.calls == 0

    run(work())


def test_groups_beyond_64_are_counted_as_other() -> None:
    async def work() -> None:
        async with Guard(MemoryStore(), cache="users", service="profiles", registry=None) as guard:
            for number in range(70):
                await guard.get(f"user:{number}", load=Source(), ttl=60, group=f"group {number}")
            assert len(guard.core.counts) == 65
            assert guard.core.counts["other"].led == 6

    run(work())


def test_the_registry_shows_the_sum_of_guards_of_one_name_also_of_those_that_are_closed() -> None:
    registry = CollectorRegistry()

    async def work(callers: int) -> None:
        source = Source(held=True)
        async with Guard(MemoryStore(), cache="users", service="profiles", registry=registry) as guard:
            tasks = await begin(callers, lambda: guard.get(KEY, load=source, ttl=60, group="user"), source.asked)
            assert value("singleflight_waiters", cache="users", service="profiles") == callers
            assert value("singleflight_inflight", cache="users", service="profiles") == 1
            source.gate.set()
            await asyncio.gather(*tasks)
            await guard.get(KEY, load=source, ttl=60, group="user")

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    run(work(3))
    run(work(5))
    place = {"cache": "users", "service": "profiles", "group": "user"}
    assert value("singleflight_requests_total", **place) == 8
    assert value("singleflight_executions_total", **place, trigger="miss") == 2
    assert value("singleflight_coalesced_total", **place, scope="process") == 6
    assert value("cache_lookups_total", **place, result="hit") == 2
    assert value("cache_load_duration_seconds_count", **place) == 2
    assert value("cache_load_duration_seconds_bucket", **place, le="+Inf") == 2
    assert b"singleflight_shed_total" in generate_latest(registry)
