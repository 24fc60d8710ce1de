"""The line of loads that wait for a slot: most callers first, and no slot is ever lost."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import redis
import redis.asyncio
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.guard.world import SteppedLoop
from tests.waiting import until

from herdwatch.errors import Shed
from herdwatch.guard import Guard, SyncGuard, line
from herdwatch.guard.limiter import Limiter, SyncLimiter
from herdwatch.guard.line import BATCH, MAX_AGE, Line, one
from herdwatch.guard.load import Load
from herdwatch.guard.settings import Settings
from herdwatch.guard.slots import Slots
from herdwatch.stack import RedisServer, free_port

SECONDS = 20.0
"""Deadline of everything that is waited for."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The line's time, which stands still until a test moves it."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(line, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def lined_up(crowds: dict[str, int]) -> Line[str]:
    """A line of these tickets in their order; a crowd that changes in the dict changes in the line."""
    made: Line[str] = Line()
    for ticket in crowds:
        made.join(ticket, lambda ticket=ticket: crowds[ticket])  # type: ignore[misc]
    return made


def turns(made: Line[Any], most: int = 10_000) -> list[Any]:
    return [ticket for _ in range(most) if (ticket := made.next()) is not None]


def test_the_largest_crowd_is_next_and_among_equals_who_came_first() -> None:
    made = lined_up({"a": 1, "b": 7, "c": 1, "d": 200, "e": 7, "nobody": 0})
    assert len(made) == 6
    assert turns(made) == ["d", "b", "e", "a", "c", "nobody"]
    assert len(made) == 0
    assert made.next() is None


@given(st.lists(st.integers(0, 3), max_size=3 * BATCH))
def test_a_line_that_only_gets_shorter_is_sorted_by_crowd_and_arrival(sizes: list[int]) -> None:
    crowds = {str(number): size for number, size in enumerate(sizes)}
    assert turns(lined_up(crowds)) == sorted(crowds, key=crowds.__getitem__, reverse=True)


def test_equals_are_served_in_the_order_in_which_they_came_however_many_join_meanwhile() -> None:
    made: Line[int] = Line()
    served: list[int | None] = []
    for number in range(5 * BATCH):
        made.join(number, one)
        if number % 3 == 2:
            served += [made.next(), made.next()]
    assert served + turns(made) == list(range(5 * BATCH))


def test_who_left_the_line_has_no_turn() -> None:
    made = lined_up({"a": 3, "b": 2, "c": 1})
    assert made.leave("a")
    assert made.next() == "b"
    assert not made.leave("b"), "it was its turn already"
    assert made.leave("c"), "sorted, and not called yet"
    made.join("d", one)
    assert turns(made) == ["d"]
    assert not made.leave("never there")


def test_a_crowd_that_grew_is_seen_when_the_order_is_too_old(clock: SimpleNamespace) -> None:
    crowds = {"a": 3, "b": 2, "c": 1, "d": 1}
    made = lined_up(crowds)
    assert made.next() == "a"
    crowds["d"] = 50
    made.join("late", lambda: 40)
    assert made.next() == "b", "as it was sorted"
    clock.now += MAX_AGE
    assert turns(made) == ["d", "late", "c"]


@pytest.mark.usefixtures("clock")
def test_a_crowd_that_grew_is_seen_after_one_batch_however_quick_that_was() -> None:
    made: Line[Any] = Line()
    for number in range(2 * BATCH):
        made.join(number, one)
    assert made.next() == 0
    made.join("hot", lambda: 200)
    assert turns(made, BATCH - 1) == list(range(1, BATCH))
    assert made.next() == "hot"


@pytest.mark.usefixtures("clock")
def test_crowds_are_asked_once_a_batch() -> None:
    asked = []
    made: Line[int] = Line()
    for number in range(1000):
        made.join(number, lambda: asked.append(1) or 1)  # type: ignore[func-returns-value]
    assert len(turns(made, BATCH)) == BATCH
    assert len(asked) == 1000


def test_a_slot_goes_to_the_load_for_which_most_callers_wait() -> None:
    async def body() -> list[str]:
        limiter, served = Limiter(Settings(max_loads=1)), []
        await limiter.enter()
        crowds = {"a": 1, "b": 3, "c": 3, "hot": 2}

        async def load(name: str) -> None:
            await limiter.enter(lambda: crowds[name])
            served.append(name)
            limiter.leave()

        loads = [asyncio.create_task(load(name)) for name in crowds]
        await asyncio.sleep(0)
        crowds["hot"] = 200  # they came after it had got in line
        limiter.leave()
        await asyncio.wait_for(asyncio.gather(*loads), SECONDS)
        assert limiter.free()
        return served

    assert asyncio.run(body()) == ["hot", "b", "c", "a"]


def test_in_threads_a_slot_goes_to_the_load_for_which_most_callers_wait() -> None:
    limiter, served = SyncLimiter(Settings(max_loads=1, max_wait=SECONDS)), []
    limiter.enter()
    crowds = {"a": 1, "b": 3, "c": 3, "hot": 200}

    def load(name: str) -> None:
        limiter.enter(lambda: crowds[name])
        served.append(name)
        limiter.leave()

    threads = []
    for number, name in enumerate(crowds, 1):
        threads.append(threading.Thread(target=load, args=(name,), daemon=True))
        threads[-1].start()
        until(lambda number=number: len(limiter._slots._line) == number)  # type: ignore[misc]
    limiter.leave()
    for thread in threads:
        thread.join(SECONDS)
    assert served == ["hot", "b", "c", "a"]
    assert limiter.enter_if_free()


def test_a_load_counts_who_waits_for_it_and_one_that_shares_with_nobody_counts_its_caller() -> None:
    async def body() -> None:
        async def slow(_key: str) -> int:
            await opened.wait()
            return 1

        opened = asyncio.Event()
        client = redis.asyncio.Redis(port=free_port())  # nobody there: the load goes on without
        async with Guard(client, cache="c", service="s", registry=None) as guard:
            callers = [asyncio.create_task(guard.get("k", load=slow, ttl=60)) for _ in range(5)]
            while "k" not in guard._loads.by_key or len(guard._loads.by_key["k"].waiters) < 5:
                await asyncio.sleep(0.001)
            load = guard._loads.by_key["k"]
            assert load.crowd() == 5, "followers of the probe and the caller who began"
            callers.append(asyncio.create_task(guard.get("k", load=slow, ttl=60)))
            await asyncio.sleep(0)
            assert load.crowd() == 6, "and who came later"
            callers.pop().cancel()
            await asyncio.sleep(0)
            assert load.crowd() == 5
            assert Load("alone", slow, 60, guard.core.counts["g"], "miss").crowd() == 1
            opened.set()
            assert await asyncio.gather(*callers) == [1] * 5

    asyncio.run(asyncio.wait_for(body(), SECONDS))


class Crew:
    """Loads on a stepped loop that enter a limiter, are cancelled, time out and leave at any tick."""

    def __init__(self, loop: SteppedLoop, slots: int) -> None:
        self.loop, self.slots = loop, slots
        self.limiter = Limiter(Settings(max_loads=slots, max_wait=1.0, max_waiting=5))
        self.tasks: list[asyncio.Task[None]] = []
        self.inside = 0

    def begin(self, crowd: int) -> None:
        self.tasks.append(self.loop.create_task(self._load(crowd)))

    def cancel(self, number: int) -> None:
        if self.tasks:
            self.tasks[number % len(self.tasks)].cancel()

    def end(self, _: int) -> None:
        """One load that runs ends: outside of its task, so that what follows may fall into the same tick."""
        if self.inside:
            self.inside -= 1
            self.limiter.leave()

    def tick(self, _: int) -> None:
        self.loop.tick()

    def expire(self, _: int) -> None:
        """Whoever waits has done so for max_wait; they are turned away at the next tick."""
        self.loop.now += 1.0

    async def _load(self, crowd: int) -> None:
        await self.limiter.enter(lambda: crowd)
        self.inside += 1

    def check(self) -> None:
        """At rest: every slot is free or taken, nobody waits beside a free one, and only who waits has a timer."""
        self.loop.settle()
        assert self.inside + self.limiter._free == self.slots
        waiting = sum(not task.done() for task in self.tasks)
        assert waiting == len(self.limiter._line)
        assert not (waiting and self.limiter.free())
        assert waiting == sum(not timer.cancelled() for timer in self.loop._scheduled)  # type: ignore[attr-defined]


STEPS = st.tuples(st.sampled_from(("begin", "cancel", "end", "tick", "expire")), st.integers(0, 9))


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 3), st.lists(st.lists(STEPS, max_size=12), max_size=6))
def test_whoever_is_cancelled_or_times_out_at_whatever_tick_no_slot_is_lost(
    slots: int, rounds: list[list[tuple[str, int]]]
) -> None:
    loop = SteppedLoop()
    try:
        crew = Crew(loop, slots)
        for steps in rounds:
            for what, number in steps:
                getattr(crew, what)(number)
            crew.check()
        while crew.inside:
            crew.end(0)
            crew.check()
        assert crew.limiter._free == slots
        for task in crew.tasks:
            assert task.done()
            assert task.cancelled() or task.exception() is None or isinstance(task.exception(), Shed)
        assert loop.complaints == []
    finally:
        loop.close()


