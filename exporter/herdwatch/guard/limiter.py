"""At most N loads at a time: singleflight bounds the loads of one key, only this bounds those of ten thousand."""

from __future__ import annotations

import asyncio
import threading

from herdwatch.errors import Shed
from herdwatch.guard.settings import Settings
from herdwatch.guard.slots import Slots


class Limiter:
    """The load slots of one guard on asyncio."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._slots = asyncio.Semaphore(settings.max_loads)
        self._waiting = 0

    def free(self) -> bool:
        """Whether a load would begin at once."""
        return not self._slots.locked()

    async def enter(self) -> None:
        """Take a slot; raises Shed when none became free within max_wait, or too many wait already."""
        if self._slots.locked():
            await self._wait()
        else:
            await self._slots.acquire()

    def leave(self) -> None:
        """Give the slot back."""
        self._slots.release()

    async def _wait(self) -> None:
        if self._waiting >= self._settings.max_waiting:
            raise _shed(self._settings)
        self._waiting += 1
        try:
            async with asyncio.timeout(self._settings.max_wait):
                await self._slots.acquire()
        except TimeoutError:
            raise _shed(self._settings) from None
        finally:
            self._waiting -= 1


class SyncLimiter:
    """The load slots of one guard for threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._slots = Slots(settings.max_loads)
        self._waiting = 0
        self._lock = threading.Lock()

    def enter_if_free(self) -> bool:
        """Take a slot if one is free."""
        return self._slots.take_if_free()

    def enter(self) -> None:
        """Wait for a slot; raises Shed when none became free within max_wait, or too many wait already."""
        with self._lock:
            if self._waiting >= self._settings.max_waiting:
                raise _shed(self._settings)
            self._waiting += 1
        try:
            if not self._slots.take(self._settings.max_wait):
                raise _shed(self._settings)
        finally:
            with self._lock:
                self._waiting -= 1

    def leave(self) -> None:
        """Give the slot back."""
        self._slots.give()


def _shed(settings: Settings) -> Shed:
    return Shed(f"{settings.max_loads} loads are running and none ended within {settings.max_wait:g} s")
