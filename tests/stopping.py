"""A server that hangs for a while: it holds its connections and answers nobody."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from herdwatch.stack import RedisServer


@contextmanager
def stopped(server: RedisServer) -> Iterator[None]:
    """Stop the process, and let it go on at the end."""
    server.process.send(signal.SIGSTOP)
    try:
        yield
    finally:
        server.process.send(signal.SIGCONT)
