"""The load stage on asyncio: lease, limiter, loader, fill. One task a key, shared by everyone who misses meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from herdwatch.errors import LoadTimeout, RemoteLoadError, Shed
from herdwatch.guard import commands, values
from herdwatch.guard.core import Core, count_one
from herdwatch.guard.counts import GroupCounts
from herdwatch.guard.flight import Entries, Entry, cancelled
from herdwatch.guard.keeper import Keeper
from herdwatch.guard.limiter import Limiter
from herdwatch.guard.store import Store, StoreDown

Loader = Callable[[str], Awaitable[Any]]
Trigger = Literal["miss", "refresh", "warm"]

_log = logging.getLogger("herdwatch.guard")
POLL_SECONDS = 0.25


class Skipped(Exception):
    """A refresh that is not needed: another process is at it, or no slot is free."""


class Homeless(Skipped):
    """A warm-up's load for which Redis has no place now; who joined it looks again. `down` is what Redis said."""

    def __init__(self, down: StoreDown) -> None:
        super().__init__(str(down))
        self.down = down


class Foreign(Skipped):
    """A warm-up's load of a key that holds what no guard of this kind wrote; it stays, and who joined looks again."""


class Load(Entry[bytes]):
    """One load of one key, and how its callers are counted."""

    __slots__ = (
        "counts",
        "executed",
        "fenced",
        "foreign",
        "forgotten",
        "late",
        "limbo",
        "loader",
        "old",
        "patience",
        "seen",
        "stored",
        "trigger",
        "trouble",
        "ttl",
        "was_warm",
    )

    def __init__(self, key: str, loader: Loader, ttl: float, counts: GroupCounts, trigger: Trigger) -> None:
        super().__init__(key)
        self.loader, self.ttl, self.counts = loader, ttl, counts
        self.trigger: Trigger = trigger
        self.late: str | None = None  # the class of callers who come from now on
        self.old: bytes | None = None  # a value whose ttl has ended, for the case that this load fails
        self.seen: float | None = None  # when the value at hand was loaded
        self.patience = 0.0  # seconds that this load may still wait on Redis
        self.limbo = ("fetched", "shared")  # the classes of callers for whom the time runs out before one is known
        self.forgotten = False
        self.fenced = True
        self.executed = self.was_warm = False
        self.stored: bool | None = None  # whether Redis took what was loaded; None: it did not say
        self.trouble: StoreDown | None = None  # why it did not
        self.foreign = False  # whether a warm-up's value was not stored because of what stands there

    def see(self, raw: bytes | None) -> None:
        """Remember which value was at hand: only a newer one answers this load."""
        header = None if raw is None else values.unpack(raw)
        self.seen = None if header is None else header[1]

    def land(self, value: Any, error: BaseException | None) -> None:
        if self.late is None and isinstance(error, LoadTimeout):
            self.classify(*self.limbo)
        super().land(value, error)

    def classify(self, first: str, rest: str) -> None:
        """The class of the callers is known now: of the first who waits, of the others, of those who come later."""
        self.late = rest
        waiting = [counts for future, counts in self.waiters.items() if not future.done()]
        if self.trigger == "miss" and waiting:
            # Followers of the probe wait here before the one who began: the class is still that of its group.
            count_one(waiting.pop(waiting.index(self.counts) if self.counts in waiting else 0), first)
        for counts in waiting:
            count_one(counts, rest)

    def executes(self) -> None:
        """The loader is about to be called."""
        self.executed = True
        if self.trigger == "refresh":
            self.counts.refreshed += 1
        elif self.trigger == "warm":
            self.counts.warmed += 1
        elif not any(not future.done() for future in self.waiters):
            self.counts.led += 1  # who began this load has left: still, the database sees one call
        self.classify("led", "shared")

    def adopt(self, future: asyncio.Future[Any], tag: GroupCounts) -> None:
        if self.late is not None:
            count_one(tag, self.late)
        super().adopt(future, tag)

    @property
    def awaited(self) -> bool:
        """Whether anyone waits."""
        return any(not future.done() for future in self.waiters)

    def crowd(self) -> int:
        """How many callers wait, for the limiter: at once, so with followers of the probe who have left since."""
        return len(self.waiters) or int(self.task is None)  # who loads alone is no waiter


