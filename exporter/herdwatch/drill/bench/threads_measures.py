"""What a worker measures with threads; every time is in seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from herdwatch.drill.bench import threads_candidates
from herdwatch.drill.bench.orders import HIT, TURNS, VALUES, Order
from herdwatch.drill.bench.stopwatch import Stopwatch
from herdwatch.drill.bench.threads_candidates import Get


def hits(order: Order, get: Get, *, key: str, count: int) -> dict[str, Any]:
    """`count` calls in one thread for one warm key, and as many bare GETs, a few at a time in turn."""
    found, before = get(key), order.loads
    mine, base = Stopwatch(), Stopwatch()
    with threads_candidates.bare(order) as bare:
        for _ in range(TURNS // 2):  # neither is always the first
            _repeat(bare, HIT, count // TURNS, base)
            _repeat(get, key, count // TURNS * 2, mine)
            _repeat(bare, HIT, count // TURNS, base)
    right = order.loads == before and found == VALUES[order.value]
    return {"mine": mine.per(count), "base": base.per(count), "right": right}


def _repeat(get: Get, key: str, count: int, watch: Stopwatch) -> None:
    with watch:
        for _ in range(count):
            get(key)


def herd(order: Order, get: Get, *, key: str, callers: int, at: float = 0.0) -> dict[str, Any]:
    """`callers` threads for one key, let go by a barrier at the Unix time `at`; a time runs from the barrier on."""
    times: list[float] = []
    wrong: list[str] = []
    before = order.loads
    barrier = threading.Barrier(callers + 1)

    def call() -> None:
        barrier.wait()
        began = time.perf_counter()
        try:
            found = get(key)
        except Exception as error:
            wrong.append(f"{type(error).__name__}: {error}")
        else:
            if found != VALUES[order.value]:
                wrong.append(f"got {found!r}")
        times.append(time.perf_counter() - began)

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    time.sleep(max(0.0, at - time.time()))
    barrier.wait()
    for thread in threads:
        thread.join()
    return {"times": times, "loads": order.loads - before, "wrong": wrong}


MEASURES: dict[str, Callable[..., dict[str, Any]]] = {"hits": hits, "herd": herd}
