"""Real servers for the tests of this folder: one PostgreSQL for all of a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from herdwatch.stack import Supervisor
from herdwatch.stack.postgres import PostgresServer


@pytest.fixture(scope="module")
def supervisor() -> Iterator[Supervisor]:
    with Supervisor() as entered:
        yield entered


@pytest.fixture(scope="module")
def postgres(supervisor: Supervisor) -> PostgresServer:
    return PostgresServer(supervisor)
