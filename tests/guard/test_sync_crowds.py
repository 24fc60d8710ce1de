"""The guard in threads at work: herds, the load limiter, refreshes, values, switches, counts."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from tests.waiting import until

from herdwatch.errors import Shed
from herdwatch.guard import SyncGuard
from herdwatch.guard.refresh import Coin
from herdwatch.guard.testing import SyncMemoryStore
from herdwatch.guard.values import Raw, pack
from herdwatch.stack import RedisServer

DEADLINE = 20.0
Make = Callable[..., SyncGuard]


class Crowd:
    """Threads that all begin at once; what each one got, in order: a value or an exception."""

    def __init__(self, *calls: Callable[[], Any]) -> None:
        self._barrier = threading.Barrier(len(calls))
        self._outcomes: list[Any] = [None] * len(calls)
        self._threads = [
            threading.Thread(target=self._run, args=(place, call), daemon=True) for place, call in enumerate(calls)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, place: int, call: Callable[[], Any]) -> None:
        self._barrier.wait(DEADLINE)
        try:
            self._outcomes[place] = call()
        except Exception as error:
            self._outcomes[place] = error

    def ended(self) -> int:
        return sum(not thread.is_alive() for thread in self._threads)

    def outcomes(self) -> list[Any]:
        for thread in self._threads:
            thread.join(DEADLINE)
            assert not thread.is_alive(), "somebody hangs"
        return self._outcomes


class Loader:
    """Returns its value when it is open, and knows how often it was called and how often at once."""

    def __init__(self, value: Any, *, is_open: bool = True, seconds: float = 0.0) -> None:
        self.value, self.calls, self.running, self.most = value, 0, 0, 0
        self._seconds, self._lock = seconds, threading.Lock()
        self.open = threading.Event()
        if is_open:
            self.open.set()

    def __call__(self, _key: str) -> Any:
        with self._lock:
            self.calls += 1
            self.running += 1
            self.most = max(self.most, self.running)
        try:
            assert self.open.wait(DEADLINE)
            time.sleep(self._seconds)
            if isinstance(self.value, Exception):
                raise self.value
            return self.value
        finally:
            with self._lock:
                self.running -= 1


class Clock:
    """Unix seconds that a test moves."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def counted(guard: SyncGuard) -> dict[str, int]:
    """What is not zero, by the end of the family's name and its own label."""
    totals = guard.core.counts.totals().items()
    names = {
        key: key[0].removesuffix("_total").rpartition("_")[2] + (f".{key[2]}" if key[2] else "") for key, _ in totals
    }
    return {names[key]: value for key, value in totals if value}


@pytest.fixture
def make(shared: RedisServer) -> Iterator[Make]:
    guards: list[SyncGuard] = []

    def one(**options: Any) -> SyncGuard:
        client = redis.Redis.from_url(shared.url)
        options = {"refresh": None, "ttl_jitter": 0, **options}
        guards.append(SyncGuard(client, cache="users", service="tests", registry=None, **options))
        return guards[-1]

    with shared.client() as client:
        client.flushall()
    yield one
    for guard in guards:
        guard.close()


def test_200_threads_ask_for_one_cold_key_at_once_and_it_is_loaded_once(make: Make) -> None:
    guard, load = make(), Loader({"name": "Ada"}, seconds=0.05)
    assert Crowd(*[lambda: guard.get("k", load=load, ttl=60)] * 200).outcomes() == [{"name": "Ada"}] * 200
    found = counted(guard)
    assert (load.calls, found["executions.miss"]) == (1, 1)
    assert found["requests"] == 1 + found.get("coalesced.process", 0)
    assert found["requests"] + found.get("lookups.hit", 0) == 200


def test_a_thousand_callers_in_200_threads_are_each_counted_once_for_one_load(make: Make) -> None:
    guard, load = make(), Loader("value", seconds=0.05)
    crowd = Crowd(*[lambda: [guard.get("k", load=load, ttl=60) for _ in range(5)]] * 200)
    assert crowd.outcomes() == [["value"] * 5] * 200
    found = counted(guard)
    assert load.calls == 1
    assert found["lookups.hit"] + found["lookups.miss"] == 1000
    assert found["requests"] == found["lookups.miss"] == found["executions.miss"] + found["coalesced.process"]


