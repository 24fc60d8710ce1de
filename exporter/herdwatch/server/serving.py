"""The exporter as a process: its socket, its signals, its end."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
import uvloop

from herdwatch.config import Config
from herdwatch.errors import UsageError
from herdwatch.server.app import Exporter

BACKLOG = 1024


def serve(config: Config, *, runbooks: Path) -> None:
    """Listen at the configured address until SIGINT or SIGTERM; raises UsageError where the address refuses."""
    listener = bind(config.exporter.listen)
    host, port = listener.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(config, runbooks, listener, url))


def bind(address: str) -> socket.socket:
    """A listening socket at HOST:PORT; port 0 takes a free one."""
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    # The protocol is named because TCP_NODELAY may be set only where it is: without, every answer waits 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host.strip("[]"), int(port)))
        listener.listen(BACKLOG)
        return listener
    except OSError as error:
        listener.close()
        raise UsageError(
            f"cannot listen on {address}: {error.strerror}; choose another address with --listen"
        ) from None


async def _serve(config: Config, runbooks: Path, listener: socket.socket, url: str) -> None:
    exporter = Exporter(config, runbooks=runbooks)
    settings = uvicorn.Config(
        exporter.app, log_level="warning", access_log=False, lifespan="off", ws="none", server_header=False
    )
    server = _Server(settings)
    print(f"herdwatch exporter listens on {url}", file=sys.stderr, flush=True)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, lambda: setattr(server, "should_exit", True))
    try:
        await server.serve(sockets=[listener])
    finally:
        await exporter.aclose()


class _Server(uvicorn.Server):
    """A server that leaves signals to us: its own handlers raise them anew at the end, and a stop is no failure."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield
