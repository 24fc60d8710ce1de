"""Why a scrape or a part of it did not work: a closed set of reasons, and a sentence for people for each."""

from __future__ import annotations

import re
import socket
import ssl

from herdwatch.collector.resp import ProtocolError, ReplyError
from herdwatch.config import Cache
from herdwatch.errors import ConfigError


def reason(error: BaseException) -> str:
    """The label `reason` of what went wrong: of FAILURE_REASONS for a scrape, of PART_FAILURE_REASONS for a part."""
    if isinstance(error, ReplyError):
        return _BY_CODE.get(error.code) or _by_words(error, _REPLIES)
    by_type = next((name for kinds, name in _BY_TYPE if isinstance(error, kinds)), None)
    return by_type or _by_words(error, _SYSTEM)


# From the particular to the general: a certificate error is an OSError too.
_BY_TYPE: tuple[tuple[type[BaseException], str], ...] = (
    (ConfigError, "auth"),  # the only one at this moment: a password's reference that leads nowhere
    (ProtocolError, "protocol"),
    (ssl.SSLError, "tls"),
    (socket.gaierror, "dns"),
    (TimeoutError, "timeout"),
    (ConnectionRefusedError, "refused"),
    (FileNotFoundError, "refused"),
)
_BY_CODE = {"LOADING": "loading", "NOAUTH": "auth", "WRONGPASS": "auth", "NOPERM": "permission"}
_REPLIES = (
    (("max number of clients",), "maxclients"),
    (("invalid password", "without any password", "no password is set", "number of arguments for 'auth'"), "auth"),
)
_SYSTEM = ((("errno 111", "connection refused"), "refused"),)
"""A name with several addresses that all refuse is one error with the words of each."""


def _by_words(error: BaseException, table: tuple[tuple[tuple[str, ...], str], ...]) -> str:
    text = str(error).lower()
    return next((name for words, name in table if any(word in text for word in words)), "other")


_UNKNOWN_COMMAND = re.compile(r"ERR unknown command ['`](INFO|AUTH|SELECT)['`]", re.IGNORECASE)

_ADVICE = {
    "refused": "nothing listens there; start Redis or correct the url",
    "timeout": "no answer in time; see whether it is overloaded, stopped, behind a firewall or without TLS",
    "auth": "the user or password is missing or wrong, or the user is gone since a restart, which ACL SAVE prevents; "
    "name where the password is kept: password_env or password_file",
    "permission": "the user may not run INFO, or SELECT the database of the url; herdwatch acl prints what it needs",
    "tls": "the TLS handshake failed; see whether it speaks TLS (rediss://) and who signed its certificate",
    "dns": "the host name does not resolve; correct the url",
    "maxclients": "it has no connection left; raise its maxclients or find who holds them",
    "protocol": "what answers is no Redis; correct the url",
    "other": "it refused, or the connection broke; see the log of Redis, and the number of the database in the url",
}
_OTHER_PART = "see its log and rename-command; a herdwatch:reports that is no hash must be deleted"
_PART_ADVICE = {
    "permission": "its user may not; herdwatch acl prints what it needs",
    "loading": "Redis loads its dataset and answers INFO alone",
    "timeout": "no time was left for it; see exporter.deadline and Prometheus's scrape_timeout",
}


def detail(cache: Cache, error: BaseException) -> str:
    """What to tell people where the reason says too little: our own side is wrong, or a command is gone; else empty."""
    if isinstance(error, ConfigError):
        return str(error)
    gone = _UNKNOWN_COMMAND.match(str(error)) if isinstance(error, ReplyError) else None
    if gone is None:
        return ""
    return (
        f"cache {cache.name}: Redis at {cache.instance} has no command {gone[1].upper()}: its rename-command renamed "
        "or disabled it; without it nothing can be told of this cache"
    )


def sentence(cache: Cache, why: str, detail: str = "") -> str:
    """What to tell people about a failed scrape, without any text from the other side; `why` as from `reason`.

    `detail`, as from the function of that name, is told instead.
    """
    return detail or f"cache {cache.name}: Redis at {cache.instance} does not answer ({why}): {_ADVICE[why]}"


def part_sentence(cache: Cache, part: str, why: str) -> str:
    """The same for one part of a scrape that went well apart from it."""
    advice = _PART_ADVICE.get(why, _OTHER_PART)
    return f"cache {cache.name}: no {part} ({why}): {advice}"
