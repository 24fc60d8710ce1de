"""What a worker measures with asyncio; every time is in seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from herdwatch.drill.bench import asyncio_candidates
from herdwatch.drill.bench.asyncio_candidates import Get
from herdwatch.drill.bench.orders import HIT, TURNS, VALUES, Order
from herdwatch.drill.bench.stopwatch import Stopwatch


async def hits(order: Order, get: Get, *, key: str, count: int) -> dict[str, Any]:
    """`count` sequential calls for one warm key, and as many bare GETs.

    Both in this process and a few at a time in turn: two processes that do the same differ by a tenth.
    """
    found, before = await get(key), order.loads
    mine, base = Stopwatch(), Stopwatch()
    async with asyncio_candidates.bare(order) as bare:
        for _ in range(TURNS // 2):  # neither is always the first
            await _repeat(bare, HIT, count // TURNS, base)
            await _repeat(get, key, count // TURNS * 2, mine)
            await _repeat(bare, HIT, count // TURNS, base)
    right = order.loads == before and found == VALUES[order.value]
    return {"mine": mine.per(count), "base": base.per(count), "right": right}


async def _repeat(get: Get, key: str, count: int, watch: Stopwatch) -> None:
    with watch:
        for _ in range(count):
            await get(key)


async def herd(order: Order, get: Get, *, key: str, callers: int, at: float = 0.0) -> dict[str, Any]:
    """`callers` at once for one key, at the Unix time `at`; each caller's time runs from its own first step."""
    times: list[float] = []
    wrong: list[str] = []
    before = order.loads

    async def call() -> None:
        began = time.perf_counter()
        try:
            found = await get(key)
        except Exception as error:
            wrong.append(f"{type(error).__name__}: {error}")
        else:
            if found != VALUES[order.value]:
                wrong.append(f"got {found!r}")
        times.append(time.perf_counter() - began)

    await asyncio.sleep(at - time.time())
    await asyncio.gather(*(call() for _ in range(callers)))
    return {"times": times, "loads": order.loads - before, "wrong": wrong}


MEASURES: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {"hits": hits, "herd": herd}