def test_a_slot_given_in_the_tick_of_a_cancellation_goes_to_the_next_in_line() -> None:
    loop = SteppedLoop()
    crew = Crew(loop, 1)
    for crowd in (1, 9, 5):
        crew.begin(crowd)
    loop.settle()
    assert crew.inside == 1
    crew.end(0)  # to the one with 9, who does not know yet
    crew.cancel(1)
    loop.settle()
    assert [task.done() for task in crew.tasks] == [True, True, True]
    assert crew.tasks[1].cancelled()
    assert (crew.inside, crew.limiter._free) == (1, 0)
    loop.close()


def test_in_threads_waits_that_end_while_slots_are_given_lose_none() -> None:
    slots, dice = Slots(2), random.Random(7)  # noqa: S311  no secret
    plans = [[dice.choice((0.0, 0.00005, 0.0002)) for _ in range(150)] for _ in range(8)]
    taken = []

    def work(plan: list[float]) -> None:
        for within in plan:
            if slots.take(within, lambda: len(plan)):
                taken.append(within)
                time.sleep(within)
                slots.give()

    threads = [threading.Thread(target=work, args=(plan,), daemon=True) for plan in plans]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()
    assert 0 < len(taken) < 8 * 150, "some were given a slot, and some turned away"
    assert [slots.take_if_free() for _ in range(3)] == [True, True, False]


