"""The connection to one Redis: kept from scrape to scrape, replaced when it broke, never retried behind our back."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from herdwatch.collector.resp import MORE, Command, ProtocolError, Reader, ReplyError, packed, packed_secretly
from herdwatch.config import Cache

Ask = Callable[[Sequence[Command]], Awaitable[list[Any]]]
"""Sends commands in one write and gives one reply each, an error as a value; raises where the connection breaks."""


class Link:
    """One kept connection to one Redis; its waits are the caller's to bound, all together.

    It says nothing but AUTH and SELECT, and those only where it must: what a restricted user is refused fills the ACL
    log. `protocol` 3 says HELLO instead.
    """

    def __init__(self, cache: Cache, *, protocol: int = 2) -> None:
        self._cache, self._protocol = cache, protocol
        self._wire: _Wire | None = None

    async def ask(
        self, commands: Sequence[Command], *, patience: float | None = None, within: float | None = None
    ) -> list[Any]:
        """Send the commands in one write; a reply each, an error reply as a value.

        A kept connection that Redis has closed since, or on which nothing comes for `patience` seconds, says nothing
        about Redis now and is replaced once. What breaks after the first reply, or has not come `within` seconds, costs
        the replies that are still due, and stands in for them.

        Raises ConfigError when the password's reference leads nowhere, and what `reason` knows.
        """
        until = None if within is None else asyncio.get_running_loop().time() + within
        if self._wire is not None:
            with suppress(OSError):
                return await self._exchange(self._wire, commands, patience, until)
        self._wire = await self._connect()
        return await self._exchange(self._wire, commands, None, until)

    def hang_up(self) -> None:
        """Close at once; the next call connects anew."""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()

    async def _exchange(
        self, wire: _Wire, commands: Sequence[Command], patience: float | None, until: float | None
    ) -> list[Any]:
        """`until` is a time of the event loop. The first reply is waited for beyond it: its bound is the caller's."""
        replies: list[Any] = []
        try:
            wire.send(packed(*commands), due=len(commands))
            async with asyncio.timeout(patience):
                for _ in commands[:1]:
                    replies.append(await wire.reply())
            async with asyncio.timeout_at(until):
                for _ in commands[1:]:
                    replies.append(await wire.reply())
            wire.check()
        except (ProtocolError, OSError) as error:
            self.hang_up()
            if not replies:
                raise
            replies += [error] * (len(commands) - len(replies))
        except BaseException:
            self.hang_up()
            raise
        return replies

    async def _connect(self) -> _Wire:
        loop, parts = asyncio.get_running_loop(), urlsplit(self._cache.url)
        greetings = self._greetings()
        if parts.scheme == "unix":
            _, wire = await loop.create_unix_connection(_Wire, unquote(parts.path))
        else:
            context = _tls(self._cache) if parts.scheme == "rediss" else None
            _, wire = await loop.create_connection(_Wire, parts.hostname or "", parts.port or 6379, ssl=context)
        try:
            if greetings:
                wire.send(b"".join(map(packed_secretly, greetings)), due=len(greetings))
            for _ in greetings:
                reply = await wire.reply()
                if isinstance(reply, ReplyError):
                    raise reply
        except BaseException:
            wire.close()
            raise
        return wire

    def _greetings(self) -> list[Command]:
        user, password = self._cache.user, self._cache.password()
        login: Command = ()
        if user or password:
            # Redis before 6 knows no users, and takes a password alone.
            login = (user, password or "") if user else (password or "",)
        greetings: list[Command] = [("AUTH", *login)] if login else []
        if self._protocol == 3:
            greetings = [("HELLO", 3, "AUTH", *(login if user else ("default", *login)))] if login else [("HELLO", 3)]
        if self._cache.logical_database:
            greetings.append(("SELECT", self._cache.logical_database))
        return greetings


def _tls(cache: Cache) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=cache.tls_ca_file)
        if cache.tls_cert_file is not None:
            context.load_cert_chain(cache.tls_cert_file, cache.tls_key_file)
    except OSError as error:  # a file that is missing looks like a socket that is
        raise ssl.SSLError(f"the files of cache {cache.name}: {error.strerror}") from None
    return context


class _Wire(asyncio.Protocol):
    """One connection that is asked and answers, and never speaks unasked.

    What came is read before it is told that the connection broke: a Redis that is full says so and hangs up.
    """

    def __init__(self) -> None:
        self._due = 1  # a Redis that has no place for us says so before it is asked
        self._reader = Reader()
        self._transport: asyncio.Transport | None = None
        self._lost: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one without saying so

    def data_received(self, data: bytes) -> None:
        if not self._due:
            self.close()  # else it could fill the memory between two scrapes
            return
        self._reader.feed(data)
        self._wake()

    def eof_received(self) -> None:
        self._lost = ConnectionResetError("closed by the other side")
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = self._lost or exc or ConnectionResetError("closed")
        self._wake()

    def send(self, data: bytes, *, due: int) -> None:
        """Write, and expect so many replies."""
        self._due = due
        if self._transport is not None and self._lost is None:
            self._transport.write(data)

    async def reply(self) -> Any:
        """The next reply. Raises ProtocolError, and OSError when the connection is gone."""
        while (reply := self._reader.reply()) is MORE:
            if self._lost is not None:
                raise self._lost
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        self._due -= 1
        return reply

    def check(self) -> None:
        """Raises ProtocolError when there is more than was asked for."""
        if not self._reader.empty:
            raise ProtocolError("more replies than commands")

    def close(self) -> None:
        """Without waiting for anybody."""
        if self._transport is not None:
            self._transport.abort()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
