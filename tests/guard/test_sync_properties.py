"""Threads at random: whatever loads, failures, interruptions and writes do, the counting rule holds.

And Flight and SyncFlight: who leads, who follows, what is forgotten, as in Go's singleflight.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.waiting import until

from herdwatch.guard import Flight, LoadCancelled, LoadTimeout, RemoteLoadError, Shed, SyncFlight, SyncGuard
from herdwatch.guard.refresh import Coin
from herdwatch.guard.store import StoreDown
from herdwatch.guard.testing import SyncMemoryStore

SECONDS = 20.0
"""Deadline of everything that is waited for."""


def run(work: Coroutine[Any, Any, Any]) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(SECONDS):
            return await work

    return asyncio.run(bounded())


def in_threads(works: list[Callable[[], None]]) -> None:
    """All at once, after a barrier; an exception in one of them is one here."""
    barrier, failures = threading.Barrier(len(works)), []

    def body(work: Callable[[], None]) -> None:
        try:
            barrier.wait(SECONDS)
            work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=body, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    until = time.monotonic() + SECONDS
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    assert not [thread for thread in threads if thread.is_alive()], "a thread is stuck"
    if failures:
        raise failures[0]


class LoaderFailed(Exception):
    """The database said no."""


class Interrupted(BaseException):
    """A thread was interrupted, as by KeyboardInterrupt."""


class FlakyStore(SyncMemoryStore):
    """A memory that is slow and sometimes does not answer, before or after it did what it was asked."""

    def __init__(self, seed: int, faults: float) -> None:
        super().__init__()
        self._dice, self._faults = random.Random(seed), faults  # noqa: S311  no secret

    def get(self, key: str, within: float) -> bytes | None:
        return self._with_faults(lambda: super(FlakyStore, self).get(key, within))

    def acquire(self, key: str, token: str, seconds: float, within: float) -> tuple[bool, bytes | None]:
        return self._with_faults(lambda: super(FlakyStore, self).acquire(key, token, seconds, within))

    def run(self, command: Any, within: float) -> Any:
        return self._with_faults(lambda: super(FlakyStore, self).run(command, within))

    def _with_faults(self, work: Callable[[], Any]) -> Any:
        luck = self._dice.random()
        time.sleep(0.0005 * luck)
        if luck < self._faults / 2:
            raise StoreDown("made up, nothing done")
        reply = work()
        if luck < self._faults:
            raise StoreDown("made up, after it was done")
        return reply


@dataclass
class Seen:
    """What callers and loaders of one process saw."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    calls: int = 0
    failed: int = 0
    at_once: int = 0
    most: int = 0
    looked: Counter[str] = field(default_factory=Counter)
    interrupted: int = 0
    begun: dict[str, tuple[str, int]] = field(default_factory=dict)
    """value -> its key, and when its load or its set began."""
    wrong: list[str] = field(default_factory=list)


