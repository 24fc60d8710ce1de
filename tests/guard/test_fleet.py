"""Several processes that miss the same key: the lease lets one of them load, and nobody trusts it longer than that."""

from __future__ import annotations

import asyncio
import json
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from tests.waiting import until

from herdwatch.guard import Guard, LoadTimeout
from herdwatch.stack import RedisServer, Supervisor

WORKER = Path(__file__).with_name("fleet_worker.py")
KEY, LEASE = "user:1", "herdwatch:lease:{user:1}"
SECONDS = 20.0


class Process:
    """A worker; what it says comes through a queue, so that every wait has an end."""

    def __init__(self, url: str, ledger: RedisServer, **job: Any) -> None:
        job |= {"url": url, "ledger": ledger.url.replace("/0", "/1")}
        command = [sys.executable, str(WORKER), json.dumps(job)]
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self._said: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.child.stdout or ():
            self._said.put(line)

    def told(self, line: str) -> Process:
        if self.child.stdin is not None:
            self.child.stdin.write(line + "\n")
        return self

    def said(self) -> Any:
        return json.loads(self._said.get(timeout=SECONDS))

    def end(self) -> None:
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGCONT)
            self.child.kill()
        self.child.wait(SECONDS)
        self._reader.join(SECONDS)
        for stream in (self.child.stdin, self.child.stdout):
            if stream is not None:
                stream.close()


Start = Callable[..., Process]


@pytest.fixture
def start(shared: RedisServer) -> Iterator[Start]:
    """Starts a worker on the shared Redis, or on another; loads are counted in the shared one."""
    begun: list[Process] = []

    def process(url: str = shared.url, **job: Any) -> Process:
        begun.append(Process(url, shared, **job))
        return begun[-1]

    yield process
    for one in begun:
        one.end()
    with shared.client() as client:
        client.flushall()


@pytest.fixture
def own(supervisor: Supervisor) -> Iterator[RedisServer]:
    """A Redis to hurt."""
    server = RedisServer(supervisor, name=f"own-{time.monotonic_ns()}")
    yield server
    server.kill()


def ready(*processes: Process) -> None:
    assert [one.said() for one in processes] == ["ready"] * len(processes)


def loads(ledger: RedisServer) -> int:
    with ledger.client(db=1) as client:
        return int(client.get("loads") or 0)


def listeners(server: RedisServer, channel: str = LEASE) -> int:
    with server.client() as client:
        [(_, number)] = client.pubsub_numsub(channel)
        return int(number)


def answers(*said: dict[str, Any]) -> Counter[str]:
    """What the callers of all processes got, and how many of them."""
    return sum((Counter(one["answers"]) for one in said), Counter())


def test_four_processes_with_250_callers_each_on_one_cold_key_are_one_load(start: Start, shared: RedisServer) -> None:
    processes = [start(callers=250) for _ in range(4)]
    ready(*processes)
    said: list[dict[str, Any]] = []
    for number in range(1, 6):
        for one in processes:
            one.told(f"ask user:{number}")
        said = [one.said() for one in processes]
        [(answer, callers)] = answers(*said).items()
        assert (json.loads(answer)["load"], callers) == (number, 1000)
        assert loads(shared) == number
        until(lambda channel=f"herdwatch:lease:{{user:{number}}}": listeners(shared, channel) == 0)
    sums = sum((Counter(one["counts"]) for one in said), Counter())
    assert sums["singleflight_executions_total miss"] == 5
    assert sums["singleflight_coalesced_total fleet"] == 15
    assert sums["singleflight_coalesced_total process"] == 4980
    assert sums["singleflight_requests_total"] == sums["cache_lookups_total miss"] == 5000


