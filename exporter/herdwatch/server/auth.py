"""Basic auth in front of an ASGI application, at a cost that strangers cannot raise.

A bcrypt check takes between a millisecond and a second by design. So checks run in two threads beside the event loop,
a bounded number of them waits, and an outcome is remembered.
"""

from __future__ import annotations

import asyncio
import binascii
import hmac
import os
import secrets
import sys
import threading
from base64 import b64decode
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import bcrypt
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from herdwatch.server.stats import HttpStats
from herdwatch.server.web import Web

AT_ONCE = 2
WAITING = 64
REMEMBERED = 128
BCRYPT_BYTES = 72
"""Bytes of a password that bcrypt looks at; tools that make hashes cut the rest off."""

Credentials = tuple[bytes, bytes]


class BasicAuth:
    """The application behind the users of `web`, all paths alike; open to everyone while there are none."""

    def __init__(self, app: ASGIApp, web: Web, stats: HttpStats) -> None:
        self._app = app
        self._web = web
        self._stats = stats
        self._checks = Checks()

    def close(self) -> None:
        """Let go of the threads; checks that wait are dropped."""
        self._checks.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        users = self._web.users if scope["type"] != "lifespan" else {}
        if users and (refusal := await self._refusal(users, scope)) is not None:
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _refusal(self, users: Mapping[bytes, bytes], scope: Scope) -> PlainTextResponse | None:
        credentials = _credentials(scope)
        try:
            if credentials is not None and await self._checks.right(users, credentials):
                return None
        except Overloaded:
            self._stats.rejected["too_many"] += 1
            return PlainTextResponse("too many passwords to check; try again\n", 503, {"retry-after": "5"})
        self._stats.rejected["unauthorized"] += 1
        return PlainTextResponse("Unauthorized\n", 401, {"www-authenticate": 'Basic realm="herdwatch"'})


class Overloaded(Exception):
    """As many checks wait as may wait."""


class Checks:
    """Answers whether a password is right. Who asks first pays for a bcrypt check."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._pending: dict[bytes, asyncio.Future[bool]] = {}
        # Two memories, so that wrong passwords, of which there is no end, never push out a right one.
        self._outcomes = {True: _Memory(REMEMBERED), False: _Memory(REMEMBERED)}
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="bcrypt", initializer=_yield_to_scrapes)

    def close(self) -> None:
        """Drop what waits; a check that runs ends by itself within about a second."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def right(self, users: Mapping[bytes, bytes], credentials: Credentials) -> bool:
        """Whether the user is known and the password is theirs; raises Overloaded."""
        user, password = credentials
        known = user in users
        expected = users[user] if known else self._decoy(users, user)
        what = self._digest(b"%d %d %d:" % (known, len(user), len(expected)) + user + expected + password)
        for outcome, memory in self._outcomes.items():
            if what in memory:
                return outcome
        pending = self._pending.get(what)
        if pending is None:
            pending = self._begin(what, password, expected, known)
        return await asyncio.shield(pending)  # whoever leaves takes nobody along

    def _begin(self, what: bytes, password: bytes, expected: bytes, known: bool) -> asyncio.Future[bool]:
        if len(self._pending) >= AT_ONCE + WAITING:
            raise Overloaded
        pending = asyncio.get_running_loop().run_in_executor(self._threads, _matches, password, expected, known)
        self._pending[what] = pending
        pending.add_done_callback(lambda done: self._ended(what, done))
        return pending

    def _ended(self, what: bytes, done: asyncio.Future[bool]) -> None:
        del self._pending[what]
        if not done.cancelled() and done.exception() is None:
            self._outcomes[done.result()].add(what)

    def _decoy(self, users: Mapping[bytes, bytes], user: bytes) -> bytes:
        """The hash that an unknown user is checked against: a real one, for its cost, and always the same one."""
        hashes = list(users.values())
        return hashes[int.from_bytes(self._digest(user)) % len(hashes)]

    def _digest(self, data: bytes) -> bytes:
        return hmac.digest(self._key, data, "sha256")


class _Memory:
    """The keys that were used last."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._keys: OrderedDict[bytes, None] = OrderedDict()

    def __contains__(self, key: bytes) -> bool:
        if key not in self._keys:
            return False
        self._keys.move_to_end(key)
        return True

    def add(self, key: bytes) -> None:
        self._keys[key] = None
        if len(self._keys) > self._size:
            self._keys.popitem(last=False)


def _credentials(scope: Scope) -> Credentials | None:
    """User and password of the one Authorization header, or None where there is none that can be read."""
    found = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(found) != 1:
        return None
    scheme, _, encoded = found[0].partition(b" ")
    try:
        user, colon, password = b64decode(encoded.strip(), validate=True).partition(b":")
    except binascii.Error:
        return None
    return (user, password) if colon and scheme.lower() == b"basic" else None


def _matches(password: bytes, expected: bytes, known: bool) -> bool:
    try:
        return bcrypt.checkpw(password[:BCRYPT_BYTES], expected) and known
    except ValueError:  # a zero byte in the password
        return False


def _yield_to_scrapes() -> None:
    """Who guesses passwords keeps two threads busy for as long as they like; the event loop goes before them."""
    if sys.platform == "linux":  # where niceness belongs to a thread
        with suppress(OSError):  # a service manager may forbid it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
