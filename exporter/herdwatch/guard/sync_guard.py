"""The guard in threads: the front door, and the probe stage behind it."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, Unpack

import redis
from prometheus_client import REGISTRY, CollectorRegistry

from herdwatch.errors import LoadTimeout
from herdwatch.guard import address, commands
from herdwatch.guard.core import MISS, Core, check_ttl, count_one
from herdwatch.guard.counts import GroupCounts
from herdwatch.guard.hot_keys import BATCH
from herdwatch.guard.load import Skipped
from herdwatch.guard.settings import Options, Settings
from herdwatch.guard.store import StoreDown
from herdwatch.guard.sync_load import SyncLoad, SyncLoadStage
from herdwatch.guard.sync_store import SyncRedisStore, SyncStore

T = TypeVar("T")
P = ParamSpec("P")
Loader = Callable[[str], Any]
Look = tuple[Any, SyncLoad | None, bool]
"""A value or MISS, the load to share, and whether this thread leads it; neither value nor load: look again."""


class Probe:
    """One GET, and who waits for its answer."""

    __slots__ = ("outcome", "thread", "waiters")

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.waiters: list[threading.Lock] = []
        self.outcome: bytes | SyncLoad | None = None  # None: its leader was interrupted


class SyncGuard:
    """A read-through cache in which one load serves everyone who misses; for threads.

    `redis` is a `redis.Redis`, taken as an address: the guard opens connections of its own, which never retry. `cache`
    is the name in herdwatch.yaml, `service` that of the application; both are labels of the metrics on `registry`
    (None: not exposed). Options and their defaults are those of `herdwatch.guard.settings.Settings`.

    A load runs in the thread of the caller that leads it and cannot be ended from outside: after `load_timeout` its
    followers get LoadTimeout, the next caller begins anew, and the leader stays until its loader returns.

    Raises TypeError for a client of another kind and ValueError for an option that cannot be.
    """

    def __init__(
        self,
        redis: redis.Redis | SyncStore,
        *,
        cache: str,
        service: str,
        registry: CollectorRegistry | None = REGISTRY,
        **options: Unpack[Options],
    ) -> None:
        settings = Settings(**options)
        self._store = redis if isinstance(redis, SyncStore) else _store(redis, settings)
        self.core = Core(settings, cache=cache, service=service, registry=registry)
        self.core.forked.append(self._abandon)
        self._counts, self._switches = self.core.counts, self.core.switches
        self._timeout = settings.timeout
        self._stage = SyncLoadStage(self.core, self._store)
        self._loads = self._stage.entries
        self._probes: dict[str, Probe] = {}
        self.core.waiting = self._loads.waiting

    @property
    def address(self) -> address.Address | None:
        """Where its Redis is; None for a store in memory."""
        return self._store.address

    def get(self, key: str, *, load: Callable[[str], T], ttl: float, group: str = "default") -> T:
        """The cached value, or what `load(key)` returns, called once however many ask.

        `ttl` in seconds; `group` names the kind of key in the metrics. The value has been through the serializer, on a
        miss as on a hit, so it is the caller's own. A loader that returns None says that there is none.

        Raises what the loader raised, LoadTimeout, Shed or RemoteLoadError.
        """
        counts = self._counts[group]
        hot = counts.hot
        if hot is not None:
            recent = hot.recent
            recent.append(key)
            if len(recent) >= BATCH:
                hot.merge()
        if not self._switches.singleflight:
            return self._alone(key, load, ttl, counts)  # type: ignore[no-any-return]
        try:
            while True:
                value, flying, led = self._look(key, load, ttl, counts)
                if value is not MISS:
                    return value  # type: ignore[no-any-return]
                raw = None if flying is None else self._share(flying, led, counts)
                if raw is not None:
                    return self.core.decode(raw)  # type: ignore[no-any-return]
                # Its leader was interrupted, or it was a refresh that turned out to be needless: look again.
        except Exception:
            raise
        except BaseException:
            self._interrupted(key)
            raise

    def get_many(
        self, keys: Iterable[str], *, load: Callable[[str], T], ttl: float, group: str = "default"
    ) -> dict[str, T]:
        """The values of several keys, in their order: one MGET, then one load after the other for those that missed."""
        wanted = list(dict.fromkeys(keys))
        counts = self._counts[group]
        known: dict[str, Any] = {}
        if self._switches.singleflight and wanted:
            try:
                raws = self._store.get_many(wanted, self._timeout)
            except StoreDown:
                raws = []
            for key, raw in zip(wanted, raws, strict=False):
                value = self._take(key, raw, load, ttl, counts)
                if value is not MISS:
                    known[key] = value
        if counts.hot is not None:
            counts.hot.look(known)  # the others are looked up by `get`
        return {key: known[key] if key in known else self.get(key, load=load, ttl=ttl, group=group) for key in wanted}

    def set(self, key: str, value: Any, *, ttl: float, group: str = "default") -> bool:
        """Store a value; a load begun before is joined by nobody from now on, and never overwrites it.

        False when Redis did not take it: then the old value may still be there.
        """
        check_ttl(ttl)
        raw, seconds = self.core.pack(value, ttl=ttl, seconds=self._counts[group].mean_load_seconds)
        return self._write(key, commands.put(key, raw, seconds) if seconds > 0 else commands.remove(key))

    def delete(self, key: str) -> bool:
        """Remove a value; a load begun before is joined by nobody from now on, and never fills.

        False when Redis did not answer: then the old value may still be there.
        """
        return self._write(key, commands.remove(key))

    def cached(
        self, *, key: Callable[P, str], ttl: float, group: str = "default"
    ) -> Callable[[Callable[P, T]], Callable[P, T]]:
        """A decorator: the function becomes the loader of the key that `key` makes of the same arguments."""
        check_ttl(ttl)

        def decorate(function: Callable[P, T]) -> Callable[P, T]:
            @functools.wraps(function)
            def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
                return self.get(key(*args, **kwargs), load=lambda _: function(*args, **kwargs), ttl=ttl, group=group)

            guarded.guard = self  # type: ignore[attr-defined]
            return guarded

        return decorate

    def close(self) -> None:
        """Close the connections and end the threads of its own; loads end in the threads that lead them."""
        self._stage.close()
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _look(self, key: str, load: Loader, ttl: float, counts: GroupCounts) -> Look:
        """Learn what there is: from the load in the air, from another caller's GET, or from one of our own."""
        with self._loads.lock:
            flying = self._loads.find(key)
            if flying is not None and flying.trigger == "miss":
                return MISS, flying, False
            probe = self._probes.get(key)
            if probe is None:
                waiter, probe = None, Probe()
                self._probes[key] = probe
            else:
                waiter = threading.Lock()
                waiter.acquire()
                probe.waiters.append(waiter)
        if waiter is None:
            return self._probe(probe, key, load, ttl, counts)
        try:
            answered = waiter.acquire(timeout=self._timeout)
        except BaseException:
            self._leave(probe, waiter)
            raise
        if not answered:
            self._leave(probe, waiter)  # and wait for the load, if there is one, for as long as that takes
        if isinstance(probe.outcome, bytes):
            return self._take(key, probe.outcome, load, ttl, counts), None, False
        if answered or probe.outcome is not None:
            return MISS, probe.outcome, False
        return MISS, *self._begin(key, None, load, ttl, counts, 0.0)

    def _probe(self, probe: Probe, key: str, load: Loader, ttl: float, counts: GroupCounts) -> Look:
        """GET for everyone who asks meanwhile."""
        outcome: bytes | SyncLoad | None = None
        try:
            began = time.monotonic()
            try:
                raw = self._store.get(key, self._timeout)
                left = self._timeout - (time.monotonic() - began)
            except StoreDown:
                raw, left = None, 0.0
            value = self._take(key, raw, load, ttl, counts)
            if value is not MISS:
                outcome = raw
                return value, None, False
            outcome, led = self._begin(key, raw, load, ttl, counts, left, probe)
            return MISS, outcome, led
        finally:
            self._part(key, probe, outcome)

    def _part(self, key: str, probe: Probe, outcome: bytes | SyncLoad | None) -> None:
        """The probe is over: its followers get the outcome, each to make its own value of it."""
        with self._loads.lock:
            if self._probes.get(key) is probe:
                del self._probes[key]
            probe.outcome = outcome
            waiters, probe.waiters = probe.waiters, []
            if isinstance(outcome, SyncLoad) and outcome.in_air:
                outcome.waiters += waiters  # woken once, with its outcome, and not now as well
                return
        for waiter in waiters:
            waiter.release()

    def _leave(self, probe: Probe, waiter: threading.Lock) -> None:
        """Wait for this answer no more, nor for the load that it led to."""
        with self._loads.lock:
            for waiters in (probe.waiters, probe.outcome.waiters if isinstance(probe.outcome, SyncLoad) else []):
                if waiter in waiters:
                    waiters.remove(waiter)

    def _take(self, key: str, raw: bytes | None, load: Loader, ttl: float, counts: GroupCounts) -> Any:
        """The value of these bytes for one caller, counted, with the refresh that may be due; or MISS."""
        value, kind, due = self.core.judge(raw)
        if value is MISS:
            return MISS
        with self._loads.lock:
            count_one(counts, kind)
        if due:
            refresh = SyncLoad(key, load, ttl, counts, "refresh")
            refresh.see(raw)
            refresh.patience = self._timeout
            self._stage.refresh(refresh)
        return value

    def _begin(
        self,
        key: str,
        raw: bytes | None,
        load: Loader,
        ttl: float,
        counts: GroupCounts,
        patience: float,
        probe: Probe | None = None,
    ) -> tuple[SyncLoad, bool]:
        """The load that this miss shares, one in the air or a new one; and whether this thread is to lead it."""
        check_ttl(ttl)
        begun = SyncLoad(key, load, ttl, counts, "miss")
        begun.patience = patience
        if self.core.within_stale(raw):
            begun.old = raw
            begun.see(raw)
        with self._loads.lock:
            found = self._loads.find(key)
            if found is not None:
                return found, False
            if self._probes.get(key) is not probe:
                begun.old = begun.seen = None  # read before a write: who follows from now on shall not be given it
            return self._loads.add(begun), True

    def _share(self, load: SyncLoad, led: bool, counts: GroupCounts) -> bytes | None:
        """The outcome of a load as one of its callers; None when it has none, and one has to look again."""
        try:
            if led:
                return self._stage.lead(load)
            return self._follow(load, counts)
        except Skipped:
            return None
        except Exception:
            if not self.core.within_stale(load.old):
                raise
            return load.old

    def _follow(self, load: SyncLoad, counts: GroupCounts) -> bytes | None:
        """Followers are counted here, when it is certain that none of them has to lead."""
        try:
            landed = self._loads.follow(load)
        except LoadTimeout:
            with self._loads.lock:
                count_one(counts, load.late)
            raise
        if not landed:
            return None
        if not load.failed_with(Skipped):
            with self._loads.lock:
                count_one(counts, load.late)
        return load.outcome()

    def _alone(self, key: str, load: Loader, ttl: float, counts: GroupCounts) -> Any:
        """Singleflight is switched off: look and load for oneself."""
        try:
            raw = self._store.get(key, self._timeout)
        except StoreDown:
            raw = None
        value = self._take(key, raw, load, ttl, counts)
        if value is not MISS:
            return value
        check_ttl(ttl)
        begun = SyncLoad(key, load, ttl, counts, "miss")
        begun.patience = self._timeout
        begun.old = raw if self.core.within_stale(raw) else None
        try:
            return self.core.decode(self._stage.alone(begun))
        except Exception:
            if begun.old is None or not self.core.within_stale(begun.old):
                raise
            return self.core.decode(begun.old)

    def _interrupted(self, key: str) -> None:
        """This thread is on its way out: what it led for this key is left to others."""
        with self._loads.lock:
            probe = self._probes.get(key)
        if probe is not None and probe.thread == threading.get_ident():
            self._part(key, probe, None)
        self._loads.abandon_own(key)

    def _write(self, key: str, command: commands.Command) -> bool:
        self._forget(key)
        try:
            self._store.run(command, self._timeout)
        except StoreDown:
            return False
        finally:
            self._forget(key)  # what began while the command was on its way may have read what was there before
        return True

    def _forget(self, key: str) -> None:
        with self._loads.lock:
            self._probes.pop(key, None)
        self._stage.forget(key)

    def _abandon(self) -> None:
        """After a fork: nothing in the air, no thread and no connection is ours."""
        self._probes.clear()
        self._stage.abandon()
        self._store.abandon()


def _store(client: object, settings: Settings) -> SyncRedisStore:
    found = address.of(client, wanted=redis.Redis, guard="SyncGuard")
    return SyncRedisStore(found, connections=settings.connections)
