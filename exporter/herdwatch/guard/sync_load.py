"""The load stage in threads: lease, limiter, loader, fill, in the thread of the caller that leads."""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from herdwatch.errors import LoadTimeout, RemoteLoadError, Shed
from herdwatch.guard import commands, values
from herdwatch.guard.core import Core, count_one
from herdwatch.guard.counts import GroupCounts
from herdwatch.guard.limiter import SyncLimiter
from herdwatch.guard.load import POLL_SECONDS, Skipped, Trigger
from herdwatch.guard.store import StoreDown
from herdwatch.guard.sync_flight import SyncEntries, SyncEntry
from herdwatch.guard.sync_keeper import SyncKeeper
from herdwatch.guard.sync_store import SyncStore

Loader = Callable[[str], Any]

_log = logging.getLogger("herdwatch.guard")


class SyncLoad(SyncEntry[bytes]):
    """One load of one key. Its followers are counted when it ends: until then one of them may have to lead."""

    __slots__ = ("counts", "fenced", "forgotten", "late", "loader", "old", "patience", "seen", "trigger", "ttl")

    def __init__(self, key: str, loader: Loader, ttl: float, counts: GroupCounts, trigger: Trigger) -> None:
        super().__init__(key)
        self.loader, self.ttl, self.counts = loader, ttl, counts
        self.trigger: Trigger = trigger
        self.late = "shared"  # the class of those who follow
        self.old: bytes | None = None  # a value whose ttl has ended, for the case that this load fails
        self.seen: float | None = None  # when the value at hand was loaded
        self.patience = 0.0  # seconds that this load may still wait on Redis
        self.forgotten = False
        self.fenced = True

    def see(self, raw: bytes | None) -> None:
        """Remember which value was at hand: only a newer one answers this load."""
        header = None if raw is None else values.unpack(raw)
        self.seen = None if header is None else header[1]

    def crowd(self) -> int:
        """How many callers wait, for the limiter: its leader, and those who follow."""
        return 1 + len(self.waiters)


