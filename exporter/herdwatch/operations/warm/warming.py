"""The warm-up itself: what is cold is loaded at a bounded pace, and what was lost meanwhile once more.

Its only memory is the cache: a warm-up that was killed goes on where it stopped because what it loaded is warm.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from herdwatch.errors import CacheUnavailable, LoadTimeout, OperationError, RemoteLoadError
from herdwatch.guard import Guard, Reporter
from herdwatch.guard.core import Standing
from herdwatch.operations.warm.keys import Keys, reaches
from herdwatch.operations.warm.outcome import MANY, Outcome, State
from herdwatch.operations.warm.pace import Pace, Speed
from herdwatch.operations.warm.workers import Loader
from herdwatch.reports import Warmup

T = TypeVar("T")

CHUNK = 100
"""Keys of which Redis is asked in one command whether they are warm."""
PASSES = 3
"""How often what was lost on the way, as in a restart, is loaded again."""
REPORT_SECONDS = 5.0
SEED_SPEED = Speed()
_POLL_SECONDS = 0.2
_REFUSED = 10
"""Values that Redis did not take, one after the other, before it is asked again how it is."""
_SOUND = 0.1
"""Failed loads that a key found warm makes up for: a second run finds keys that always fail among warm ones alone."""
_IDLE_ROUNDS = 5
_FURTHER = 10
"""Keys by which it goes on down a journal, at the least, where the wanted share is not reached."""


class Warmer:
    """Warms keys through a guard that it has for itself. For one `run`."""

    def __init__(
        self,
        guard: Guard,
        load: Loader,
        keys: Keys,
        *,
        ttl: float,
        speed: Speed = SEED_SPEED,
        patience: float = 60.0,
        max_failures: int = 100,
        until: float | None = None,
    ) -> None:
        """`ttl` in seconds; `patience` seconds for a Redis that does not answer; `max_failures` in a row end it, or up
        to half as many more where keys that are found warm lie between them.

        `until` the warm keys carry this share of all lookups; raises UsageError where none are known.
        """
        self._guard, self._load, self._ttl = guard, load, ttl
        self._all, self._until = keys, until
        self.keys = keys if until is None else keys.until(until)
        self.speed, self._pace = speed, Pace(speed)
        self._patience, self._max_failures = patience, max_failures
        self.state = State(len(self.keys))
        self._doubt = 0.0
        self._refused = 0
        self._trouble = ""
        self._stopped = ""
        self._interrupted = False
        self._tasks: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        """Begin no more loads; those in the air end."""
        self._interrupted = True
        self._stopped = self._stopped or "stopped"

    async def run(self) -> Outcome:
        """Warm all keys; a loader that fails for some of them does not stop the rest."""
        began = time.monotonic()
        self._tell()
        try:
            await self._may_store()
            left = list(self.keys.names)
            for _ in range(PASSES):
                while left:
                    await self._round(left)
                    left = self._further()
                left = [] if self._stopped else await self._lost()
                if not left:
                    break
        except OperationError as error:
            self._stopped = self._stopped or str(error)
        finally:
            await self._land()
        return Outcome(
            self.state,
            self.keys,
            time.monotonic() - began,
            self._share(),
            self._stopped,
            self._interrupted,
            self._until,
        )

    @property
    def in_the_air(self) -> int:
        """Loads that run now."""
        return len(self._tasks)

    async def look(self) -> dict[str, Standing]:
        """How each key stands now. Raises OperationError when Redis does not answer, or does not let us."""
        await self._may_store()
        found: dict[str, Standing] = {}
        for chunk in _chunks(self.keys.names):
            found |= await self._look(chunk)
        return found

    async def _may_store(self) -> None:
        """What no value will be taken of is not asked of the database."""
        if self.keys.names:
            await self._answered(lambda: self._guard.may_warm(self.keys.names[0]))

    def _share(self) -> float | None:
        return self.keys.share(self.state.carrying)

    def _further(self) -> list[str]:
        """The next keys of the journal, where some that were to carry the wanted share cannot."""
        share, state = self._share(), self.state
        nothing = state.absent >= MANY and not state.loaded + state.shared + state.warm
        if self._until is None or share is None or reaches(share, self._until) or self._stopped or nothing:
            return []
        without = state.came.keys() - state.carrying
        more = len(self._all.until(self._until, without=without))
        if more <= len(self.keys):
            return []
        before, self.keys = len(self.keys), self._all.first(max(more, len(self.keys) + _FURTHER))
        state.target = len(self.keys)
        return list(self.keys.names[before:])

    async def _round(self, left: list[str]) -> None:
        """Until all of them are dealt with: Redis may be away when some are to be loaded, and those come again."""
        idle = 0
        while left and not self._stopped:
            self._refused = 0
            for chunk in _chunks(left):
                for key, stands in (await self._look(chunk)).items():
                    if stands == "cold":
                        await self._begin(key)
                    else:
                        self._settle(key, stands)
                        self._doubt = max(self._doubt - _SOUND, -(self._max_failures // 2))
                if self._halted:
                    break
            await self._land()
            before, left = len(left), [key for key in left if key not in self.state.came]
            idle = 0 if len(left) < before else idle + 1
            if idle == _IDLE_ROUNDS:
                raise OperationError(f"Redis answers and takes no values: {self._trouble}")
            if self._refused:
                await asyncio.sleep(_POLL_SECONDS)

    @property
    def _halted(self) -> bool:
        """Whether no more loads are to begin now: what Redis would not take is not asked of the database."""
        return bool(self._stopped) or self._refused >= _REFUSED

    async def _begin(self, key: str) -> None:
        if self._halted:
            return
        await self._pace.enter()
        if self._halted:
            self._pace.leave(None)
            return
        task = asyncio.create_task(self._one(key))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _one(self, key: str) -> None:
        call, failed = _Call(self._load), False
        try:
            came = await self._guard.warm(key, load=call, ttl=self._ttl, group=self.keys.group)
        except CacheUnavailable as error:
            self._refused, self._trouble = self._refused + 1, str(error)
            if error.refused:
                self._stopped = self._stopped or _refusal(error)
        except Exception as error:
            failed = call.raised is not None or isinstance(error, (LoadTimeout, RemoteLoadError))
            if failed or call.seconds is None:
                self._fail(key, "failures", call.raised or error)
            else:
                self._fail(key, "unstorable", error)
        else:
            self._refused, self._doubt = 0, 0.0
            self._settle(key, came)
        finally:
            self._pace.leave(call.seconds, failed=failed)
            self.state.latency = self._pace.latency
            self._tell()

    def _settle(self, key: str, came: str) -> None:
        self.state.settle(key, came)
        self._tell()

    def _fail(self, key: str, came: str, error: BaseException) -> None:
        self.state.fail(key, came, error)
        self._doubt += 1
        if self._doubt >= self._max_failures:
            self._stopped = self._stopped or f"the last {self._max_failures:,} loads failed, one after the other"

    async def _look(self, chunk: list[str]) -> dict[str, Standing]:
        return await self._answered(lambda: self._guard.look(chunk))

    async def _answered(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What Redis says, once it answers; raises OperationError when that takes longer than the patience."""
        end = time.monotonic() + self._patience
        while True:
            try:
                found = await ask()
            except CacheUnavailable as error:
                if error.refused:
                    raise OperationError(_refusal(error)) from None
                if self._stopped or time.monotonic() > end:
                    raise OperationError(f"Redis has not answered for {self._patience:g} s: {error}") from None
                self.state.waiting = True
                await asyncio.sleep(_POLL_SECONDS)
            else:
                self.state.waiting = False
                return found

    async def _lost(self) -> list[str]:
        """What was warm and is cold: a restart, or a cache that is too small for it."""
        lost, were = [], self.state.carrying
        for chunk in _chunks(self.keys.names):
            for key, stands in (await self._look(chunk)).items():
                if stands == "warm" or key not in were:
                    continue
                self.state.take_back(key)
                if stands == "foreign":
                    self._settle(key, stands)
                else:
                    lost.append(key)
        self.state.lost += len(lost)
        return lost

    async def _land(self) -> None:
        """Wait for the loads in the air; the guard bounds each."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    def _tell(self) -> None:
        self._guard.core.warmup = Warmup(self.state.target, self.state.done, active=True)


class _Call:
    """The loader for one key: how many seconds it took, None when it was not called, and what it raised."""

    def __init__(self, load: Loader) -> None:
        self._load = load
        self.seconds: float | None = None
        self.raised: BaseException | None = None

    async def __call__(self, key: str) -> object:
        began = time.monotonic()
        try:
            return await self._load(key)
        except SystemExit as error:
            self.raised = error
            raise RuntimeError("the loader wanted to end the process") from error
        except Exception as error:
            self.raised = error
            raise
        finally:
            self.seconds = time.monotonic() - began


async def warm(warmer: Warmer, guard: Guard, *, watch: Callable[[State], None] | None = None) -> Outcome:
    """Run a warm-up with a report that shows it as `cache_warmup_*`; `watch` is called five times a second."""
    warmer._tell()
    reporter = Reporter(guard, every=REPORT_SECONDS)
    watching = asyncio.create_task(_watch(warmer.state, watch)) if watch is not None else None
    try:
        return await warmer.run()
    finally:
        if watching is not None:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
        guard.core.warmup = Warmup(warmer.state.target, warmer.state.done, active=False)
        await asyncio.to_thread(reporter.close)


async def _watch(state: State, watch: Callable[[State], None]) -> None:
    while True:
        watch(state)
        await asyncio.sleep(0.2)


def _refusal(error: CacheUnavailable) -> str:
    return (
        f"Redis refuses: {error}; a warm-up needs the application's user: give --guard, or --redis-url with --username "
        "and a password, and not the exporter's"
    )


def _chunks(names: Iterable[str]) -> Iterable[list[str]]:
    names = list(names)
    return (names[start : start + CHUNK] for start in range(0, len(names), CHUNK))