class LoadStage:
    """Runs loads for one guard."""

    def __init__(self, core: Core, store: Store) -> None:
        self._core, self._store, self._settings = core, store, core.settings
        self._counts = core.counts
        self.entries: Entries[Load] = Entries(self._settings.load_timeout)
        self._lone: set[Load] = set()
        self.bind()

    def bind(self) -> None:
        """Begin anew for another event loop."""
        self.entries.abandon()
        self._limiter = Limiter(self._settings)

    def start(self, load: Load) -> Load:
        """Begin; the load ends by itself, whoever leaves."""
        return self.entries.start(load, lambda: self._run(load))

    def refresh(self, load: Load) -> None:
        """Begin in the background, unless that is in the air already, failed just now, or no slot is free."""
        key = str(load.key)
        if self.entries.find(key) is not None or self._core.cooling(key):
            return
        if self._core.switches.limiter and not self._limiter.free():
            load.counts.refresh_skipped += 1
            return
        self.start(load)

    async def alone(self, load: Load) -> bytes:
        """Load for one caller who shares with nobody: singleflight is switched off."""
        load.fenced = False
        self._lone.add(load)
        try:
            async with asyncio.timeout(self._settings.load_timeout) as limit:
                raw, seconds = await self._execute(load, None)
                await self._fill(load, None, raw, seconds)
        except Shed:
            count_one(load.counts, load.late or "shed")
            raise
        except TimeoutError:
            if not limit.expired():
                raise
            if load.late is None:
                count_one(load.counts, "shed")  # the time ran out in the line for a slot
            raise LoadTimeout(f"the load of {load.key!r} took longer than {self._settings.load_timeout:g} s") from None
        except asyncio.CancelledError as error:
            if asyncio.current_task().cancelling():  # type: ignore[union-attr]
                raise
            raise cancelled(load.key, error) from error  # by the loader itself: its caller was not cancelled
        finally:
            self._lone.discard(load)
        return raw

    def forget(self, key: str) -> None:
        """What was begun before a write is joined by nobody and fills nothing."""
        load = self.entries.forget(key)
        if load is not None:
            load.forgotten = True
        for lone in self._lone:
            lone.forgotten |= lone.key == key

    async def _run(self, load: Load) -> bytes:
        try:
            raw = await self._lead(load)
        except Skipped:
            load.counts.refresh_skipped += load.trigger == "refresh"
            raise
        except BaseException as error:
            if load.trigger == "refresh":
                load.counts.refresh_error += 1
                self._core.cool(str(load.key))
                _log.warning("a background refresh failed with %s; the old value stays", type(error).__name__)
            raise
        if load.trigger == "refresh":
            load.counts.refresh_ok += 1
        return raw

    async def _lead(self, load: Load) -> bytes:
        token = None
        load.fenced = bool(self._settings.lease)
        if load.fenced and load.patience > 0:
            outcome = await self._acquire(load)
            if isinstance(outcome, bytes):
                load.classify("fetched", "shared")
                return outcome
            token = outcome
        try:
            raw, seconds = await self._execute(load, token)
        except BaseException as error:
            if token is not None:
                message = commands.GONE if isinstance(error, (Shed, Skipped)) else commands.failure_of(error)
                command = commands.release(str(load.key), token, message)
                with contextlib.suppress(StoreDown):
                    await self._patiently(load, lambda within: self._store.run(command, within))
            raise
        await self._fill(load, token, raw, seconds)
        return raw

    async def _acquire(self, load: Load) -> str | bytes | None:
        """The token of our lease; or the value, when another process has it; or None, when Redis cannot say."""
        key, token, watch = str(load.key), self._core.token(), None
        raw: bytes | None
        try:
            while True:
                try:
                    taken, raw = await self._patiently(
                        load,
                        lambda within: self._store.acquire(key, token, self._settings.lease, within),
                        free=watch is not None,
                    )
                    usable = raw is not None and self._core.usable(raw, load.seen)
                    load.was_warm = usable and watch is None
                    foreign = load.trigger == "warm" and self._core.stands(raw) == "foreign"
                    if taken and not usable and not foreign:
                        return token
                    if taken:
                        await self._patiently(
                            load, lambda within: self._store.run(commands.release(key, token, commands.FILLED), within)
                        )
                    if foreign:
                        raise Foreign
                    if usable and raw is not None:
                        return raw
                    self._give_way(load)
                    if watch is None:
                        watch = await self._patiently(load, lambda within: self._store.watch(key, within / 2))
                        continue  # what happened before the subscription is in Redis
                except StoreDown as error:
                    if load.trigger == "warm":
                        raise Homeless(error) from None
                    return None
                message = await watch.wait(POLL_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311  no secret
                kind = None if message is None else commands.failed_kind(message)
                if kind is not None:
                    load.classify("fetched", "shared")
                    raise RemoteLoadError(key, kind)
        finally:
            if watch is not None:
                await watch.close()

    async def _patiently(self, load: Load, call: Callable[[float], Awaitable[Any]], *, free: bool = False) -> Any:
        """One round trip, which costs the load's patience with Redis; a poll that is answered is `free`."""
        if load.patience <= 0:
            raise StoreDown("out of patience")
        began, costs = time.monotonic(), True
        try:
            reply = await call(load.patience)
            costs = not free
        finally:
            if costs:
                load.patience -= time.monotonic() - began
        return reply

    def _give_way(self, load: Load) -> None:
        """Another process loads: a refresh that nobody waits for ends here, and an old value spares the wait."""
        if load.trigger == "refresh" and not load.awaited:
            raise Skipped
        if load.old is not None and self._core.within_stale(load.old):
            load.classify("stale", "stale")
            raise Shed("another process loads; the old value is given")

    async def _execute(self, load: Load, token: str | None) -> tuple[bytes, float]:
        """Call the loader in a slot of the limiter, the lease held meanwhile; the bytes to store and for how long."""
        keeper = None if token is None else Keeper(self._store, str(load.key), token, self._settings)
        limited = self._core.switches.limiter
        try:
            if keeper is not None:
                keeper.start()
            if limited:
                await self._enter(load)
            try:
                load.executes()
                return await self._call(load)
            finally:
                if limited:
                    self._limiter.leave()
        finally:
            if keeper is not None:
                keeper.stop()

    async def _enter(self, load: Load) -> None:
        if not self._limiter.free():
            if load.trigger == "refresh" and not load.awaited:
                raise Skipped
            if load.old is not None and self._core.within_stale(load.old):
                load.classify("stale", "stale")
                raise Shed("no load slot is free; the old value is given")
        load.limbo = ("shed", "shed")
        try:
            await self._limiter.enter(load.crowd)
        except Shed:
            load.classify("shed", "shed")
            raise

    async def _call(self, load: Load) -> tuple[bytes, float]:
        began = time.monotonic()
        self._counts.inflight += 1
        try:
            value = await load.loader(str(load.key))
            seconds = time.monotonic() - began
            raw, keep = self._core.pack(value, ttl=load.ttl, seconds=seconds)
            # Nobody has asked for this key: what a warm-up's loader does not know may be known to the application's.
            return raw, 0.0 if value is None and load.trigger == "warm" else keep
        except BaseException:
            load.counts.errors += 1
            raise
        finally:
            self._counts.inflight -= 1
            load.counts.observe(time.monotonic() - began)

    async def _fill(self, load: Load, token: str | None, raw: bytes, seconds: float) -> None:
        """Store what was loaded, if it still may be; whatever Redis says, the callers get their value."""
        # A load whose time ran out is in the air no more, so that a write does not find it to make it forgotten.
        forgotten = load.forgotten or load.landed
        cold = load.trigger == "warm"
        command = commands.ending(
            str(load.key), token, raw, seconds, fenced=load.fenced, forgotten=forgotten, cold=cold
        )
        if command is None:
            load.stored = False
            return
        try:
            reply = await self._patiently(load, lambda within: self._store.run(command, within))
            load.foreign = cold and reply == -1
            load.stored = bool(reply) and seconds > 0 and not forgotten and not load.foreign
        except StoreDown as error:
            load.trouble = error
