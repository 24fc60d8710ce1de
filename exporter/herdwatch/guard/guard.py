"""The guard on asyncio: the front door, and the probe stage behind it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from types import TracebackType
from typing import Any, Literal, ParamSpec, Self, TypeVar, Unpack

import redis.asyncio
from prometheus_client import REGISTRY, CollectorRegistry

from herdwatch.errors import CacheUnavailable
from herdwatch.guard import address, commands
from herdwatch.guard.core import MISS, Core, Standing, check_ttl, count_one
from herdwatch.guard.counts import GroupCounts
from herdwatch.guard.hot_keys import BATCH
from herdwatch.guard.load import Foreign, Homeless, Load, LoadStage, Skipped, Trigger
from herdwatch.guard.settings import Options, Settings
from herdwatch.guard.store import RedisStore, Store, StoreDown

T = TypeVar("T")
P = ParamSpec("P")

Warmed = Literal["warm", "loaded", "absent", "shared", "foreign"]
"""There was a fresh value; it was loaded; the loader said that there is none; another's value stands there now; there
was what this guard did not write, or cannot read."""

Look = tuple[Any, Load | None]
"""A value, or MISS and the load to join."""
Followers = list[tuple[asyncio.Future["bytes | Load | None"], GroupCounts]]
"""Who waits for another caller's GET: for its answer, the load it began (landed), or None, when it was cancelled."""


