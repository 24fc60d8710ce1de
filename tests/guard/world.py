"""What the state machine of the asyncio guard plays: Redis, the database, time, callers, and what they saw."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import herdwatch.guard.core
import herdwatch.guard.guard
import herdwatch.guard.keeper
import herdwatch.guard.line
import herdwatch.guard.load
from herdwatch.guard import Guard, LoadCancelled, LoadTimeout, RemoteLoadError, Shed, values
from herdwatch.guard.commands import Command
from herdwatch.guard.store import Store, StoreDown
from herdwatch.guard.testing import MemoryStore
from herdwatch.guard.values import Json
from herdwatch.guard.wakeups import Watch

KEYS = ("a", "b{b}")
TTL, LEASE, LOAD_TIMEOUT, POLL = 10.0, 2.0, 30.0, 0.31
PLACES = (
    herdwatch.guard.core,
    herdwatch.guard.guard,
    herdwatch.guard.keeper,
    herdwatch.guard.line,
    herdwatch.guard.load,
)


class SteppedLoop(asyncio.SelectorEventLoop):
    """Runs one round of callbacks at a time, by a clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.complaints: list[dict[str, Any]] = []
        super().__init__()
        self.set_exception_handler(lambda _, context: self.complaints.append(context))

    def time(self) -> float:
        return self.now

    def tick(self) -> None:
        self.call_soon(self.stop)
        self.run_forever()

    def settle(self) -> None:
        """Run until nothing happens any more by itself."""
        self.tick()
        for _ in range(500):
            if not self._ready:
                return
            self.tick()
        raise AssertionError("the loop never comes to rest")


@dataclass(eq=False)
class Op:
    """A command on its way: executed by Redis at one moment, answered at a later one."""

    guard: int
    what: str
    keys: tuple[str, ...]
    send: Callable[[], Coroutine[Any, Any, Any]]
    reply: asyncio.Future[Any]
    executed: bool = False
    outcome: Any = None

    def execute(self) -> None:
        if not self.executed:
            self.executed = True
            try:
                self.send().send(None)
            except StopIteration as answer:  # memory answers at once
                self.outcome = answer.value

    def answer(self) -> None:
        self.execute()
        if not self.reply.done():
            self.reply.set_result(self.outcome)

    def fail(self) -> None:
        if not self.reply.done():
            self.reply.set_exception(StoreDown("made up"))


class GatedStore(Store):
    """A memory whose every answer waits for the machine."""

    def __init__(self, memory: MemoryStore, guard: int, ops: list[Op]) -> None:
        self._memory, self._guard, self._ops = memory, guard, ops

    async def get(self, key: str, within: float) -> bytes | None:
        return await self._ask("get", (key,), within, lambda: self._memory.get(key, within))

    async def get_many(self, keys: Any, within: float) -> list[bytes | None]:
        return await self._ask("mget", tuple(keys), within, lambda: self._memory.get_many(keys, within))

    async def acquire(self, key: str, token: str, seconds: float, within: float) -> tuple[bool, bytes | None]:
        return await self._ask("acquire", (key,), within, lambda: self._memory.acquire(key, token, seconds, within))

    async def run(self, command: Command, within: float) -> Any:
        return await self._ask(command[0], command[1:2], within, lambda: self._memory.run(command, within))

    async def watch(self, key: str, within: float) -> Watch:
        return await self._ask("watch", (key,), within, lambda: self._memory.watch(key, within))

    async def aclose(self) -> None: ...

    def abandon(self) -> None: ...

    async def _ask(self, what: str, keys: tuple[str, ...], within: float, send: Callable[[], Any]) -> Any:
        op = Op(self._guard, what, keys, send, asyncio.get_running_loop().create_future())
        self._ops.append(op)
        try:
            async with asyncio.timeout(within):
                return await op.reply
        except TimeoutError:
            raise StoreDown("no answer in time") from None
        finally:
            self._ops.remove(op)


class LoaderFailed(Exception):
    """The database said no."""


@dataclass(eq=False)
class Call:
    """One call of a loader, as the loader saw it."""

    guard: int
    key: str
    began: int
    stubborn: bool
    slot: bool
    release: asyncio.Future[Any]
    cancelled: bool = False
    ended: bool = False
    failed: bool = True


@dataclass(eq=False)
class Caller:
    """One call of get or get_many, as its caller saw it."""

    guard: int
    keys: tuple[str, ...]
    group: str
    began: int
    task: asyncio.Task[Any]
    cancelled: bool = False

    @property
    def counted_on(self) -> bool:
        """Done, and never cancelled."""
        return self.task.done() and not self.cancelled


