"""A process of a fleet: `python sync_worker.py JSON`; asks for one key as many times at once as it is told.

It says what it does in Redis: INCR `ready`, wait for `go`, INCR `loads` when its loader is called. At the end it
prints one line of JSON: values and errors with how many callers got them, and the guard's counts.
"""

from __future__ import annotations

import asyncio
import collections
import json
import sys
import threading
import time
from typing import Any

import redis
import redis.asyncio

from herdwatch.guard import Guard, SyncGuard

DEADLINE = 30.0


def main(
    url: str, key: str, callers: int, seconds: float, kind: str = "sync", fails: bool = False, **options: Any
) -> None:
    side = redis.Redis.from_url(url)
    found: collections.Counter[str] = collections.Counter()

    def asked() -> None:
        side.incr("loads")

    def answer() -> dict[str, str]:
        if fails:
            raise ValueError("a secret of the database")
        return {"name": "Ada"}

    def load(_key: str) -> dict[str, str]:
        asked()
        time.sleep(seconds)
        return answer()

    async def async_load(_key: str) -> dict[str, str]:
        await asyncio.to_thread(asked)
        await asyncio.sleep(seconds)
        return answer()

    def ready() -> None:
        side.incr("ready")
        deadline = time.monotonic() + DEADLINE
        while not side.exists("go"):
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def one(guard: SyncGuard) -> None:
        try:
            found[json.dumps(guard.get(key, load=load, ttl=60))] += 1
        except Exception as error:
            found[repr(error)] += 1

    async def async_one(guard: Guard) -> None:
        found[json.dumps(await guard.get(key, load=async_load, ttl=60))] += 1

    def in_threads() -> SyncGuard:
        with SyncGuard(redis.Redis.from_url(url), cache="users", service="tests", registry=None, **options) as guard:
            guard.delete("warm")
            ready()
            threads = [threading.Thread(target=one, args=(guard,), daemon=True) for _ in range(callers)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(DEADLINE)
        return guard

    async def on_a_loop() -> Guard:
        client = redis.asyncio.Redis.from_url(url)
        async with Guard(client, cache="users", service="tests", registry=None, **options) as guard:
            await guard.delete("warm")
            await asyncio.to_thread(ready)
            await asyncio.gather(*(async_one(guard) for _ in range(callers)))
        await client.aclose()
        return guard

    guard = in_threads() if kind == "sync" else asyncio.run(on_a_loop())
    counts = {
        f"{family}.{label}".rstrip("."): total for (family, _, label), total in guard.core.counts.totals().items()
    }
    print(json.dumps({"found": found, "counts": counts}))


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
