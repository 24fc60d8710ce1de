"""The exporter as a process: its socket, its signals, its end."""

from __future__ import annotations

import asyncio
import resource
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import uvicorn
import uvloop
from starlette.types import ASGIApp

from herdwatch.config import Config
from herdwatch.errors import UsageError
from herdwatch.server.app import Exporter
from herdwatch.server.auth import BasicAuth
from herdwatch.server.connections import SWEEP_SECONDS, Connections
from herdwatch.server.log import say
from herdwatch.server.protocol import Front
from herdwatch.server.stats import HttpStats
from herdwatch.server.web import Web

BACKLOG = 1024
MOST_FILES = 65536
DRAIN_SECONDS = 5.0
"""How long a stop waits for requests that run."""


def serve(read: Callable[[], Config], *, runbooks: Path, web: Web) -> None:
    """Listen at the configured address until SIGINT or SIGTERM; raises UsageError where the address refuses.

    `read` gives the configuration, now and after SIGHUP; `web` says who is let in, and how.
    """
    config = read()
    if not runbooks.is_dir():
        raise UsageError(f"{runbooks}: there is no such folder; --runbooks names one of rendered pages")
    raise_file_limit()
    listener = bind(config.exporter.listen)
    host, port = listener.getsockname()[:2]
    url = f"{'http' if web.tls is None else 'https'}://{f'[{host}]' if ':' in host else host}:{port}"
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        stats = HttpStats()
        exporter = Exporter(config, runbooks=runbooks, read=read, web=web, stats=stats)
        runner.run(_serve(exporter, web, stats, listener, url))


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


def raise_file_limit() -> None:
    """As many open files as the system lets us have, within reason: every connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # a service manager may forbid it
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _serve(exporter: Exporter, web: Web, stats: HttpStats, listener: socket.socket, url: str) -> None:
    guarded = BasicAuth(exporter.app, web, stats)
    front = Front(_settings(guarded), Connections(stats), web)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, _reload, exporter, set[asyncio.Task[None]]())
    server = await loop.create_server(front.protocol, sock=listener, backlog=BACKLOG)
    say(f"exporter listens on {url}")
    try:
        await _until(stop, front)
    finally:
        server.close()
        await _drain(front)
        guarded.close()
        await exporter.aclose()


def _reload(exporter: Exporter, tasks: set[asyncio.Task[None]]) -> None:
    task = asyncio.create_task(exporter.reloads.on_signal())
    tasks.add(task)  # a loop keeps only weak references to its tasks
    task.add_done_callback(tasks.discard)


def _settings(app: ASGIApp) -> uvicorn.Config:
    settings = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        http="httptools",
        server_header=False,
        proxy_headers=False,
    )
    settings.load()
    return settings


async def _until(stop: asyncio.Event, front: Front) -> None:
    """Look after the connections until it is time to stop."""
    while not stop.is_set():
        front.tick()
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), SWEEP_SECONDS)


async def _drain(front: Front) -> None:
    """Let requests that run be answered and read, for a bounded time, and end every connection."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + DRAIN_SECONDS
    for connection in list(front.state.connections):
        connection.shutdown()
    if front.state.tasks:
        await asyncio.wait(front.state.tasks, timeout=DRAIN_SECONDS)
    while front.connections.unread and loop.time() < deadline:
        await asyncio.sleep(0.05)
    front.connections.close()
    for task in front.state.tasks | front.handshakes:
        task.cancel()
    await asyncio.sleep(0)  # what was closed hears of it
