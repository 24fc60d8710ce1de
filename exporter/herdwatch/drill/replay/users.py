"""The table of users: made in a schema of its own, asked through a bounded pool, and counted by PostgreSQL itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

import psycopg
import psycopg.conninfo
from psycopg import sql
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

from herdwatch.errors import StackError, UsageError

T = TypeVar("T")
SCHEMA = "herdwatch_drill"
MARK = "made by herdwatch drill; dropped at its end"
CONNECT_SECONDS = 10
STATEMENT_MILLISECONDS = 30_000
MAX_WAITING = 20_000
"""Requests that wait for a connection, one process."""
# The row is found before the sleep, and PostgreSQL counts one index scan a query.
QUERY = f"SELECT id, name, about, pg_sleep(%s) FROM {SCHEMA}.users WHERE id = %s"  # noqa: S608 - a constant
_EVERYONE = "SELECT n, 'user ' || n, repeat('x', 200) FROM generate_series(1, {rows}) n"
_DEADLINES = f"-c statement_timeout={STATEMENT_MILLISECONDS} -c lock_timeout={STATEMENT_MILLISECONDS}"
_OPTIONS = f"{_DEADLINES} -c enable_seqscan=off -c enable_bitmapscan=off"


class PoolExhausted(Exception):
    """No connection became free in time."""


def name(number: int) -> str:
    """The cache key of a user."""
    return f"user:{number}"


def number(key: str) -> int:
    """The user of a cache key; raises ValueError for another key."""
    return int(key.removeprefix("user:"))


def value(id: int, name: str, about: str) -> dict[str, Any]:
    """What the application makes of a row."""
    return {"id": id, "name": name, "about": about}


def check_dsn(dsn: str) -> None:
    """Raise UsageError for what is no connection string, or holds a password: lists of processes would show it."""
    found = _parsed(dsn)
    if "password" in found or "@" in str(found.get("host", "")):
        raise UsageError("--database: a password does not belong on a command line; put it into PGPASSWORD")


def _parsed(dsn: str) -> dict[str, Any]:
    """What a connection string says; what libpq says of one that it cannot read would repeat a password."""
    try:
        found: dict[str, Any] = psycopg.conninfo.conninfo_to_dict(dsn)
    except psycopg.Error:
        found = {}
    if not found:
        raise UsageError(
            "--database: no connection string that PostgreSQL's clients read; it must look as in "
            "postgresql://USER@HOST/DATABASE, with the password in PGPASSWORD"
        )
    return found


class Users:
    """The table, as the drill sees it. Raises StackError, with the server's own words, where the database refuses.

    What is found under the schema's name is dropped only if an earlier drill made it, and not while that one runs.
    """

    def __init__(self, dsn: str, *, rows: int) -> None:
        _parsed(dsn)
        self._dsn = dsn
        self._lock = self._connection()
        try:
            _refusals(lambda: self._make(self._lock, rows))
            self.version = str(self._lock.execute("SHOW server_version").fetchone()[0])  # type: ignore[index]
        except BaseException:
            self._lock.close()
            raise

    def queries(self) -> int:
        """How often the table was asked so far, by PostgreSQL's own count. Sessions add theirs at their end at last."""
        query = "SELECT idx_scan FROM pg_stat_user_tables WHERE schemaname = %s AND relname = 'users'"
        with self._connection() as connection:
            row = connection.execute(query, (SCHEMA,)).fetchone()
        return int(row[0]) if row else 0

    def room(self) -> int:
        """How many connections the server lets in that are not kept for its administrators."""
        with self._connection() as connection:
            query = "SELECT current_setting('max_connections')::int - current_setting(%s)::int"
            row = connection.execute(query, ("superuser_reserved_connections",)).fetchone()
        return int(row[0]) if row else 0

    def drop(self) -> None:
        """Leave nothing behind, and let another drill begin."""
        with contextlib.closing(self._lock), self._connection() as connection:
            connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(SCHEMA)))

    def _connection(self) -> psycopg.Connection[tuple[Any, ...]]:
        return _refusals(
            lambda: psycopg.connect(
                self._dsn,
                autocommit=True,
                connect_timeout=CONNECT_SECONDS,
                tcp_user_timeout=STATEMENT_MILLISECONDS,
                options=_DEADLINES,
            )
        )

    @staticmethod
    def _make(connection: psycopg.Connection[tuple[Any, ...]], rows: int) -> None:
        # The lock is the session's: PostgreSQL lets it go when that ends, however it does.
        if connection.execute("SELECT pg_try_advisory_lock(hashtext(%s))", (SCHEMA,)).fetchone() != (True,):
            raise StackError("another drill uses this database; wait until it has ended, or name another database")
        found = "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = %s"
        there = connection.execute(found, (SCHEMA,)).fetchone()
        if there is not None and there[0] != MARK:
            raise StackError(f"the database has a schema {SCHEMA} that no drill made; name another database")
        with connection.transaction():  # no schema is left without the mark that says whose it is
            for statement in (
                f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE",
                f"CREATE SCHEMA {SCHEMA}",
                f"COMMENT ON SCHEMA {SCHEMA} IS '{MARK}'",
                f"CREATE TABLE {SCHEMA}.users (id int PRIMARY KEY, name text NOT NULL, about text NOT NULL)",
                f"INSERT INTO {SCHEMA}.users {_EVERYONE.format(rows=rows)}",
                f"ANALYZE {SCHEMA}.users",
            ):
                connection.execute(statement)