class Stress:
    """Many threads, two processes (guards) of one store, few keys."""

    KEYS = ("a", "b", "c")

    def __init__(self, seed: int, *, faults: float = 0.0, flips: bool = False, **options: Any) -> None:
        self.seed, self.faults, self.flips, self.numbers = seed, faults, flips, itertools.count()
        self.fenced = not flips and options.get("lease", 1)
        options = {"lease": 0.2, "timeout": 5.0, "ttl_jitter": 0.5, **options}
        store = FlakyStore(seed, faults)
        self.guards = [SyncGuard(store, cache="c", service="s", registry=None, **options) for _ in range(2)]
        self.seen = [Seen(), Seen()]
        self.written: dict[tuple[int, str], int] = {}
        """(process, key) -> when the last write that has surely returned began."""

    def caller(self, which: int, number: int) -> Callable[[], None]:
        dice = random.Random(self.seed * 1000 + number)  # noqa: S311  no secret
        guard, seen, group = self.guards[which], self.seen[which], f"g{number}"

        def body() -> None:
            for _ in range(120):
                key = dice.choice(self.KEYS)
                if self.flips and dice.random() < 0.1:
                    name = dice.choice(("singleflight", "refresh", "limiter"))
                    setattr(guard.core.switches, name, not getattr(guard.core.switches, name))
                if dice.random() < 0.15:
                    self.write(guard, which, key, dice)
                else:
                    self.look(guard, seen, which, key, group, dice)

        return body

    def write(self, guard: SyncGuard, which: int, key: str, dice: random.Random) -> None:
        began = next(self.numbers)
        if dice.random() < 0.5:
            sure = guard.delete(key)
        else:
            value = f"{key}={began}"
            self.seen[which].begun[value] = key, began
            sure = guard.set(key, value, ttl=0.01)
        if sure and self.fenced:  # without a lease a value that is on its way to Redis may come after the write
            with self.seen[which].lock:
                self.written[which, key] = max(began, self.written.get((which, key), 0))

    def look(self, guard: SyncGuard, seen: Seen, which: int, key: str, group: str, dice: random.Random) -> None:
        floor, what = self.written.get((which, key), 0), dice.random()
        try:
            value = guard.get(key, load=lambda name: self.load(seen, name, what), ttl=0.01, group=group)
        except Interrupted:
            with seen.lock:
                seen.interrupted += 1
                seen.looked["interrupted"] += 1
            return
        except (LoaderFailed, LoadTimeout, RemoteLoadError, Shed):
            value = None
        with seen.lock:
            seen.looked[group] += 1
        if value is None:
            return
        of, began = next((one.begun[value] for one in self.seen if value in one.begun), ("nobody", 0))
        if of != key:
            seen.wrong.append(f"{value} for {key}, which nobody loaded")
        elif "#" in value and began < floor:  # of two writes at once either may be the later one
            seen.wrong.append(f"{value}, loaded before a write that began at {floor} and had returned")

    def load(self, seen: Seen, key: str, what: float) -> str | None:
        began = next(self.numbers)
        with seen.lock:
            seen.calls += 1
            seen.at_once += 1
            seen.most = max(seen.most, seen.at_once)
        try:
            time.sleep(0.002 * what)
            if what < 0.15:
                raise Interrupted if what < 0.05 else LoaderFailed
            value = f"{key}#{began}"
            seen.begun[value] = key, began
            return value
        except BaseException:
            with seen.lock:
                seen.failed += 1
            raise
        finally:
            with seen.lock:
                seen.at_once -= 1


def family(guard: SyncGuard, name: str, label: str | None = None, group: str | None = None) -> int:
    totals = guard.core.counts.totals().items()
    return sum(value for (of, in_, at), value in totals if of == name and label in (None, at) and group in (None, in_))


def check(stress: Stress, max_loads: int) -> None:
    for guard, seen in zip(stress.guards, stress.seen, strict=True):
        assert not seen.wrong, seen.wrong[:3]
        miss = family(guard, "singleflight_executions_total", "miss")
        requests = family(guard, "singleflight_requests_total")
        assert requests == miss + sum(
            family(guard, f"singleflight_{name}_total") for name in ("coalesced", "stale", "shed")
        )
        assert miss + family(guard, "singleflight_executions_total", "refresh") == seen.calls
        assert family(guard, "singleflight_errors_total") == seen.failed
        assert seen.most <= max_loads
        assert guard.core.counts.inflight == guard.core.waiting() == 0
        looked = family(guard, "cache_lookups_total")
        assert looked == sum(seen.looked.values()), "who asked was counted once, also who was interrupted while it led"
        for group in guard.core.counts:
            if group not in ("default", "other"):
                assert family(guard, "cache_lookups_total", None, group) >= seen.looked[group]


MODES: dict[str, dict[str, Any]] = {
    "redis is well": {},
    "redis is flaky": {"faults": 0.1},
    "an old value serves": {"stale": 0.05, "refresh": Coin(0.3)},
    "loads outlive their timeout": {"load_timeout": 0.004, "lease": 0.0},
    "someone flips the switches": {"flips": True, "faults": 0.05},
    "few slots": {"max_loads": 1, "max_waiting": 1, "max_wait": 0.002},
}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("mode", MODES)
def test_threads_are_counted_once_and_get_what_was_loaded(seed: int, mode: str) -> None:
    options = {"max_loads": 3, **MODES[mode]}
    stress = Stress(seed, **options)
    in_threads([stress.caller(number % 2, number) for number in range(24)])
    settle(stress)
    check(stress, 1000 if stress.flips else options["max_loads"])
    for guard in stress.guards:
        for key in Stress.KEYS:  # no key is stuck
            assert guard.delete(key) or stress.faults
            assert guard.get(key, load=lambda _: "fresh", ttl=60) is not None
        guard.close()


