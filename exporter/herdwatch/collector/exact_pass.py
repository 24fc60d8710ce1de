"""The exact size of key groups: all keys once, in small steps in the background, within a budget of Redis's time.

Source: the Redis command reference, SCAN. It needs no permission but +info and +scan, and no key pattern.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from herdwatch.collector import glob, info
from herdwatch.collector.link import Ask
from herdwatch.collector.parts import expect
from herdwatch.collector.resp import ProtocolError

Connect = Callable[[], AbstractAsyncContextManager[Ask]]
"""A connection of its own to the cache's Redis and database, closed when it is left, without waiting for long."""

COUNT = 100
"""Keys a step: 0.1 to 0.2 ms of Redis, which another client cannot tell from any other command."""
REST_SECONDS = 60.0
"""From the end of a pass to the start of the next."""
STEP_SECONDS = 5.0
MAX_REMEMBERED = 100_000
_FIRST_BACKOFF, _MAX_BACKOFF = 1.0, 60.0
# A step of COUNT keys costs Redis far less than the budget of this time; one that took long waited for something else.
_MAX_PAUSE = 60.0


class _Replaced(ConnectionError):
    """Another process answers than the one whose keys are being counted, or than the one that the scrape sees."""


@dataclass(slots=True)
class _Tally:
    """The keys of one group, each once although SCAN may return it twice.

    Only the first 100,000 are remembered, by their hashes, in 8 MB: beyond that a key that comes twice counts twice,
    which happens when Redis shrinks its table in the middle of a pass.
    """

    count: int = 0
    remembered: set[int] = field(default_factory=set)

    def add(self, key: bytes) -> None:
        mark = hash(key)
        if mark in self.remembered:
            return
        if len(self.remembered) < MAX_REMEMBERED:
            self.remembered.add(mark)
        self.count += 1


@dataclass(slots=True)
class _Progress:
    """One pass through the keys of one process; its cursor is good for as long as that process lives."""

    run_id: str | None
    tallies: dict[str, _Tally]
    cursor: int = 0
    ended: bool = False

    def take(self, reply: Any, patterns: Mapping[str, Any]) -> None:
        """One reply of SCAN; raises it if it is an error, and ProtocolError if it is no reply of SCAN."""
        if isinstance(reply, Exception):
            raise reply
        try:
            cursor, keys = int(reply[0]), list(reply[1])
            found = [(self.tallies[name], list(filter(pattern.match, keys))) for name, pattern in patterns.items()]
        except (TypeError, ValueError, LookupError):
            raise ProtocolError("what answers to SCAN is no cursor and list of keys") from None
        for tally, mine in found:
            for key in mine:
                tally.add(key)
        self.cursor, self.ended = cursor, cursor == 0


@dataclass(frozen=True, slots=True)
class Counted:
    """What a pass found: keys by group, in which process, and when it ended by the clock of the pass."""

    keys: Mapping[str, int]
    run_id: str | None
    ended: float


class ExactPass:
    """Counts the keys of some groups of one cache. `budget` is seconds of Redis's time per second.

    What goes wrong is kept in `failure` and never raised; it is None again as soon as a step has worked. A pass that
    was interrupted goes on where it was, unless another process answers: then it starts anew.
    """

    def __init__(
        self,
        patterns: Mapping[str, str],
        *,
        budget: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._patterns = {name: glob.compiled(pattern) for name, pattern in patterns.items()}
        self._budget = budget
        self._clock, self._sleep = clock, sleep
        self._observed: str | None = None
        self._progress: _Progress | None = None
        self._counted: Counted | None = None
        self._failed_in_turn = 0
        self.failure: Exception | None = None

    def observe(self, run_id: str | None) -> None:
        """Say which process the scrape has seen; what was counted in another one is not shown."""
        self._observed = run_id

    @property
    def counted(self) -> Counted | None:
        """The last pass that ended, if it was in the process that the scrape sees."""
        done = self._counted
        return done if done is not None and self._is_seen(done.run_id) else None

    def age(self, counted: Counted) -> float:
        """Seconds since that pass ended."""
        return self._clock() - counted.ended

    async def run(self, connect: Connect) -> None:
        """Pass after pass until it is cancelled."""
        while True:
            try:
                await self._one_pass(connect)
            except Exception as error:
                self.failure = error
                await self._sleep(min(_FIRST_BACKOFF * 2**self._failed_in_turn, _MAX_BACKOFF))
                self._failed_in_turn = min(self._failed_in_turn + 1, 10)
            else:
                await self._sleep(REST_SECONDS)

    async def _one_pass(self, connect: Connect) -> None:
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(STEP_SECONDS):
                ask = await stack.enter_async_context(connect())
                run_id = await _process(ask)
            progress = self._resumed(run_id)
            while not progress.ended:
                if not self._is_seen(run_id):
                    raise _Replaced
                await self._step(ask, progress)
            # Should the connection have been replaced behind our back, a cursor of one process was given to another.
            async with asyncio.timeout(STEP_SECONDS):
                if await _process(ask) != run_id:
                    raise _Replaced
        self._counted = Counted(
            {name: tally.count for name, tally in progress.tallies.items()}, progress.run_id, self._clock()
        )
        self._progress = None

    def _resumed(self, run_id: str | None) -> _Progress:
        if self._progress is None or self._progress.run_id != run_id or self._progress.ended:
            self._progress = _Progress(run_id, {name: _Tally() for name in self._patterns})
        return self._progress

    async def _step(self, ask: Ask, progress: _Progress) -> None:
        began = self._clock()
        async with asyncio.timeout(STEP_SECONDS):
            [reply] = await ask([("SCAN", progress.cursor, "COUNT", COUNT)])
        took = self._clock() - began
        progress.take(reply, self._patterns)
        self.failure, self._failed_in_turn = None, 0
        # How long it took is the most that Redis can have spent on it.
        await self._sleep(min(took / self._budget - took, _MAX_PAUSE))

    def _is_seen(self, run_id: str | None) -> bool:
        return self._observed in (None, run_id)


async def _process(ask: Ask) -> str | None:
    """The run_id of the process that answers."""
    [reply] = await ask([("INFO", "server")])
    return info.parse(expect(reply, bytes)).get("run_id")
