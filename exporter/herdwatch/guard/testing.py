"""A cache in memory, for tests of code that uses a guard: `Guard(MemoryStore(), cache="users", service="tests")`.

Guards that are given the same store share it, as processes share a Redis: values, leases and messages.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from herdwatch.guard import commands
from herdwatch.guard.background import SyncWatch
from herdwatch.guard.commands import Command
from herdwatch.guard.store import Store
from herdwatch.guard.sync_store import SyncStore
from herdwatch.guard.wakeups import Bell, Watch

W = TypeVar("W", bound=Bell)


class Memory:
    """Keys with an end, and who listens. `clock` gives seconds; tests of expiry set their own."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._values: dict[str, tuple[bytes, float]] = {}
        self._lock = threading.RLock()
        self.bells: dict[str, set[Bell]] = {}

    def read(self, key: str) -> bytes | None:
        """The bytes of a key that has not ended."""
        with self._lock:
            value, ends = self._values.get(key, (None, 0.0))
            if value is not None and self._clock() >= ends:
                del self._values[key]
                return None
            return value

    def acquire(self, key: str, token: str, seconds: float) -> tuple[bool, bytes | None]:
        """As herdwatch.guard.commands.acquire."""
        lease = commands.lease_of(key)
        with self._lock:
            taken = self.read(lease) is None
            if taken:
                self._write(lease, token.encode(), seconds * 1000)
            return taken, self.read(key)

    def run(self, command: Command) -> Any:
        """Any other command of herdwatch.guard.commands."""
        with self._lock:
            if command[0] == "SET":
                return self._write(command[1], command[2], command[4])
            script, keys, arguments = command[1], command[3 : 3 + command[2]], command[3 + command[2] :]
            return _SCRIPTS[script](self, *keys, *arguments)

    def _write(self, key: str, value: bytes, milliseconds: float) -> bool:
        self._values[key] = value, self._clock() + milliseconds / 1000
        return True

    def _end(self, key: str, message: bytes) -> bool:
        was_there = self._values.pop(key, None) is not None
        for bell in list(self.bells.get(key, ())):
            bell.ring(message)
        return was_there

    def _holds(self, lease: str, token: str) -> bool:
        return self.read(lease) == token.encode()

    def _fill(self, key: str, lease: str, token: str, raw: bytes, milliseconds: float, message: bytes) -> bool:
        return self._holds(lease, token) and self._write(key, raw, milliseconds) and self._end(lease, message)

    def _fill_cold(self, key: str, *rest: Any) -> int:
        lease, token, raw, milliseconds, message, magic = rest if len(rest) == 6 else ("", *rest)
        if lease and not self._holds(lease, token):
            return 0
        ours = (self.read(key) or magic).startswith(magic)
        if ours:
            self._write(key, raw, milliseconds)
        self._end(lease, message)
        return 1 if ours else -1

    def _release(self, lease: str, token: str, message: bytes) -> bool:
        return self._holds(lease, token) and self._end(lease, message)

    def _extend(self, lease: str, token: str, milliseconds: float) -> bool:
        return self._holds(lease, token) and self._write(lease, token.encode(), milliseconds)

    def _put(self, key: str, lease: str, raw: bytes, milliseconds: float, message: bytes) -> bool:
        self._end(lease, message)
        return self._write(key, raw, milliseconds)

    def _remove(self, key: str, lease: str, message: bytes) -> int:
        removed = self._values.pop(key, None) is not None
        self._end(lease, message)
        return int(removed)


_SCRIPTS: dict[str, Callable[..., Any]] = {
    commands.FILL: Memory._fill,
    commands.FILL_COLD: Memory._fill_cold,
    commands.RELEASE: Memory._release,
    commands.EXTEND: Memory._extend,
    commands.PUT: Memory._put,
    commands.REMOVE: Memory._remove,
}


class MemoryStore(Store):
    """For Guard."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._memory = Memory(clock)

    # Memory answers at once: no deadline can pass.
    # ruff: noqa: ARG002
    async def get(self, key: str, within: float) -> bytes | None:
        return self._memory.read(key)

    async def get_many(self, keys: Sequence[str], within: float) -> list[bytes | None]:
        return [self._memory.read(key) for key in keys]

    async def acquire(self, key: str, token: str, seconds: float, within: float) -> tuple[bool, bytes | None]:
        return self._memory.acquire(key, token, seconds)

    async def run(self, command: Command, within: float) -> Any:
        return self._memory.run(command)

    async def watch(self, key: str, within: float) -> Watch:
        return _listen(self._memory, _MemoryWatch(commands.lease_of(key), self._memory))

    async def aclose(self) -> None:
        """Nothing to close: what was stored stays."""

    def abandon(self) -> None:
        """Nothing to forget: a fork copies the memory."""


class SyncMemoryStore(SyncStore):
    """For SyncGuard."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._memory = Memory(clock)

    def get(self, key: str, within: float) -> bytes | None:
        return self._memory.read(key)

    def get_many(self, keys: Sequence[str], within: float) -> list[bytes | None]:
        return [self._memory.read(key) for key in keys]

    def acquire(self, key: str, token: str, seconds: float, within: float) -> tuple[bool, bytes | None]:
        return self._memory.acquire(key, token, seconds)

    def run(self, command: Command, within: float) -> Any:
        return self._memory.run(command)

    def watch(self, key: str, within: float) -> SyncWatch:
        return _listen(self._memory, _SyncMemoryWatch(commands.lease_of(key), self._memory))

    def close(self) -> None:
        """Nothing to close: what was stored stays."""

    def abandon(self) -> None:
        """Nothing to forget: a fork copies the memory."""


class _MemoryWatch(Watch):
    def __init__(self, channel: str, memory: Memory) -> None:
        super().__init__(channel)
        self._memory = memory

    async def close(self) -> None:
        self._memory.bells.get(self.channel, set()).discard(self)


class _SyncMemoryWatch(SyncWatch):
    def __init__(self, channel: str, memory: Memory) -> None:
        super().__init__(channel)
        self._memory = memory

    def close(self) -> None:
        self._memory.bells.get(self.channel, set()).discard(self)


def _listen(memory: Memory, watch: W) -> W:
    memory.bells.setdefault(watch.channel, set()).add(watch)
    return watch
