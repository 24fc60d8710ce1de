"""Real servers for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from herdwatch.stack import Supervisor


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    with Supervisor() as entered:
        yield entered
