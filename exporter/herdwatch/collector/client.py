"""The connection to one Redis, with every wait bounded, and the closed set of reasons why it fails."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from typing import Any

from redis import exceptions as errors
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from herdwatch.config import Cache
from herdwatch.errors import ConfigError


def connect(cache: Cache, *, timeout: float) -> Redis:
    """A client that has not connected yet. `timeout` in seconds bounds each wait; nothing is retried behind our back.

    Raises ConfigError when the password's reference leads nowhere.
    """
    client = Redis.from_url(
        cache.url,
        username=cache.username,
        password=cache.password(),
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
        max_connections=2,
        # Both would be refused to a user who may only run INFO, and fill the ACL log.
        protocol=2,
        driver_info=None,
    )
    client.set_response_callback("INFO", _as_it_came)
    return client


def _as_it_came(response: Any, **_: Any) -> Any:
    """INFO as the bytes that Redis sent: the client's own parser turns versions into numbers."""
    return response


def reason(error: BaseException) -> str:
    """The value of `cache_failure{reason}` for what went wrong, from FAILURE_REASONS."""
    chain = list(_chain(error))
    for kinds, name in _BY_TYPE:
        if any(isinstance(link, kinds) for link in chain):
            return name
    text = str(error).lower()
    return next((name for words, name in _BY_WORDS if any(word in text for word in words)), "other")


# redis-py wraps what the system said, so the cause is looked for along the whole chain; the order is from
# the particular to the general: a certificate error is an OSError too.
_BY_TYPE: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
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