class SyncLoadStage:
    """Runs loads for one guard. `self.entries.lock` guards the counts too."""

    def __init__(self, core: Core, store: SyncStore) -> None:
        self._core, self._store, self._settings = core, store, core.settings
        self._counts = core.counts
        self.entries: SyncEntries[SyncLoad] = SyncEntries(self._settings.load_timeout)
        self._lone: set[SyncLoad] = set()
        self._keeper = SyncKeeper(store, self._settings)
        self._limiter = SyncLimiter(self._settings)

    def lead(self, load: SyncLoad) -> bytes:
        """Run a load that this thread has put in the air."""
        return self.entries.lead(load, lambda: self._run(load))  # type: ignore[no-any-return]

    def refresh(self, load: SyncLoad) -> None:
        """Begin in a thread of its own, unless that is in the air already, failed just now, or no slot is free."""
        key = str(load.key)
        if self._core.cooling(key):
            return
        limited = self._core.switches.limiter
        with self.entries.lock:
            if self.entries.find(key) is not None:
                return
            if limited and not self._limiter.enter_if_free():
                load.counts.refresh_skipped += 1
                return
            self.entries.add(load)
            load.thread = 0  # nobody's yet: the thread that found it due may well wait for it
        thread = threading.Thread(target=self._refresh, args=(load, limited), name="herdwatch-refresh", daemon=True)
        try:
            thread.start()
        except BaseException:
            if limited:
                self._limiter.leave()
            self.entries.abandon(load)
            raise

    def alone(self, load: SyncLoad) -> bytes:
        """Load for one caller who shares with nobody: singleflight is switched off."""
        load.fenced = False
        with self.entries.lock:
            self._lone.add(load)
        try:
            raw, seconds = self._execute(load, None)
            self._fill(load, None, raw, seconds)
        finally:
            with self.entries.lock:
                self._lone.discard(load)
        return raw

    def forget(self, key: str) -> None:
        """What was begun before a write is joined by nobody and fills nothing."""
        with self.entries.lock:
            load = self.entries.forget(key)
            if load is not None:
                load.forgotten = True
            for lone in self._lone:
                lone.forgotten |= lone.key == key

    def close(self) -> None:
        """End the thread that holds the leases."""
        self._keeper.close()

    def abandon(self) -> None:
        """After a fork: no load is ours."""
        self.entries.clear()
        self._lone.clear()
        self._keeper.abandon()
        self._limiter = SyncLimiter(self._settings)

    def _refresh(self, load: SyncLoad, limited: bool) -> None:
        load.thread = threading.get_ident()
        try:
            self.entries.lead(load, lambda: self._run(load))
            result = "refresh_ok"
        except Skipped:
            result = "refresh_skipped"
        except BaseException as error:
            result = "refresh_error"
            self._core.cool(str(load.key))
            _log.warning("a background refresh failed with %s; the old value stays", type(error).__name__)
        finally:
            if limited:
                self._limiter.leave()
        self._count(load, result)

    def _count(self, load: SyncLoad, name: str) -> None:
        with self.entries.lock:
            count_one(load.counts, name)

    def _run(self, load: SyncLoad) -> bytes:
        token = None
        load.fenced = bool(self._settings.lease)
        if load.fenced and load.patience > 0:
            outcome = self._acquire(load)
            if isinstance(outcome, bytes):
                self._first(load, "fetched")
                return outcome
            token = outcome
        try:
            raw, seconds = self._execute(load, token)
            self._fill(load, token, raw, seconds)
        except BaseException as error:
            if token is not None:
                message = commands.failure_of(error) if isinstance(error, Exception) else commands.GONE
                if isinstance(error, (Shed, Skipped)):
                    message = commands.GONE
                command = commands.release(str(load.key), token, message)
                with contextlib.suppress(StoreDown):
                    self._patiently(load, lambda within: self._store.run(command, within))
            raise
        return raw

    def _first(self, load: SyncLoad, name: str) -> None:
        """The class of the leader is known; a refresh has none."""
        if load.trigger == "miss":
            self._count(load, name)

    def _acquire(self, load: SyncLoad) -> str | bytes | None:
        """The token of our lease; or the value, when another process has it; or None, when Redis cannot say."""
        key, token, watch = str(load.key), self._core.token(), None
        raw: bytes | None
        try:
            while True:
                try:
                    taken, raw = self._patiently(
                        load,
                        lambda within: self._store.acquire(key, token, self._settings.lease, within),
                        free=watch is not None,
                    )
                    usable = raw is not None and self._core.usable(raw, load.seen)
                    if taken and not usable:
                        return token
                    if taken:
                        self._patiently(
                            load, lambda within: self._store.run(commands.release(key, token, commands.FILLED), within)
                        )
                    if usable and raw is not None:
                        return raw
                    self._give_way(load, "another process loads; the old value is given")
                    if watch is None:
                        watch = self._patiently(load, lambda within: self._store.watch(key, within / 2))
                        continue  # what happened before the subscription is in Redis
                except StoreDown:
                    return None
                self._wait(load, watch)
        finally:
            if watch is not None:
                watch.close()

    def _wait(self, load: SyncLoad, watch: Any) -> None:
        message = watch.wait(POLL_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311  no secret
        kind = None if message is None else commands.failed_kind(message)
        if kind is not None:
            self._first(load, "fetched")
            raise RemoteLoadError(str(load.key), kind)
        if time.monotonic() > load.until:
            self._first(load, "fetched")
            raise LoadTimeout(f"the load of {load.key!r} took longer than {self._settings.load_timeout:g} s")

    def _patiently(self, load: SyncLoad, call: Callable[[float], Any], *, free: bool = False) -> Any:
        """One round trip, which costs the load's patience with Redis; a poll that is answered is `free`."""
        if load.patience <= 0:
            raise StoreDown("out of patience")
        began, costs = time.monotonic(), True
        try:
            reply = call(load.patience)
            costs = not free
        finally:
            if costs:
                load.patience -= time.monotonic() - began
        return reply

    def _give_way(self, load: SyncLoad, why: str) -> None:
        """A refresh that would have to wait ends here, and an old value spares its callers the wait."""
        if load.trigger == "refresh":
            raise Skipped
        if load.old is not None and self._core.within_stale(load.old):
            load.late = "stale"
            self._first(load, "stale")
            raise Shed(why)

    def _execute(self, load: SyncLoad, token: str | None) -> tuple[bytes, float]:
        """Call the loader in a slot of the limiter, the lease held meanwhile; the bytes to store and for how long."""
        # A refresh has its slot since before it began.
        limited = self._core.switches.limiter and load.trigger == "miss"
        try:
            if token is not None:
                self._keeper.hold(str(load.key), token, load.until)
            if limited:
                self._enter(load)
            try:
                return self._call(load)
            finally:
                if limited:
                    self._limiter.leave()
        finally:
            if token is not None:
                self._keeper.drop(token)

    def _enter(self, load: SyncLoad) -> None:
        if self._limiter.enter_if_free():
            return
        self._give_way(load, "no load slot is free; the old value is given")
        try:
            self._limiter.enter(load.crowd)
        except Shed:
            load.late = "shed"
            self._first(load, "shed")
            raise

    def _call(self, load: SyncLoad) -> tuple[bytes, float]:
        began, begun, failed = time.monotonic(), 0, 1
        try:
            with self.entries.lock:
                count_one(load.counts, "led" if load.trigger == "miss" else "refreshed")
                self._counts.inflight += 1
                begun = 1
            value = load.loader(str(load.key))
            packed = self._core.pack(value, ttl=load.ttl, seconds=time.monotonic() - began)
            failed = 0
            return packed
        finally:
            with self.entries.lock:
                self._counts.inflight -= begun
                load.counts.errors += begun * failed
                load.counts.observe(time.monotonic() - began)

    def _fill(self, load: SyncLoad, token: str | None, raw: bytes, seconds: float) -> None:
        """Store what was loaded, if it still may be; whatever Redis says, the callers get their value."""
        # After load_timeout the next caller has begun anew, and this value may be the older one.
        late = 0 < load.until < time.monotonic()
        forgotten = load.forgotten or late
        command = commands.ending(str(load.key), token, raw, seconds, fenced=load.fenced, forgotten=forgotten)
        if command is None:
            return
        with contextlib.suppress(StoreDown):
            self._patiently(load, lambda within: self._store.run(command, within))
