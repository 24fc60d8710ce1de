"""The applications of the drill: one that reads through a plain cache, and one that reads through the guard."""

from __future__ import annotations

import asyncio
import contextlib
import json
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from herdwatch.drill.replay.levels import Level, options
from herdwatch.drill.replay.scale import GROUP, SERVICE, Scale
from herdwatch.guard import Guard, Reporter

REDIS_SECONDS = 1.0
CONNECTIONS = 50
ROLE_SECONDS = 0.2
REPORT_SECONDS = 5.0
JOURNAL_SECONDS = 5.0

Loader = Callable[[str], Awaitable[dict[str, Any]]]


class Application(ABC):
    """Looks users up, and knows how many lookups there were and how many found a value."""

    hits = 0
    lookups = 0

    @abstractmethod
    async def look_up(self, key: str) -> Any:
        """One user, from the cache or from the database; raises whatever fails."""

    async def __aenter__(self) -> Application:
        return self

    async def __aexit__(self, *_: object) -> None:  # noqa: B027 - not every application has something to end
        """End what was begun."""

    def count(self) -> None:  # noqa: B027 - a plain one is up to date
        """Bring `hits` and `lookups` up to date."""


class Plain(Application):
    """What is written before anyone has heard of a herd: read, load what is missing, store it."""

    def __init__(self, port: int, load: Loader, ttl: float) -> None:
        self._redis = client(port, max_connections=CONNECTIONS)
        self._free = asyncio.Semaphore(CONNECTIONS)
        self._load, self._ttl = load, ttl

    async def look_up(self, key: str) -> Any:
        raw = await self._ask(self._redis.get(key))
        self.lookups += 1
        if raw is not None:
            self.hits += 1
            return json.loads(raw)
        found = await self._load(key)
        await self._ask(self._redis.set(key, json.dumps(found), px=round(self._ttl * 1000)))
        return found

    async def _ask(self, command: Awaitable[Any]) -> Any:
        # redis-py refuses a caller when all connections are in use; an application would make them wait.
        async with self._free:
            with contextlib.suppress(RedisError):
                return await command


class Guarded(Application):
    """The same through the guard: one at each server, of which the one at the primary is asked."""

    def __init__(
        self, ports: Sequence[int], load: Loader, *, cache: str, level: Level, scale: Scale, journal: Path
    ) -> None:
        self._load, self._ttl, self._journal = load, scale.ttl, journal
        self._clients = [client(port) for port in ports]
        self._guards = [
            Guard(one, cache=cache, service=SERVICE, registry=None, **options(level, scale)) for one in self._clients
        ]
        self._guard = self._guards[0]

    async def __aenter__(self) -> Application:
        self._reporter = Reporter(
            *self._guards, every=REPORT_SECONDS, journal=self._journal, journal_every=JOURNAL_SECONDS
        )
        self._following = asyncio.create_task(self._follow_primary())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._following.cancel()
        await asyncio.to_thread(self._reporter.close)
        for guard in self._guards:
            await guard.aclose()

    async def look_up(self, key: str) -> Any:
        return await self._guard.get(key, load=self._load, ttl=self._ttl, group=GROUP)

    def count(self) -> None:
        counts = [guard.core.counts[GROUP] for guard in self._guards]
        self.hits = sum(one.hit + one.stale for one in counts)
        self.lookups = self.hits + sum(one.led + one.shared + one.fetched + one.shed for one in counts)

    async def _follow_primary(self) -> None:
        """Ask the servers who the primary is, as a client with a Sentinel does."""
        while len(self._guards) > 1:
            for redis, guard in zip(self._clients, self._guards, strict=True):
                with contextlib.suppress(RedisError):
                    if (await redis.role())[0] == b"master":
                        self._guard = guard
                        break
            await asyncio.sleep(ROLE_SECONDS)


def client(port: int, **more: Any) -> Redis:
    """A client with deadlines that retries nothing."""
    return Redis(
        port=port,
        socket_timeout=REDIS_SECONDS,
        socket_connect_timeout=REDIS_SECONDS,
        retry=Retry(NoBackoff(), 0),
        driver_info=None,
        **more,
    )
