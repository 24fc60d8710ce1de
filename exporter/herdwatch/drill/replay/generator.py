"""The load: an open loop, which sends at a fixed rate whatever comes back, and counts latencies from intended starts.

    python -m herdwatch.drill.replay.generator JOB.json

It sends a trickle until the file of its order appears; then what that says; and then it writes down what came of it.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from array import array
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from herdwatch.drill.replay.frames import CONTROL, REPLY, REQUEST, Frames, Outcome
from herdwatch.drill.replay.logs import Load
from herdwatch.drill.replay.popularity import Popularity

TICK_SECONDS = 0.002
LOOK_SECONDS = 0.05
_NOT_YET = 255
_NOBODY = 0xFFFF_FFFE


@dataclass(frozen=True, slots=True)
class Job:
    """Whom to ask, for which users, with which dice; `order` and `output` are files."""

    sockets: list[str]
    keys: int
    exponent: float
    seed: int
    patience: float
    trickle: float
    order: str
    output: str

    def write(self, path: Path) -> None:
        """Write it for `main`."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Order:
    """Begin at `at`, in time.monotonic(), and send `rate` requests a second for so many seconds."""

    at: float
    rate: float
    seconds: float

    def write(self, path: Path) -> None:
        """Give the order."""
        beside = path.with_suffix(".part")
        beside.write_text(json.dumps(asdict(self)), encoding="utf-8")
        beside.replace(path)


class Replies(asyncio.Protocol):
    """What one process of the application answers."""

    def __init__(self, generator: Generator, socket: str) -> None:
        self._generator, self._socket = generator, socket
        self._frames = Frames(REPLY)
        self._here = True

    def data_received(self, data: bytes) -> None:
        for number, outcome in self._frames.feed(data):
            if number == CONTROL:  # it is about to end, and answers what it has
                self._leave()
            else:
                self._generator.answered(number, outcome)

    def connection_lost(self, _: Exception | None) -> None:
        self._leave()

    def _leave(self) -> None:
        if self._here:
            self._here = False
            self._generator.lost(self._socket)


class Generator:
    """Sends, and notes what comes back."""

    def __init__(self, job: Job) -> None:
        self._job = job
        # The trickle throws dice of its own: how long it lasts must not change who asks afterwards.
        self._popularity = Popularity(job.keys, job.exponent, job.seed)
        self._trickling = Popularity(job.keys, job.exponent, job.seed + 1)
        self._transports: dict[str, Any] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._at, self._rate, self._late = 0.0, 0.0, 0.0
        self._latencies = array("f")
        self._outcomes = bytearray()

    async def run(self) -> None:
        """Until what was ordered is done and written."""
        for socket in self._job.sockets:
            await self._connect(socket)
        order = await self._ordered()
        await self._carry_out(order)
        await asyncio.sleep(self._job.patience)
        self._finish()
        Load(self._at, self._rate, self._late, self._latencies, bytes(self._outcomes)).write(Path(self._job.output))

    async def _connect(self, socket: str) -> None:
        loop = asyncio.get_running_loop()
        while socket not in self._transports:
            try:
                transport, _ = await loop.create_unix_connection(lambda: Replies(self, socket), socket)
            except OSError:
                await asyncio.sleep(LOOK_SECONDS)
            else:
                self._transports[socket] = transport

    def lost(self, socket: str) -> None:
        """A process has ended: ask the others, and this one again as soon as it is back."""
        self._transports.pop(socket, None)
        task = asyncio.get_running_loop().create_task(self._connect(socket))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ordered(self) -> Order:
        path, rate, due, turn = Path(self._job.order), self._job.trickle, time.monotonic(), itertools.count()
        while not path.exists():
            while due <= time.monotonic():
                [user] = self._trickling.users(1)
                # The number of no request: what the trickle gets is not counted.
                if transports := list(self._transports.values()):
                    transports[next(turn) % len(transports)].write(REQUEST.pack(_NOBODY, user))
                due += 1 / rate
            await asyncio.sleep(LOOK_SECONDS)
        return Order(**json.loads(path.read_text(encoding="utf-8")))

    async def _carry_out(self, order: Order) -> None:
        self._at, self._rate = order.at, order.rate
        total, sent = round(order.rate * order.seconds), 0
        self._latencies = array("f", bytes(4 * total))
        self._outcomes = bytearray([_NOT_YET]) * total
        await asyncio.sleep(max(0.0, order.at - time.monotonic()))
        while sent < total:
            now = time.monotonic()
            due = min(total, int((now - order.at) * order.rate) + 1)
            if due > sent:
                self._late = max(self._late, now - (order.at + sent / order.rate))
                self._send(sent, self._popularity.users(due - sent))
                sent = due
            await asyncio.sleep(TICK_SECONDS)

    def _send(self, first: int, users: list[int]) -> None:
        """These users ask now, in turn of each process."""
        transports = list(self._transports.values())
        batches: list[bytearray] = [bytearray() for _ in transports]
        for number, user in enumerate(users, first):
            if batches:  # else nobody takes it, and its user gives up
                batches[number % len(batches)] += REQUEST.pack(number, user)
        for transport, batch in zip(transports, batches, strict=True):
            if batch:
                transport.write(bytes(batch))

    def answered(self, number: int, outcome: int) -> None:
        """Note an answer. What comes when its user has given up comes for nobody."""
        if number < len(self._outcomes):
            latency = time.monotonic() - (self._at + number / self._rate)
            if latency <= self._job.patience:
                self._latencies[number] = latency
                self._outcomes[number] = outcome

    def _finish(self) -> None:
        for number, outcome in enumerate(self._outcomes):
            if outcome == _NOT_YET:
                self._latencies[number], self._outcomes[number] = self._job.patience, Outcome.GAVE_UP


def main() -> None:
    """Run until the order is carried out."""
    told = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    asyncio.run(Generator(Job(**told)).run())


if __name__ == "__main__":
    main()
