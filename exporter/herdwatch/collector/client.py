"""The connection to one Redis, with every wait bounded, and the closed set of reasons why it fails."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator, Sequence
from typing import Any

from redis import exceptions as errors
from redis.asyncio.connection import Connection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from herdwatch.config import Cache
from herdwatch.errors import ConfigError

Command = tuple[str | bytes | int, ...]


class Link:
    """One kept connection to one Redis. It never retries, and its waits are the caller's to bound, all together.

    Everything that a restricted user would be refused, which fills the ACL log, is left out of the handshake.
    """

    def __init__(self, cache: Cache, *, protocol: int = 2) -> None:
        self._cache, self._protocol = cache, protocol
        self._connection: Connection | None = None

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Send the commands in one write; a reply each, an error reply as a value.

        A kept connection that Redis has closed since is replaced once: it says nothing about Redis now. Raises
        ConfigError when the password's reference leads nowhere, and what `reason` knows; then the connection is gone.
        """
        if self._connection is not None:
            try:
                return await self._exchange(self._connection, commands)
            except (errors.ConnectionError, ConnectionError):
                pass
        self._connection = await self._connect()
        return await self._exchange(self._connection, commands)

    async def hang_up(self) -> None:
        """Close without waiting; the next call connects anew."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    async def _connect(self) -> Connection:
        arguments: dict[str, Any] = {**parse_url(self._cache.url)}
        kind = arguments.pop("connection_class", Connection)
        arguments |= {"password": self._cache.password(), "protocol": self._protocol, "driver_info": None}
        if self._cache.username is not None:
            arguments["username"] = self._cache.username
        connection: Connection = kind(**arguments, retry=Retry(NoBackoff(), 0), **_UNBOUNDED)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def _exchange(self, connection: Connection, commands: Sequence[Command]) -> list[Any]:
        try:
            await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
            return [await _reply(connection) for _ in commands]
        except BaseException:
            await self.hang_up()
            raise


_UNBOUNDED = {"socket_timeout": None, "socket_connect_timeout": None}


async def _reply(connection: Connection) -> Any:
    try:
        return await connection.read_response(disconnect_on_error=False)
    except (errors.ResponseError, errors.BusyLoadingError) as error:
        # While it loads Redis answers INFO and refuses the rest, which redis-py takes for a broken connection.
        return error


def reason(error: BaseException) -> str:
    """The label `reason` of what went wrong: of FAILURE_REASONS for a scrape, of PART_FAILURE_REASONS for a part."""
    chain = list(_chain(error))
    for kinds, name in _BY_TYPE:
        if any(isinstance(link, kinds) for link in chain):
            return name
    text = str(error).lower()
    return next((name for words, name in _BY_WORDS if any(word in text for word in words)), "other")


# redis-py wraps what the system said, so the cause is looked for along the whole chain; the order is from
# the particular to the general: a certificate error is an OSError too.
_BY_TYPE: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    ((errors.BusyLoadingError,), "loading"),
    ((ConfigError,), "auth"),  # the only one at this moment: a password's reference that leads nowhere
    ((errors.MaxConnectionsError,), "maxclients"),
    ((ssl.SSLError,), "tls"),
    ((errors.NoPermissionError,), "permission"),
    ((errors.AuthenticationError,), "auth"),
    ((socket.gaierror,), "dns"),
    ((errors.TimeoutError, asyncio.TimeoutError, TimeoutError), "timeout"),
    ((ConnectionRefusedError, FileNotFoundError), "refused"),
    ((errors.InvalidResponse,), "protocol"),
)
_BY_WORDS = (
    (("max number of clients",), "maxclients"),
    (("noauth", "wrongpass", "invalid password", "invalid username-password", "authentication required"), "auth"),
    (("noperm", "no permissions"), "permission"),
    (("protocol error",), "protocol"),
)


_ADVICE = {
    "refused": "nothing listens there; start Redis or correct the url",
    "timeout": "no answer in time; see whether it is overloaded, stopped or behind a firewall",
    "auth": "the user or password is missing or wrong; name where it is kept: password_env or password_file",
    "permission": "the user may not run INFO; give it +info and, for reports, ~herdwatch:reports +hgetall",
    "tls": "the TLS handshake failed; see whether it speaks TLS (rediss://) and who signed its certificate",
    "dns": "the host name does not resolve; correct the url",
    "maxclients": "it has no connection left; raise its maxclients or find who holds them",
    "protocol": "what answers is no Redis; correct the url",
    "other": "the connection broke; see the log of Redis",
}


def sentence(cache: Cache, why: str) -> str:
    """What to tell people about a failed scrape, without any text from the other side; `why` as from `reason`."""
    return f"cache {cache.name}: Redis at {cache.instance} does not answer ({why}): {_ADVICE[why]}"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(10):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__
