"""Singleflight for threads: the first caller makes the call in its own thread, the others wait for its outcome."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Hashable
from types import TracebackType
from typing import Any, Generic, TypeVar

from herdwatch.errors import LoadTimeout
from herdwatch.guard.flight import Flown

T = TypeVar("T")
E = TypeVar("E", bound="SyncEntry[Any]")

_TOGETHER = 16
"""How many waiters are woken before the interpreter is given to them."""


class SyncEntry(Generic[T]):
    """One call in the air, in the thread that leads it."""

    __slots__ = ("_error", "_traceback", "_value", "abandoned", "key", "landed", "thread", "until", "waiters")

    thread: int
    until: float
    _value: T
    _error: BaseException | None
    _traceback: TracebackType | None

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.thread = 0
        self.until = 0.0
        self.waiters: list[threading.Lock] = []
        self.landed = False
        self.abandoned = False

    @property
    def in_air(self) -> bool:
        """Whether who waits here will be woken. Read under the lock of its entries."""
        return not self.landed and not self.abandoned

    def failed_with(self, kind: type[BaseException]) -> bool:
        """Whether it landed with such an error."""
        return self.landed and isinstance(self._error, kind)

    def outcome(self) -> T:
        """The value, or the error that the call raised."""
        if self._error is not None:
            raise self._error.with_traceback(self._traceback)
        return self._value

    def land(self, value: Any, error: BaseException | None) -> None:
        """It has an outcome, and nobody joins it any more. Called under the lock of its entries."""
        self._value, self._error = value, error
        self._traceback = error.__traceback__ if error is not None else None
        self.landed = True

    def wake(self) -> None:
        """Wake who waits, a few at a time: all at once, they and this thread fight for the interpreter."""
        for number, waiter in enumerate(tuple(self.waiters), 1):
            if waiter.locked():  # who was interrupted here begins again
                waiter.release()
            if number % _TOGETHER == 0:
                time.sleep(0)


class SyncEntries(Generic[E]):
    """What is in the air, by key. A leader that is interrupted leaves its call to one of those who wait."""

    def __init__(self, load_timeout: float) -> None:
        self.load_timeout = load_timeout
        self.lock = threading.Lock()
        self._by_key: dict[Hashable, E] = {}
        self._awaited: set[E] = set()

    def waiting(self) -> int:
        """How many callers wait now."""
        # Not those of _by_key: who waits for what a write has made forgotten waits as well.
        return sum(len(entry.waiters) for entry in list(self._awaited))

    def find(self, key: Hashable) -> E | None:
        """The call that is in the air for this key. Called under the lock."""
        entry = self._by_key.get(key)
        if entry is not None and time.monotonic() > entry.until:
            self._remove(entry)  # its thread is still in there, but nobody is to wait for it any more
            return None
        return entry

    def add(self, entry: E) -> E:
        """Put a call in the air, led by this thread. Called under the lock, and in a `try` that ends with `abandon`."""
        entry.thread = threading.get_ident()
        entry.until = time.monotonic() + self.load_timeout
        self._awaited.add(entry)  # first: there `abandon_own` looks
        self._by_key[entry.key] = entry
        return entry

    def lead(self, entry: E, call: Callable[[], Any]) -> Any:
        """Make the call. An exception goes to everyone; an interruption only to this thread."""
        try:
            try:
                value = call()
            except Exception as error:
                self._land(entry, None, error)
                raise
            self._land(entry, value, None)
            return value
        except BaseException:
            self.abandon(entry)  # an interruption, be it that of landing; who has landed and woken all does no more
            raise

    def follow(self, entry: E) -> bool:
        """Wait for the outcome; False when its leader was interrupted and somebody else has to lead.

        Raises LoadTimeout when the call takes longer than load_timeout.
        """
        waiter = threading.Lock()
        with self.lock:
            if not entry.in_air:
                return entry.landed
            if entry.thread == threading.get_ident():
                raise RuntimeError(f"the load of {entry.key!r} asks for {entry.key!r} itself")
            waiter.acquire()
            entry.waiters.append(waiter)
        try:
            woken = waiter.acquire(timeout=max(0.0, entry.until - time.monotonic()))
        except BaseException:
            with self.lock:
                if waiter in entry.waiters:
                    entry.waiters.remove(waiter)
            raise
        if woken:
            return entry.landed
        self._give_up(entry)
        raise LoadTimeout(f"the load of {entry.key!r} took longer than {self.load_timeout:g} s")

    def forget(self, key: Hashable) -> E | None:
        """The next caller begins anew; who waits already is served as before. Called under the lock."""
        return self._by_key.pop(key, None)

    def abandon_own(self, key: Hashable) -> None:
        """This thread was interrupted: it leads nothing for this key any more."""
        with self.lock:
            own = [one for one in self._awaited if one.thread == threading.get_ident() and one.key == key]
        for entry in own:
            self.abandon(entry)

    def abandon(self, entry: E) -> None:
        """Its leader ends; without an outcome one of those who wait takes over."""
        with self.lock:
            entry.abandoned = not entry.landed
            self._remove(entry)
        entry.wake()

    def clear(self) -> None:
        """After a fork: the threads that lead are the parent's, and so is whoever held the lock."""
        self.lock = threading.Lock()
        self._by_key.clear()
        self._awaited.clear()

    def _land(self, entry: E, value: Any, error: BaseException | None) -> None:
        with self.lock:
            self._remove(entry)
            entry.land(value, error)
        entry.wake()

    def _give_up(self, entry: E) -> None:
        with self.lock:
            self._remove(entry)

    def _remove(self, entry: E) -> None:
        if self._by_key.get(entry.key) is entry:
            del self._by_key[entry.key]
        self._awaited.discard(entry)


class SyncFlight:
    """Go's singleflight for threads: `value, led = flight.do(key, fn)`.

    `fn` is called once, in the thread of the caller that leads; others wait for at most `load_timeout` seconds. An
    exception goes to everyone who waited. When the leader is interrupted (KeyboardInterrupt and its like) it alone is,
    and one of the others calls `fn` again.
    """

    def __init__(self, *, load_timeout: float = 30.0) -> None:
        self._entries: SyncEntries[SyncEntry[Any]] = SyncEntries(load_timeout)
        _alive.add(self)

    def do(self, key: Hashable, fn: Callable[[], T]) -> Flown[T]:
        """The value of the one call of `fn`, and whether this caller made it.

        Raises what `fn` raised, or LoadTimeout.
        """
        entries = self._entries
        while True:
            own: SyncEntry[Any] | None = None
            try:
                with entries.lock:
                    entry = entries.find(key)
                    if entry is None:
                        entry = own = entries.add(SyncEntry(key))
                if own is not None:
                    return Flown(entries.lead(own, fn), True)
            except Exception:
                raise
            except BaseException:
                entries.abandon_own(key)
                raise
            if entries.follow(entry):
                return Flown(entry.outcome(), False)

    def forget(self, key: Hashable) -> None:
        """Let the next caller of this key begin anew."""
        with self._entries.lock:
            self._entries.forget(key)

    def begin_anew(self) -> None:
        """After a fork: what is in the air is the parent's."""
        self._entries.clear()


_alive: weakref.WeakSet[SyncFlight] = weakref.WeakSet()


def _after_fork() -> None:
    for flight in list(_alive):
        flight.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