@dataclass(eq=False)
class Write:
    """One set or delete."""

    guard: int
    key: str
    began: int
    value: str | None
    task: asyncio.Task[bool] | None = None
    ended: int | None = None
    raced: bool = False
    """A load without a lease was being stored: Redis may get the two in either order."""

    @property
    def sure(self) -> bool:
        return self.ended is not None and self.task is not None and not self.task.cancelled() and self.task.result()


@dataclass
class Due:
    """A refresh policy that the machine sets."""

    now: bool = False

    def due(self, *_: float) -> bool:
        return self.now


@dataclass
class World:
    """Two processes with one Redis, and what everyone in them saw."""

    options: dict[str, Any]
    loop: SteppedLoop = field(default_factory=SteppedLoop)

    def __post_init__(self) -> None:
        self.memory = MemoryStore(self.loop.time)
        self.ops: list[Op] = []
        self.calls: list[Call] = []
        self.callers: list[Caller] = []
        self.writes: list[Write] = []
        self.clock = itertools.count(1)
        self.origin: dict[str, Call | Write] = {}
        self.errors: dict[int, Call] = {}
        self.nones: set[str] = set()
        self.wrong: list[str] = []
        self.excused: set[tuple[int, str]] = set()
        self.fleet_excused = self.options["lease"] == 0
        self.switched: set[int] = set()
        self.moved = 0.0
        self.guards = [
            Guard(
                GatedStore(self.memory, number, self.ops),
                cache="c",
                service="s",
                registry=None,
                clock=self.loop.time,
                ttl_jitter=0.0,
                load_timeout=LOAD_TIMEOUT,
                **self.options,
            )
            for number in range(2)
        ]

    def loader(self, guard: int, stubborn: bool) -> Callable[[str], Coroutine[Any, Any, Any]]:
        async def load(key: str) -> Any:
            switches = self.guards[guard].core.switches
            call = Call(guard, key, next(self.clock), stubborn, switches.limiter, self.loop.create_future())
            self.suspect(call)
            self.calls.append(call)
            try:
                value = await self.outcome(call)
                call.failed = type(value) is object  # which Json refuses
                return value
            finally:
                call.ended = True

        return load

    async def outcome(self, call: Call) -> Any:
        while True:
            try:
                return await call.release
            except asyncio.CancelledError:
                call.cancelled = True
                if not call.stubborn or not call.release.cancelled():
                    raise
                call.release = self.loop.create_future()

    def suspect(self, new: Call) -> None:
        """Is there another load of this key that the new one should have shared, and is there a slot for it?"""
        air = [call for call in self.calls if not call.ended]
        for call in air:
            if call.key != new.key or call.cancelled:
                continue
            if call.guard == new.guard and (new.guard, new.key) not in self.excused | {
                (g, new.key) for g in self.switched
            }:
                self.wrong.append(f"two loads of {new.key} at once in process {new.guard}")
            if call.guard != new.guard and not self.fleet_excused:
                self.wrong.append(f"two loads of {new.key} at once in the fleet")
        if new.slot and sum(c.slot and c.guard == new.guard for c in air) >= self.options["max_loads"]:
            self.wrong.append("more loads at once than max_loads")

    def get(self, guard: int, keys: tuple[str, ...], many: bool, stubborn: bool) -> None:
        group, load = f"g{len(self.callers)}", self.loader(guard, stubborn)
        front = self.guards[guard]
        work: Any
        if many:
            work = front.get_many(keys, load=load, ttl=TTL, group=group)
        else:
            work = front.get(keys[0], load=load, ttl=TTL, group=group)
        caller = Caller(guard, keys, group, next(self.clock), self.loop.create_task(work))
        self.callers.append(caller)
        caller.task.add_done_callback(lambda _: self.check(caller, many))

    def check(self, caller: Caller, many: bool) -> None:
        """What a caller was given: right then, before anything else is written."""
        if caller.task.cancelled():
            if not caller.cancelled:
                self.wrong.append("CancelledError for a caller that nobody cancelled")
            return
        error = caller.task.exception()
        if error is not None:
            self.check_error(caller, error)
            return
        result = caller.task.result()
        for key, value in result.items() if many else ((caller.keys[0], result),):
            self.check_value(caller, key, value)

    def check_error(self, caller: Caller, error: BaseException) -> None:
        if isinstance(error, LoaderFailed):
            call = self.errors[id(error)]
            if call.key not in caller.keys or call.guard != caller.guard:
                self.wrong.append(f"the error of another load: {error!r}")
            self.fenced(caller, call.key, call)
        elif not isinstance(error, (LoadTimeout, LoadCancelled, RemoteLoadError, Shed, TypeError)):
            self.wrong.append(f"{error!r}")

    def check_value(self, caller: Caller, key: str, value: Any) -> None:
        if value is None:
            if key not in self.nones:
                self.wrong.append(f"None for {key}, which nobody loaded")
            return
        origin = self.origin.get(value)
        if origin is None or origin.key != key:
            self.wrong.append(f"{value} for {key}, which nobody loaded")
            return
        self.fenced(caller, key, origin)

    def fenced(self, caller: Caller, key: str, origin: Call | Write) -> None:
        """After a write has returned, no later caller of its process gets what was begun before it."""
        unfenced = self.fleet_loose and origin.guard != caller.guard
        for write in self.writes:
            if not (write.sure and write.guard == caller.guard and write.key == key) or unfenced or write.raced:
                continue
            if write.ended is not None and write.ended < caller.began:
                before = origin.began if isinstance(origin, Call) else (origin.ended or next(self.clock))
                if before < write.began:
                    self.wrong.append(f"{origin} for {caller}, begun before {write}")

    @property
    def fleet_loose(self) -> bool:
        """Whether some loads store without a lease, which only their own process can stop."""
        return self.options["lease"] == 0 or bool(self.switched)

    def write(self, guard: int, key: str, value: str | None) -> None:
        record = Write(guard, key, next(self.clock), value)
        front = self.guards[guard]
        work = front.delete(key) if value is None else front.set(key, value, ttl=TTL, group="writes")
        if value is not None:
            self.origin[value] = record
        self.writes.append(record)
        self.excused.add((guard, key))
        self.fleet_excused = True
        record.raced = any(op.what == "SET" and op.guard == guard and key in op.keys for op in self.ops)
        record.task = self.loop.create_task(work)

        def ended(_: object) -> None:
            record.ended = next(self.clock)

        record.task.add_done_callback(ended)

    def plant(self, key: str, age: float) -> None:
        """A value that some other process stored a while ago."""
        value, began = f"{key}~{next(self.clock)}", self.loop.now - age
        self.origin[value] = Write(-1, key, 0, value, ended=next(self.clock))
        raw = values.pack(Json().dumps(value), loaded_at=began, load_seconds=0.1, expires_at=began + TTL)
        self.store_now(key, raw)

    def store_now(self, key: str, raw: bytes) -> None:
        Op(
            -1, "SET", (), lambda: self.memory.run(("SET", key, raw, "PX", 20_000), 1.0), self.loop.create_future()
        ).execute()

    def release(self, call: Call, outcome: str) -> None:
        if outcome == "error":
            error = LoaderFailed(f"{call.key}#{call.began}")
            self.errors[id(error)] = call
            call.release.set_exception(error)
        elif outcome == "cancel":
            call.stubborn = False
            call.release.cancel()
        elif outcome == "none":
            self.nones.add(call.key)
            call.release.set_result(None)
        elif outcome == "unserialisable":
            call.release.set_result(object())
        else:
            value = f"{call.key}#{call.began}"
            self.origin[value] = call
            call.release.set_result(value)

    @property
    def held(self) -> list[Call]:
        """The loaders that wait for their release."""
        return [call for call in self.calls if not call.ended and not call.release.done()]

    @property
    def waiting(self) -> list[Op]:
        """The commands that wait for their answer."""
        return [op for op in self.ops if not op.reply.done()]

    @property
    def pending(self) -> list[asyncio.Task[Any]]:
        tasks = [caller.task for caller in self.callers] + [write.task for write in self.writes if write.task]
        return [task for task in tasks if not task.done()]

    def drain(self) -> None:
        """Everything is answered from now on: then all callers are served, no timeout of a load needed."""
        until = self.loop.now + LEASE + 1
        while True:
            self.loop.settle()
            for op in self.waiting:
                op.answer()
            for call in self.held:
                self.release(call, "value")
            if self.waiting or self.held or self.loop._ready:
                continue
            if not self.pending and not any(not call.ended for call in self.calls):
                return
            assert self.loop.now < until, f"stuck: {self.pending}"
            self.advance(POLL)

    def advance(self, seconds: float) -> None:
        self.loop.now += seconds
        self.moved += seconds
        if self.moved >= LEASE:  # a lease may have ended that its holder could not extend
            self.fleet_excused = True

    def family(self, guard: int, name: str, label: str | None = None, group: str | None = None) -> int:
        return sum(
            value
            for (family, of, value_of), value in self.guards[guard].core.counts.totals().items()
            if family == name and label in (None, value_of) and group in (None, of)
        )

    def close(self) -> None:
        for call in self.calls:
            call.stubborn = False
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.settle()
        for task in self.pending:
            task.cancel()
        self.loop.settle()
        self.loop.close()
