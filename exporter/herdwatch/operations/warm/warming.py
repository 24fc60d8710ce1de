"""The warm-up itself: what is cold is loaded at a bounded pace, and what was lost meanwhile once more.

Its only memory is the cache: a warm-up that was killed goes on where it stopped because what it loaded is warm.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from herdwatch.errors import CacheUnavailable, OperationError
from herdwatch.guard import Guard, Reporter
from herdwatch.operations.warm.keys import Keys
from herdwatch.operations.warm.loading import Loader
from herdwatch.operations.warm.pace import Pace, Speed
from herdwatch.reports import Warmup

CHUNK = 100
"""Keys of which Redis is asked in one command whether they are warm."""
PASSES = 3
"""How often what was lost on the way, as in a restart, is loaded again."""
REPORT_SECONDS = 5.0
SEED_SPEED = Speed()
_POLL_SECONDS = 0.2
_FIRST = 5
_REFUSED = 10
"""Values that Redis did not take, one after the other, before it is asked again how it is."""
_IDLE_ROUNDS = 5
_WARM = ("warm", "loaded", "shared")


@dataclass(slots=True)
class State:
    """How far it is. `warm` were so before, `shared` came from another process, `absent` are those without a value.

    `latency` is the median of the last loads in seconds; `waiting` while Redis does not answer.
    """

    target: int
    warm: int = 0
    loaded: int = 0
    shared: int = 0
    absent: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    first_failed: list[str] = field(default_factory=list)
    lost: int = 0
    latency: float | None = None
    waiting: bool = False

    @property
    def failed(self) -> int:
        return self.failures.total()

    @property
    def done(self) -> int:
        """Keys dealt with, whatever came of it."""
        return self.warm + self.loaded + self.shared + self.absent + self.failed


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it: `stopped` is why it did not come to its end, empty where it did; `share` that of all lookups
    which the warm keys carry, None where nothing is known of lookups.
    """

    state: State
    keys: Keys
    seconds: float
    share: float | None
    stopped: str = ""
    interrupted: bool = False


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
    ) -> None:
        """`ttl` in seconds; `patience` seconds for a Redis that does not answer; `max_failures` in a row end it."""
        self._guard, self._load, self.keys, self._ttl = guard, load, keys, ttl
        self.speed, self._pace = speed, Pace(speed)
        self._patience, self._max_failures = patience, max_failures
        self.state = State(len(keys))
        self._came: dict[str, str] = {}  # what came of each key that is dealt with: the name of its count in State
        self._in_a_row = 0
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
            left = list(self.keys.names)
            for _ in range(PASSES):
                await self._round(left)
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
            self.keys.share({key for key, came in self._came.items() if came in _WARM}),
            self._stopped,
            self._interrupted,
        )

    async def cold(self) -> list[str]:
        """Those of the keys that are not warm now. Raises OperationError when Redis does not answer."""
        found: list[str] = []
        for chunk in _chunks(self.keys.names):
            found += await self._cold(chunk)
        return found

    async def _round(self, left: list[str]) -> None:
        """Until all of them are dealt with: Redis may be away when some are to be loaded, and those come again."""
        idle = 0
        while left and not self._stopped:
            self._refused = 0
            for chunk in _chunks(left):
                cold = set(await self._cold(chunk))
                for key in chunk:
                    if key in cold:
                        await self._begin(key)
                    else:
                        self._settle(key, "warm")
                if self._halted:
                    break
            await self._land()
            before, left = len(left), [key for key in left if key not in self._came]
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
        took: list[float] = []

        async def timed(key: str) -> object:
            began = time.monotonic()
            try:
                return await self._load(key)
            finally:
                took.append(time.monotonic() - began)

        try:
            came = await self._guard.warm(key, load=timed, ttl=self._ttl, group=self.keys.group)
        except CacheUnavailable as error:
            self._refused, self._trouble = self._refused + 1, str(error)
        except Exception as error:
            self._fail(key, error)
        else:
            self._refused = 0
            self._settle(key, came)
        finally:
            self._pace.leave(took[0] if took else None)
            self.state.latency = self._pace.latency
            self._tell()

    def _settle(self, key: str, came: str) -> None:
        self._came[key] = came
        self._in_a_row = 0
        setattr(self.state, came, getattr(self.state, came) + 1)
        self._tell()

    def _fail(self, key: str, error: BaseException) -> None:
        """The type alone is told: its text may hold a secret of the database."""
        self._came[key] = "failed"
        self.state.failures[type(error).__name__] += 1
        if len(self.state.first_failed) < _FIRST:
            self.state.first_failed.append(key)
        self._in_a_row += 1
        if self._in_a_row >= self._max_failures:
            self._stopped = self._stopped or f"the last {self._in_a_row} loads failed, one after the other"

    async def _cold(self, chunk: list[str]) -> list[str]:
        """Which are cold, once Redis answers; raises OperationError when that takes longer than the patience."""
        end = time.monotonic() + self._patience
        while True:
            try:
                found = await self._guard.cold(chunk)
            except CacheUnavailable as error:
                if error.refused:
                    raise OperationError(
                        f"Redis refuses: {error}; a warm-up needs the application's user: give --guard, or --redis-url "
                        "with --username and a password, and not the exporter's"
                    ) from None
                if self._stopped or time.monotonic() > end:
                    raise OperationError(f"Redis has not answered for {self._patience:g} s: {error}") from None
                self.state.waiting = True
                await asyncio.sleep(_POLL_SECONDS)
            else:
                self.state.waiting = False
                return found

    async def _lost(self) -> list[str]:
        """What was warm and is so no more: a restart, or a cache that is too small for it."""
        lost = [key for key in await self.cold() if self._came.get(key) in _WARM]
        self.state.lost += len(lost)
        for key in lost:
            came = self._came.pop(key)
            setattr(self.state, came, getattr(self.state, came) - 1)
        return lost

    async def _land(self) -> None:
        """Wait for the loads in the air; the guard bounds each."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    def _tell(self) -> None:
        self._guard.core.warmup = Warmup(self.state.target, self.state.done, active=True)


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


def _chunks(names: Iterable[str]) -> Iterable[list[str]]:
    names = list(names)
    return (names[start : start + CHUNK] for start in range(0, len(names), CHUNK))
