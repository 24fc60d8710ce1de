"""The pub/sub connection of a process: nobody's impatience, leaving or end costs another waiter its messages."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import redis
import redis.asyncio
from tests.stopping import stopped
from tests.waiting import until

from herdwatch.guard import address, wakeups
from herdwatch.guard.background import Background
from herdwatch.guard.wakeups import Wakeups, Watch
from herdwatch.stack import RedisServer, Supervisor

SECONDS = 30.0
"""Deadline of everything that is waited for."""
AT_ONCE = 0.00001
"""The patience that a load may have left."""


@pytest.fixture(scope="module")
def own(supervisor: Supervisor) -> RedisServer:
    """A Redis to stop and to wake."""
    return RedisServer(supervisor, name="own")


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy is no silent connection."""
    monkeypatch.setattr(wakeups, "_LEAST", SECONDS)


def run(server: RedisServer, work: Callable[[Wakeups, redis.asyncio.Redis], Coroutine[Any, Any, None]]) -> None:
    async def body() -> None:
        async with redis.asyncio.Redis.from_url(server.url) as client, asyncio.timeout(4 * SECONDS):
            where = address.of(client, wanted=redis.asyncio.Redis, guard="Guard")
            bells = Wakeups(where.async_connection)
            try:
                await work(bells, client)
            finally:
                await bells.aclose()

    asyncio.run(body())


async def listeners(client: redis.asyncio.Redis, channel: str, count: int) -> None:
    """Until that many connections have subscribed to the channel."""
    while (await client.pubsub_numsub(channel))[0][1] != count:
        await asyncio.sleep(0.01)


async def told(client: redis.asyncio.Redis, *watches: Watch) -> None:
    """Each gets a message on its channel, the one that is sent now."""
    for number, watch in enumerate(watches):
        await listeners(client, watch.channel, 1)
        await client.publish(watch.channel, str(number))
        assert await watch.wait(SECONDS) == str(number).encode()


def test_one_of_no_patience_takes_no_message_from_those_who_wait_and_gets_its_own(own: RedisServer) -> None:
    async def work(bells: Wakeups, client: redis.asyncio.Redis) -> None:
        first = await bells.watch("a", SECONDS)
        impatient = [await bells.watch(channel, AT_ONCE) for channel in ("b", "c")]
        await told(client, first, *impatient)
        for watch in (first, *impatient):
            await watch.close()
            await listeners(client, watch.channel, 0)

    run(own, work)


def test_one_of_no_patience_may_be_the_first_whose_connection_the_others_get(own: RedisServer) -> None:
    async def work(bells: Wakeups, client: redis.asyncio.Redis) -> None:
        await told(client, await bells.watch("a", AT_ONCE), await bells.watch("b", SECONDS))
        assert len(await client.client_list(_type="pubsub")) == 1

    run(own, work)


def test_a_confirmation_that_comes_late_is_that_of_whoever_waits_then(own: RedisServer) -> None:
    async def work(bells: Wakeups, client: redis.asyncio.Redis) -> None:
        first = await bells.watch("a", SECONDS)
        await client.config_resetstat()
        with stopped(own):
            left = await bells.watch("b", 0.05)
            await left.close()
            waiting = await bells.watch("b", 0.05)
            gone = await bells.watch("c", 0.05)
            await gone.close()
        await told(client, waiting, first)
        assert left._message is None
        await waiting.close()
        for channel in ("b", "c"):
            await listeners(client, channel, 0)
        assert set(bells._subscriptions) == {"a"}
        said = await client.info("commandstats")
        assert [said[f"cmdstat_{name}"]["calls"] for name in ("subscribe", "unsubscribe")] == [2, 2]

    run(own, work)


def test_who_is_cancelled_while_it_subscribes_is_cancelled_and_nobody_else(own: RedisServer) -> None:
    async def work(bells: Wakeups, client: redis.asyncio.Redis) -> None:
        first = await bells.watch("a", SECONDS)
        with stopped(own):
            tasks = [asyncio.create_task(bells.watch("b", SECONDS)) for _ in range(2)]
            await asyncio.sleep(0.05)
            tasks[0].cancel()
            with pytest.raises(asyncio.CancelledError):
                await tasks[0]
        await told(client, first, await tasks[1])

    run(own, work)


