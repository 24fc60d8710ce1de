"""What a worker is told to measure: a candidate, the value it serves, the loader behind it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from redis import BlockingConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

TTL = 3600
CONNECTIONS = 50
HIT = "hit"
"""The key that a bare GET finds."""
TURNS = 10
"""How often a sample of hits changes between the candidate and the bare GET."""
PROFILE = {"id": 42, "name": "Ada Lovelace", "mail": "ada@example.org", "teams": ["engine", "notes"], "active": True}
VALUES: dict[str, Any] = {"raw": b"profile of user 42, a hundred bytes".ljust(100, b"."), "json": PROFILE}
"""By kind, what every loader returns: 100 bytes, or a dict of about 100 bytes of JSON."""


@dataclass
class Order:
    """One candidate's work. The loaders count their calls, in `loads` and at the Redis `counter` if there is one."""

    candidate: str
    url: str
    value: str = "raw"
    delay: float = 0.0
    counter: str | None = None
    loads: int = 0
    _count: Callable[[str], Any] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.counter is not None:
            self._count = Redis.from_url(self.counter, **alike()).incr

    async def load(self, _: str) -> Any:
        """The loader for asyncio: waits `delay` seconds as a database would let it."""
        self._counted()
        if self.delay:
            await asyncio.sleep(self.delay)
        return VALUES[self.value]

    def load_in_thread(self, _: str) -> Any:
        """The loader for threads."""
        self._counted()
        if self.delay:
            time.sleep(self.delay)
        return VALUES[self.value]

    def _counted(self) -> None:
        self.loads += 1
        if self._count is not None:
            self._count("loads")


def alike() -> dict[str, Any]:
    """How every client for threads is configured, so that figures differ by the library alone."""
    return {**both(), "retry": Retry(NoBackoff(), 0)}


def both() -> dict[str, Any]:
    """What clients for asyncio and for threads share; redis-py has a Retry of its own for each."""
    return {"socket_timeout": 1, "socket_connect_timeout": 1, "protocol": 2, "driver_info": None}


def pool(url: str, *, wait: float = 1) -> BlockingConnectionPool:
    """Connections for threads; a caller waits at most `wait` seconds for one."""
    return BlockingConnectionPool.from_url(url, **alike(), max_connections=CONNECTIONS, timeout=wait)
