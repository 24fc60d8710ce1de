"""The servers that a promotion talks to: where they are, who logs in, and one bounded way to ask them.

They are asked through the collector's Link, which takes no more from the other side than was asked for.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from pydantic import SecretStr, ValidationError

from herdwatch import config as configuration
from herdwatch.collector.failures import detail, reason, sentence
from herdwatch.collector.resp import Command, ProtocolError, ReplyError
from herdwatch.config import Cache
from herdwatch.errors import ConfigError, HerdwatchError, UsageError
from herdwatch.operations.exchange import exchange

PATIENCE = 2.0
"""Seconds that a server has for an answer, connection and login included."""


class Unreachable(HerdwatchError):
    """A server gave no answer; `why` is one of the collector's reasons."""

    def __init__(self, name: str, why: str, message: str) -> None:
        super().__init__(message)
        self.name, self.why = name, why


class _Keyed(Cache):
    """A Cache whose password came in a URL. It is in no text of this object."""

    secret: SecretStr | None = None

    def password(self) -> str | None:
        return super().password() if self.secret is None else self.secret.get_secret_value()


@dataclass(frozen=True, slots=True)
class Login:
    """Who logs in where the URL does not say."""

    username: str | None = None
    password_env: str | None = None
    password_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One server. Its text is its address, never a password."""

    cache: Cache
    patience: float = PATIENCE

    def __str__(self) -> str:
        return self.cache.instance

    def __repr__(self) -> str:
        return f"Endpoint({self})"

    @property
    def host(self) -> str:
        """The host, or an empty text for a socket of this machine."""
        return urlsplit(self.cache.url).hostname or ""

    @property
    def port(self) -> int:
        """The port, 0 for a socket of this machine."""
        return (urlsplit(self.cache.url).port or 6379) if self.host else 0

    @property
    def has_login(self) -> bool:
        """Whether it is known who logs in."""
        cache = self.cache
        secret = cache.secret if isinstance(cache, _Keyed) else None
        return bool(cache.user or cache.password_env or cache.password_file or secret)

    def logging_in_as(self, other: Endpoint) -> Endpoint:
        """The same server with the login and the TLS files of another one."""
        names = ["password_env", "password_file", "secret"]
        if self.cache.url.startswith("rediss://"):
            names += ["tls_ca_file", "tls_cert_file", "tls_key_file"]
        taken = {name: getattr(other.cache, name, None) for name in names}
        return replace(self, cache=self.cache.model_copy(update={"username": other.cache.user, **taken}))

    def at(self, host: str, port: int) -> Endpoint:
        """The server at another address, reached with the same login. Raises UsageError for what is no address."""
        parts = urlsplit(self.cache.url)
        scheme = "redis" if parts.scheme == "unix" else parts.scheme
        url = f"{scheme}://{address(host, port)}"
        user = self.cache.user
        values = {**self.cache.__dict__, "url": url, "username": user}
        try:
            return replace(self, cache=type(self.cache).model_validate(values))
        except ValidationError:
            raise UsageError(f"{self} names a server at an address that cannot be read") from None

    def bare(self) -> Endpoint:
        """The same server without a login."""
        parts = urlsplit(self.cache.url)
        plain = {"url": urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], path=parts.path))}
        nobody = {"username": None, "password_env": None, "password_file": None, "secret": None}
        return replace(self, cache=_Keyed.model_validate({**self.cache.__dict__, **plain, **nobody}))

    def keyed(self, user: str, secret: str) -> Endpoint:
        """The same server, and who logs in there; an empty `user` is the one without a name."""
        own = {"username": user or None, "password_env": None, "password_file": None, "secret": SecretStr(secret)}
        return replace(self, cache=self.cache.model_copy(update=own))

    def is_at(self, host: str, port: int) -> bool:
        """Whether that address is this server's, as far as names can be resolved from here."""
        return port == self.port and (host == self.host or bool(_addresses(host) & _addresses(self.host)))

    def ask(self, *commands: Command, patience: float | None = None) -> list[Any]:
        """A reply each, an error reply as a value; on a connection of its own.

        Raises Unreachable, and ConfigError where the password's reference leads nowhere.
        """
        try:
            return asyncio.run(exchange(self.cache, commands, patience or self.patience))
        except (OSError, ProtocolError, ReplyError) as error:
            why = reason(error)
            told = sentence(self.cache, why, detail(self.cache, error))
            raise Unreachable(str(self), why, told.partition(": ")[2]) from None


def address(host: str, port: int | str) -> str:
    """HOST:PORT, the host in brackets where it is an address of IPv6."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _addresses(host: str) -> set[str]:
    try:
        return {str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return set()


def of_url(option: str, url: str, login: Login = Login()) -> Endpoint:
    """The server of a URL of the command line; the URL's own login comes first. Raises ConfigError."""
    plain, secret = _parted(url)
    own = secret is not None
    given = {
        "username": None if "@" in urlsplit_or_empty(plain) else login.username,
        "password_env": None if own else login.password_env,
        "password_file": None if own or login.password_file is None else str(login.password_file),
    }
    try:
        cache = configuration.single(plain, **given).caches[0]
    except ConfigError as error:
        raise ConfigError(str(error).replace("--redis-url", option, 1)) from None
    return of_cache(cache, secret)


def of_cache(cache: Cache, secret: str | None = None) -> Endpoint:
    """The server of a cache of herdwatch.yaml. Its database does not matter here, so none is selected."""
    parts = urlsplit(cache.url)
    url = cache.url.partition("?")[0] if parts.scheme == "unix" else urlunsplit(parts._replace(path=""))
    return Endpoint(_Keyed.model_validate({**cache.__dict__, "url": url, "secret": secret}))


def of_address(option: str, text: str, login: Login) -> Endpoint:
    """The server at HOST:PORT. Raises ConfigError."""
    return of_url(option, f"redis://{text}", login)


def urlsplit_or_empty(url: str) -> str:
    """The part of a URL with user, host and port; empty where it cannot be read."""
    try:
        return urlsplit(url).netloc
    except ValueError:
        return ""


def _parted(url: str) -> tuple[str, str | None]:
    """The URL without its password, and that."""
    netloc = urlsplit_or_empty(url)
    login, at, host = netloc.rpartition("@")
    user, colon, secret = login.partition(":")
    if not at or not colon:
        return url, None
    plain = f"{user}@{host}" if user else host
    return url.replace(netloc, plain, 1), unquote(secret)
