"""What the guard's parts cost by themselves, without Redis; times are seconds a call.

Every measure gives `mine`, the time with the part, and `base`, the time of what has to be there anyway.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from herdwatch.drill.bench.orders import TTL, Order

_TOGETHER = 1000


async def probe(order: Order, _: object, *, count: int) -> dict[str, float]:
    """Guard.get on a hit that nobody else asks for, over a store whose get() returns the stored bytes at once.

    `base` is the same await of that store's get(), then `values.unpack` of the header and the serializer's `loads` of
    the rest. What is left is the front door: whether a flight or a probe is in the air, the probe's entry in the table
    and out of it, the clock, the refresh's decision and the count.
    """
    from herdwatch.guard import Guard
    from herdwatch.guard.testing import MemoryStore
    from herdwatch.guard.values import HEADER_BYTES, Raw, pack, unpack

    now = time.time()
    raw = pack(await order.load("hit"), loaded_at=now, load_seconds=0.05, expires_at=now + TTL)

    class AtOnce(MemoryStore):
        async def get(self, key: str, within: float) -> bytes | None:  # noqa: ARG002  what a store is asked with
            return raw

    store, serializer = AtOnce(), Raw()

    async def base() -> None:
        found = await store.get("hit", 1.0)
        if found is None or unpack(found) is None:
            raise ValueError("the store that answers at once did not")
        serializer.loads(found[HEADER_BYTES:])

    async with Guard(store, cache="bench", service="bench", serializer=serializer, registry=None) as guard:

        async def mine() -> None:
            await guard.get("hit", load=order.load, ttl=TTL)

        return {"mine": await _each(mine, count), "base": await _each(base, count)}


async def leader(_: Order, __: object, *, count: int) -> dict[str, float]:
    """Flight.do with an `fn` that returns at once; `base` is the await of that `fn`."""
    from herdwatch.guard import Flight

    flight = Flight()

    async def mine() -> None:
        await flight.do("key", _at_once)

    return {"mine": await _each(mine, count), "base": await _each(_at_once, count)}


async def follower(_: Order, __: object, *, count: int) -> dict[str, float]:
    """Tasks that follow one flight, a thousand at a time; `base` is as many tasks that await a plain future each."""
    batches = max(1, count // _TOGETHER)
    mine = [await _following() for _ in range(batches)]
    base = [await _waiting() for _ in range(batches)]
    return {"mine": sum(mine) / batches / _TOGETHER, "base": sum(base) / batches / _TOGETHER}


async def sync_leader(_: Order, __: object, *, count: int) -> dict[str, float]:
    """SyncFlight.do with an `fn` that returns at once; `base` is the call of that `fn`."""
    from herdwatch.guard import SyncFlight

    flight = SyncFlight()
    fn: Callable[[], None] = lambda: None  # noqa: E731
    began = time.perf_counter()
    for _number in range(count):
        flight.do("key", fn)
    halfway = time.perf_counter()
    for _number in range(count):
        fn()
    ended = time.perf_counter()
    return {"mine": (halfway - began) / count, "base": (ended - halfway) / count}


MEASURES: dict[str, Callable[..., Awaitable[dict[str, float]]]] = {
    "probe": probe,
    "leader": leader,
    "follower": follower,
    "sync_leader": sync_leader,
}


async def _each(call: Callable[[], Awaitable[None]], count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        await call()
    return (time.perf_counter() - began) / count


async def _at_once() -> None:
    pass


async def _following() -> float:
    """Seconds from the first follower's creation until all have their value."""
    from herdwatch.guard import Flight

    flight, gate = Flight(), asyncio.get_running_loop().create_future()

    async def fn() -> Any:
        return await gate

    leading = asyncio.create_task(flight.do("key", fn))
    await asyncio.sleep(0)  # its flight is in the air
    began = time.perf_counter()
    tasks = [asyncio.create_task(flight.do("key", fn)) for _ in range(_TOGETHER)]
    await asyncio.sleep(0)
    gate.set_result(None)
    await asyncio.gather(*tasks)
    seconds = time.perf_counter() - began
    await leading
    return seconds


async def _waiting() -> float:
    """The same with a future for each."""
    loop = asyncio.get_running_loop()
    futures = [loop.create_future() for _ in range(_TOGETHER)]

    async def wait(future: asyncio.Future[None]) -> None:
        await future

    began = time.perf_counter()
    tasks = [asyncio.create_task(wait(future)) for future in futures]
    await asyncio.sleep(0)
    for future in futures:
        future.set_result(None)
    await asyncio.gather(*tasks)
    return time.perf_counter() - began
