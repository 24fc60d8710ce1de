"""Who plays in one run: its Redis servers, the processes of its application, and the generator of its load."""

from __future__ import annotations

import itertools
import json
import random
import socket
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from herdwatch import journals, reports
from herdwatch.drill.replay import generator, popularity, users, worker
from herdwatch.drill.replay.frames import CONTROL, REPLY, REQUEST, Control
from herdwatch.drill.replay.generator import Order
from herdwatch.drill.replay.levels import Level, options
from herdwatch.drill.replay.scale import GROUP, SERVICE, Scale
from herdwatch.errors import StackError
from herdwatch.guard import SyncGuard
from herdwatch.stack import Process, RedisServer, Supervisor

BATCH = 1000
LOOKUPS = 2_000_000
"""That the journal knows of: as after a quarter of an hour of full load."""
START_SECONDS = 30.0
CONTROL_SECONDS = 5.0
_sockets = itertools.count(1)
STOP_SECONDS = 15.0


@dataclass(slots=True)
class Cast:
    """One run's own processes. `name` is that of its cache, too."""

    supervisor: Supervisor
    name: str
    level: Level
    scale: Scale
    dsn: str
    seed: int
    servers: list[RedisServer] = field(default_factory=list)
    workers: dict[str, Process] = field(default_factory=dict)
    _started: int = 0
    _generators: list[Process] = field(default_factory=list)

    @classmethod
    def start(
        cls, supervisor: Supervisor, name: str, level: Level, scale: Scale, *, dsn: str, seed: int, replicas: int = 0
    ) -> Cast:
        """Start everything with a warm cache and a trickle of traffic; raises StackError for what does not start."""
        cast = cls(supervisor, name, level, scale, dsn, seed)
        cast._folder.mkdir()
        cast.journal.mkdir()
        for number in range(replicas + 1):
            copied = ("--replicaof", "127.0.0.1", str(cast.redis.port)) if number else ()
            cast.servers.append(RedisServer(supervisor, *copied, name=f"{name}-redis-{number + 1}"))
        cast.fill()
        cast.remember(LOOKUPS)
        for _ in range(scale.workers):
            cast.hire()
        cast.wait_until_open(cast.sockets)
        cast._generate()
        return cast

    @property
    def redis(self) -> RedisServer:
        """The server that was the primary at the start."""
        return self.servers[0]

    @property
    def journal(self) -> Path:
        """The folder where the application writes which keys are hot."""
        return self._folder / "journal"

    @property
    def sockets(self) -> list[str]:
        """Where the processes of the application listen now."""
        return list(self.workers)

    @property
    def logs(self) -> list[Path]:
        """The logs of every process of the application that there was."""
        return sorted(self._folder.glob("worker-*.log"))

    def log(self, name: str) -> Path:
        """The log of one process."""
        return self._folder / f"{name}.log"

    @property
    def output(self) -> Path:
        """The file in which the generator tells what came of the load."""
        return self._folder / "load"

    @property
    def _folder(self) -> Path:
        return self.supervisor.folder / self.name

    def fill(self, *, ends: float | None = None) -> None:
        """Put every user into the cache, as if the application had run for long.

        Values end at different times, or all of them at `ends`, in seconds since 1970.
        """
        lives = random.Random(self.seed)  # noqa: S311 - no secret
        everyone = range(1, self.scale.keys + 1)
        with self.redis.client() as client:
            guard = None
            if self.level != Level.NONE:
                chosen = options(self.level, self.scale)
                chosen["ttl_jitter"] = 0.0
                guard = SyncGuard(client, cache=self.name, service=SERVICE, registry=None, **chosen)
            for begin in range(0, len(everyone), BATCH):
                pipe = client.pipeline(transaction=False)
                for number in everyone[begin : begin + BATCH]:
                    value = users.value(number, f"user {number}", "x" * 200)
                    ttl = self.scale.ttl * lives.uniform(0.5, 1.0) if ends is None else ends - time.time()
                    if guard is None:
                        pipe.set(users.name(number), json.dumps(value), px=round(ttl * 1000))
                    else:
                        raw, seconds = guard.core.pack(value, ttl=ttl, seconds=self.scale.query)
                        pipe.set(users.name(number), raw, px=round(seconds * 1000))
                pipe.execute()
            if guard is not None:
                guard.close()

    def remember(self, lookups: int) -> None:
        """Write a journal such as a process of the application leaves that has seen about so many lookups."""
        shares = popularity.shares(self.scale.keys, self.scale.exponent)
        counts = {users.name(user): round(share * lookups) for user, share in enumerate(shares, 1)}
        group = journals.Group(sum(counts.values()), 0, {key: count for key, count in counts.items() if count})
        journal = journals.Journal(self.name, SERVICE, time.time(), {GROUP: group})
        path = self.journal / f"{self.name}.{SERVICE}.before{journals.SUFFIX}"
        path.write_text("".join(journals.lines(journal)), encoding="utf-8")

    def hire(self, socket: str | None = None) -> str:
        """Start one more process of the application, at the socket of one that has ended or at a new one."""
        self._started += 1
        name = f"worker-{self._started}"
        # Short, and not in the folder of the run: a socket's path has room for a hundred characters.
        path = socket or str(self.supervisor.folder / f"{next(_sockets)}.sock")
        job = worker.Job(
            socket=path,
            log=str(self.log(name)),
            journal=str(self.journal),
            cache=self.name,
            ports=[server.port for server in self.servers],
            dsn=self.dsn,
            level=self.level.value,
            scale=asdict(self.scale),
        )
        file = self._folder / f"{name}.json"
        job.write(file)
        command = [sys.executable, "-m", "herdwatch.drill.replay.worker", str(file)]
        self.workers[path] = self.supervisor.start(f"{self.name}-{name}", command)
        return path

    def wait_until_open(self, sockets: list[str]) -> None:
        """Wait until these processes take requests."""
        for path in sockets:
            self.workers[path].wait_until(Path(path).exists, seconds=START_SECONDS)

    def retire(self, path: str) -> None:
        """End one process of the application politely."""
        process = self.workers.pop(path)
        self.supervisor.forget(process)
        process.stop()

    def load(self, rate: float, seconds: float, *, at: float) -> None:
        """Order the load."""
        Order(at, rate, seconds).write(self._order)

    def loaded(self) -> None:
        """Wait until the generator has written what came of it."""
        for process in self._generators:
            process.wait_until(self.output.exists, seconds=STOP_SECONDS)

    def control(self, what: Control) -> None:
        """Tell every process of the application, and wait until each has heard."""
        for path in self.sockets:
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(CONTROL_SECONDS)
                try:
                    line.connect(path)
                    line.sendall(REQUEST.pack(CONTROL, what))
                    heard = line.recv(REPLY.size)
                except OSError as error:
                    raise StackError(f"the application of {self.name} does not listen: {error}") from None
                if len(heard) != REPLY.size:
                    raise StackError(f"the application of {self.name} hung up")

    def end(self) -> None:
        """End the application; its servers stay, idle, so that nothing is told of a cache that is merely over."""
        for process in self._generators:
            self.supervisor.forget(process)
            process.stop()
        self._generators.clear()
        for path in self.sockets:
            self.retire(path)

    def reported(self) -> dict[str, reports.Report]:
        """What the application's processes last reported, by process; raises what redis-py raises."""
        primary = next(server for server in self.servers if _is_primary(server))
        with primary.client() as client:
            fields = client.hgetall(reports.KEY)
        return {field.decode(): reports.parse(field, text) for field, text in fields.items()}

    def _generate(self) -> None:
        job = generator.Job(
            sockets=self.sockets,
            keys=self.scale.keys,
            exponent=self.scale.exponent,
            seed=self.seed,
            patience=self.scale.patience,
            trickle=self.scale.trickle,
            order=str(self._order),
            output=str(self.output),
        )
        file = self._folder / "generator.json"
        job.write(file)
        command = [sys.executable, "-m", "herdwatch.drill.replay.generator", str(file)]
        self._generators.append(self.supervisor.start(f"{self.name}-generator", command, ends=True))

    @property
    def _order(self) -> Path:
        return self._folder / "order.json"


def _is_primary(server: RedisServer) -> bool:
    with server.client() as client:
        return bool(client.role()[0] == b"master")


def soon(seconds: float = 0.5) -> float:
    """A moment that everyone can be ready for."""
    return time.monotonic() + seconds
