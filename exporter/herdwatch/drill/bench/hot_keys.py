"""What it costs to know which keys are hot, and how much of the truth is in the journal."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
import time
from collections import Counter
from pathlib import Path

from redis.asyncio import Redis
from rich.table import Table

from herdwatch import journals
from herdwatch.drill.bench.figures import Spread, beyond, ratio, verdict
from herdwatch.drill.bench.orders import TTL
from herdwatch.drill.bench.setting import Setting
from herdwatch.guard import Guard
from herdwatch.guard.core import Core
from herdwatch.guard.hot_keys import BATCH
from herdwatch.guard.journal import JournalFile
from herdwatch.guard.settings import Settings
from herdwatch.guard.store import Store
from herdwatch.guard.testing import MemoryStore
from herdwatch.guard.values import Raw, pack

AIM_RATIO = 1.02
"""Of a hit on a real Redis with the counting, to one without."""
AIM_RECALL = 0.9
TOP = 1000
_KEYS = 1_000_000
_LOOKUPS = 1_000_000
_CALLS = 2_000
_KINDS = ("a Redis", "a store that answers at once")


def run(setting: Setting) -> list[str]:
    """Print one table for the cost and one line for the recall; returns the verdicts."""
    setting.empty()
    traffic = zipf(_LOOKUPS, _KEYS)
    costs = asyncio.run(_costs(setting, traffic))
    setting.console.print(_table(costs, setting.rounds))
    found = recall(traffic, setting.folder / "journal")
    setting.console.print(f"Recall of the journal's top {TOP:,}, {_LOOKUPS:,} lookups by Zipf's law: {found:.3f}")
    on, off = costs[_KINDS[0]]
    return [
        verdict(
            f"Hit that counts its key: at most {AIM_RATIO:.2f} of one that does not", ratio(on, off).median / AIM_RATIO
        ),
        verdict(f"Recall of the top {TOP:,}: at least {AIM_RECALL}", AIM_RECALL / found if found else float("inf")),
    ]


def zipf(lookups: int, keys: int, seed: int = 7) -> list[str]:
    """Keys drawn by Zipf's law with exponent 1."""
    weights = list(itertools.accumulate(1 / rank for rank in range(1, keys + 1)))
    drawn = random.Random(seed).choices(range(keys), cum_weights=weights, k=lookups)  # noqa: S311  no secret
    return [f"user:{rank}" for rank in drawn]


def recall(traffic: list[str], folder: Path) -> float:
    """The share of the truly hottest keys that the journal of a process with this traffic has among its hottest."""
    core = Core(Settings(), cache="bench", service="bench", registry=None)
    hot = core.counts["default"].hot
    if hot is None:
        return 0.0
    for start in range(0, len(traffic), BATCH):
        hot.look(traffic[start : start + BATCH])
    JournalFile(folder, "bench", "bench", [core]).write()
    truth = Counter(traffic)
    hottest = heapq.nlargest(TOP, truth.values())
    # Any key is right that was looked up as often as the last of them: there may be several.
    right = [one for one in journals.read(folder).keys[:TOP] if truth[one.key] >= hottest[-1]]
    return len(right) / len(hottest)


async def _costs(setting: Setting, traffic: list[str]) -> dict[str, tuple[list[float], list[float]]]:
    """Seconds a hit, with the counting and without, a figure for each round, by what the guard stands on."""
    raw = pack(b"x" * 100, loaded_at=time.time(), load_seconds=0.05, expires_at=time.time() + TTL)

    class AtOnce(MemoryStore):
        async def get(self, key: str, within: float) -> bytes | None:  # noqa: ARG002  what a store is asked with
            return raw

    async with Redis.from_url(setting.redis.url) as client:
        on_redis = await _compare(client, traffic[:_CALLS], setting.rounds)
        at_once = await _compare(AtOnce(), traffic[: 20 * _CALLS], setting.rounds)
    return dict(zip(_KINDS, (on_redis, at_once), strict=True))


async def _compare(base: Redis | Store, keys: list[str], rounds: int) -> tuple[list[float], list[float]]:
    guards = [
        Guard(base, cache="bench", service="bench", serializer=Raw(), registry=None, hot_keys=count)
        for count in (Settings().hot_keys, 0)
    ]
    figures: tuple[list[float], list[float]] = ([], [])
    for guard in guards:
        await _hits(guard, keys)  # fills
    for number in range(rounds):
        for which in (0, 1) if number % 2 else (1, 0):  # neither is always the first
            figures[which].append(await _hits(guards[which], keys))
    for guard in guards:
        await guard.aclose()
    return figures


async def _hits(guard: Guard, keys: list[str]) -> float:
    async def load(_: str) -> bytes:
        return b"x" * 100

    began = time.perf_counter()
    for key in keys:
        await guard.get(key, load=load, ttl=TTL)
    return (time.perf_counter() - began) / len(keys)


def _table(costs: dict[str, tuple[list[float], list[float]]], rounds: int) -> Table:
    table = Table(title=f"A hit that counts its key, merges included; medians of {rounds} rounds in turn")
    for column in ("", "us a call", "without", "added", "quartiles", "ratio"):
        table.add_column(column, justify="left" if not column else "right")
    for kind, (on, off) in costs.items():
        added = beyond(on, off)
        table.add_row(
            f"Guard.get on {kind}",
            f"{Spread.of(on).median * 1e6:.2f}",
            f"{Spread.of(off).median * 1e6:.2f}",
            f"{added.median * 1e6:.2f}",
            f"{added.low * 1e6:.2f} - {added.high * 1e6:.2f}",
            f"{ratio(on, off).median:.3f}",
        )
    return table
