"""Redis as the guard uses it, in threads: every call has one deadline for all of it and one way to fail, StoreDown."""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import Any

from redis.exceptions import ReadOnlyError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeout

from herdwatch.guard import commands
from herdwatch.guard.address import Address
from herdwatch.guard.background import Background, SyncWatch
from herdwatch.guard.commands import Command
from herdwatch.guard.health import Health
from herdwatch.guard.slots import Slots
from herdwatch.guard.store import StoreDown


class SyncStore(ABC):
    """What a SyncGuard needs of its cache. `within` is a deadline in seconds; every method may raise StoreDown."""

    address: Address | None = None

    @abstractmethod
    def get(self, key: str, within: float) -> bytes | None: ...

    @abstractmethod
    def run(self, command: Command, within: float) -> Any:
        """One command of herdwatch.guard.commands."""

    @abstractmethod
    def get_many(self, keys: Sequence[str], within: float) -> list[bytes | None]: ...

    @abstractmethod
    def acquire(self, key: str, token: str, seconds: float, within: float) -> tuple[bool, bytes | None]:
        """Whether the lease is ours now, and the value there is."""

    @abstractmethod
    def watch(self, key: str, within: float) -> SyncWatch:
        """Listen to the key's lease; close the watch afterwards."""

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def abandon(self) -> None:
        """Forget every connection without a word to Redis: after a fork they are the parent's."""


class SyncRedisStore(SyncStore):
    """A bounded set of connections of its own; one deadline for waiting, connecting and reading."""

    def __init__(self, address: Address, *, connections: int) -> None:
        self.address: Address = address
        self._size = connections
        self._health = Health(address)
        self.abandon()

    def abandon(self) -> None:
        self._idle: deque[Any] = deque()  # redis.connection.Connection, most of which is untyped
        self._gate = Slots(self._size)
        self._background = Background(self.address)
        self._closed = False

    def get(self, key: str, within: float) -> bytes | None:
        (reply,) = self._talk((("GET", key),), within)
        if isinstance(reply, ResponseError):
            if str(reply).startswith("WRONGTYPE"):
                return None  # what lies there is not ours: a miss, and the fill replaces it
            raise self._down(reply)
        return reply  # type: ignore[no-any-return]

    def get_many(self, keys: Sequence[str], within: float) -> list[bytes | None]:
        return self.run(("MGET", *keys), within) if keys else []

    def acquire(self, key: str, token: str, seconds: float, within: float) -> tuple[bool, bytes | None]:
        taken, raw = self._talk(commands.acquire(key, token, seconds), within)
        if isinstance(taken, ResponseError):
            raise self._down(taken)
        return taken is not None, None if isinstance(raw, ResponseError) else raw

    def run(self, command: Command, within: float) -> Any:
        (reply,) = self._talk((command,), within)
        if isinstance(reply, ResponseError):
            raise self._down(reply)
        return reply

    def watch(self, key: str, within: float) -> SyncWatch:
        return self._background.watch(commands.lease_of(key), within)

    def close(self) -> None:
        self._closed = True
        self._background.close()
        self._drop_idle()

    def _talk(self, lines: Sequence[Command], within: float) -> list[Any]:
        """Send commands in one write and read their replies; an error reply is a value here."""
        until = time.monotonic() + within
        if not self._gate.take(within):
            raise self._down(TimeoutError("no connection is free"))
        try:
            replies = self._exchange(lines, until)
        except (RedisError, OSError) as error:
            raise self._down(error) from None
        finally:
            self._gate.give()
        if not self._health.up:
            self._health.answered()
        return replies

    def _exchange(self, lines: Sequence[Command], until: float) -> list[Any]:
        while True:
            try:
                connection: Any = self._idle.pop()
            except IndexError:
                break
            try:
                return self._ask(connection, lines, until)
            except TimeoutError:
                raise
            except (RedisError, OSError):
                # Redis closed it while it was idle, as a restart does, and with it those that waited beside it.
                self._drop_idle()
        connection = self.address.connection()
        connection.socket_timeout = connection.socket_connect_timeout = max(0.001, until - time.monotonic())
        try:
            connection.connect()
        except BaseException:
            connection.disconnect()
            raise
        return self._ask(connection, lines, until)

    def _ask(self, connection: Any, lines: Sequence[Command], until: float) -> list[Any]:
        try:
            connection.send_packed_command(connection.pack_commands(lines), check_health=False)
            replies: list[Any] = []
            for _ in lines:
                try:
                    replies.append(connection.read_response(timeout=max(0.001, until - time.monotonic())))
                except ResponseError as error:
                    replies.append(error)
        except BaseException as error:
            connection.disconnect()
            if isinstance(error, RedisTimeout):
                raise TimeoutError(str(error)) from None
            raise
        if self._closed or any(isinstance(reply, ReadOnlyError) for reply in replies):
            connection.disconnect()  # a demoted primary: the address may lead to another by now
        else:
            self._idle.append(connection)
        return replies

    def _drop_idle(self) -> None:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return
            with contextlib.suppress(Exception):
                connection.disconnect()

    def _down(self, error: BaseException) -> StoreDown:
        self._health.failed(error)
        return StoreDown(str(error))