class Gated(SyncMemoryStore):
    """GET answers when the gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()

    def get(self, key: str, within: float) -> bytes | None:
        assert self.gate.wait(DEADLINE)
        return super().get(key, within)


def followers_of_a_get(load: Callable[[str], Any], *, timeout: float) -> tuple[SyncGuard, Crowd]:
    """A guard and five callers, four of whom wait for what the GET of the first leads to."""
    store = Gated()
    guard = SyncGuard(store, cache="users", service="tests", registry=None, refresh=None, timeout=timeout)

    def call() -> Any:
        try:
            return guard.get("k", load=load, ttl=60)
        except Interrupted:
            return "interrupted"

    crowd = Crowd(*[call] * 5)
    until(lambda: sum(len(probe.waiters) for probe in list(guard._probes.values())) == 4)
    store.gate.set()
    return guard, crowd


class Interrupted(BaseException):
    pass


@pytest.mark.parametrize("slow", [False, True])
def test_who_waits_for_a_get_that_misses_waits_for_its_load_however_long_that_takes(slow: bool) -> None:
    load = Loader("value", is_open=False)
    guard, crowd = followers_of_a_get(load, timeout=0.2 if slow else DEADLINE)
    until(lambda: guard.core.waiting() == 4)
    if slow:
        time.sleep(0.4)  # the timeout is for Redis: it ends nobody's wait for a load
        until(lambda: guard.core.waiting() == 4)
    load.open.set()
    assert crowd.outcomes() == ["value"] * 5
    assert counted(guard) == {
        "lookups.miss": 5,
        "requests": 5,
        "executions.miss": 1,
        "coalesced.process": 4,
    }
    assert (load.calls, guard.core.waiting()) == (1, 0)


def test_who_waits_for_a_get_takes_over_when_its_leader_is_interrupted_in_the_load() -> None:
    calls = []

    def load(_key: str) -> str:
        calls.append(threading.get_ident())
        if len(calls) > 1:
            return "value"
        time.sleep(0.1)
        raise Interrupted

    guard, crowd = followers_of_a_get(load, timeout=DEADLINE)
    assert sorted(crowd.outcomes()) == ["interrupted"] + ["value"] * 4
    assert len(calls) == 2
    assert guard.core.waiting() == 0


def test_many_cold_keys_never_run_more_loaders_than_allowed(make: Make) -> None:
    guard, load = make(max_loads=4, max_wait=DEADLINE), Loader("value", seconds=0.01)
    keys = [f"k{number}" for number in range(80)]
    crowd = Crowd(*(lambda key=key: guard.get(key, load=load, ttl=60) for key in keys))
    assert crowd.outcomes() == ["value"] * 80
    assert (load.calls, load.most <= 4) == (80, True)
    assert counted(guard)["executions.miss"] == 80


def test_who_gets_no_slot_in_time_is_turned_away_with_its_followers(make: Make) -> None:
    guard, slow, other = make(max_loads=1, max_wait=0.3), Loader("value", is_open=False), Loader("never")
    first = Crowd(lambda: guard.get("slow", load=slow, ttl=60))
    until(lambda: slow.running)
    shed = Crowd(*[lambda: guard.get("other", load=other, ttl=60)] * 10).outcomes()
    assert {type(error) for error in shed} == {Shed}
    slow.open.set()
    assert first.outcomes() == ["value"]
    found = counted(guard)
    assert (other.calls, found["shed"], found["executions.miss"], found["requests"]) == (0, 10, 1, 11)
    assert guard.get("other", load=Loader("later"), ttl=60) == "later"


def test_one_more_than_may_wait_is_turned_away_at_once(make: Make) -> None:
    guard, slow = make(max_loads=1, max_wait=DEADLINE, max_waiting=1), Loader("value", is_open=False)
    running = Crowd(lambda: guard.get("a", load=slow, ttl=60))
    until(lambda: slow.running)
    waiting = Crowd(lambda: guard.get("b", load=slow, ttl=60))
    until(lambda: guard._stage._limiter._waiting == 1)
    with pytest.raises(Shed):
        guard.get("c", load=slow, ttl=60)
    slow.open.set()
    assert running.outcomes() + waiting.outcomes() == ["value"] * 2


def test_an_old_value_spares_its_callers_the_wait_for_a_slot(make: Make) -> None:
    clock = Clock()
    guard, slow = make(max_loads=1, max_wait=DEADLINE, stale=60, clock=clock), Loader("value", is_open=False)
    guard.set("k", "old", ttl=10)
    clock.now += 11
    first = Crowd(lambda: guard.get("slow", load=slow, ttl=60))
    until(lambda: slow.running)
    assert guard.get("k", load=slow, ttl=10) == "old"
    assert counted(guard)["stale"] == 1
    slow.open.set()
    assert first.outcomes() == ["value"]
    assert guard.get("k", load=Loader("new"), ttl=10) == "new"


def test_an_old_value_stands_in_for_a_load_that_fails_until_its_limit(make: Make) -> None:
    clock = Clock()
    guard, load = make(stale=60, clock=clock), Loader(ValueError("database"))
    guard.set("k", "old", ttl=10)
    clock.now += 69
    assert guard.get("k", load=load, ttl=10) == "old"
    clock.now += 2
    with pytest.raises(ValueError, match="database"):
        guard.get("k", load=load, ttl=10)
    assert (load.calls, counted(guard)["errors"], counted(guard)["executions.miss"]) == (2, 2, 2)


def test_a_refresh_runs_in_the_background_and_who_found_it_due_does_not_wait(make: Make) -> None:
    guard, load = make(refresh=Coin(1.0)), Loader("new", is_open=False)
    guard.set("k", "old", ttl=60)
    assert [guard.get("k", load=load, ttl=60) for _ in range(5)] == ["old"] * 5
    until(lambda: load.running)
    load.open.set()
    until(lambda: counted(guard).get("refreshes.ok"))
    guard.core.switches.refresh = False
    assert guard.get("k", load=load, ttl=60) == "new"
    assert counted(guard) == {"lookups.hit": 6, "executions.refresh": 1, "refreshes.ok": 1}


def test_a_late_value_is_given_while_one_refresh_renews_it(make: Make) -> None:
    clock = Clock()
    guard, load = make(refresh=Coin(0.0), stale=60, clock=clock), Loader("new", is_open=False)
    guard.set("k", "old", ttl=10)
    clock.now += 11
    assert Crowd(*[lambda: guard.get("k", load=load, ttl=10)] * 20).outcomes() == ["old"] * 20
    until(lambda: load.running)
    load.open.set()
    until(lambda: counted(guard).get("refreshes.ok"))
    assert guard.get("k", load=load, ttl=10) == "new"
    found = counted(guard)
    assert (load.calls, found["stale"], found["requests"], found["lookups.stale"]) == (1, 20, 20, 20)


def test_a_refresh_that_fails_is_not_tried_again_at_the_pace_of_the_hits(make: Make) -> None:
    guard, load = make(refresh=Coin(1.0)), Loader(ValueError("database"))
    guard.set("k", "old", ttl=60)
    assert guard.get("k", load=load, ttl=60) == "old"
    until(lambda: counted(guard).get("refreshes.error"))
    assert [guard.get("k", load=load, ttl=60) for _ in range(50)] == ["old"] * 50
    assert (load.calls, counted(guard)["refreshes.error"], counted(guard)["errors"]) == (1, 1, 1)


def test_a_refresh_for_which_no_slot_is_free_is_skipped(make: Make) -> None:
    guard, slow, load = make(max_loads=1, refresh=Coin(1.0)), Loader("value", is_open=False), Loader("new")
    guard.set("k", "old", ttl=60)
    first = Crowd(lambda: guard.get("slow", load=slow, ttl=60))
    until(lambda: slow.running)
    assert guard.get("k", load=load, ttl=60) == "old"
    assert (load.calls, counted(guard)["refreshes.skipped"]) == (0, 1)
    slow.open.set()
    assert first.outcomes() == ["value"]


def test_a_thread_may_wait_for_the_refresh_that_it_began_itself(make: Make, shared: RedisServer) -> None:
    guard, load = make(refresh=Coin(1.0)), Loader("new", is_open=False)
    guard.set("k", "old", ttl=60)

    def twice() -> list[str]:
        found = [guard.get("k", load=load, ttl=60)]
        with shared.client() as client:
            client.delete("k")  # as an eviction does
        return [*found, guard.get("k", load=load, ttl=60)]

    crowd = Crowd(twice)
    until(lambda: guard.core.waiting() == 1)
    load.open.set()
    assert crowd.outcomes() == [["old", "new"]]
    assert (load.calls, counted(guard)["coalesced.process"]) == (1, 1)


@pytest.mark.parametrize(
    "foreign",
    [b"", b"hw", b"\x80pickle", b"hw\x02" + bytes(40), pack(b"{broken", loaded_at=1, load_seconds=1, expires_at=9e9)],
)
def test_foreign_bytes_are_a_counted_miss_and_are_replaced(make: Make, shared: RedisServer, foreign: bytes) -> None:
    guard, load = make(), Loader("value")
    with shared.client() as client:
        client.set("k", foreign)
    assert [guard.get("k", load=load, ttl=60) for _ in range(2)] == ["value"] * 2
    assert counted(guard) == {"lookups.hit": 1, "lookups.miss": 1, "requests": 1, "executions.miss": 1}


def test_a_key_of_another_type_is_a_miss_and_is_replaced(make: Make, shared: RedisServer) -> None:
    guard, load = make(), Loader("value")
    with shared.client() as client:
        client.rpush("k", "a", "b")
    assert [guard.get("k", load=load, ttl=60) for _ in range(2)] == ["value"] * 2
    assert load.calls == 1


def test_everyone_gets_a_copy_of_their_own_the_same_on_a_miss_as_on_a_hit(make: Make) -> None:
    guard, load = make(), Loader({"tags": ("a", "b")}, is_open=False)
    crowd = Crowd(*[lambda: guard.get("k", load=load, ttl=60)] * 5)
    until(lambda: guard.core.waiting() == 4)
    load.open.set()
    found = [*crowd.outcomes(), guard.get("k", load=load, ttl=60)]
    assert found == [{"tags": ["a", "b"]}] * 6
    assert len({id(value["tags"]) for value in found}) == 6


def test_who_waits_for_what_a_write_has_made_forgotten_is_counted_as_waiting_until_it_is_served(make: Make) -> None:
    guard, old, new = make(), Loader("old", is_open=False), Loader("new", is_open=False)
    first = Crowd(*[lambda: guard.get("k", load=old, ttl=60)] * 5)
    until(lambda: guard.core.waiting() == 4)
    guard.delete("k")
    assert guard.core.waiting() == 4
    second = Crowd(*[lambda: guard.get("k", load=new, ttl=60)] * 3)
    until(lambda: guard.core.waiting() == 4 + 2)
    old.open.set()
    assert first.outcomes() == ["old"] * 5
    assert guard.core.waiting() == 2
    new.open.set()
    assert second.outcomes() == ["new"] * 3
    assert guard.core.waiting() == 0


def test_who_gave_up_waiting_is_counted_no_more_though_the_load_hangs(make: Make) -> None:
    guard, load = make(load_timeout=2.0), Loader("late", is_open=False)
    crowd = Crowd(*[lambda: guard.get("k", load=load, ttl=60)] * 3)
    until(lambda: guard.core.waiting() == 2 and load.running)
    guard.delete("k")
    until(lambda: crowd.ended() == 2)
    assert (guard.core.waiting(), load.running) == (0, 1)
    load.open.set()
    assert sorted(map(str, crowd.outcomes())) == ["late"] + ["the load of 'k' took longer than 2 s"] * 2


def test_there_is_none_is_remembered_for_its_own_ttl(make: Make, shared: RedisServer) -> None:
    guard, load = make(negative_ttl=5), Loader(None)
    assert [guard.get("k", load=load, ttl=3600) for _ in range(3)] == [None] * 3
    with shared.client() as client:
        assert 0 < client.pttl("k") <= 5000
    assert counted(guard) == {"lookups.negative": 2, "lookups.miss": 1, "requests": 1, "executions.miss": 1}
    forgetful = make(negative_ttl=0)
    assert [forgetful.get("other", load=load, ttl=3600) for _ in range(2)] == [None] * 2
    assert load.calls == 3


def test_what_a_serializer_cannot_store_is_the_loaders_error(make: Make) -> None:
    with pytest.raises(TypeError):
        make().get("k", load=Loader({1, 2}), ttl=60)
    guard = make(serializer=Raw())
    assert [guard.get("raw", load=Loader(b"\x00bytes"), ttl=60) for _ in range(2)] == [b"\x00bytes"] * 2
    with pytest.raises(TypeError, match="Raw"):
        guard.get("text", load=Loader("text"), ttl=60)


def test_several_keys_are_asked_for_at_once_and_only_the_missing_ones_loaded(make: Make) -> None:
    guard, load = make(), Loader("loaded")
    guard.set("a", "stored", ttl=60)
    found = guard.get_many(["b", "a", "c", "a"], load=load, ttl=60)
    assert list(found.items()) == [("b", "loaded"), ("a", "stored"), ("c", "loaded")]
    assert guard.get_many([], load=load, ttl=60) == {}
    assert counted(guard) == {"lookups.hit": 1, "lookups.miss": 2, "requests": 2, "executions.miss": 2}


def test_a_decorated_function_is_the_loader_of_the_key_that_its_arguments_make(make: Make) -> None:
    guard, calls = make(), []

    @guard.cached(key=lambda user, *, full=False: f"user:{user}:{full}", ttl=60, group="users")
    def fetch(user: int, *, full: bool = False) -> dict[str, Any]:
        """Ask the database."""
        calls.append(user)
        return {"user": user, "full": full}

    assert [fetch(1), fetch(1), fetch(1, full=True)] == [{"user": 1, "full": full} for full in (False, False, True)]
    assert (calls, fetch.__name__, fetch.__doc__) == ([1, 1], "fetch", "Ask the database.")
    assert guard.core.counts.totals()["cache_lookups_total", "users", "hit"] == 1


def test_without_singleflight_everyone_loads_alone_and_without_the_limiter_all_at_once(make: Make) -> None:
    guard, load = make(max_loads=1, max_wait=0), Loader("value", is_open=False)
    guard.core.switches.singleflight = guard.core.switches.limiter = False
    crowd = Crowd(*[lambda: guard.get("k", load=load, ttl=60)] * 10)
    until(lambda: load.running == 10)
    load.open.set()
    assert crowd.outcomes() == ["value"] * 10
    assert counted(guard) == {"lookups.miss": 10, "requests": 10, "executions.miss": 10}
    guard.core.switches.singleflight = guard.core.switches.limiter = True
    assert guard.get("k", load=load, ttl=60) == "value"


@pytest.fixture
def hurried() -> Iterator[None]:
    """Threads take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hurried")