def settle(stress: Stress) -> None:
    """Background refreshes end by themselves."""
    until = time.monotonic() + SECONDS
    while any(guard.core.counts.inflight for guard in stress.guards) or _refreshing():
        assert time.monotonic() < until, "a refresh does not end"
        time.sleep(0.005)


def _refreshing() -> bool:
    return any(thread.name == "herdwatch-refresh" for thread in threading.enumerate())


def test_one_leads_a_flight_and_all_others_follow_in_tasks() -> None:
    async def body() -> None:
        flight, gate, calls = Flight(), asyncio.Event(), itertools.count(1)

        async def fn() -> list[int]:
            number = next(calls)
            await gate.wait()
            return [number]

        tasks = [asyncio.create_task(flight.do("k", fn)) for _ in range(10)]
        other = asyncio.create_task(flight.do("another", fn))
        await asyncio.sleep(0.01)
        gate.set()
        flown = await asyncio.gather(*tasks)
        assert [led for _, led in flown] == [True] + [False] * 9
        assert {id(value) for value, _ in flown} == {id(flown[0].value)}, "Flight shares the value as it is"
        assert (await other).led
        assert await flight.do("k", fn) == ([3], True), "nothing is remembered"

    run(body())


def test_an_error_of_a_flight_goes_to_all_who_waited_and_is_forgotten() -> None:
    async def body() -> None:
        flight, outcomes = Flight(), iter((LoaderFailed("once"), None))

        async def fn() -> str:
            await asyncio.sleep(0.01)
            if (error := next(outcomes)) is not None:
                raise error
            return "well"

        found = await asyncio.gather(*(flight.do("k", fn) for _ in range(5)), return_exceptions=True)
        assert {id(error) for error in found} == {id(found[0])}
        assert isinstance(found[0], LoaderFailed)
        assert await flight.do("k", fn) == ("well", True)

    run(body())


def test_forget_lets_the_next_caller_lead_while_the_first_call_goes_on() -> None:
    async def body() -> None:
        flight, gates = Flight(), [asyncio.Event(), asyncio.Event()]

        async def fn(number: int) -> int:
            await gates[number].wait()
            return number

        async def two(number: int) -> list[asyncio.Task[Any]]:
            tasks = [asyncio.create_task(flight.do("k", lambda: fn(number))) for _ in range(2)]
            await asyncio.sleep(0.01)
            return tasks

        first = await two(0)
        flight.forget("k")
        second = await two(1)
        gates[0].set()
        assert await asyncio.gather(*first) == [(0, True), (0, False)]
        third = await two(0)
        gates[1].set()
        assert await asyncio.gather(*second, *third) == [(1, True), (1, False), (1, False), (1, False)]
        flight.forget("never heard of")

    run(body())


def test_a_cancelled_leader_of_a_flight_takes_nobody_with_it_and_closing_takes_all() -> None:
    async def body() -> None:
        flight, gate = Flight(), asyncio.Event()
        leader, follower = (asyncio.create_task(flight.do("k", gate.wait)) for _ in range(2))
        await asyncio.sleep(0.01)
        leader.cancel()
        await asyncio.sleep(0.01)
        gate.set()
        assert await follower == (True, False)
        assert leader.cancelled()
        left = asyncio.create_task(flight.do("k", asyncio.Event().wait))
        await asyncio.sleep(0.01)
        await flight.aclose()
        with pytest.raises(LoadCancelled, match="'k'"):
            await left

    run(body())


def test_a_flight_ends_at_its_load_timeout_also_when_the_call_will_not() -> None:
    async def body() -> None:
        flight, gate = Flight(load_timeout=0.02), asyncio.Event()

        async def stubborn() -> None:
            while not gate.is_set():
                try:
                    await gate.wait()
                except asyncio.CancelledError:
                    continue

        with pytest.raises(LoadTimeout, match=r"'k' took longer than 0\.02 s"):
            await flight.do("k", stubborn)
        gate.set()
        assert await flight.do("k", gate.wait) == (True, True)
        await flight.aclose()

    run(body())


