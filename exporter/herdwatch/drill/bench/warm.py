"""What a warm-up costs: its throughput beside a plain pipeline of SETs, the database's load beside its budget."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis
from rich.console import Console

from herdwatch.drill.bench.figures import ratio, verdict
from herdwatch.guard import Guard
from herdwatch.operations.warm import Keys, Outcome, Speed, Warmer
from herdwatch.stack import RedisServer, Supervisor

KEYS = 3_000
ROUNDS = 5
BATCH = 100
TTL = 600.0
RATE = 400.0
AIM_LOAD = 1.1
SEED_RATE = 1_000.0
"""Keys a second: the seed warms 10,000 in about ten."""
_PLACES, _SERVICE_SECONDS = 4, 0.01
_LATENCY = 0.025

Loader = Callable[[str], Awaitable[Any]]


@dataclass(slots=True)
class _Database:
    """Answers after `seconds`, at most `places` at the same time; remembers when it was asked and how long it took."""

    seconds: float = 0.0
    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(10_000))
    asked: list[float] = field(default_factory=list)
    took: list[float] = field(default_factory=list)

    async def __call__(self, key: str) -> dict[str, str]:
        began = time.monotonic()
        self.asked.append(began)
        async with self.places:
            await asyncio.sleep(self.seconds)
        self.took.append(time.monotonic() - began)
        return {"key": key, "name": "x" * 40}

    def peak(self, window: float = 1.0) -> float:
        """The most questions a second, over any window of so many seconds."""
        first, most = 0, 0
        for last, at in enumerate(self.asked):
            while at - self.asked[first] >= window:
                first += 1
            most = max(most, last - first + 1)
        return most / window


def run(*, keys: int = KEYS, rounds: int = ROUNDS) -> None:
    """Print all figures and the verdicts."""
    console = Console(highlight=False)
    with Supervisor() as supervisor:
        server = RedisServer(supervisor)
        for seconds in (0.0, 0.005):
            console.print(_throughput(server, keys, rounds, seconds), markup=False)
        console.print(asyncio.run(_rate(server, keys)), markup=False)
        console.print(asyncio.run(_latency(server, keys)), markup=False)


def _throughput(server: RedisServer, keys: int, rounds: int, seconds: float) -> str:
    ours, plain = [], []
    for _ in range(rounds):
        ours.append(keys / asyncio.run(_warmed(server, keys, _Database(seconds), Speed(keys, 0.0, None, None, BATCH))))
        plain.append(keys / asyncio.run(_plain(server, keys, _Database(seconds))))
    found = ratio(ours, plain)
    told = (
        f"{keys:,} keys, loader of {seconds * 1000:g} ms: {statistics.median(ours):,.0f} keys a second, "
        f"{found.median:.2f} of a plain pipeline of SETs ({found.low:.2f} to {found.high:.2f})"
    )
    return f"{told}\n{verdict('the pace of the seed, 1,000 keys a second', SEED_RATE / statistics.median(ours))}"


async def _warmed(server: RedisServer, keys: int, database: Loader, speed: Speed) -> float:
    return (await _outcome(server, keys, database, speed)).seconds


async def _outcome(server: RedisServer, keys: int, database: Loader, speed: Speed) -> Outcome:
    async with Redis.from_url(server.url) as client:
        await client.flushall()
        async with Guard(client, cache="users", service="bench", registry=None, max_loads=BATCH) as guard:
            names = tuple(f"user:{number}" for number in range(keys))
            return await Warmer(guard, database, Keys(names, "the benchmark"), ttl=TTL, speed=speed).run()


async def _plain(server: RedisServer, keys: int, database: Loader) -> float:
    """What one writes without a guard: load a hundred at the same time, then store them in one write."""
    async with Redis.from_url(server.url) as client:
        await client.flushall()
        began = time.monotonic()
        for first in range(0, keys, BATCH):
            names = [f"user:{number}" for number in range(first, min(first + BATCH, keys))]
            values = await asyncio.gather(*map(database, names))
            async with client.pipeline(transaction=False) as pipeline:
                for name, value in zip(names, values, strict=True):
                    pipeline.set(name, repr(value), ex=round(TTL))
                await pipeline.execute()
        return time.monotonic() - began


async def _rate(server: RedisServer, keys: int) -> str:
    database = _Database(0.002)
    outcome = await _outcome(server, keys, database, Speed(rate=RATE))
    share = database.peak() / RATE
    return (
        f"budget of {RATE:g} loads a second: {keys / outcome.seconds:,.0f} on average, "
        f"at most {share:.2f} of the budget in any second\n"
        f"{verdict(f'peak load of the database at most {AIM_LOAD} of the budget', share / AIM_LOAD)}"
    )


async def _latency(server: RedisServer, keys: int) -> str:
    database = _Database(_SERVICE_SECONDS, asyncio.Semaphore(_PLACES))
    outcome = await _outcome(server, keys, database, Speed(latency=_LATENCY))
    capacity = _PLACES / _SERVICE_SECONDS
    settled = statistics.median(database.took[len(database.took) // 4 :])
    return (
        f"budget of {_LATENCY * 1000:g} ms for a database that takes {capacity:,.0f} a second: "
        f"median {settled * 1000:.1f} ms, at {keys / outcome.seconds / capacity:.2f} of its capacity\n"
        f"{verdict(f'median load at most {AIM_LOAD} of the budget', settled / _LATENCY / AIM_LOAD)}"
    )
