"""The guard in threads when something goes wrong: its leader, its loader, Redis, a lease."""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from tests.waiting import until

from herdwatch.errors import LoadTimeout
from herdwatch.guard import SyncFlight, SyncGuard
from herdwatch.guard.commands import lease_of
from herdwatch.guard.slots import Slots
from herdwatch.guard.testing import SyncMemoryStore
from herdwatch.stack import RedisServer, Supervisor, free_port

DEADLINE = 20.0
DEFAULTS = {"refresh": None, "lease": 0.3}
Make = Callable[..., SyncGuard]


class Timeout(BaseException):
    """What a worker's own timeout may raise, as gevent's does."""


class Caller(threading.Thread):
    """One caller in a thread of its own; its outcome is a value or whatever was raised."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._call, self._outcome = call, None
        self.start()

    def run(self) -> None:
        try:
            self._outcome = self._call()
        except BaseException as error:
            self._outcome = error

    def outcome(self) -> Any:
        self.join(DEADLINE)
        assert not self.is_alive(), "this caller hangs"
        return self._outcome

    def interrupt(self, kind: type[BaseException]) -> None:
        assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.ident or 0), ctypes.py_object(kind)) == 1


class Loader:
    """Returns its value, when it is open; raises it, when it is an exception."""

    def __init__(self, value: Any, *, is_open: bool = True) -> None:
        self.value, self.calls = value, 0
        self.entered, self.open = threading.Event(), threading.Event()
        if is_open:
            self.open.set()

    def __call__(self, _key: str) -> Any:
        self.calls += 1
        self.entered.set()
        assert self.open.wait(DEADLINE)
        if isinstance(self.value, BaseException):
            raise self.value
        return self.value


def assert_counted(guard: SyncGuard, **classes: int) -> None:
    """Callers by class: led, shared, fetched, stale, shed; requests are their sum."""
    totals = {(family, label): value for (family, _, label), value in guard.core.counts.totals().items()}
    found = {
        "led": totals["singleflight_executions_total", "miss"],
        "shared": totals["singleflight_coalesced_total", "process"],
        "fetched": totals["singleflight_coalesced_total", "fleet"],
        "stale": totals["singleflight_stale_total", ""],
        "shed": totals["singleflight_shed_total", ""],
    }
    assert {name: value for name, value in found.items() if value} == classes
    assert totals["singleflight_requests_total", ""] == sum(classes.values())
    assert (guard.core.counts.inflight, guard.core.waiting()) == (0, 0)


@pytest.fixture
def make(shared: RedisServer) -> Iterator[Make]:
    guards: list[SyncGuard] = []

    def one(url: str = shared.url, **options: Any) -> SyncGuard:
        client = redis.Redis.from_url(url)
        guards.append(SyncGuard(client, cache="users", service="tests", registry=None, **{**DEFAULTS, **options}))
        return guards[-1]

    with shared.client() as client:
        client.flushall()
    yield one
    for guard in guards:
        guard.close()


@pytest.fixture
def own(supervisor: Supervisor) -> Iterator[RedisServer]:
    """A Redis to be stopped and killed."""
    server = RedisServer(supervisor, name=f"own{time.monotonic_ns()}")
    yield server
    if server.process.running:
        server.process.send(signal.SIGCONT)
        server.kill()


def stored(server: RedisServer, key: str) -> bytes | None:
    with server.client() as client:
        raw = client.get(key)
    return raw and raw[24:]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, Timeout])
def test_an_interruption_in_the_loader_is_its_threads_alone_and_a_follower_takes_over(
    make: Make, shared: RedisServer, kind: type[BaseException]
) -> None:
    guard, first, second = make(), Loader(kind(), is_open=False), Loader("value", is_open=False)
    leader = Caller(lambda: guard.get("k", load=first, ttl=60))
    assert first.entered.wait(DEADLINE)
    followers = [Caller(lambda: guard.get("k", load=second, ttl=60)) for _ in range(5)]
    until(lambda: guard.core.waiting() == 5)
    first.open.set()
    until(lambda: guard.core.waiting() == 4)  # behind the one that took over
    second.open.set()
    assert leader.outcome() is first.value
    assert [caller.outcome() for caller in followers] == ["value"] * 5
    assert (first.calls, second.calls) == (1, 1)
    assert_counted(guard, led=2, shared=4)
    assert guard.get("k", load=first, ttl=60) == "value"
    assert stored(shared, "k") == b'"value"'


def test_a_leader_interrupted_from_outside_in_its_loader_leaves_the_key_to_the_others(make: Make) -> None:
    guard, second, begun = make(), Loader("value", is_open=False), threading.Event()

    def endless(_key: str) -> None:
        begun.set()
        while True:
            time.sleep(0.005)

    leader = Caller(lambda: guard.get("k", load=endless, ttl=60))
    assert begun.wait(DEADLINE)
    followers = [Caller(lambda: guard.get("k", load=second, ttl=60)) for _ in range(5)]
    until(lambda: guard.core.waiting() == 5)
    leader.interrupt(Timeout)
    assert isinstance(leader.outcome(), Timeout)
    until(lambda: guard.core.waiting() == 4)  # who comes when the value is there already is a hit
    second.open.set()
    assert [caller.outcome() for caller in followers] == ["value"] * 5
    assert second.calls == 1
    assert_counted(guard, led=2, shared=4)


def test_a_leader_interrupted_in_its_get_is_counted_nowhere_and_another_asks(make: Make, own: RedisServer) -> None:
    guard, load = make(own.url, timeout=10.0), Loader("value")
    assert guard.get("warm", load=load, ttl=60) == "value"  # a connection is open
    load.open.clear()
    own.process.send(signal.SIGSTOP)
    leader = Caller(lambda: guard.get("k", load=load, ttl=60))
    time.sleep(0.1)
    followers = [Caller(lambda: guard.get("k", load=load, ttl=60)) for _ in range(5)]
    time.sleep(0.1)
    leader.interrupt(KeyboardInterrupt)
    own.process.send(signal.SIGCONT)
    until(lambda: guard.core.waiting() == 4)
    load.open.set()
    assert isinstance(leader.outcome(), KeyboardInterrupt)
    assert [caller.outcome() for caller in followers] == ["value"] * 5
    assert load.calls == 2
    assert_counted(guard, led=2, shared=4)
    assert stored(own, "k") == b'"value"'


def interrupted_at(number: int) -> tuple[bool, str]:
    """Interrupt a leader at one of the moments at which CPython looks for interruptions, if it has so many."""
    guard = SyncGuard(SyncMemoryStore(), cache="c", service="s", registry=None, load_timeout=9, lease=0.06, timeout=0.5)
    seen, inside, entered, go = 0, False, threading.Event(), threading.Event()
    where = ""

    def moment(frame: Any, event: str, _argument: Any) -> None:
        nonlocal seen, where
        name = frame.f_code.co_filename.replace("\\", "/")
        if event in ("call", "c_return") and not inside and not where and "herdwatch/guard" in name:
            seen += 1
            if seen == number:
                where = f"{name}:{frame.f_lineno} {event}"
                raise KeyboardInterrupt

    def slow(_key: str) -> str:
        nonlocal inside
        inside = True
        entered.set()
        assert go.wait(DEADLINE)
        inside = False
        return "value"

    def lead() -> Any:
        sys.setprofile(moment)
        try:
            return guard.get("k", load=slow, ttl=60)
        finally:
            sys.setprofile(None)

    leader = Caller(lead)
    until(lambda: entered.is_set() or not leader.is_alive())
    followers = [Caller(lambda: guard.get("k", load=lambda _: "value", ttl=60)) for _ in range(3)]
    until(lambda: guard.core.waiting() == 3 or not leader.is_alive())
    go.set()
    assert [caller.outcome() for caller in followers] == ["value"] * 3, where
    assert isinstance(leader.outcome(), KeyboardInterrupt if where else str), where
    assert guard.get("k", load=lambda _: "value", ttl=60) == "value", where
    assert (guard.core.counts.inflight, guard.core.waiting()) == (0, 0), where
    guard.close()
    return bool(where), where


def test_at_whatever_moment_a_leader_is_interrupted_the_others_get_the_value() -> None:
    number = 1
    while interrupted_at(number)[0]:
        number += 1
    assert number > 50


def test_an_interrupted_wait_for_a_slot_leaves_the_slot_to_the_next() -> None:
    slots = Slots(1)
    assert slots.take(0)
    first, second = Caller(lambda: slots.take(5)), Caller(lambda: slots.take(DEADLINE))
    time.sleep(0.05)
    first.interrupt(Timeout)
    assert not slots.take(0.01)
    slots.give()  # to the one who is on its way out, who hands it on
    assert isinstance(first.outcome(), Timeout)
    assert second.outcome() is True
    assert not slots.take_if_free()
    slots.give()
    assert slots.take_if_free()


def test_an_error_of_the_loader_is_raised_once_and_given_to_all(make: Make, shared: RedisServer) -> None:
    guard, load = make(), Loader(KeyError("no such table"), is_open=False)
    callers = [Caller(lambda: guard.get("k", load=load, ttl=60)) for _ in range(20)]
    until(lambda: guard.core.waiting() == 19)
    load.open.set()
    assert {id(caller.outcome()) for caller in callers} == {id(load.value)}
    assert load.calls == 1
    assert_counted(guard, led=1, shared=19)
    assert guard.core.counts.totals()["singleflight_errors_total", "default", ""] == 1
    assert stored(shared, "k") is None
    assert guard.get("k", load=Loader("anew"), ttl=60) == "anew"


@pytest.mark.parametrize("lease", [0.2, 0], ids=["lease", "no lease"])
def test_a_loader_that_hangs_is_given_up_and_its_late_value_overwrites_nothing(
    make: Make, shared: RedisServer, lease: float
) -> None:
    guard, hung = make(load_timeout=0.4, lease=lease), Loader("late", is_open=False)
    leader = Caller(lambda: guard.get("k", load=hung, ttl=60))
    assert hung.entered.wait(DEADLINE)
    followers = [Caller(lambda: guard.get("k", load=hung, ttl=60)) for _ in range(5)]
    assert {type(caller.outcome()) for caller in followers} == {LoadTimeout}
    assert guard.get("k", load=Loader("anew"), ttl=60) == "anew"
    hung.open.set()
    assert leader.outcome() == "late"
    assert (hung.calls, stored(shared, "k")) == (1, b'"anew"')
    assert_counted(guard, led=2, shared=5)


def test_a_loader_that_asks_for_its_own_key_is_told_so(make: Make) -> None:
    guard = make()

    def recursive(key: str) -> Any:
        return guard.get(key, load=recursive, ttl=60)

    with pytest.raises(RuntimeError, match="the load of 'k' asks for 'k' itself"):
        guard.get("k", load=recursive, ttl=60)
    assert guard.get("k", load=Loader("value"), ttl=60) == "value"
    assert guard.get("other", load=lambda _: guard.get("k", load=recursive, ttl=60), ttl=60) == "value"


def test_a_redis_that_stopped_answering_costs_a_caller_no_more_than_its_timeout(make: Make, own: RedisServer) -> None:
    guard, load = make(own.url, timeout=0.3), Loader("value", is_open=False)
    guard.set("warm", 1, ttl=60)  # a connection is open
    own.process.send(signal.SIGSTOP)
    began = time.monotonic()
    callers = [Caller(lambda: guard.get("k", load=load, ttl=60)) for _ in range(20)]
    until(lambda: guard.core.waiting() == 19)
    load.open.set()
    assert [caller.outcome() for caller in callers] == ["value"] * 20
    assert (guard.set("k", 1, ttl=60), guard.delete("k")) == (False, False)
    assert time.monotonic() - began < 3
    assert load.calls == 1
    assert_counted(guard, led=1, shared=19)
    own.process.send(signal.SIGCONT)
    assert guard.get("k", load=Loader("again"), ttl=60) == "again"
    assert stored(own, "k") == b'"again"'


def test_connections_that_a_restart_has_closed_are_replaced_within_the_call(make: Make, own: RedisServer) -> None:
    guard, load = make(own.url), Loader("value", is_open=False)
    callers = [Caller(lambda name=name: guard.get(name, load=load, ttl=60)) for name in map(str, range(8))]
    until(lambda: load.calls == 8)
    load.open.set()
    assert [caller.outcome() for caller in callers] == ["value"] * 8
    own.kill()
    own.restart()
    assert guard.get("k", load=load, ttl=60) == "value"
    assert stored(own, "k") == b'"value"'
    own.kill()
    own.restart()
    assert guard.set("k", "set", ttl=60)


def test_a_redis_killed_in_the_middle_of_a_load_changes_nothing_for_the_callers(make: Make, own: RedisServer) -> None:
    guard, load = make(own.url), Loader("value", is_open=False)
    callers = [Caller(lambda: guard.get("k", load=load, ttl=60)) for _ in range(10)]
    until(lambda: guard.core.waiting() == 9)
    own.kill()
    load.open.set()
    assert [caller.outcome() for caller in callers] == ["value"] * 10
    assert load.calls == 1
    assert_counted(guard, led=1, shared=9)


def test_no_redis_at_all_and_a_wrong_password_leave_one_load_a_herd(make: Make, supervisor: Supervisor) -> None:
    locked = RedisServer(supervisor, "--requirepass", "right", name=f"locked{time.monotonic_ns()}")
    for url in (f"redis://127.0.0.1:{free_port()}", locked.url, locked.url.replace("redis://", "redis://:wrong@")):
        guard, load = make(url), Loader("value", is_open=False)
        callers = [Caller(lambda guard=guard, load=load: guard.get("k", load=load, ttl=60)) for _ in range(10)]
        until(lambda guard=guard: guard.core.waiting() == 9)
        load.open.set()
        assert [caller.outcome() for caller in callers] == ["value"] * 10
        assert (load.calls, guard.delete("k")) == (1, False)
        assert_counted(guard, led=1, shared=9)
    assert make(locked.url.replace("redis://", "redis://:right@")).delete("k")


def test_an_exhausted_pool_is_waited_for_no_longer_than_the_timeout(make: Make, own: RedisServer) -> None:
    guard = make(own.url, connections=1, timeout=0.4)
    own.process.send(signal.SIGSTOP)
    began = time.monotonic()
    callers = [Caller(lambda name=name: guard.get(name, load=Loader(name), ttl=60)) for name in map(str, range(8))]
    assert [caller.outcome() for caller in callers] == [str(number) for number in range(8)]
    assert time.monotonic() - began < 4
    own.process.send(signal.SIGCONT)


def test_one_connection_serves_many_threads(make: Make, own: RedisServer) -> None:
    guard = make(own.url, connections=1, timeout=10.0)
    callers = [Caller(lambda name=name: guard.get(name, load=Loader(name), ttl=60)) for name in map(str, range(40))]
    assert [caller.outcome() for caller in callers] == [str(number) for number in range(40)]
    with own.client() as client:
        assert client.dbsize() == 40


def test_a_lease_that_is_lost_before_the_fill_leaves_what_is_there(make: Make, shared: RedisServer) -> None:
    guard, load = make(), Loader("value", is_open=False)
    for key, newer in (("gone", None), ("taken", b"other")):
        leader = Caller(lambda key=key: guard.get(key, load=load, ttl=60))
        until(lambda: guard.core.counts.inflight == 1)
        with shared.client() as client:
            client.set(lease_of(key), newer) if newer else client.delete(lease_of(key))
        load.open.set()
        assert leader.outcome() == "value"
        assert stored(shared, key) is None
        load.open.clear()
    with shared.client() as client:
        assert client.get(lease_of("taken")) == b"other"
        client.delete(lease_of("taken"))


@pytest.mark.parametrize("lease", [0.3, 0], ids=["lease", "no lease"])
def test_a_load_begun_before_a_delete_is_joined_by_nobody_and_never_fills(
    make: Make, shared: RedisServer, lease: float
) -> None:
    guard, old, new = make(lease=lease), Loader("old", is_open=False), Loader("new")
    before = [Caller(lambda: guard.get("k", load=old, ttl=60)) for _ in range(3)]
    until(lambda: guard.core.waiting() == 2)
    assert guard.delete("k") is True
    assert guard.get("k", load=new, ttl=60) == "new"
    old.open.set()
    assert [caller.outcome() for caller in before] == ["old"] * 3
    assert (old.calls, new.calls, stored(shared, "k")) == (1, 1, b'"new"')


def test_a_set_by_another_guard_during_a_load_stays(make: Make, shared: RedisServer) -> None:
    guard, other, old = make(), make(), Loader("old", is_open=False)
    leader = Caller(lambda: guard.get("k", load=old, ttl=60))
    assert old.entered.wait(DEADLINE)
    assert other.set("k", "new", ttl=60) is True
    old.open.set()
    assert leader.outcome() == "old"
    assert stored(shared, "k") == b'"new"'
    assert guard.get("k", load=old, ttl=60) == "new"


def test_a_guard_closed_while_its_callers_wait_for_another_process_still_serves_them(make: Make) -> None:
    leader, follower, load = make(), make(), Loader("value", is_open=False)
    first = Caller(lambda: leader.get("k", load=load, ttl=60))
    assert load.entered.wait(DEADLINE)
    second = Caller(lambda: follower.get("k", load=load, ttl=60))
    time.sleep(0.1)
    follower.close()
    third = Caller(lambda: follower.get("k", load=load, ttl=60))
    load.open.set()
    assert [caller.outcome() for caller in (first, second, third)] == ["value"] * 3
    assert load.calls == 1


def test_a_flight_has_one_leader_and_shares_value_error_and_timeout() -> None:
    flight, slow = SyncFlight(load_timeout=0.5), Loader("value", is_open=False)
    callers = [Caller(lambda: flight.do("k", lambda: slow("k"))) for _ in range(10)]
    time.sleep(0.1)
    slow.open.set()
    assert sorted(caller.outcome() for caller in callers) == [("value", False)] * 9 + [("value", True)]

    slow.value = ValueError("shared")
    slow.open.clear()
    callers = [Caller(lambda: flight.do("k", lambda: slow("k"))) for _ in range(10)]
    time.sleep(0.1)
    slow.open.set()
    assert {id(caller.outcome()) for caller in callers} == {id(slow.value)}

    slow.open.clear()
    hung = Caller(lambda: flight.do("k", lambda: slow("k")))
    until(lambda: slow.calls == 3)
    with pytest.raises(LoadTimeout, match="the load of 'k' took longer than"):
        flight.do("k", lambda: "never called")
    assert flight.do("k", lambda: "anew") == ("anew", True)
    slow.open.set()
    assert hung.outcome() is slow.value
    with pytest.raises(RuntimeError, match="itself"):
        flight.do("k", lambda: flight.do("k", lambda: 1))


def test_a_flight_goes_on_when_its_leader_is_interrupted_and_forgets_when_told() -> None:
    flight, first, second = SyncFlight(), Loader(KeyboardInterrupt(), is_open=False), Loader("value", is_open=False)
    leader = Caller(lambda: flight.do("k", lambda: first("k")))
    assert first.entered.wait(DEADLINE)
    followers = [Caller(lambda: flight.do("k", lambda: second("k"))) for _ in range(5)]
    time.sleep(0.1)
    first.open.set()
    assert leader.outcome() is first.value
    until(lambda: second.entered.is_set() and flight._entries.waiting() == 4)
    flight.forget("k")
    assert flight.do("k", lambda: "beside") == ("beside", True)
    second.open.set()
    assert sorted(caller.outcome() for caller in followers) == [("value", False)] * 4 + [("value", True)]


def test_an_old_value_read_before_a_delete_is_given_to_nobody_who_asks_after_it() -> None:
    now, asked, answer = [1000.0], threading.Event(), threading.Event()

    class SlowStore(SyncMemoryStore):
        def get(self, key: str, within: float) -> bytes | None:
            raw = super().get(key, within)
            asked.set()
            assert answer.wait(DEADLINE)
            return raw

    load, options = Loader(ValueError("database"), is_open=False), {"stale": 60, "refresh": None, "registry": None}
    with SyncGuard(SlowStore(), cache="c", service="s", clock=lambda: now[0], **options) as guard:
        guard.set("k", "old", ttl=10)
        now[0] += 20
        before = Caller(lambda: guard.get("k", load=load, ttl=10))
        assert asked.wait(DEADLINE)
        guard.delete("k")
        answer.set()
        assert load.entered.wait(DEADLINE)
        after = Caller(lambda: guard.get("k", load=load, ttl=10))
        until(lambda: guard.core.waiting() == 1)
        load.open.set()
        assert (before.outcome(), after.outcome()) == (load.value, load.value)
