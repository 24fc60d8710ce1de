"""The event loop in which a SyncGuard listens to pub/sub: one daemon thread, begun with the first wait for a lease."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine
from typing import Any

from herdwatch.guard.address import Address
from herdwatch.guard.wakeups import Wakeups

_PATIENCE = 0.1
"""What the loop's thread may need beyond a deadline of its own, in seconds."""


class SyncWatch:
    """A wait for messages on one channel, in threads."""

    def __init__(self, channel: str, background: Background | None = None) -> None:
        self.channel = channel
        self._background = background
        self._message: bytes | None = None
        self._rung = threading.Event()

    def wait(self, seconds: float) -> bytes | None:
        """The next message, None if none came in that time."""
        self._rung.wait(seconds)
        message, self._message = self._message, None
        self._rung.clear()
        return message

    def ring(self, message: bytes) -> None:
        """Deliver a message."""
        self._message = message
        self._rung.set()

    def close(self) -> None:
        """Listen no longer."""
        if self._background is not None:
            self._background.forget(self)


class Background:
    """The loop and its thread."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def watch(self, channel: str, within: float) -> SyncWatch:
        """Listen to a channel; returns when Redis has confirmed it or the time is over: then it is polled only."""
        watch = SyncWatch(channel, self)
        try:
            self._submit(self._listen(watch, within)).result(within + _PATIENCE)
        except (concurrent.futures.TimeoutError, concurrent.futures.CancelledError):
            pass
        except BaseException:
            self.forget(watch)
            raise
        return watch

    def forget(self, watch: SyncWatch) -> None:
        """Listen no longer."""
        with self._lock:  # for all of it: a loop that `close` has stopped takes nothing
            if self._loop is not None:
                asyncio.run_coroutine_threadsafe(self._wakeups.forget(watch), self._loop)

    def close(self) -> None:
        """End the thread; who watches from now on polls."""
        with self._lock:
            self._closed = True
            loop, self._loop = self._loop, None
        if loop is None or self._thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._wakeups.aclose(), loop).add_done_callback(
            lambda _: loop.call_soon_threadsafe(loop.stop)
        )
        self._thread.join(1.0)

    async def _listen(self, watch: SyncWatch, within: float) -> None:
        await self._wakeups.listen(watch, within)

    def _submit(self, work: Coroutine[Any, Any, None]) -> concurrent.futures.Future[None]:
        with self._lock:
            if self._closed:
                work.close()
                raise concurrent.futures.CancelledError
            loop = self._loop or self._begin()
            return asyncio.run_coroutine_threadsafe(work, loop)

    def _begin(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        self._wakeups = Wakeups(self._address.async_connection)

        def work() -> None:
            loop.run_forever()
            loop.close()

        self._thread = threading.Thread(target=work, name="herdwatch-guard-wakeups", daemon=True)
        self._thread.start()
        self._loop = loop
        return loop