def test_no_hit_of_16_threads_is_lost_to_the_counts() -> None:
    with SyncGuard(SyncMemoryStore(), cache="c", service="s", registry=None, refresh=None) as guard:
        guard.set("k", "value", ttl=600)

        def hits() -> int:
            return sum(guard.get("k", load=Loader("none"), ttl=600) == "value" for _ in range(5000))

        assert Crowd(*[hits] * 16).outcomes() == [5000] * 16
        assert counted(guard) == {"lookups.hit": 80_000}


@pytest.mark.usefixtures("hurried")
def test_no_two_loads_have_the_same_token_and_threads_that_take_one_at_once_each_get_theirs() -> None:
    with SyncGuard(SyncMemoryStore(), cache="c", service="s", registry=None) as guard:
        crowd = Crowd(*[lambda: [guard.core.token() for _ in range(5000)]] * 8).outcomes()
    assert len({token for tokens in crowd for token in tokens}) == 40_000


@pytest.mark.usefixtures("hurried")
def test_no_load_of_16_threads_on_shared_keys_is_lost_to_the_counts() -> None:
    with SyncGuard(SyncMemoryStore(), cache="c", service="s", registry=None, refresh=None, max_loads=3) as guard:
        load = Loader("value")

        def work() -> int:
            return sum(guard.get(f"k{number}", load=load, ttl=600) == "value" for number in range(300))

        assert Crowd(*[work] * 16).outcomes() == [300] * 16
        found = counted(guard)
        assert found["executions.miss"] == load.calls == 300
        assert found["requests"] == 300 + found.get("coalesced.process", 0)
        assert found["requests"] + found.get("lookups.hit", 0) == 16 * 300
        assert load.most <= 3
