"""At most N loads at a time: singleflight bounds the loads of one key, only this bounds those of ten thousand.

A slot that becomes free goes to the load for which most callers wait. After a cold restart that is a hot key's; in
order of arrival it would stand behind hundreds of keys that one caller each has asked for.
"""

from __future__ import annotations

import asyncio
import threading

from herdwatch.errors import Shed
from herdwatch.guard.line import Crowd, Line, one
from herdwatch.guard.settings import Settings
from herdwatch.guard.slots import Slots


class Limiter:
    """The load slots of one guard on asyncio."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._free = settings.max_loads
        self._line: Line[asyncio.Future[bool]] = Line()

    def free(self) -> bool:
        """Whether a load would begin at once."""
        return self._free > 0

    async def enter(self, crowd: Crowd = one) -> None:
        """Take a slot; raises Shed when none became free within max_wait, or too many wait already."""
        if self._free > 0:
            self._free -= 1
        else:
            await self._wait(crowd)

    def leave(self) -> None:
        """Give the slot back: to the next in line, if there is one."""
        self._free += 1
        while self._free > 0 and (turn := self._line.next()) is not None:
            if not turn.done():  # else it was cancelled in this tick
                self._free -= 1
                turn.set_result(True)

    async def _wait(self, crowd: Crowd) -> None:
        if len(self._line) >= self._settings.max_waiting:
            raise _shed(self._settings)
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()
        timer = loop.call_later(self._settings.max_wait, self._turn_away, turn)
        self._line.join(turn, crowd)
        try:
            granted = await turn
        except BaseException:
            self._step_out(turn)
            raise
        finally:
            timer.cancel()
        if not granted:
            raise _shed(self._settings)

    def _turn_away(self, turn: asyncio.Future[bool]) -> None:
        if self._line.leave(turn) and not turn.done():
            turn.set_result(False)

    def _step_out(self, turn: asyncio.Future[bool]) -> None:
        """Leave the line; a slot that was given in the tick of the cancellation is handed on."""
        self._line.leave(turn)
        if turn.done() and not turn.cancelled() and turn.result():
            self.leave()


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

    def enter(self, crowd: Crowd = one) -> None:
        """Wait for a slot; raises Shed when none became free within max_wait, or too many wait already."""
        with self._lock:
            if self._waiting >= self._settings.max_waiting:
                raise _shed(self._settings)
            self._waiting += 1
        try:
            if not self._slots.take(self._settings.max_wait, crowd):
                raise _shed(self._settings)
        finally:
            with self._lock:
                self._waiting -= 1

    def leave(self) -> None:
        """Give the slot back: to the next in line, if there is one."""
        self._slots.give()


def _shed(settings: Settings) -> Shed:
    return Shed(f"{settings.max_loads} loads are running and none ended within {settings.max_wait:g} s")