def test_a_leader_that_is_killed_costs_the_others_its_lease_and_one_of_them_loads(
    start: Start, shared: RedisServer
) -> None:
    leader, *others = processes = [start(options={"lease": 1.0}, seconds=30)]
    others = [start(options={"lease": 1.0}) for _ in range(3)]
    ready(*processes, *others)
    leader.told(f"ask {KEY}")
    until(lambda: loads(shared) == 1)
    for one in others:
        one.told(f"ask {KEY}")
    until(lambda: listeners(shared) == 3)
    leader.child.kill()
    killed = time.monotonic()
    [(answer, callers)] = answers(*(one.said() for one in others)).items()
    # Its lease, a poll, the load of 0.3 s; the rest is for a busy machine.
    assert time.monotonic() - killed < 1.0 + 0.3 + 0.3 + 2.0
    assert (json.loads(answer)["load"], callers) == (2, 9)
    assert loads(shared) == 2


def test_a_load_that_fails_elsewhere_is_told_by_its_type_and_not_by_its_text(start: Start, shared: RedisServer) -> None:
    leader, other = start(error="password=secret", seconds=1), start()
    ready(leader, other)
    leader.told(f"ask {KEY}")
    until(lambda: loads(shared) == 1)
    other.told(f"ask {KEY}")
    assert answers(leader.said()) == {"ZeroDivisionError: password=secret": 3}
    [(answer, callers)] = answers(said := other.said()).items()
    assert answer == f"RemoteLoadError: the load of '{KEY}' failed in another process with ZeroDivisionError"
    assert callers == 3
    assert said["counts"]["singleflight_coalesced_total fleet"] == 1
    assert said["counts"]["singleflight_coalesced_total process"] == 2
    assert loads(shared) == 1
    assert json.loads(*answers(other.told(f"ask {KEY}").said()))["load"] == 2


async def write(url: str) -> None:
    client = redis.asyncio.Redis.from_url(url)
    async with Guard(client, cache="users", service="profiles", registry=None) as guard:
        assert await guard.set("user:0", "value", ttl=60)
        assert await guard.delete("user:0")


COMMANDS = "+get +mget +set +del +eval +pexpire"


@pytest.mark.parametrize(
    "rules",
    ["+publish +subscribe +unsubscribe resetchannels", "allchannels"],
    ids=["channels denied", "commands denied"],
)
def test_where_the_acl_denies_pubsub_waiters_poll(
    start: Start, own: RedisServer, shared: RedisServer, rules: str
) -> None:
    with own.client() as client:
        user = f"ACL SETUSER app on >word ~user:* ~herdwatch:* -@all {COMMANDS} {rules}"
        assert client.execute_command(*user.split()) == b"OK"
    url = own.url.replace("://", "://app:word@")
    asyncio.run(write(url))
    processes = [start(url, seconds=0.6) for _ in range(3)]
    ready(*processes)
    for one in processes:
        one.told(f"ask {KEY}")
    said = [one.said() for one in processes]
    [(answer, callers)] = answers(*said).items()
    assert (json.loads(answer)["load"], callers) == (1, 9)
    assert listeners(own) == 0
    for one in processes:
        assert answers(one.told(f"ask {KEY}").said()) == {answer: 3}
    assert loads(shared) == 1


def test_a_load_longer_than_the_lease_keeps_it(start: Start, shared: RedisServer) -> None:
    processes = [start(options={"lease": 0.3}, seconds=1.2) for _ in range(3)]
    ready(*processes)
    for one in processes:
        one.told(f"ask {KEY}")
    assert len(answers(*(one.said() for one in processes))) == 1
    assert loads(shared) == 1


def test_an_old_leader_that_was_stopped_never_overwrites_the_newer_value(start: Start, shared: RedisServer) -> None:
    old, new = (start(options={"lease": 0.3}, seconds=0.6) for _ in range(2))
    ready(old, new)
    old.told(f"ask {KEY}")
    until(lambda: loads(shared) == 1)
    old.child.send_signal(signal.SIGSTOP)
    [newer] = answers(new.told(f"ask {KEY}").said())
    assert json.loads(newer)["load"] == 2
    old.child.send_signal(signal.SIGCONT)
    [older] = answers(old.said())
    assert json.loads(older)["load"] == 1
    assert answers(old.told(f"ask {KEY}").said()) == answers(new.told(f"ask {KEY}").said()) == {newer: 3}


