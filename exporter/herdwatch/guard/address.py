"""A client taken as an address: where Redis is and how to log in, without the client's pool, retries and timeouts."""

from __future__ import annotations

import encodings.idna  # noqa: F401  else a thread imports it when it connects, and a fork then would leave half of it
import functools
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import redis
import redis.asyncio
from redis import connection as blocking
from redis.asyncio import connection as asyncio_
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

_OURS = {"protocol": 2, "driver_info": None, "socket_timeout": None, "socket_connect_timeout": None}
"""What a user with few permissions may be refused, and waits that our own deadlines bound."""

_DEFAULTS = {"host": "localhost", "port": 6379, "path": None, "db": 0, "username": None}
"""What tells two apart, and what a URL may leave out."""

_LEFT_BEHIND = {
    "cache",
    "client_name",
    "decode_responses",
    "health_check_interval",
    "retry",
    "retry_on_error",
    "retry_on_timeout",
}
_PRIVATE = ("event_", "himport_", "maint_", "maintenance_", "orig_", "oss_")
_KINDS = ("UnixDomainSocketConnection", "SSLConnection", "Connection")


@dataclass(frozen=True)
class Address:
    """Where a Redis is. Hashable by what tells two apart, so that guards of one Redis can share a reporter."""

    kind: str
    identity: tuple[Any, ...]
    arguments: Mapping[str, Any] = field(repr=False)  # a password may be among them

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Address) and (self.kind, self.identity) == (other.kind, other.identity)

    def __hash__(self) -> int:
        return hash((self.kind, self.identity))

    def connection(self) -> blocking.Connection:
        """A connection for threads, not yet open: it never retries."""
        kind = getattr(blocking, self.kind)
        return kind(**_known(kind, self.arguments), retry=Retry(NoBackoff(), 0), **_OURS)  # type: ignore[no-any-return]

    def async_connection(self) -> asyncio_.Connection:
        """A connection for asyncio, not yet open: it never retries."""
        kind = getattr(asyncio_, self.kind)
        return kind(**_known(kind, self.arguments), retry=AsyncRetry(NoBackoff(), 0), **_OURS)  # type: ignore[no-any-return]


def of(client: object, *, wanted: type, guard: str) -> Address:
    """The address that a client of the `wanted` type holds.

    Raises TypeError for anything else: a client of the other kind, a cluster's, a Sentinel's, a URL.
    """
    if not isinstance(client, wanted):
        raise TypeError(f"{guard} needs a {_name(wanted)}, not a {_name(type(client))}{_hint(client)}")
    pool = client.connection_pool  # type: ignore[attr-defined]
    kind = next((name for name in _KINDS if _is_a(pool.connection_class, name)), None)
    if kind is None:
        raise TypeError(f"{guard} cannot connect as {pool.connection_class.__name__} does; it needs one server")
    arguments = {key: value for key, value in pool.connection_kwargs.items() if key not in _LEFT_BEHIND}
    identity = tuple(arguments.get(key, default) for key, default in _DEFAULTS.items())
    return Address(kind, identity, arguments)


def _is_a(connection_class: type, name: str) -> bool:
    return connection_class in (getattr(blocking, name), getattr(asyncio_, name))


def _known(kind: type, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that describe the server; a client also keeps there what its own pool needs."""
    parameters = _parameters(kind)
    return {key: value for key, value in arguments.items() if key in parameters}


@functools.cache
def _parameters(kind: type) -> frozenset[str]:
    names = {name for one in kind.__mro__ if one is not object for name in inspect.signature(one).parameters}
    return frozenset(name for name in names if not name.startswith(_PRIVATE)) - set(_OURS) - _LEFT_BEHIND


def _name(kind: type) -> str:
    return f"{kind.__module__.split('.client')[0]}.{kind.__name__}"


def _hint(client: object) -> str:
    if isinstance(client, redis.Redis):
        return "; for threads there is SyncGuard"
    if isinstance(client, redis.asyncio.Redis):
        return "; for asyncio there is Guard"
    return ""
