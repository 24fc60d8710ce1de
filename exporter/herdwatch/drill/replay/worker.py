"""One process of the application: takes requests on a socket, answers each, and logs what it asked of the database.

    python -m herdwatch.drill.replay.worker JOB.json

SIGTERM ends it, with a last report and a whole log.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from herdwatch.drill.replay.application import Application, Guarded, Plain
from herdwatch.drill.replay.frames import CONTROL, REPLY, REQUEST, Control, Frames, Outcome
from herdwatch.drill.replay.levels import Level
from herdwatch.drill.replay.logs import Log
from herdwatch.drill.replay.scale import Scale
from herdwatch.drill.replay.users import Database, name
from herdwatch.guard import Shed

SAMPLE_SECONDS = 0.1
DRAIN_SECONDS = 3.0
OUTSTANDING = 20_000
"""Requests that one process holds; one more is refused."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a process is told; the file holds the database's password and is for its owner only."""

    socket: str
    log: str
    journal: str
    cache: str
    ports: list[int]
    dsn: str
    level: str
    scale: dict[str, Any]

    def write(self, path: Path) -> None:
        """Write it for `main`."""
        path.touch(0o600)
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


class Service(asyncio.Protocol):
    """One connection of the load generator."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._frames = Frames(REQUEST)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._out = bytearray()
        self._desk.services.add(self)

    def connection_lost(self, _: Exception | None) -> None:
        self._desk.services.discard(self)

    def data_received(self, data: bytes) -> None:
        for number, user in self._frames.feed(data):
            if number == CONTROL:
                self._desk.admitting = user == Control.OPEN
                self.reply(number, Outcome.SERVED)
            else:
                self._desk.take(self, number, user)

    def reply(self, number: int, outcome: Outcome) -> None:
        """Answer a request; what is answered in one turn of the loop is written at once."""
        if not self._out:
            asyncio.get_running_loop().call_soon(self._write)
        self._out += REPLY.pack(number, outcome)

    def _write(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(bytes(self._out))  # type: ignore[attr-defined]
        self._out.clear()


class Desk:
    """Takes requests, if traffic is admitted and not too many wait already."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._open: set[asyncio.Task[None]] = set()
        self.services: set[Service] = set()
        self.admitting = True

    async def drain(self) -> None:
        """Say that no more is taken, and wait a little for what was begun."""
        for service in self.services:
            service.reply(CONTROL, Outcome.SERVED)
        until = time.monotonic() + DRAIN_SECONDS
        await asyncio.sleep(SAMPLE_SECONDS)  # for what was on its way
        while self._open and time.monotonic() < until:
            await asyncio.sleep(SAMPLE_SECONDS)

    def take(self, service: Service, number: int, user: int) -> None:
        """Begin a request, or turn it away."""
        if not self.admitting:
            service.reply(number, Outcome.SHED)
        elif len(self._open) >= OUTSTANDING:
            service.reply(number, Outcome.REFUSED)
        else:
            task = asyncio.get_running_loop().create_task(self._serve(service, number, user))
            self._open.add(task)
            task.add_done_callback(self._open.discard)

    async def _serve(self, service: Service, number: int, user: int) -> None:
        try:
            await self._application.look_up(name(user))
        except Shed:
            outcome = Outcome.SHED
        except Exception:
            outcome = Outcome.FAILED
        else:
            outcome = Outcome.SERVED
        service.reply(number, outcome)


async def serve(job: Job) -> None:
    """Until SIGTERM."""
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, done.set)
    log, scale, level = Log(Path(job.log)), Scale(**job.scale), Level(job.level)
    async with Database(
        job.dsn, pool=scale.pool, seconds=scale.query, patience=scale.patience, log=log.query
    ) as database:
        plain = level == Level.NONE
        application = (
            Plain(job.ports[0], database.load, scale.ttl)
            if plain
            else Guarded(job.ports, database.load, cache=job.cache, level=level, scale=scale, journal=Path(job.journal))
        )
        async with application:
            desk = Desk(application)
            server = await loop.create_unix_server(lambda: Service(desk), job.socket)
            while not done.is_set():
                application.count()
                log.sample(time.monotonic(), application.hits, application.lookups)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(done.wait(), SAMPLE_SECONDS)
            server.close()
            Path(job.socket).unlink(missing_ok=True)
            await desk.drain()
    application.count()
    log.sample(time.monotonic(), application.hits, application.lookups)
    log.close()


def main() -> None:
    """Run until ended."""
    told = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    asyncio.run(serve(Job(**told)))


if __name__ == "__main__":
    main()
