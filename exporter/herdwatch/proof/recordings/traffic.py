"""An application of the recordings as a process of its own: it reads through the guard, whatever comes, and reports.

SIGUSR1 makes its imaginary database fail, and the next one makes it work again. SIGTERM ends it, with a last report.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import signal
from collections.abc import Iterator
from dataclasses import dataclass, fields

from redis.asyncio import Redis

from herdwatch.guard import Guard, GuardError, Reporter
from herdwatch.guard.refresh import Coin, XFetch

TICK_SECONDS = 0.1
SKEW = 3.0
"""Popularity: key number = keys * u**SKEW for uniform u, so an eighth of the keys takes half of the lookups."""
ROLE_SECONDS = 0.5
OUTSTANDING = 2_000
FILL = 5
"""Keys that are filled at the same time."""


@dataclass(frozen=True, slots=True)
class Habits:
    """How an application uses its cache: lookups a second, keys, seconds of ttl and stale, milliseconds of a load.

    `refresh` is the probability with which a hit renews its value; 0 leaves that to XFetch. `spread` 0 makes all keys
    equally popular. `fill` puts what would be there if it had run for long.
    """

    rate: float = 50.0
    keys: int = 2_500
    ttl: float = 900.0
    stale: float = 0.0
    load: float = 8.0
    refresh: float = 0.0
    db: int = 0
    spread: int = 1
    fill: int = 1
    service: str = "shop"

    def arguments(self) -> list[str]:
        """The command line that says the same."""
        return [part for one in fields(self) for part in (f"--{one.name}", str(getattr(self, one.name)))]


class DatabaseDown(Exception):
    """The imaginary database refuses."""


class Application:
    """One process life: a guard per server, of which the one at the primary is asked."""

    def __init__(self, ports: list[int], cache: str, habits: Habits, seed: int) -> None:
        self._habits = habits
        self._clients = [Redis(port=port, db=habits.db, socket_timeout=1.0) for port in ports]
        refresh = Coin(habits.refresh) if habits.refresh else XFetch()
        self._guards = [
            Guard(client, cache=cache, service=habits.service, registry=None, refresh=refresh, stale=habits.stale)
            for client in self._clients
        ]
        self._guard = self._guards[0]
        self._random = random.Random(seed)  # noqa: S311 - traffic, not secrets
        self._failing = False
        self._out: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Look up until SIGTERM."""
        done = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, done.set)
        loop.add_signal_handler(signal.SIGUSR1, self._toggle)
        if self._habits.fill:
            await self._fill()
        with Reporter(*self._guards):
            follower = asyncio.create_task(self._follow_primary())
            while not done.is_set():
                self._begin()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(done.wait(), TICK_SECONDS)
            follower.cancel()

    def _begin(self) -> None:
        """The callers of one tick. They wait for nobody but themselves: a slow cache does not make fewer of them."""
        expected = self._habits.rate * TICK_SECONDS
        callers = sum(self._random.random() < 0.5 for _ in range(round(2 * expected)))
        for _ in range(min(callers, OUTSTANDING - len(self._out))):
            task = asyncio.create_task(self._look_up(self._number()))
            self._out.add(task)
            task.add_done_callback(self._out.discard)

    def _number(self) -> int:
        popular = self._random.random() ** (SKEW if self._habits.spread else 1.0)
        return int(self._habits.keys * popular)

    async def _look_up(self, number: int) -> None:
        with contextlib.suppress(GuardError, DatabaseDown):
            await self._guard.get(self._key(number), load=self._load, ttl=self._habits.ttl, group="users")

    def _key(self, number: int) -> str:
        return f"users:{self._habits.keys}:{number}"

    async def _load(self, key: str) -> dict[str, str]:
        await asyncio.sleep(self._habits.load / 1000 * self._random.uniform(0.5, 1.5))
        if self._failing:
            raise DatabaseDown
        return {"key": key, "about": "x" * 200}

    async def _fill(self) -> None:
        numbers = list(self._present())
        for begin in range(0, len(numbers), FILL):
            await asyncio.gather(*(self._put(number) for number in numbers[begin : begin + FILL]))

    async def _put(self, number: int) -> None:
        key = self._key(number)
        left = max(1.0, self._habits.ttl * self._random.random())
        await self._guard.set(key, {"key": key, "about": "x" * 200}, ttl=left, group="users")

    def _present(self) -> Iterator[int]:
        """The keys that are there after a long time: a key is missed, loaded, and there for a ttl."""
        habits = self._habits
        skew = SKEW if habits.spread else 1.0
        for number in range(habits.keys):
            share = ((number + 1) / habits.keys) ** (1 / skew) - (number / habits.keys) ** (1 / skew)
            looked_up = habits.rate * share * habits.ttl
            if self._random.random() < looked_up / (1 + looked_up):
                yield number

    async def _follow_primary(self) -> None:
        """Ask the servers who the primary is, as a client with a sentinel does."""
        while len(self._guards) > 1:
            for client, guard in zip(self._clients, self._guards, strict=True):
                with contextlib.suppress(Exception):
                    if (await client.role())[0] == b"master":
                        self._guard = guard
                        break
            await asyncio.sleep(ROLE_SECONDS)

    def _toggle(self) -> None:
        self._failing = not self._failing


def main() -> None:
    """Run until ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ports", required=True, help="of the servers, the primary first")
    parser.add_argument("--cache", required=True)
    parser.add_argument("--seed", type=int, default=1)
    for one in fields(Habits):
        parser.add_argument(f"--{one.name}", type=type(one.default), default=one.default)
    options = vars(parser.parse_args())
    ports = [int(port) for port in options.pop("ports").split(",")]
    cache, seed = options.pop("cache"), options.pop("seed")
    asyncio.run(Application(ports, cache, Habits(**options), seed).run())


if __name__ == "__main__":
    main()
