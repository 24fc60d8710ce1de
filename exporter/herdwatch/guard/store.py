"""Redis as the guard uses it, on asyncio: every call has one deadline for all of it and one way to fail, StoreDown."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from redis.asyncio.connection import Connection
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from herdwatch.guard import commands
from herdwatch.guard.address import Address
from herdwatch.guard.commands import Command
from herdwatch.guard.health import Health
from herdwatch.guard.values import OTHER_TYPE
from herdwatch.guard.wakeups import Wakeups, Watch

_inherited: list[object] = []
_REFUSALS = (AuthenticationError, AuthorizationError, NoPermissionError)


class StoreDown(Exception):
    """Redis did not do what it was asked, whatever the reason; the guard goes on without it.

    `refused` when it answered, and lets this user not do that: asking again will not help.
    """

    refused = False

    @classmethod
    def of(cls, error: BaseException) -> StoreDown:
        """What a failed command comes to."""
        down = cls(str(error))
        down.refused = isinstance(error, _REFUSALS) or "unauthenticated" in str(error)
        return down


class Store(ABC):
    """What a guard needs of its cache. `within` is a deadline in seconds; every method may raise StoreDown."""

    address: Address | None = None

    @abstractmethod
    async def get(self, key: str, within: float) -> bytes | None: ...

    @abstractmethod
    async def run(self, command: Command, within: float) -> Any:
        """One command of herdwatch.guard.commands."""

    @abstractmethod
    async def get_many(self, keys: Sequence[str], within: float) -> list[bytes | None]: ...

    async def get_each(self, keys: Sequence[str], within: float) -> list[bytes | None]:
        """As `get_many`, with OTHER_TYPE where there is no string, of which MGET says that there is nothing."""
        return [await self.get(key, within) for key in keys]

    @abstractmethod
    async def acquire(self, key: str, token: str, seconds: float, within: float) -> tuple[bool, bytes | None]:
        """Whether the lease is ours now, and the value there is."""

    @abstractmethod
    async def watch(self, key: str, within: float) -> Watch:
        """Listen to the key's lease; close the watch afterwards."""

    @abstractmethod
    async def aclose(self) -> None: ...

    @abstractmethod
    def abandon(self) -> None:
        """Forget every connection without a word to Redis: after a fork they are the parent's."""


class RedisStore(Store):
    """A bounded set of connections of its own.

    redis-py's pool waits for a connection, connects and reads with a timeout each; our callers have one for all three.
    """

    def __init__(self, address: Address, *, connections: int) -> None:
        self.address: Address = address
        self._size = connections
        self._health = Health(address)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._idle: list[Connection] = []
        self._farewell: AsyncGenerator[None, None] | None = None
        self._closed = False

    async def get(self, key: str, within: float) -> bytes | None:
        (reply,) = await self._talk((("GET", key),), within)
        if isinstance(reply, ResponseError):
            if _of_another_type(reply):
                return None  # what lies there is not ours: a miss, and the fill replaces it
            raise self._down(reply)
        return reply  # type: ignore[no-any-return]

    async def get_many(self, keys: Sequence[str], within: float) -> list[bytes | None]:
        return await self.run(("MGET", *keys), within) if keys else []

    async def get_each(self, keys: Sequence[str], within: float) -> list[bytes | None]:
        replies = await self._talk([("GET", key) for key in keys], within) if keys else []
        for reply in replies:
            if isinstance(reply, ResponseError) and not _of_another_type(reply):
                raise self._down(reply)
        return [OTHER_TYPE if isinstance(reply, ResponseError) else reply for reply in replies]

    async def acquire(self, key: str, token: str, seconds: float, within: float) -> tuple[bool, bytes | None]:
        taken, raw = await self._talk(commands.acquire(key, token, seconds), within)
        if isinstance(taken, ResponseError):
            raise self._down(taken)
        return taken is not None, None if isinstance(raw, ResponseError) else raw

    async def run(self, command: Command, within: float) -> Any:
        (reply,) = await self._talk((command,), within)
        if isinstance(reply, ResponseError):
            raise self._down(reply)
        return reply

    async def watch(self, key: str, within: float) -> Watch:
        await self._bind()
        return await self._wakeups.watch(commands.lease_of(key), within)

    async def aclose(self) -> None:
        self._closed = True
        if self._loop is not None:
            await self._wakeups.aclose()
        await _hang_up(self._idle)

    def abandon(self) -> None:
        # Kept, for ever: to collect connections would close them through an epoll that the parent still uses.
        _inherited.append(vars(self).copy())
        self._loop, self._idle = None, []

    async def _bind(self) -> None:
        """Connections belong to the loop that opened them; a new loop gets new ones."""
        loop = asyncio.get_running_loop()
        if loop is self._loop:
            return
        if self._loop is not None and self._loop.is_running():
            raise RuntimeError("this guard is at work in another event loop; make one guard per loop")
        self._loop, self._idle, self._closed = loop, [], False
        self._gate = asyncio.Semaphore(self._size)
        self._wakeups = Wakeups(self.address.async_connection)
        self._farewell = _while_the_loop_lasts(self._idle)
        await anext(self._farewell)

    async def _talk(self, lines: Sequence[Command], within: float) -> list[Any]:
        """Send commands in one write and read their replies; an error reply is a value here."""
        if self._loop is not asyncio.get_running_loop():
            await self._bind()
        try:
            async with asyncio.timeout(within), self._gate:
                replies = await self._exchange(lines)
        except (RedisError, OSError, TimeoutError) as error:
            raise self._down(error) from None
        if not self._health.up:
            self._health.answered()
        return replies

    async def _exchange(self, lines: Sequence[Command]) -> list[Any]:
        while self._idle:
            connection = self._idle.pop()
            try:
                return await self._ask(connection, lines)
            except (RedisError, OSError):
                # Redis closed it while it was idle, as a restart does, and with it those that waited beside it.
                await _hang_up(self._idle)
        connection = self.address.async_connection()
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return await self._ask(connection, lines)

    async def _ask(self, connection: Connection, lines: Sequence[Command]) -> list[Any]:
        try:
            await connection.send_packed_command(connection.pack_commands(lines), check_health=False)
            replies: list[Any] = []
            for _ in lines:
                try:
                    replies.append(await connection.read_response())
                except ResponseError as error:
                    replies.append(error)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        if self._closed or any(isinstance(reply, ReadOnlyError) for reply in replies):
            await connection.disconnect(nowait=True)  # a demoted primary: the address may lead to another by now
        else:
            self._idle.append(connection)
        return replies

    def _down(self, error: BaseException) -> StoreDown:
        self._health.failed(error)
        return StoreDown.of(error)


def _of_another_type(reply: object) -> bool:
    return isinstance(reply, ResponseError) and str(reply).startswith("WRONGTYPE")


async def _while_the_loop_lasts(idle: list[Connection]) -> AsyncGenerator[None, None]:
    """asyncio.run closes the async generators of its loop at the end, the last moment to hang up properly."""
    try:
        yield
    finally:
        await _hang_up(idle)


async def _hang_up(idle: list[Connection]) -> None:
    while idle:
        with contextlib.suppress(Exception):
            await idle.pop().disconnect(nowait=True)