def test_a_call_that_asks_for_itself_is_refused_instead_of_waiting_for_ever() -> None:
    async def body() -> None:
        flight = Flight()

        async def fn() -> Any:
            return await flight.do("k", fn)

        with pytest.raises(RuntimeError, match="asks for 'k' itself"):
            await flight.do("k", fn)

    run(body())
    flight = SyncFlight()
    with pytest.raises(RuntimeError, match="asks for 'k' itself"):
        flight.do("k", lambda: flight.do("k", int))
    assert flight.do("k", int) == (0, True)


class Held:
    """A function that reports how often it was called, and returns when it is let go."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes, self.calls, self.go = outcomes, 0, threading.Event()

    def __call__(self) -> Any:
        outcome = self.outcomes[self.calls]
        self.calls += 1
        assert self.go.wait(SECONDS)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


def fly(flight: SyncFlight, held: Held, threads: int) -> list[Any]:
    """What each of so many callers at once was given: (value, led) or its exception."""
    found: list[Any] = []

    def call() -> None:
        try:
            found.append(flight.do("k", held))
        except BaseException as error:
            found.append(error)

    def let_go() -> None:
        until(lambda: flight._entries.waiting() == threads - 1)
        held.go.set()

    in_threads([call] * threads + [let_go])
    return found


def test_one_thread_leads_and_all_others_follow() -> None:
    flight, value = SyncFlight(), ["the very same"]
    found = fly(flight, Held(value), 12)
    assert sorted(led for _, led in found) == [False] * 11 + [True]
    assert all(given is value for given, _ in found)
    assert flight.do("k", lambda: 2) == (2, True)


def test_an_error_goes_to_all_threads_that_waited_and_is_forgotten() -> None:
    flight, error = SyncFlight(), LoaderFailed("once")
    held = Held(error)
    assert fly(flight, held, 12) == [error] * 12
    assert held.calls == 1
    assert flight.do("k", lambda: 2) == (2, True)


def test_an_interrupted_leader_is_the_only_one_and_a_follower_calls_again() -> None:
    flight, error, calls, found = SyncFlight(), Interrupted(), itertools.count(1), []

    def fn() -> str:
        number = next(calls)
        until(lambda: flight._entries.waiting() == 12 - number)
        if number == 1:
            raise error
        return "well"

    def call() -> None:
        try:
            found.append(flight.do("k", fn))
        except Interrupted as raised:
            found.append(raised)

    in_threads([call] * 12)
    assert Counter(found) == {error: 1, ("well", True): 1, ("well", False): 10}
    assert next(calls) == 3


def leading(flight: SyncFlight, held: Held) -> tuple[threading.Thread, list[Any]]:
    """A thread that leads already, and where its outcome will be."""
    outcome: list[Any] = []
    leader = threading.Thread(target=lambda: outcome.append(flight.do("k", held)), daemon=True)
    leader.start()
    until(lambda: held.calls > 0)
    return leader, outcome


def test_threads_begin_anew_after_the_load_timeout_and_the_leader_keeps_its_outcome() -> None:
    flight, slow = SyncFlight(load_timeout=0.05), Held("slow")
    leader, outcome = leading(flight, slow)
    with pytest.raises(LoadTimeout, match=r"'k' took longer than 0\.05 s"):
        flight.do("k", int)
    assert flight.do("k", lambda: "anew") == ("anew", True)
    slow.go.set()
    leader.join(SECONDS)
    assert outcome == [("slow", True)]


def test_threads_begin_anew_after_forget_while_the_first_call_goes_on() -> None:
    flight, slow, anew = SyncFlight(), Held("slow"), Held("anew")
    first = leading(flight, slow)
    flight.forget("k")
    second = leading(flight, anew)
    slow.go.set()
    first[0].join(SECONDS)
    assert first[1] == [("slow", True)]
    third = threading.Thread(target=lambda: second[1].append(flight.do("k", int)), daemon=True)
    third.start()
    until(lambda: flight._entries.waiting() == 1)  # the end of the first call took nothing from the second
    anew.go.set()
    second[0].join(SECONDS)
    third.join(SECONDS)
    assert sorted(second[1], key=str) == [("anew", False), ("anew", True)]
