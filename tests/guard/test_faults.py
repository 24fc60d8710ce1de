"""What may happen to a Guard or a Flight in one process, on a real Redis: whoever fails, nobody else pays for it."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
import redis.asyncio
from tests.stopping import stopped

from herdwatch.guard import Flight, Guard, LoadCancelled, LoadTimeout
from herdwatch.stack import RedisServer, Supervisor
from herdwatch.stack.processes import free_port

KEY = "user:1"
ROW = {"key": KEY, "call": 1}

Ask = Callable[..., Awaitable[Any]]
Door = Callable[..., AbstractAsyncContextManager[Ask]]


class Source:
    """The database: it answers when its gate is open, and counts who asks."""

    def __init__(self, error: BaseException | None = None, *, held: bool = False) -> None:
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


@pytest.fixture
def own(supervisor: Supervisor) -> Iterator[RedisServer]:
    """A Redis to hurt."""
    server = RedisServer(supervisor, name=f"own-{time.monotonic_ns()}")
    yield server
    server.process.send(signal.SIGCONT)
    server.kill()


@pytest.fixture(params=["Guard", "Flight"])
def door(request: pytest.FixtureRequest, shared: RedisServer) -> Door:
    """The same question to either: the value of a key from a source."""

    @asynccontextmanager
    async def opened(**options: Any) -> AsyncIterator[Ask]:
        if request.param == "Guard":
            async with guarding(shared, **options) as guard:
                yield lambda source, key=KEY: guard.get(key, load=source, ttl=60)
            return
        flight = Flight(**options)

        async def ask(source: Source, key: str = KEY) -> Any:
            value, _ = await flight.do(key, lambda: source(key))
            return value

        try:
            yield ask
        finally:
            await flight.aclose()

    return opened


@pytest.mark.parametrize("leaving", [0, 3], ids=["leader", "follower"])
def test_one_caller_that_is_cancelled_in_the_probe_is_replaced_by_the_others(shared: RedisServer, leaving: int) -> None:
    async def work() -> None:
        source = Source()
        async with guarding(shared) as guard:
            with stopped(shared):
                callers = await begin(5, lambda: guard.get(KEY, load=source, ttl=60))
                callers[leaving].cancel()
                await asyncio.sleep(0.05)
            found = await outcomes(callers)
            assert isinstance(found.pop(leaving), asyncio.CancelledError)
            assert found == [ROW] * 4
            assert source.calls == 1
            assert counted(guard)["requests"] == 4

    run(work())


@pytest.mark.parametrize("leaving", [0, 3], ids=["leader", "follower"])
def test_one_caller_that_is_cancelled_in_the_load_leaves_the_value_to_the_others(door: Door, leaving: int) -> None:
    async def work() -> None:
        source = Source(held=True)
        async with door() as ask:
            callers = await begin(5, lambda: ask(source), until=source.asked)
            callers[leaving].cancel()
            await asyncio.sleep(0)
            source.gate.set()
            found = await outcomes(callers)
        assert isinstance(found.pop(leaving), asyncio.CancelledError)
        assert found == [ROW] * 4
        assert source.calls == 1

    run(work())


def test_a_load_that_all_callers_have_left_ends_and_fills(shared: RedisServer) -> None:
    async def work() -> None:
        source = Source(held=True)
        async with guarding(shared) as guard:
            callers = await begin(5, lambda: guard.get(KEY, load=source, ttl=60), until=source.asked)
            for caller in callers:
                caller.cancel()
            await outcomes(callers)
            late = await begin(1, lambda: guard.get(KEY, load=source, ttl=60))
            source.gate.set()
            assert await outcomes(late) == [ROW]
            assert await guard.get(KEY, load=source, ttl=60) == ROW
            assert source.calls == 1
            assert guard.core.waiting() == guard.core.counts.inflight == 0

    run(work())


def test_an_error_is_shared_once_and_the_next_caller_tries_anew(door: Door) -> None:
    async def work() -> None:
        source = Source(ZeroDivisionError("no row"), held=True)
        async with door() as ask:
            callers = await begin(5, lambda: ask(source), until=source.asked)
            source.gate.set()
            assert [error is source.error for error in await outcomes(callers)] == [True] * 5
            assert source.calls == 1
            source.error = None
            assert await ask(source) == {"key": KEY, "call": 2}

    run(work())


def test_the_traceback_of_an_error_does_not_grow_with_those_who_waited(door: Door) -> None:
    async def depth(callers: int) -> int:
        source = Source(ZeroDivisionError("no row"), held=True)
        async with door() as ask:
            tasks = await begin(callers, lambda: ask(source), until=source.asked)
            source.gate.set()
            await outcomes(tasks)
        return len(traceback.extract_tb(source.error.__traceback__ if source.error else None))

    async def work() -> None:
        assert await depth(200) == await depth(1) > 1

    run(work())


def test_a_load_that_hangs_is_a_timeout_for_all_and_the_key_is_free_again(door: Door) -> None:
    async def work() -> None:
        async with door(load_timeout=0.3) as ask:
            source, began = Source(held=True), time.monotonic()
            found = await outcomes(await begin(5, lambda: ask(source)))
            assert [type(error) for error in found] == [LoadTimeout] * 5
            assert time.monotonic() - began < 5
            assert source.calls == 1
            source.gate.set()
            assert await ask(source) == {"key": KEY, "call": 2}

    run(work())


def test_a_loader_that_swallows_its_cancellation_keeps_nobody_waiting(door: Door) -> None:
    async def work() -> None:
        ends = asyncio.Event()

        async def stubborn(_: str) -> dict[str, str]:
            while not ends.is_set():
                try:
                    await ends.wait()
                except asyncio.CancelledError:
                    continue
            return {"too": "late"}

        async with door(load_timeout=0.2) as ask:
            found = await outcomes(await begin(3, lambda: ask(stubborn)))
            assert [type(error) for error in found] == [LoadTimeout] * 3
            newer = await ask(Source(), "user:2")
            assert newer == {"key": "user:2", "call": 1}
            ends.set()

    run(work())


def test_a_value_that_comes_after_the_timeout_is_not_stored_over_a_newer_one(shared: RedisServer) -> None:
    async def work() -> None:
        ends = asyncio.Event()

        async def stubborn(_: str) -> str:
            try:
                await ends.wait()
            except asyncio.CancelledError:
                await ends.wait()
            return "old"

        async with guarding(shared, load_timeout=0.3, lease=0.1) as guard:
            with pytest.raises(LoadTimeout):
                await guard.get(KEY, load=stubborn, ttl=60)
            assert await guard.get(KEY, load=Source(), ttl=60) == ROW
            ends.set()
            await asyncio.sleep(0.1)
            assert await guard.get(KEY, load=Source(), ttl=60) == ROW

    run(work())


class Interrupted(BaseException):
    """As KeyboardInterrupt, which asyncio does not keep in the task."""


@pytest.mark.parametrize("error", [asyncio.CancelledError(), Interrupted()], ids=["CancelledError", "BaseException"])
def test_a_loader_that_is_interrupted_is_an_error_for_all_and_the_key_is_free_again(
    door: Door, error: BaseException
) -> None:
    async def work() -> None:
        async with door() as ask:
            source = Source(error, held=True)
            callers = await begin(5, lambda: ask(source), until=source.asked)
            source.gate.set()
            found = await outcomes(callers)
            assert [type(one) for one in found] == [LoadCancelled] * 5
            assert found[0].__cause__ is error
            source.error = None
            assert await ask(source) == {"key": KEY, "call": 2}

    run(work())


def test_a_keyboard_interrupt_in_a_loader_ends_the_program_and_the_guard_serves_again(shared: RedisServer) -> None:
    client = redis.asyncio.Redis.from_url(shared.url)
    guard = Guard(client, cache="users", service="profiles", registry=None)
    with pytest.raises(KeyboardInterrupt):
        run(guard.get(KEY, load=Source(KeyboardInterrupt()), ttl=60))

    async def work() -> None:
        async with guard:
            assert await guard.get(KEY, load=Source(), ttl=60) == ROW

    run(work())


def test_closing_during_a_load_ends_it_and_tells_who_waits(door: Door) -> None:
    async def work() -> None:
        source = Source(held=True)
        async with door() as ask:
            callers = await begin(3, lambda: ask(source), until=source.asked)
        assert [type(error) for error in await outcomes(callers)] == [LoadCancelled] * 3
        assert source.running == 0

    run(work())


def test_a_guard_serves_a_new_loop_after_one_that_ended_with_a_load_in_the_air(shared: RedisServer) -> None:
    client = redis.asyncio.Redis.from_url(shared.url)
    guard = Guard(client, cache="users", service="profiles", registry=None, max_loads=1)

    async def leave() -> None:
        source = Source(held=True)
        await begin(3, lambda: guard.get(KEY, load=source, ttl=60), until=source.asked)

    async def work() -> None:
        assert guard.core.waiting() == guard.core.counts.inflight == 0
        async with guard:
            assert await guard.get(KEY, load=Source(), ttl=60) == ROW

    for _ in range(3):
        run(leave())
    run(work())


def test_a_loop_that_is_closed_with_a_load_in_the_air_keeps_no_key(shared: RedisServer) -> None:
    client = redis.asyncio.Redis.from_url(shared.url)
    guard = Guard(client, cache="users", service="profiles", registry=None)
    flight, source = Flight(), Source(held=True)

    async def leave() -> None:
        await begin(1, lambda: flight.do(KEY, lambda: source(KEY)), until=source.asked)

    async def work() -> None:
        value, led = await flight.do(KEY, lambda: Source()(KEY))
        assert (value, led) == (ROW, True)
        await guard.aclose()

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)
    loop.run_until_complete(leave())
    loop.close()
    run(work())


def test_two_loops_at_once_are_refused_with_the_reason(door: Door) -> None:
    async def work() -> None:
        found: list[BaseException] = []
        source = Source(held=True)
        async with door() as ask:

            def elsewhere() -> None:
                try:
                    asyncio.run(asyncio.wait_for(ask(Source()), 5))
                except RuntimeError as error:
                    found.append(error)

            callers = await begin(1, lambda: ask(source), until=source.asked)
            thread = threading.Thread(target=elsewhere)
            thread.start()
            await asyncio.to_thread(thread.join, 10)
            callers += await begin(1, lambda: ask(source))
            source.gate.set()
            assert await outcomes(callers) == [ROW] * 2
        [error] = found
        assert "at work in another" in str(error)

    run(work())


def test_a_loader_that_asks_for_its_own_key_is_told_so(door: Door) -> None:
    async def work() -> None:
        async with door() as ask:

            async def circular(key: str) -> Any:
                return await ask(circular, key)

            found = await outcomes(await begin(3, lambda: ask(circular)))
            assert [str(error) for error in found] == ["the load of 'user:1' asks for 'user:1' itself"] * 3

    run(work())


def test_a_restart_of_redis_during_a_load_costs_the_stored_value_and_nothing_else(own: RedisServer) -> None:
    async def work() -> None:
        source = Source(held=True)
        async with guarding(own) as guard:
            callers = await begin(5, lambda: guard.get(KEY, load=source, ttl=60), until=source.asked)
            await asyncio.gather(*(guard.delete(f"user:{number}") for number in range(2, 9)))
            await asyncio.to_thread(own.kill)
            await asyncio.to_thread(own.restart)
            assert await guard.set("user:2", "first of many idle connections that are dead", ttl=60)
            source.gate.set()
            assert await outcomes(callers) == [ROW] * 5
            assert await guard.get(KEY, load=source, ttl=60) == {"key": KEY, "call": 2}
            assert await guard.get(KEY, load=source, ttl=60) == {"key": KEY, "call": 2}

    run(work())


def test_a_redis_that_is_stopped_before_the_probe_costs_the_timeout_and_no_more(own: RedisServer) -> None:
    async def work() -> None:
        source = Source()
        async with guarding(own, timeout=1.0) as guard:
            assert await guard.get("user:0", load=Source(), ttl=60)
            with stopped(own):
                began = time.monotonic()
                assert await outcomes(await begin(3, lambda: guard.get(KEY, load=source, ttl=60))) == [ROW] * 3
                assert time.monotonic() - began < 2.9
        assert source.calls == 1

    run(work())


@pytest.mark.parametrize("early", [0.5, 0.0], ids=["in the load", "before the fill"])
def test_a_redis_that_is_stopped_later_costs_the_timeout_and_no_more(own: RedisServer, early: float) -> None:
    async def work() -> None:
        source = Source(held=True)
        async with guarding(own, timeout=1.0, lease=0.3) as guard:
            callers = await begin(3, lambda: guard.get(KEY, load=source, ttl=60), until=source.asked)
            with stopped(own):
                await asyncio.sleep(early)  # its lease cannot be extended meanwhile
                began = time.monotonic()
                source.gate.set()
                assert await outcomes(callers) == [ROW] * 3
                assert time.monotonic() - began < 2.9
        assert source.calls == 1

    run(work())


@pytest.mark.parametrize("where", ["redis://127.0.0.1:{free}/0", "redis://:wrong@127.0.0.1:{port}/0"])
def test_without_redis_the_load_is_shared_and_nothing_is_stored(supervisor: Supervisor, where: str) -> None:
    async def work() -> None:
        server = RedisServer(supervisor, "--requirepass", "right", name="locked")
        source = Source(held=True)
        async with guarding(where.format(free=free_port(), port=server.port)) as guard:
            for call in (1, 2):
                source.gate.clear()
                source.asked.clear()
                callers = await begin(20, lambda: guard.get(KEY, load=source, ttl=60), until=source.asked)
                source.gate.set()
                assert await outcomes(callers) == [{"key": KEY, "call": call}] * 20
            assert await guard.set(KEY, 1, ttl=60) is False
            assert await guard.delete(KEY) is False
            assert counted(guard)["executions miss"] == 2
            assert counted(guard)["coalesced process"] == 38
        server.process.stop()

    run(work())


def test_writes_without_redis_are_false_and_a_load_begun_before_never_fills_when_it_is_back(own: RedisServer) -> None:
    async def work() -> None:
        deleted, written = Source(held=True), Source(held=True)
        async with guarding(own, timeout=0.3, lease=5) as guard:
            callers = await begin(1, lambda: guard.get(KEY, load=deleted, ttl=60), until=deleted.asked)
            callers += await begin(1, lambda: guard.get("user:2", load=written, ttl=60), until=written.asked)
            own.process.send(signal.SIGSTOP)
            with own.client(socket_timeout=5) as client, client.pipeline(transaction=False) as pipeline:
                assert await guard.delete(KEY) is False
                assert await guard.set("user:2", "new", ttl=60) is False
                own.process.send(signal.SIGCONT)
                client.ping()
                client.delete("user:2")
                deleted.gate.set()
                written.gate.set()
                assert await outcomes(callers) == [ROW, {"key": "user:2", "call": 1}]
                assert pipeline.exists(KEY).exists("user:2").execute() == [0, 0]

    run(work())
