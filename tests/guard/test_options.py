"""What a Guard takes and refuses, its groups, what the registry shows of it; and who leads in a Flight."""

from __future__ import annotations

import asyncio
import gc
import itertools
import re
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
import redis.asyncio
from prometheus_client import CollectorRegistry, generate_latest
from redis.asyncio.sentinel import Sentinel

from herdwatch.guard import Flight, Guard, exposition
from herdwatch.guard.store import StoreDown
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
        ({"max_loads": 1.5}, "max_loads is 1.5; it must be a whole number"),
        ({"connections": 1.5}, "connections is 1.5; it must be a whole number"),
        ({"max_waiting": 0.5}, "max_waiting is 0.5; it must be a whole number"),
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


def test_a_decorated_method_is_called_once_for_the_key_of_its_arguments() -> None:
    guard = Guard(MemoryStore(), cache="users", service="profiles", registry=None)

    class Users:
        calls = 0

        @guard.cached(key=lambda _, number, *, small=False: f"user:{number}:{small}", ttl=60)
        async def find(self, number: int, *, small: bool = False) -> dict[str, Any]:
            """Find one."""
            self.calls += 1
            await asyncio.sleep(0.02)
            return {"number": number, "small": small}

    async def work() -> None:
        users = Users()
        async with guard:
            assert await asyncio.gather(*(users.find(42) for _ in range(3))) == [{"number": 42, "small": False}] * 3
            assert await users.find(42, small=True) == {"number": 42, "small": True}
        assert (users.calls, Users.find.__name__, Users.find.__doc__) == (2, "find", "Find one.")

    run(work())


def test_a_load_is_counted_in_the_group_of_the_caller_who_began_it() -> None:
    class Slow(MemoryStore):
        async def get(self, key: str, within: float) -> bytes | None:
            await asyncio.sleep(0.05)
            return await super().get(key, within)

    async def work() -> None:
        source = Source()
        async with Guard(Slow(), cache="users", service="profiles", registry=None) as guard:
            groups = ("leader", "follower", "follower")
            await asyncio.gather(*(guard.get(KEY, load=source, ttl=60, group=group) for group in groups))
            counts = guard.core.counts
            assert [(one.led, one.shared) for one in (counts["leader"], counts["follower"])] == [(1, 0), (0, 2)]
        assert source.calls == 1

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


def seen(registry: CollectorRegistry) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every count and bucket that is exposed."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name.endswith(("_total", "_bucket", "_count", "_sum"))
    }


def test_of_guards_that_are_gone_one_sum_is_kept_and_no_count_ever_falls() -> None:
    registry = CollectorRegistry()

    async def work(number: int) -> weakref.ref[Any]:
        guard = Guard(MemoryStore(), cache="users", service="profiles", registry=registry)
        for key in ("a", "b", "a"):
            await guard.get(key, load=Source(), ttl=60, group=f"group {number * 7 % 80}")
        if number % 5 == 0:
            before.append(seen(registry))
        return weakref.ref(guard.core.counts)

    before: list[dict[Any, float]] = []
    counts = [asyncio.run(work(number)) for number in range(100)]
    gc.collect()
    after = seen(registry)
    assert [one() for one in counts] == [None] * 100, "with what was hot in them"
    for earlier, later in itertools.pairwise([*before, after]):
        assert {key: value for key, value in earlier.items() if later.get(key, -1.0) < value} == {}
    loads = [value for (name, _), value in after.items() if name == "singleflight_requests_total"]
    assert (len(loads), sum(loads)) == (65, 200), "64 groups and other"
    assert sum(value for (name, _), value in after.items() if name == "cache_load_duration_seconds_count") == 200
    assert after == seen(registry)


def test_a_group_keeps_its_name_in_whatever_order_guards_go() -> None:
    registry = CollectorRegistry()
    guards = [Guard(MemoryStore(), cache="users", service="profiles", registry=registry) for _ in range(2)]

    async def work() -> None:
        for number, guard in enumerate(guards):
            for group in range(40):
                await guard.get(KEY, load=Source(), ttl=60, group=f"group {number} {group}")

    run(work())
    before = seen(registry)
    while guards:
        guards.pop()
        gc.collect()
        assert seen(registry) == pytest.approx(before)


def test_a_guard_that_is_shown_no_longer_leaves_no_series_but_those_of_what_is_gone() -> None:
    registry = CollectorRegistry()

    def guard(service: str) -> Guard:
        return Guard(MemoryStore(), cache="users", service=service, registry=registry)

    def services() -> set[str]:
        return {sample.labels["service"] for family in registry.collect() for sample in family.samples}

    gone, left, both = guard("gone"), guard("left"), guard("both")
    for one in (gone, left, both):
        asyncio.run(one.get(KEY, load=Source(), ttl=60))
    assert services() == {"gone", "left", "both"}
    del gone, one
    gc.collect()
    again = guard("both")
    exposition.withdraw(left.core)
    exposition.withdraw(both.core)
    assert services() == {"gone", "both"}
    exposition.withdraw(again.core)
    assert services() == {"gone"}
    assert registry.get_sample_value("singleflight_enabled", {"cache": "users", "service": "gone"}) is None


def test_the_timeout_is_what_one_caller_waits_on_redis_in_all_its_round_trips_together() -> None:
    waited: list[float] = []

    class Slow(MemoryStore):
        """Redis takes 0.15 s for everything."""

        async def run(self, command: Any, within: float) -> Any:
            await self.wait(within)
            return await super().run(command, within)

        async def get(self, key: str, within: float) -> bytes | None:
            await self.wait(within)
            return await super().get(key, within)

        async def acquire(self, key: str, token: str, seconds: float, within: float) -> tuple[bool, bytes | None]:
            await self.wait(within)
            return await super().acquire(key, token, seconds, within)

        async def wait(self, within: float) -> None:
            waited.append(min(within, 0.15))
            await asyncio.sleep(waited[-1])
            if within < 0.15:
                raise StoreDown

    async def work() -> None:
        async with Guard(Slow(), cache="users", service="profiles", registry=None, timeout=0.35) as guard:
            assert await guard.get(KEY, load=Source(), ttl=60) == KEY
        assert 0.15 < sum(waited) <= 0.36

    run(work())


def test_one_caller_of_a_flight_leads_and_what_is_forgotten_is_begun_anew() -> None:
    async def work() -> None:
        flight, first, second = Flight(), Source(held=True), Source(held=True)
        tasks = await begin(5, lambda: flight.do(KEY, lambda: first(KEY)), first.asked)
        flight.forget(KEY)
        tasks += await begin(5, lambda: flight.do(KEY, lambda: second(KEY)), second.asked)
        first.gate.set()
        await asyncio.gather(*tasks[:5])
        second.gate.set()
        found = await asyncio.gather(*tasks)
        assert [(value, led) for value, led in found] == [(KEY, True), *[(KEY, False)] * 4] * 2
        assert first.calls == second.calls == 1
        await flight.aclose()

    run(work())
