"""The guard in threads across processes: one load for all of them, whatever becomes of its leader."""

from __future__ import annotations

import collections
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from tests.waiting import until

from herdwatch.errors import RemoteLoadError
from herdwatch.guard import SyncGuard
from herdwatch.guard.commands import lease_of
from herdwatch.stack import RedisServer

DEADLINE = 30.0
WORKER = Path(__file__).with_name("sync_worker.py")
VALUE = {"name": "Ada"}

Worker = subprocess.Popen[str]
Start = Callable[..., Worker]


@pytest.fixture
def empty(shared: RedisServer) -> RedisServer:
    with shared.client() as client:
        client.flushall()
    return shared


@pytest.fixture
def start(empty: RedisServer) -> Iterator[Start]:
    workers: list[Worker] = []

    def one(**arguments: Any) -> Worker:
        told = json.dumps({"url": empty.url, "key": "k", "callers": 1, "seconds": 0, **arguments})
        workers.append(subprocess.Popen([sys.executable, str(WORKER), told], stdout=subprocess.PIPE, text=True))
        return workers[-1]

    yield one
    for worker in workers:
        worker.kill()
        worker.communicate(timeout=DEADLINE)


@pytest.fixture
def make(empty: RedisServer) -> Iterator[Callable[..., SyncGuard]]:
    guards: list[SyncGuard] = []

    def one(url: str = empty.url, **options: Any) -> SyncGuard:
        client = redis.Redis.from_url(url)
        guards.append(SyncGuard(client, cache="users", service="tests", registry=None, refresh=None, **options))
        return guards[-1]

    yield one
    for guard in guards:
        guard.close()


def number(server: RedisServer, key: str) -> int:
    with server.client() as client:
        return int(client.get(key) or 0)


def go(server: RedisServer, workers: int) -> None:
    until(lambda: number(server, "ready") == workers)
    with server.client() as client:
        client.set("go", 1)


def told(*workers: Worker) -> tuple[dict[str, int], dict[str, int]]:
    """What all callers of these workers got, and the sum of the counts."""
    found: collections.Counter[str] = collections.Counter()
    counts: collections.Counter[str] = collections.Counter()
    for worker in workers:
        output, _ = worker.communicate(timeout=DEADLINE)
        answer = json.loads(output)
        found.update(answer["found"])
        counts.update(answer["counts"])
    return dict(found), {name: total for name, total in counts.items() if total}


def in_threads(callers: int, call: Callable[[], Any]) -> Callable[[], list[Any]]:
    """Begin so many callers; the function waits for what they got."""
    outcomes: list[Any] = []

    def one() -> None:
        try:
            outcomes.append(call())
        except Exception as error:
            outcomes.append(error)

    threads = [threading.Thread(target=one, daemon=True) for _ in range(callers)]
    for thread in threads:
        thread.start()

    def wait() -> list[Any]:
        for thread in threads:
            thread.join(DEADLINE)
            assert not thread.is_alive(), "a caller hangs"
        return outcomes

    return wait


def never(_key: str) -> Any:
    raise AssertionError("this process was not to load")


def test_four_processes_of_50_threads_load_one_cold_key_exactly_once(start: Start, empty: RedisServer) -> None:
    workers = [start(callers=50, seconds=0.3) for _ in range(4)]
    go(empty, 4)
    found, counts = told(*workers)
    assert found == {json.dumps(VALUE): 200}
    assert number(empty, "loads") == counts["singleflight_executions_total.miss"] == 1
    assert counts["singleflight_requests_total"] == counts["cache_lookups_total.miss"]
    assert counts["singleflight_requests_total"] + counts.get("cache_lookups_total.hit", 0) == 200
    assert 1 <= counts["singleflight_coalesced_total.fleet"] <= 3


def test_threads_of_one_process_and_coroutines_of_another_share_one_load(start: Start, empty: RedisServer) -> None:
    workers = [start(kind=kind, callers=50, seconds=0.3) for kind in ("sync", "asyncio")]
    go(empty, 2)
    found, counts = told(*workers)
    assert found == {json.dumps(VALUE): 100}
    assert number(empty, "loads") == counts["singleflight_executions_total.miss"] == 1
    assert counts["singleflight_coalesced_total.fleet"] == 1


@pytest.mark.parametrize("kind", ["sync", "asyncio"])
def test_a_leader_killed_in_another_process_costs_its_lease_and_one_load_here(
    start: Start, empty: RedisServer, make: Callable[..., SyncGuard], kind: str
) -> None:
    leader = start(kind=kind, seconds=DEADLINE, lease=0.5)
    go(empty, 1)
    until(lambda: number(empty, "loads") == 1)
    guard, calls = make(lease=0.5), []
    wait = in_threads(20, lambda: guard.get("k", load=lambda key: calls.append(key) or VALUE, ttl=60))
    until(lambda: guard.core.waiting() == 19)
    time.sleep(0.6)
    assert calls == []  # its leader lives, and holds the lease for longer than it lasts
    leader.kill()
    assert wait() == [VALUE] * 20
    assert calls == ["k"]


