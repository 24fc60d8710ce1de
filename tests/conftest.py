"""One supervisor per module; a test that hurts its Redis starts one of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from herdwatch import tools
from herdwatch.errors import ToolError
from herdwatch.stack import RedisServer, Supervisor

# A machine that is busy with other tests is no fault of an example.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--redis-server",
        type=Path,
        metavar="FILE",
        help="the redis-server or valkey-server that the tests start, instead of the first that is found",
    )


def pytest_configure(config: pytest.Config) -> None:
    path: Path | None = config.getoption("--redis-server")
    if path is not None:
        try:
            tools.choose("redis-server", path)
        except ToolError as error:
            raise pytest.UsageError(f"--redis-server: {error}") from None


@pytest.fixture(scope="module")
def supervisor() -> Iterator[Supervisor]:
    with Supervisor() as entered:
        yield entered


@pytest.fixture(scope="module")
def shared(supervisor: Supervisor) -> RedisServer:
    """A Redis for tests that leave it as they found it."""
    return RedisServer(supervisor, name="shared")
