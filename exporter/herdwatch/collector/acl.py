"""The Redis user with exactly the permissions that scraping one cache takes. Pure functions.

Source: the Redis documentation, ACL SETUSER.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from herdwatch import reports
from herdwatch.config import Cache

DEFAULT_USER = "herdwatch"
PLACEHOLDER = "PASSWORD"
"""Stands where the password goes; the real one is never read for this."""


def permissions(cache: Cache) -> tuple[str, ...]:
    """What the user may touch and run, as words of ACL SETUSER; they replace what it could before."""
    return ("resetkeys", f"~{reports.KEY}", "-@all", *(f"+{command}" for command in _commands(cache)))


def setuser(cache: Cache) -> str:
    """The ACL SETUSER command that makes the user, quoted for a shell and for redis-cli's own prompt."""
    user = ("resetpass", "on", f">{PLACEHOLDER}")  # who pastes first and edits second leaves no second password
    return shlex.join(("ACL", "SETUSER", cache.user or DEFAULT_USER, *user, *permissions(cache)))


def explained(cache: Cache) -> tuple[str, str]:
    """A comment that names the cache, and what its configuration lacks for the user to be used; the command."""
    lacks = "" if cache.user else f"; herdwatch.yaml needs username: {DEFAULT_USER} for it"
    return f"# cache {cache.name} at {cache.instance}{lacks}", setuser(cache)


def _commands(cache: Cache) -> Iterator[str]:
    yield "info"
    yield "hgetall"
    if cache.logical_database:
        yield "select"
    if cache.groups:
        yield "randomkey"
    if cache.exact_groups:
        yield "scan"