def test_an_old_leader_that_was_stopped_leaves_the_newer_lease_alone(start: Start, shared: RedisServer) -> None:
    old, new, third = (start(options={"lease": 0.3}, seconds=seconds) for seconds in (0.4, 1.5, 0.1))
    ready(old, new, third)
    old.told(f"ask {KEY}")
    until(lambda: loads(shared) == 1)
    old.child.send_signal(signal.SIGSTOP)
    new.told(f"ask {KEY}")
    until(lambda: loads(shared) == 2)
    old.child.send_signal(signal.SIGCONT)
    assert json.loads(*answers(old.said()))["load"] == 1
    [newer] = answers(third.told(f"ask {KEY}").said())
    assert json.loads(newer)["load"] == 2
    assert answers(new.said()) == {newer: 3}


def test_a_restart_of_redis_while_processes_wait_leaves_nobody_without_a_value(
    start: Start, own: RedisServer, shared: RedisServer
) -> None:
    processes = [start(own.url, seconds=1.0) for _ in range(3)]
    ready(*processes)
    for one in processes:
        one.told(f"ask {KEY}")
    until(lambda: listeners(own) == 2)
    own.kill()
    own.restart()
    found = answers(*(one.said() for one in processes))
    assert found.total() == 9
    assert {json.loads(answer)["key"] for answer in found} == {KEY}
    assert 1 <= loads(shared) <= 3
    after = [answers(one.told("ask user:2").said()) for one in processes]
    assert len(set(map(str, after))) == 1


def test_after_a_fork_parent_and_child_serve_with_connections_and_counts_of_their_own(
    start: Start, shared: RedisServer
) -> None:
    leader, forking = start(seconds=1.0), start()
    ready(leader, forking)
    leader.told(f"ask {KEY}")
    until(lambda: loads(shared) == 1)
    forking.told(f"ask {KEY}")  # waits for the leader: its pub/sub connection is there when it forks, in its loop
    first = forking.said()
    leader.said()
    assert first["counts"]["singleflight_requests_total"] == 3
    for number in range(2, 5):
        forking.told(f"fork user:{number}")
        said = sorted((forking.said(), forking.said()), key=lambda one: one["pid"] == first["pid"])
        child, parent = said
        assert child["pid"] != parent["pid"] == first["pid"]
        assert parent["status"] == 0
        [(answer, callers)] = answers(child, parent).items()
        assert (json.loads(answer)["key"], callers) == (f"user:{number}", 6)
        assert child["counts"]["singleflight_requests_total"] == 3
        assert parent["counts"]["singleflight_requests_total"] == 3 * number
        assert loads(shared) == number


def test_a_lease_is_never_extended_beyond_the_load_timeout(shared: RedisServer) -> None:
    async def stubborn(_: str) -> None:
        ends = asyncio.get_running_loop().time() + 3
        while (left := ends - asyncio.get_running_loop().time()) > 0:
            try:
                await asyncio.sleep(left)
            except asyncio.CancelledError:
                continue

    async def other(_: str) -> str:
        return "other"

    async def work() -> None:
        client = redis.asyncio.Redis.from_url(shared.url)
        options: Any = {"cache": "users", "service": "profiles", "registry": None, "lease": 0.3}
        async with Guard(client, load_timeout=0.8, **options) as one, Guard(client, **options) as two:
            hanging = asyncio.create_task(one.get(KEY, load=stubborn, ttl=60))
            await asyncio.sleep(0.5)
            began = time.monotonic()
            assert await two.get(KEY, load=other, ttl=60) == "other"
            assert time.monotonic() - began < 2
            with pytest.raises(LoadTimeout):
                await hanging
        async with Guard(client, **options) as three:
            assert await three.get(KEY, load=stubborn, ttl=60) == "other"

    async def bounded() -> None:
        async with asyncio.timeout(SECONDS):
            await work()

    asyncio.run(bounded())
    with shared.client() as client:
        client.flushall()
