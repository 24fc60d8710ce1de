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
_LEAST = 1.0
"""Seconds that Redis has to confirm a subscription, however little patience who asked for it has left."""


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
    """The connection and who waits on it; belongs to one event loop.

    A subscription is a task that no caller owns, so that one of little patience hangs up on nobody. A channel has one
    at a time: it is unsubscribed after its confirmation only, which therefore can be no other's.
    """

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._connection: Connection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._watches: dict[str, set[Bell]] = {}
        self._subscriptions: dict[str, asyncio.Task[None]] = {}
        self._confirmations: dict[str, asyncio.Future[None]] = {}
        self._not_before = 0.0
        self._connecting = asyncio.Lock()

    async def watch(self, channel: str, within: float) -> Watch:
        """Listen to a channel; see `listen`."""
        watch = Watch(channel, self)
        await self.listen(watch, within)
        return watch

    async def listen(self, bell: Bell, within: float) -> None:
        """Subscribe, unless that is known to fail; returns when Redis has confirmed it or `within` seconds are over.

        Messages come from when it is confirmed, be it later than that.
        """
        self._watches.setdefault(bell.channel, set()).add(bell)
        subscription = self._subscriptions.get(bell.channel)
        if subscription is None:
            if time.monotonic() < self._not_before:
                return
            subscription = self._begin(bell.channel, max(within, _LEAST))
        try:
            await asyncio.wait({subscription}, timeout=within)
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
        subscription = self._subscriptions.get(bell.channel)
        if subscription is not None and subscription.done():
            await self._unsubscribe(bell.channel)

    async def aclose(self) -> None:
        tasks = [*self._subscriptions.values(), *([self._reader] if self._reader is not None else [])]
        self._hang_up()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._drop_ended()  # also those that were cancelled before their first step

    def _begin(self, channel: str, within: float) -> asyncio.Task[None]:
        # Not create_task: under an eager task factory it could end before it is in its place.
        subscription = self._subscriptions[channel] = asyncio.Task(self._subscribe(channel, within))
        return subscription

    async def _subscribe(self, channel: str, within: float) -> None:
        try:
            async with asyncio.timeout(within):
                await self._confirmed(channel)
        except BaseException as error:
            del self._subscriptions[channel]
            if not isinstance(error, (RedisError, OSError, TimeoutError)):
                raise
            denied = isinstance(error, NoPermissionError)
            self._not_before = time.monotonic() + (_AFTER_DENIAL if denied else _AFTER_FAILURE)
            self._hang_up()
            return
        if channel not in self._watches:  # whoever waited has left
            await self._unsubscribe(channel)

    async def _unsubscribe(self, channel: str) -> None:
        del self._subscriptions[channel]
        if self._connection is not None:
            with contextlib.suppress(RedisError, OSError):
                await self._connection.send_command("UNSUBSCRIBE", channel, check_health=False)

    async def _confirmed(self, channel: str) -> None:
        async with self._connecting:
            connection = self._connection or await self._connected()
        confirmation = self._confirmations[channel] = asyncio.get_running_loop().create_future()
        try:
            await connection.send_command("SUBSCRIBE", channel, check_health=False)
            await confirmation
            if self._connection is not connection:
                raise ConnectionResetError("the pub/sub connection was lost")
        finally:
            del self._confirmations[channel]

    async def _connected(self) -> Connection:
        connection = self._connect()
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        self._connection = connection
        self._reader = asyncio.get_running_loop().create_task(self._read(connection))
        for channel in self._watches.keys() - self._subscriptions.keys():  # who waited when the last one was lost
            self._begin(channel, _LEAST)
        return connection

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
            confirmation = self._confirmations.get(channel)
            if confirmation is not None and not confirmation.done():
                confirmation.set_result(None)

    def _lose(self, connection: Connection, error: BaseException | None) -> None:
        if self._connection is not connection:
            return
        self._connection = None
        self._drop_ended()
        for confirmation in self._confirmations.values():
            if not confirmation.done():
                confirmation.set_exception(error or ConnectionResetError("the pub/sub connection was lost"))

    def _drop_ended(self) -> None:
        self._subscriptions = {channel: one for channel, one in self._subscriptions.items() if not one.done()}

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._lose(self._connection, None)
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.cancel()