def test_a_thread_interrupted_while_it_sorts_the_line_loses_no_slot() -> None:
    slots, served = Slots(1), []
    assert slots.take(0)
    interruptions: Iterator[int] = iter((1,))

    def crowd() -> int:
        if next(interruptions, None):
            raise KeyboardInterrupt
        return 1

    waiter = threading.Thread(target=lambda: served.append(slots.take(SECONDS, crowd)), daemon=True)
    waiter.start()
    until(lambda: len(slots._line) == 1)
    with pytest.raises(KeyboardInterrupt):
        slots.give()
    assert slots.take(0), "the place that was to be given"
    slots.give()
    waiter.join(SECONDS)
    assert served == [True]
    assert not slots.take_if_free()
    slots.give()
    assert [slots.take_if_free() for _ in range(2)] == [True, False]


COLD = 300
CALLERS = 200


class Database:
    """Notes which key was loaded when; its first load lasts until the test has seen the line."""

    def __init__(self) -> None:
        self.loaded: list[str] = []

    def note(self, key: str) -> str:
        self.loaded.append(key)
        return f"value of {key}"


def test_after_a_cold_restart_the_hot_key_is_loaded_first_though_it_came_last(shared: RedisServer) -> None:
    async def body() -> list[str]:
        database, opened = Database(), asyncio.Event()

        async def load(key: str) -> str:
            await opened.wait()
            return database.note(key)

        client = redis.asyncio.Redis.from_url(shared.url)
        options: dict[str, Any] = {"max_loads": 1, "max_wait": SECONDS, "timeout": SECONDS}
        async with Guard(client, cache="c", service="s", registry=None, **options) as guard:

            def ask(key: str) -> asyncio.Task[str]:
                return asyncio.create_task(guard.get(key, load=load, ttl=60))

            async def lined_up(number: int) -> None:
                while len(guard._stage._limiter._line) < number:
                    await asyncio.sleep(0.005)

            callers = [ask(f"cold:{number}") for number in range(COLD)]
            await lined_up(COLD - 1)
            hot = [ask("hot") for _ in range(CALLERS)]
            await lined_up(COLD)
            opened.set()
            assert await asyncio.gather(*hot) == ["value of hot"] * CALLERS
            await asyncio.gather(*callers)
        return database.loaded

    loaded = asyncio.run(asyncio.wait_for(body(), 3 * SECONDS))
    assert loaded[1] == "hot", "right after the load that was running"
    assert (len(loaded), len(set(loaded))) == (COLD + 1, COLD + 1)


@contextmanager
def in_threads(calls: list[Callable[[], Any]]) -> Iterator[list[Any]]:
    found: list[Any] = []
    threads = [threading.Thread(target=lambda call=call: found.append(call()), daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    yield found
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()


def test_in_threads_too_the_hot_key_is_loaded_first_though_it_came_last(shared: RedisServer) -> None:
    database, opened = Database(), threading.Event()

    def load(key: str) -> str:
        assert opened.wait(SECONDS)
        return database.note(key)

    options: dict[str, Any] = {"max_loads": 1, "max_wait": SECONDS, "timeout": SECONDS}
    client = redis.Redis.from_url(shared.url)
    with SyncGuard(client, cache="c", service="s", registry=None, **options) as guard:

        def ask(key: str) -> Callable[[], str]:
            return lambda: guard.get(key, load=load, ttl=60)

        slots = guard._stage._limiter._slots
        with in_threads([ask(f"chilly:{number}") for number in range(40)]) as others:
            until(lambda: len(slots._line) == 39)
            with in_threads([ask("heated")] * 60) as hot:
                until(lambda: len(slots._line) == 40 and guard.core.waiting() == 59)
                opened.set()
        assert hot == ["value of heated"] * 60
        assert len(others) == 40
    assert database.loaded[1] == "heated", "right after the load that was running"
    assert (len(database.loaded), len(set(database.loaded))) == (41, 41)
