"""One pub/sub connection a process: who waits for another process's load is told when it ends.

Only channels that somebody here waits on are subscribed, so a fill costs a process nothing that does not wait for it.
It is a convenience: without it (channels denied, connection lost) waiters poll.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable
from typing import Protocol

from redis.asyncio.connection import Connection
from redis.exceptions import NoPermissionError, RedisError, ResponseError

_AFTER_FAILURE = 1.0
_AFTER_DENIAL = 60.0


class Bell(Protocol):
    """Who waits on a channel; `ring` is called in the connection's event loop."""

    channel: str

    def ring(self, message: bytes) -> None: ...


class Watch:
    """A wait for messages on one channel, on asyncio."""

    def __init__(self, channel: str, wakeups: Wakeups | None = None) -> None:
        self.channel = channel
        self._wakeups = wakeups
        self._message: bytes | None = None
        self._rung = asyncio.Event()

    async def wait(self, seconds: float) -> bytes | None:
        """The next message, None if none came in that time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        message, self._message = self._message, None
        self._rung.clear()
        return message

    def ring(self, message: bytes) -> None:
        """Deliver a message."""
        self._message = message
        self._rung.set()

    async def close(self) -> None:
        """Listen no longer."""
        if self._wakeups is not None:
            await self._wakeups.forget(self)


class Wakeups:
    """The connection and who waits on it; belongs to one event loop."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._connection: Connection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._watches: dict[str, set[Bell]] = {}
        self._acknowledged: dict[str, asyncio.Future[None]] = {}
        self._not_before = 0.0
        self._connecting = asyncio.Lock()

    async def watch(self, channel: str, within: float) -> Watch:
        """Listen to a channel; see `listen`."""
        watch = Watch(channel, self)
        await self.listen(watch, within)
        return watch

    async def listen(self, bell: Bell, within: float) -> None:
        """Subscribe, unless that is known to fail; returns when Redis has confirmed it or `within` seconds are over."""
        self._watches.setdefault(bell.channel, set()).add(bell)
        if time.monotonic() < self._not_before:
            return
        try:
            async with asyncio.timeout(within):
                await self._subscribe(bell.channel)
        except (RedisError, OSError, TimeoutError) as error:
            denied = isinstance(error, NoPermissionError)
            self._not_before = time.monotonic() + (_AFTER_DENIAL if denied else _AFTER_FAILURE)
            await self._hang_up()
        except BaseException:
            await self.forget(bell)
            raise

    async def forget(self, bell: Bell) -> None:
        """Listen no longer; the last one to leave a channel unsubscribes."""
        bells = self._watches.get(bell.channel, set())
        bells.discard(bell)
        if bells:
            return
        self._watches.pop(bell.channel, None)
        subscribed = self._acknowledged.pop(bell.channel, None)
        if subscribed is not None and self._connection is not None:
            with contextlib.suppress(RedisError, OSError):
                await self._connection.send_command("UNSUBSCRIBE", bell.channel, check_health=False)

    async def aclose(self) -> None:
        await self._hang_up()

    async def _subscribe(self, channel: str) -> None:
        async with self._connecting:
            if self._connection is None:
                connection = self._connect()
                try:
                    await connection.connect()  # type: ignore[no-untyped-call]
                except BaseException:
                    await connection.disconnect(nowait=True)
                    raise
                self._connection = connection
                self._reader = asyncio.get_running_loop().create_task(self._read(connection))
        acknowledged = self._acknowledged.get(channel)
        if acknowledged is None:
            acknowledged = self._acknowledged[channel] = asyncio.get_running_loop().create_future()
            await self._connection.send_command("SUBSCRIBE", channel, check_health=False)
        await asyncio.shield(acknowledged)

    async def _read(self, connection: Connection) -> None:
        error: BaseException | None = None
        try:
            while True:
                self._dispatch(await connection.read_response(timeout=math.inf))
        except ResponseError as refused:
            error = refused
        except (RedisError, OSError):
            pass
        finally:
            self._lose(connection, error)
            await connection.disconnect(nowait=True)

    def _dispatch(self, reply: list[bytes]) -> None:
        kind, channel = reply[0], reply[1].decode("utf-8", "replace")
        if kind == b"message":
            for bell in self._watches.get(channel, ()):
                bell.ring(reply[2])
        elif kind == b"subscribe":
            acknowledged = self._acknowledged.get(channel)
            if acknowledged is not None and not acknowledged.done():
                acknowledged.set_result(None)

    def _lose(self, connection: Connection, error: BaseException | None) -> None:
        if self._connection is not connection:
            return
        self._connection = None
        waiting, self._acknowledged = self._acknowledged, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(error or ConnectionResetError("the pub/sub connection was lost"))
                future.exception()  # seen, even when nobody waits for it any more

    async def _hang_up(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reader