def test_a_connection_that_stays_silent_is_replaced_and_who_waited_listens_on_the_new_one(
    own: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(bells: Wakeups, client: redis.asyncio.Redis) -> None:
        first = await bells.watch("a", SECONDS)
        silent = bells._connection
        monkeypatch.setattr(wakeups, "_LEAST", 0.1)
        monkeypatch.setattr(wakeups, "_AFTER_FAILURE", 0.1)
        with stopped(own):
            second = await bells.watch("b", AT_ONCE)
            assert bells._connection is silent
            while bells._connection is not None:
                await asyncio.sleep(0.01)
        monkeypatch.setattr(wakeups, "_LEAST", SECONDS)
        await asyncio.sleep(0.2)
        third = await bells.watch("c", SECONDS)
        await told(client, first, second, third)

    run(own, work)


def test_who_waited_when_the_connection_was_lost_listens_again_with_the_next_who_comes(
    own: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeups, "_AFTER_FAILURE", 0.0)

    async def work(bells: Wakeups, client: redis.asyncio.Redis) -> None:
        first = await bells.watch("a", SECONDS)
        await client.client_kill_filter(_type="pubsub")
        while bells._connection is not None:
            await asyncio.sleep(0.01)
        await told(client, await bells.watch("b", SECONDS), first)

    run(own, work)


def test_a_close_while_somebody_subscribes_leaves_no_task_and_no_connection(own: RedisServer) -> None:
    async def work(bells: Wakeups, client: redis.asyncio.Redis) -> None:
        with stopped(own):
            waiting = asyncio.create_task(bells.watch("a", SECONDS))
            await asyncio.sleep(0.05)
            await bells.aclose()
            await waiting
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert await client.client_list(_type="pubsub") == []
        await told(client, await bells.watch("a", SECONDS))

    run(own, work)


class Slow:
    """A connection that is never answered, and takes its time to say goodbye."""

    def __init__(self) -> None:
        self.leaving = asyncio.Event()

    async def connect(self) -> None: ...

    async def send_command(self, *_: object, **__: object) -> None: ...

    async def read_response(self, **_: object) -> None:
        await asyncio.Event().wait()

    async def disconnect(self, **_: object) -> None:
        self.leaving.set()
        await asyncio.Event().wait()


def test_who_is_cancelled_while_it_closes_is_cancelled() -> None:
    async def work() -> None:
        slow = Slow()
        bells = Wakeups(lambda: slow)  # type: ignore[arg-type, return-value]
        await bells.watch("a", 0.01)
        assert not slow.leaving.is_set()
        closing = asyncio.create_task(bells.aclose())
        await slow.leaving.wait()
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing

    asyncio.run(asyncio.wait_for(work(), SECONDS))


@pytest.fixture
def background(own: RedisServer) -> Iterator[Background]:
    with redis.Redis.from_url(own.url) as client:
        made = Background(address.of(client, wanted=redis.Redis, guard="SyncGuard"))
    yield made
    made.close()


def test_a_thread_of_no_patience_takes_no_message_from_the_others(own: RedisServer, background: Background) -> None:
    first = background.watch("a", SECONDS)
    second = background.watch("b", AT_ONCE)
    with own.client() as client:
        for watch in (first, second):
            until(lambda watch=watch: client.pubsub_numsub(watch.channel)[0][1] == 1)  # type: ignore[misc]
            client.publish(watch.channel, "now")
            assert watch.wait(SECONDS) == b"now"
            watch.close()
            until(lambda watch=watch: client.pubsub_numsub(watch.channel)[0][1] == 0)  # type: ignore[misc]


class Interrupted(BaseException):
    pass


def test_a_thread_that_is_interrupted_while_it_subscribes_listens_no_longer(
    own: RedisServer, background: Background
) -> None:
    first = background.watch("a", SECONDS)

    def interrupt(*_: object) -> None:
        raise Interrupted

    earlier = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with stopped(own):
            main = threading.main_thread().ident or 0
            threading.Timer(0.1, lambda: signal.pthread_kill(main, signal.SIGUSR1)).start()
            with pytest.raises(Interrupted):
                background.watch("b", SECONDS)
    finally:
        signal.signal(signal.SIGUSR1, earlier)
    until(lambda: set(background._wakeups._watches) == {"a"})
    with own.client() as client:
        until(lambda: client.pubsub_numsub("b")[0][1] == 0)
        client.publish("a", "now")
    assert first.wait(SECONDS) == b"now"
