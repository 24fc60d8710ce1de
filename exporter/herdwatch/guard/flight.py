"""Singleflight for asyncio: one call per key at a time, and everyone who asks meanwhile shares its outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from types import TracebackType
from typing import Any, Generic, NamedTuple, TypeVar

from herdwatch.errors import LoadCancelled, LoadTimeout

T = TypeVar("T")
E = TypeVar("E", bound="Entry[Any]")


class Flown(NamedTuple, Generic[T]):
    """The value, and whether this caller led: exactly one caller of a call did."""

    value: T
    led: bool


class Entry(Generic[T]):
    """One call in the air. Callers wait on futures of their own: to cancel one of them touches nobody else."""

    __slots__ = ("_error", "_landed", "_traceback", "_value", "key", "loop", "task", "timer", "waiters")

    loop: asyncio.AbstractEventLoop
    timer: asyncio.TimerHandle
    _value: T
    _error: BaseException | None
    _traceback: TracebackType | None

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.waiters: dict[asyncio.Future[Any], Any] = {}
        self.task: asyncio.Task[None] | None = None
        self._landed = False

    async def wait(self, tag: Any = None) -> T:
        """The value, or the error that the call raised. `tag` is kept beside this waiter in `waiters`."""
        if not self._landed:
            if asyncio.current_task() is self.task:
                raise RuntimeError(f"the load of {self.key!r} asks for {self.key!r} itself")
            future = self.loop.create_future()
            self.waiters[future] = tag
            try:
                await future
            finally:
                self.waiters.pop(future, None)
        return self.outcome()

    def adopt(self, future: asyncio.Future[Any], tag: Any) -> None:
        """Let somebody's future wait here: it is given this entry when there is an outcome."""
        if self._landed:
            future.set_result(self)
        else:
            self.waiters[future] = tag

    def outcome(self) -> T:
        """The value, or the error that the call raised."""
        if self._error is not None:
            # Raised by every waiter: without the traceback of the call alone it would grow with each of them.
            raise self._error.with_traceback(self._traceback)
        return self._value

    @property
    def landed(self) -> bool:
        """Whether there is an outcome."""
        return self._landed

    def land(self, value: Any, error: BaseException | None) -> None:
        """Give the outcome to all who wait."""
        self._landed = True
        self._value, self._error = value, error
        self._traceback = error.__traceback__ if error is not None else None
        self.timer.cancel()
        if self.loop.is_closed():
            return
        for future in self.waiters:
            if not future.done():
                future.set_result(self)


class Entries(Generic[E]):
    """What is in the air, by key; belongs to one event loop at a time."""

    def __init__(self, load_timeout: float) -> None:
        self._load_timeout = load_timeout
        self.by_key: dict[Hashable, E] = {}
        self._tasks: dict[asyncio.Task[None], E] = {}

    def find(self, key: Hashable) -> E | None:
        """The call that is in the air for this key."""
        entry = self.by_key.get(key)
        if entry is None or entry.loop is asyncio.get_running_loop():
            return entry
        if entry.loop.is_running():
            raise RuntimeError("a flight belongs to one event loop, and this one is at work in another")
        del self.by_key[key]  # its loop ended with the call in the air
        return None

    def waiting(self) -> int:
        """How many callers wait now."""
        # Not those of by_key: who waits for what a write has made forgotten waits as well.
        return sum(not future.done() for entry in list(self._tasks.values()) for future in list(entry.waiters))

    def start(self, entry: E, call: Callable[[], Awaitable[Any]]) -> E:
        """Begin a call in a task of its own; a call for the same key that is in the air goes on for its own waiters."""
        loop = entry.loop = asyncio.get_running_loop()
        self.by_key[entry.key] = entry
        entry.timer = loop.call_later(self._load_timeout, self._expire, entry)
        # Not create_task: under an eager task factory the call could land before its first caller waits for it.
        entry.task = task = asyncio.Task(self._fly(entry, call), loop=loop)
        self._tasks[task] = entry
        task.add_done_callback(lambda ended: self._ended(entry, ended))
        return entry

    def forget(self, key: Hashable) -> E | None:
        """The next caller begins anew; who waits already is served as before."""
        return self.by_key.pop(key, None)

    async def aclose(self) -> None:
        """Cancel every call; who still waits gets LoadCancelled."""
        tasks = [task for task in self._tasks if not task.get_loop().is_closed()]
        self.abandon()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def abandon(self) -> None:
        """Forget every call without a word to its waiters: after a fork they live in the parent."""
        self.by_key.clear()
        self._tasks.clear()

    async def _fly(self, entry: E, call: Callable[[], Awaitable[Any]]) -> None:
        try:
            value = await call()
        except Exception as error:
            self._land(entry, None, error)
        except BaseException as error:
            self._land(entry, None, cancelled(entry.key, error))
            raise
        else:
            self._land(entry, value, None)

    def _ended(self, entry: E, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled():
            task.exception()  # seen: whoever waited has it as the cause of LoadCancelled
        if not entry.landed:  # cancelled before its first step
            self._land(entry, None, cancelled(entry.key, None))

    def _expire(self, entry: E) -> None:
        # The callers are answered first: a loader may ignore that it is cancelled.
        if entry.landed:
            return
        self._land(entry, None, LoadTimeout(f"the load of {entry.key!r} took longer than {self._load_timeout:g} s"))
        if entry.task is not None:
            entry.task.cancel()

    def _land(self, entry: E, value: Any, error: BaseException | None) -> None:
        if entry.landed:
            return
        if self.by_key.get(entry.key) is entry:
            del self.by_key[entry.key]
        entry.land(value, error)


def cancelled(key: Hashable, cause: BaseException | None) -> LoadCancelled:
    """The error of a load that ended without an outcome."""
    error = LoadCancelled(f"the load of {key!r} was cancelled")
    error.__cause__ = cause
    return error


class Flight:
    """Go's singleflight for asyncio: `value, led = await flight.do(key, fn)`.

    `fn` is called once however many callers ask, in a task that no caller's cancellation reaches, for at most
    `load_timeout` seconds. An exception goes to everyone who waited; nothing is remembered afterwards.
    """

    def __init__(self, *, load_timeout: float = 30.0) -> None:
        self._entries: Entries[Entry[Any]] = Entries(load_timeout)

    async def do(self, key: Hashable, fn: Callable[[], Awaitable[T]]) -> Flown[T]:
        """The value of the one call of `fn`, and whether this caller began it.

        Raises what `fn` raised, LoadTimeout, or LoadCancelled when the flight was closed.
        """
        entry = self._entries.find(key)
        if entry is not None:
            return Flown(await entry.wait(), False)
        entry = self._entries.start(Entry(key), fn)
        return Flown(await entry.wait(), True)

    def forget(self, key: Hashable) -> None:
        """Let the next caller of this key begin anew."""
        self._entries.forget(key)

    async def aclose(self) -> None:
        """Cancel what is in the air."""
        await self._entries.aclose()