class Database:
    """What a process of the application has of it: `pool` connections, and a line behind them with a deadline.

    Queries take `seconds`. `log` is told of each when it was asked for, when it got its connection (None: it did not)
    and when it ended, in time.monotonic().
    """

    def __init__(
        self, dsn: str, *, pool: int, seconds: float, patience: float, log: Callable[[float, float | None, float], None]
    ) -> None:
        self._seconds, self._log = seconds, log
        self._pool = AsyncConnectionPool(
            dsn,
            min_size=pool,
            max_size=pool,
            open=False,
            timeout=patience,
            max_waiting=MAX_WAITING,
            kwargs={"autocommit": True, "options": _OPTIONS, "connect_timeout": CONNECT_SECONDS},
        )

    async def __aenter__(self) -> Database:
        await self._pool.open(wait=True, timeout=CONNECT_SECONDS)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.close(timeout=1.0)

    async def load(self, key: str) -> dict[str, Any]:
        """The user behind a cache key; raises PoolExhausted, or what PostgreSQL says."""
        asked, began = time.monotonic(), None
        try:
            async with self._pool.connection() as connection:
                began = time.monotonic()
                cursor = await connection.execute(QUERY, (self._seconds, number(key)))
                row = await cursor.fetchone()
        except (PoolTimeout, TooManyRequests):
            raise PoolExhausted("no connection became free in time") from None
        finally:
            self._log(asked, began, time.monotonic())
        return value(*row[:3]) if row else {}


def capacity(dsn: str, *, connections: int, seconds: float, keys: int, during: float) -> float:
    """Queries a second of a database that is never idle: measured for `during` seconds, after a second of start."""
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)  # what it cannot connect to is said once, by us
    return _refusals(lambda: asyncio.run(_saturate(dsn, connections, seconds, keys, during)))


async def _saturate(dsn: str, connections: int, seconds: float, keys: int, during: float) -> float:
    ended: list[float] = []
    database = Database(
        dsn, pool=connections, seconds=seconds, patience=CONNECT_SECONDS, log=lambda *times: ended.append(times[2])
    )
    async with database:
        begin = time.monotonic() + 1.0

        async def ask(number_: int) -> None:
            while time.monotonic() < begin + during:
                await database.load(name(number_ % keys + 1))

        await asyncio.gather(*map(ask, range(connections)))
    return sum(begin <= at < begin + during for at in ended) / during


def _refusals(ask: Callable[[], T]) -> T:
    try:
        return ask()
    except (psycopg.Error, PoolExhausted) as error:
        said = " ".join(str(error).split())
        raise StackError(f"the database refuses: {said}") from None
