"""One supervisor per module; a test that hurts its Redis starts one of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from herdwatch.stack import RedisServer, Supervisor


@pytest.fixture(scope="module")
def supervisor() -> Iterator[Supervisor]:
    with Supervisor() as entered:
        yield entered


@pytest.fixture(scope="module")
def shared(supervisor: Supervisor) -> RedisServer:
    """A Redis for tests that leave it as they found it."""
    return RedisServer(supervisor, name="shared")
