"""Processes that fork: `python fork_worker.py SCENE URL`; prints what parent and child saw as one line of JSON.

In processes of their own, because a child of the test runner would be a test runner too.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import redis
from prometheus_client import CollectorRegistry

from herdwatch.guard import Reporter, SyncFlight, SyncGuard, exposition

DEADLINE = 20


def make(url: str, **options: Any) -> SyncGuard:
    return SyncGuard(redis.Redis.from_url(url), cache="users", service="tests", refresh=None, **options)


def load(_key: str) -> str:
    return "value"


def use(guard: SyncGuard, hits: int) -> None:
    for _ in range(hits):
        assert guard.get("k", load=load, ttl=60) == "value"


def seen(guard: SyncGuard, reporter: Reporter) -> dict[str, Any]:
    """The counts, the connection that the guard has to Redis, and the threads."""
    counts = {f"{family}.{label}".rstrip("."): n for (family, _, label), n in guard.core.counts.totals().items() if n}
    connection = guard._store.run(("CLIENT", "ID"), 5.0)
    threads = sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("herdwatch"))
    return {"counts": counts, "connection": connection, "threads": threads, "name": reporter._posts[0]._incarnation}


def in_child(work: Callable[[], Any]) -> Any:
    """What `work` returns in a fork of this process, which is ended should it hang."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(DEADLINE)
        os.write(writing, json.dumps(work()).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the child ended with {status}"
    return json.loads(answer)


def anew(url: str, by_multiprocessing: bool) -> dict[str, Any]:
    """Guard and Reporter of the parent, used on both sides of a fork."""
    with make(url) as guard, Reporter(guard, every=0.05) as reporter:
        use(guard, 3)
        before = seen(guard, reporter)

        def child() -> dict[str, Any]:
            begun = seen(guard, reporter)
            use(guard, 5)
            reporter.close()
            return {"begun": begun, "ended": seen(guard, reporter)}

        if by_multiprocessing:
            context = multiprocessing.get_context("fork")
            found_by, answers = context.Pipe(duplex=False)  # no queue: its semaphore wants a /dev/shm
            process = context.Process(target=lambda: answers.send(child()))
            process.start()
            assert found_by.poll(DEADLINE)
            found = found_by.recv()
            process.join(DEADLINE)
            assert process.exitcode == 0
        else:
            found = in_child(child)
        use(guard, 1)
        return {"before": before, **found, "after": seen(guard, reporter)}


def locked(url: str) -> str:
    """Every lock of the guard held and loads in the air at the moment of the fork."""
    guard, flight, inside, go = make(url), SyncFlight(), threading.Event(), threading.Event()

    def slow(_key: str = "") -> str:
        inside.set()
        assert go.wait(DEADLINE)
        return "parent"

    leads = [lambda: guard.get("k", load=slow, ttl=60), lambda: flight.do("k", slow)]
    threads = [threading.Thread(target=lead, daemon=True) for lead in leads]
    for thread in threads:
        inside.clear()
        thread.start()
        assert inside.wait(DEADLINE)
    locks = [
        guard._loads.lock,
        guard._store._gate._lock,
        guard._store._background._lock,
        guard._stage._limiter._lock,
        guard._stage._limiter._slots._lock,
        guard._stage._keeper._lock,
        flight._entries.lock,
    ]
    for lock in locks:
        lock.acquire()

    def child() -> list[Any]:
        deleted = guard.delete("k")
        return [deleted, guard.get("k", load=lambda _: "child", ttl=60), *flight.do("k", lambda: "child")]

    answer = in_child(child)
    for lock in locks:
        lock.release()
    go.set()
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive()
    guard.close()
    return answer


def busy(url: str) -> int:
    """Forks in the midst of threads at work; how many children did theirs."""
    ended = threading.Event()
    with make(url, max_loads=2, lease=0.2) as guard, Reporter(guard, every=0.01):

        def work(place: int) -> None:
            number = 0
            while not ended.is_set():
                number += 1
                guard.get(f"k{number % 50}", load=load, ttl=60)
                if number % 7 == place % 7:
                    guard.delete(f"k{number % 50}")

        threads = [threading.Thread(target=work, args=(place,), daemon=True) for place in range(6)]
        for thread in threads:
            thread.start()
        done = 0
        for turn in range(20):
            time.sleep(0.01)
            done += in_child(
                lambda turn=turn: guard.get(f"child{turn}", load=load, ttl=60) == guard.get("k1", load=load, ttl=60)
            )
        ended.set()
        for thread in threads:
            thread.join(DEADLINE)
            assert not thread.is_alive()
    return done


def woken(url: str) -> list[Any]:
    """A fork while a thread of the parent waits for a message from Redis, which it gets nevertheless."""
    import herdwatch.guard.sync_load as stage

    stage.POLL_SECONDS = 60.0
    leader, follower, inside, go = make(url), make(url), threading.Event(), threading.Event()

    def slow(_key: str) -> str:
        inside.set()
        assert go.wait(DEADLINE)
        return "value"

    found: list[str] = []
    first = threading.Thread(target=lambda: found.append(leader.get("k", load=slow, ttl=60)), daemon=True)
    first.start()
    assert inside.wait(DEADLINE)
    second = threading.Thread(target=lambda: found.append(follower.get("k", load=slow, ttl=60)), daemon=True)
    second.start()
    side = redis.Redis.from_url(url)
    channel = "herdwatch:lease:{k}"
    deadline = time.monotonic() + DEADLINE
    while side.pubsub_numsub(channel)[0][1] != 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    found.append(in_child(lambda: (follower.delete("other"), follower.close(), leader.close()) and "child"))
    go.set()
    for thread in (first, second):
        thread.join(DEADLINE)
        assert not thread.is_alive()
    leader.close()
    follower.close()
    return found


def exposed(url: str) -> list[Any]:
    """The lookups that a registry shows, of a guard that is there and of one that is gone; the locks held meanwhile."""
    registry = CollectorRegistry()
    guard, gone = (make(url, registry=registry) for _ in range(2))
    use(guard, 3)
    use(gone, 2)
    del gone
    gc.collect()

    def hits() -> float | None:
        place = {"cache": "users", "service": "tests", "group": "default", "result": "hit"}
        return registry.get_sample_value("cache_lookups_total", place)

    def child() -> list[Any]:
        begun = hits()
        use(guard, 5)
        other = make(url, registry=registry)
        use(other, 1)
        return [begun, hits()]

    before = hits()
    with exposition._lock, exposition._collectors[registry]._lock:
        found = in_child(child)
    return [before, *found, hits()]


def main(scene: str, url: str) -> None:
    scenes: dict[str, Callable[[], Any]] = {
        "fork": lambda: anew(url, by_multiprocessing=False),
        "multiprocessing": lambda: anew(url, by_multiprocessing=True),
        "locked": lambda: locked(url),
        "busy": lambda: busy(url),
        "woken": lambda: woken(url),
        "exposed": lambda: exposed(url),
    }
    print(json.dumps(scenes[scene]()))


if __name__ == "__main__":
    main(*sys.argv[1:])