def test_a_load_that_fails_in_another_process_is_not_tried_here_and_keeps_its_text_to_itself(
    start: Start, empty: RedisServer, make: Callable[..., SyncGuard]
) -> None:
    guard, leader = make(), start(seconds=2.0, fails=True)
    go(empty, 1)
    until(lambda: number(empty, "loads") == 1)
    wait = in_threads(5, lambda: guard.get("k", load=never, ttl=60))
    errors = wait()
    assert {type(error) for error in errors} == {RemoteLoadError}
    assert {str(error) for error in errors} == {"the load of 'k' failed in another process with ValueError"}
    assert told(leader)[0] == {"ValueError('a secret of the database')": 1}
    totals = guard.core.counts.totals()
    assert totals["singleflight_coalesced_total", "default", "fleet"] == 1
    assert totals["singleflight_coalesced_total", "default", "process"] == 4
    assert guard.get("k", load=lambda _: "anew", ttl=60) == "anew"


def test_a_lease_is_held_for_as_long_as_the_load_takes_and_then_given_back(
    empty: RedisServer, make: Callable[..., SyncGuard]
) -> None:
    leader, follower, calls = make(lease=0.15), make(lease=0.15), []

    def slow(key: str) -> str:
        calls.append(key)
        time.sleep(1.0)
        return "value"

    for key in ("first", "second"):  # the thread that extends leases rests in between
        wait = in_threads(1, lambda key=key: leader.get(key, load=slow, ttl=60))
        until(lambda key=key: key in calls)
        assert follower.get(key, load=never, ttl=60) == "value"
        assert wait() == ["value"]
        with empty.client() as client:
            assert not client.exists(lease_of(key))
        time.sleep(0.2)
    assert calls == ["first", "second"]


def test_a_lease_is_never_extended_beyond_the_load_timeout(empty: RedisServer, make: Callable[..., SyncGuard]) -> None:
    guard, go_on = make(lease=0.3, load_timeout=0.6), threading.Event()
    wait = in_threads(1, lambda: guard.get("k", load=lambda _: go_on.wait(DEADLINE), ttl=60))
    with empty.client() as client:
        until(lambda: client.exists(lease_of("k")))
        until(lambda: not client.exists(lease_of("k")))
        assert not client.exists("k")
        go_on.set()
        assert wait() == [True]
        assert not client.exists("k")


def test_where_the_acl_denies_channels_waiters_poll(empty: RedisServer, make: Callable[..., SyncGuard]) -> None:
    with empty.client() as client:
        client.execute_command(
            "ACL", "SETUSER", "deaf", "reset", "on", ">secret", "~*", "resetchannels",
            "-@all", "+get", "+set", "+del", "+eval", "+pexpire", "+publish", "+subscribe", "+unsubscribe",
        )  # fmt: skip
    url, entered, go_on = empty.url.replace("redis://", "redis://deaf:secret@"), threading.Event(), threading.Event()
    leader, follower = make(url), make(url)

    def slow(_key: str) -> str:
        entered.set()
        assert go_on.wait(DEADLINE)
        return "value"

    first = in_threads(1, lambda: leader.get("k", load=slow, ttl=60))
    assert entered.wait(DEADLINE)
    second = in_threads(5, lambda: follower.get("k", load=never, ttl=60))
    until(lambda: follower.core.waiting() == 4)
    time.sleep(0.3)
    go_on.set()
    assert first() + second() == ["value"] * 6
    with empty.client() as client:
        client.execute_command("ACL", "DELUSER", "deaf")


def test_who_waits_for_another_process_is_woken_by_its_message(
    empty: RedisServer, make: Callable[..., SyncGuard], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("herdwatch.guard.sync_load.POLL_SECONDS", DEADLINE)  # the net is out of reach
    leader, follower, entered, go_on = make(), make(), threading.Event(), threading.Event()

    def slow(_key: str) -> str:
        entered.set()
        assert go_on.wait(DEADLINE)
        return "value"

    began = time.monotonic()
    first = in_threads(1, lambda: leader.get("k", load=slow, ttl=60))
    assert entered.wait(DEADLINE)
    second = in_threads(5, lambda: follower.get("k", load=never, ttl=60))
    with empty.client() as client:
        until(lambda: client.pubsub_numsub(lease_of("k"))[0][1] == 1)
        go_on.set()
        assert first() + second() == ["value"] * 6
        assert time.monotonic() - began < DEADLINE / 2
        until(lambda: client.pubsub_numsub(lease_of("k"))[0][1] == 0)