class Guard:
    """A read-through cache in which one load serves everyone who misses.

    `redis` is a `redis.asyncio.Redis`, taken as an address: the guard opens connections of its own, which never retry.
    `cache` is the name in herdwatch.yaml, `service` that of the application; both are labels of the metrics on
    `registry` (None: not exposed). Options and their defaults are those of `herdwatch.guard.settings.Settings`.

    Raises TypeError for a client of another kind and ValueError for an option that cannot be.
    """

    def __init__(
        self,
        redis: redis.asyncio.Redis | Store,
        *,
        cache: str,
        service: str,
        registry: CollectorRegistry | None = REGISTRY,
        **options: Unpack[Options],
    ) -> None:
        settings = Settings(**options)
        self._store = redis if isinstance(redis, Store) else _store(redis, settings)
        self.core = Core(settings, cache=cache, service=service, registry=registry)
        self.core.forked.append(self._abandon)
        self._counts, self._switches, self._judge = self.core.counts, self.core.switches, self.core.judge
        self._timeout = settings.timeout
        self._get = self._store.get
        self._stage = LoadStage(self.core, self._store)
        self._loads = self._stage.entries
        self._probes: dict[str, Followers] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self.core.waiting = self._loads.waiting

    @property
    def address(self) -> address.Address | None:
        """Where its Redis is; None for a store in memory."""
        return self._store.address

    async def get(self, key: str, *, load: Callable[[str], Awaitable[T]], ttl: float, group: str = "default") -> T:
        """The cached value, or what `load(key)` returns, called once however many ask.

        `ttl` in seconds; `group` names the kind of key in the metrics. The value has been through the serializer, on a
        miss as on a hit, so it is the caller's own. A loader that returns None says that there is none.

        Raises what the loader raised, LoadTimeout, Shed, RemoteLoadError, or LoadCancelled when the guard was closed.
        """
        counts = self._counts[group]
        hot = counts.hot
        if hot is not None:
            recent = hot.recent
            recent.append(key)
            if len(recent) >= BATCH:
                hot.merge()
        if self._loop is None:
            self._bind()
        if not self._switches.singleflight:
            return await self._alone(key, load, ttl, counts)  # type: ignore[no-any-return]
        value: Any = MISS
        outcome: bytes | Load | None
        loads, probes = self._loads, self._probes
        while True:
            flying = loads.find(key) if key in loads.by_key else None
            if flying is None or flying.trigger != "miss":
                none_yet: Followers = []
                followers = probes.setdefault(key, none_yet)
                if followers is not none_yet:
                    if self._loop is not asyncio.get_running_loop():
                        self._bind()  # that probe may be of a loop that has ended: look again
                        continue
                    value, flying = await self._follow(followers, key, load, ttl, counts)
                else:
                    # GET for everyone who asks meanwhile, in this frame: a hit would feel one more.
                    flying = outcome = None
                    try:
                        began = time.monotonic()
                        try:
                            raw = await self._get(key, self._timeout)
                        except StoreDown:
                            raw, began = None, -math.inf  # no time is left
                        finally:
                            current = probes.pop(key, None)
                            if current is not followers and current is not None:
                                probes[key] = current  # somebody else's, begun after a write
                        if current is followers or raw is None:
                            value, kind, due = self._judge(raw)
                            if kind == "hit":
                                outcome = raw
                                counts.hit += 1
                            elif value is not MISS:
                                outcome = raw
                                count_one(counts, kind)
                            else:
                                left = self._timeout - (time.monotonic() - began)
                                outcome = flying = self._begin(key, raw, load, ttl, counts, left)
                            if due:
                                self._refresh(key, raw, load, ttl, counts)
                        # else a write came between, and this is what was there before it: look again
                    finally:
                        if followers:
                            self._part(followers, outcome)
                if value is not MISS:
                    return value  # type: ignore[no-any-return]
            if flying is not None:
                # A refresh that turns out to be needless has no value for those who joined it: they look again.
                with contextlib.suppress(Skipped):
                    return await self._join(flying, counts)  # type: ignore[no-any-return]

    async def get_many(
        self, keys: Iterable[str], *, load: Callable[[str], Awaitable[T]], ttl: float, group: str = "default"
    ) -> dict[str, T]:
        """The values of several keys, in their order: one MGET, then `get` for each key that it missed.

        When loads fail, all others are awaited and stored before the first error is raised.
        """
        wanted = list(dict.fromkeys(keys))
        counts = self._counts[group]
        known = await self._find_many(wanted, load, ttl, counts) if self._switches.singleflight else {}
        if counts.hot is not None:
            counts.hot.look(known)  # the others are looked up by `get`
        gate = asyncio.Semaphore(self.core.settings.max_loads)  # one call alone shall not fill the limiter's line

        async def one(key: str) -> T:
            async with gate:
                return await self.get(key, load=load, ttl=ttl, group=group)

        rest = [key for key in wanted if key not in known]
        loaded = await asyncio.gather(*map(one, rest), return_exceptions=True)
        for outcome in loaded:
            if isinstance(outcome, BaseException):
                raise outcome
        known.update(zip(rest, loaded, strict=True))
        return {key: known[key] for key in wanted}

    async def set(self, key: str, value: Any, *, ttl: float, group: str = "default") -> bool:
        """Store a value; a load begun before is joined by nobody from now on, and never overwrites it.

        False when Redis did not take it: then the old value may still be there.
        """
        check_ttl(ttl)
        raw, seconds = self.core.pack(value, ttl=ttl, seconds=self._counts[group].mean_load_seconds)
        return await self._write(key, commands.put(key, raw, seconds) if seconds > 0 else commands.remove(key))

    async def delete(self, key: str) -> bool:
        """Remove a value; a load begun before is joined by nobody from now on, and never fills.

        False when Redis did not answer: then the old value may still be there.
        """
        return await self._write(key, commands.remove(key))

    async def look(self, keys: Iterable[str]) -> dict[str, Standing]:
        """Which of the keys, in their order, a warm-up would load: see Standing. One round trip; nothing is counted.

        Raises CacheUnavailable when Redis does not answer.
        """
        wanted = list(dict.fromkeys(keys))
        raws = await self._asked(self._store.get_each(wanted, self._timeout))
        return {key: self.core.stands(raw) for key, raw in zip(wanted, raws, strict=True)}

    async def may_warm(self, key: str) -> None:
        """Raises CacheUnavailable where Redis does not answer, or does not let this user store; nothing is stored."""
        await self._asked(self._store.run(commands.release(key, self.core.token(), commands.GONE), self._timeout))

    async def warm(
        self, key: str, *, load: Callable[[str], Awaitable[Any]], ttl: float, group: str = "default"
    ) -> Warmed:
        """Load a key ahead of its lookups, unless it has a fresh value; see Warmed for what came of it.

        Lease and limiter are those of any load, so a value that is newer is never overwritten; nor is what this guard
        did not write, and a loader's None is not stored. The call counts as
        `singleflight_executions_total{trigger="warm"}`; the key was looked up by nobody.

        Raises what the loader raised, LoadTimeout, Shed, RemoteLoadError, or CacheUnavailable without Redis.
        """
        nobody = GroupCounts()
        while True:
            raw = None
            if not self.core.settings.lease:  # else the value is read with the lease, in one round trip
                (raw,) = await self._asked(self._store.get_each([key], self._timeout))
                stands = self.core.stands(raw)
                if stands != "cold":
                    return stands
            flying = self._begin(key, raw, load, ttl, self._counts[group], self._timeout, "warm")
            try:
                loaded = await flying.wait(nobody)
            except Homeless as error:
                raise _unavailable(error.down) from None
            except Foreign:
                return "foreign"
            except Skipped:
                continue  # a refresh in the air that was not needed after all
            if flying.was_warm:
                return "warm"
            if flying.trigger != "warm" or not flying.executed:
                return "shared"
            if self.core.decode(loaded) is None:
                return "absent"
            if flying.trouble is not None:
                raise _unavailable(flying.trouble, f"Redis did not take the value of {key!r}: ")
            if flying.foreign:
                return "foreign"
            return "loaded" if flying.stored else "shared"

    def cached(
        self, *, key: Callable[P, str], ttl: float, group: str = "default"
    ) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Coroutine[Any, Any, T]]]:
        """A decorator: the function becomes the loader of the key that `key` makes of the same arguments."""
        check_ttl(ttl)

        def decorate(function: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
            @functools.wraps(function)
            async def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
                return await self.get(
                    key(*args, **kwargs), load=lambda _: function(*args, **kwargs), ttl=ttl, group=group
                )

            guarded.guard = self  # type: ignore[attr-defined]
            return guarded

        return decorate

    async def aclose(self) -> None:
        """Cancel the loads in the air and close the connections."""
        await self._loads.aclose()
        await self._store.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _asked(self, answer: Awaitable[T]) -> T:
        try:
            return await answer
        except StoreDown as error:
            raise _unavailable(error) from None

    async def _follow(
        self, followers: Followers, key: str, load: Callable[[str], Awaitable[Any]], ttl: float, counts: GroupCounts
    ) -> Look:
        """Wait for another caller's GET; neither value nor load when one has to look again.

        That caller was cancelled, or the value ended before this one took it.
        """
        future = self._loop.create_future()  # type: ignore[union-attr]
        followers.append((future, counts))
        outcome = await future
        if not isinstance(outcome, bytes):
            return MISS, outcome
        return self._take(key, outcome, load, ttl, counts), None

    async def _find_many(
        self, keys: list[str], load: Callable[[str], Awaitable[Any]], ttl: float, counts: GroupCounts
    ) -> dict[str, Any]:
        """What one MGET finds; nobody waits for it, since what it misses is looked up again before it is loaded."""
        try:
            raws = await self._store.get_many(keys, self._timeout)
        except StoreDown:
            return {}
        known = {}
        for key, raw in zip(keys, raws, strict=True):
            value = self._take(key, raw, load, ttl, counts)
            if value is not MISS:
                known[key] = value
        return known

    def _part(self, followers: Followers, outcome: bytes | Load | None) -> None:
        """The probe is over: its followers get the outcome, each to make its own value of it."""
        for future, counts in followers:
            if future.done() or future.get_loop().is_closed():
                continue
            if isinstance(outcome, Load):
                outcome.adopt(future, counts)  # wakes them once, with the outcome, and not now as well
            else:
                future.set_result(outcome)

    def _take(
        self, key: str, raw: bytes | None, load: Callable[[str], Awaitable[Any]], ttl: float, counts: GroupCounts
    ) -> Any:
        """The value of these bytes for one caller, counted, with the refresh that may be due; or MISS."""
        value, kind, due = self._judge(raw)
        if value is MISS:
            return MISS
        count_one(counts, kind)
        if due:
            self._refresh(key, raw, load, ttl, counts)
        return value

    def _refresh(
        self, key: str, raw: bytes | None, load: Callable[[str], Awaitable[Any]], ttl: float, counts: GroupCounts
    ) -> None:
        self._bind()
        refresh = Load(key, load, ttl, counts, "refresh")
        refresh.see(raw)
        refresh.patience = self._timeout
        self._stage.refresh(refresh)

    def _begin(
        self,
        key: str,
        raw: bytes | None,
        load: Callable[[str], Awaitable[Any]],
        ttl: float,
        counts: GroupCounts,
        patience: float,
        trigger: Trigger = "miss",
    ) -> Load:
        """The load that this miss joins: one in the air, else a new one."""
        self._bind()
        found = self._loads.find(key)
        if found is not None:
            return found
        check_ttl(ttl)
        begun = Load(key, load, ttl, counts, trigger)
        begun.patience = patience
        if self.core.within_stale(raw):
            begun.old = None if trigger == "warm" else raw  # nobody waits who could do with an old value
            begun.see(raw)
        return self._stage.start(begun)

    async def _join(self, load: Load, counts: GroupCounts) -> Any:
        """Wait for a load as one of its callers; or take its outcome, as one whom it has counted already."""
        try:
            if load.landed:
                raw = load.outcome()
            else:
                if load.late is not None:
                    count_one(counts, load.late)
                raw = await load.wait(counts)
        except Skipped:
            raise
        except Exception:
            if not self.core.within_stale(load.old):
                raise
            raw = load.old  # type: ignore[assignment]
        return self.core.decode(raw)

    async def _alone(self, key: str, load: Callable[[str], Awaitable[Any]], ttl: float, counts: GroupCounts) -> Any:
        """Singleflight is switched off: look and load for oneself."""
        self._bind()
        try:
            raw = await self._get(key, self._timeout)
        except StoreDown:
            raw = None
        value = self._take(key, raw, load, ttl, counts)
        if value is not MISS:
            return value
        check_ttl(ttl)
        begun = Load(key, load, ttl, counts, "miss")
        begun.patience = self._timeout
        if self.core.within_stale(raw):
            begun.old = raw
        try:
            return self.core.decode(await self._stage.alone(begun))
        except Exception:
            if not self.core.within_stale(begun.old):
                raise
            return self.core.decode(begun.old)  # type: ignore[arg-type]

    async def _write(self, key: str, command: commands.Command) -> bool:
        self._forget(key)
        try:
            await self._store.run(command, self._timeout)
        except StoreDown:
            return False
        finally:
            self._forget(key)  # what began while the command was on its way may have read what was there before
        return True

    def _forget(self, key: str) -> None:
        self._probes.pop(key, None)
        self._stage.forget(key)

    def _bind(self) -> None:
        """In a new event loop begin anew: what another one left in the air will not land.

        For those who wait or load. To ask which loop runs costs a system call in Python 3.11, which a hit would feel.
        """
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return
        if self._loop is not None and self._loop.is_running():
            raise RuntimeError("this guard is at work in another event loop; make one guard per loop")
        self._loop = loop
        self._probes.clear()
        self._stage.bind()

    def _abandon(self) -> None:
        """After a fork: nothing in the air and no connection is ours."""
        self._loop = None
        self._probes.clear()
        self._loads.abandon()
        self._store.abandon()


def _unavailable(down: StoreDown, what: str = "") -> CacheUnavailable:
    return CacheUnavailable(f"{what}{down}", refused=down.refused)


def _store(client: object, settings: Settings) -> RedisStore:
    found = address.of(client, wanted=redis.asyncio.Redis, guard="Guard")
    return RedisStore(found, connections=settings.connections)
