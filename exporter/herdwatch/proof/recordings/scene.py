"""What happens on in one recording: real servers, their applications, and the exporter that watches them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from redis.exceptions import RedisError

from herdwatch import reports
from herdwatch.errors import StackError
from herdwatch.proof.recordings.traffic import Habits
from herdwatch.reports import Report, Warmup
from herdwatch.stack import ExporterServer, Process, RedisServer, Supervisor

STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """An incident or a calm time to record.

    `act` does it: it begins `early` seconds before zero and yields the seconds to wait. `told` names the alerts that
    should fire because of it. Of `servers` the first is the primary and the others its replicas; the first `watched`
    of them are targets of the cache. `alone` gives the cache an exporter of its own, to which something may happen.
    """

    name: str
    about: str
    act: Callable[[Scene], Iterator[float]]
    told: tuple[str, ...] = ()
    habits: tuple[Habits, ...] = (Habits(),)
    options: tuple[str, ...] = ()
    servers: int = 1
    watched: int = 1
    alone: bool = False
    early: float = 0.0
    capacity: float | None = None


class Watch:
    """An exporter at a fixed address, which can be killed and started again."""

    def __init__(self, supervisor: Supervisor, config: Path, listen: str) -> None:
        self._supervisor, self._config, self._listen = supervisor, config, listen
        self._exporter = self._start()

    @property
    def url(self) -> str:
        """http://HOST:PORT"""
        return self._exporter.url

    def kill(self) -> None:
        """SIGKILL."""
        self._exporter.process.kill()
        self._supervisor.forget(self._exporter.process)

    def restart(self) -> None:
        """Start a new process at the same address."""
        self._exporter = self._start()

    def _start(self) -> ExporterServer:
        return ExporterServer(self._supervisor, self._config, listen=self._listen)


@dataclass(slots=True)
class Scene:
    """The servers of one scenario. `watch` is there as soon as something is scraped."""

    supervisor: Supervisor
    scenario: Scenario
    servers: list[RedisServer] = field(default_factory=list)
    applications: list[Process] = field(default_factory=list)
    watch: Watch | None = None

    @classmethod
    def start(cls, supervisor: Supervisor, scenario: Scenario) -> Scene:
        """Start servers and applications; `ready` tells when these are at work."""
        scene = cls(supervisor, scenario)
        for number in range(1, scenario.servers + 1):
            replica = () if number == 1 else ("--replicaof", "127.0.0.1", str(scene.servers[0].port))
            scene.servers.append(RedisServer(supervisor, *scenario.options, *replica, name=f"{scenario.name}-{number}"))
        for habits in scenario.habits:
            scene.serve(habits)
        return scene

    @property
    def redis(self) -> RedisServer:
        """The server that was the primary at the start."""
        return self.servers[0]

    def ready(self) -> bool:
        """True when every application has reported, which it does after filling the cache."""
        try:
            for db in {habits.db for habits in self.scenario.habits}:
                wanted = sum(habits.db == db for habits in self.scenario.habits)
                with self.redis.client(db=db) as client:
                    if int(client.hlen(reports.KEY)) < wanted:
                        return False
        except RedisError:
            return False
        return True

    def serve(self, habits: Habits) -> Process:
        """Start one more application."""
        ports = ",".join(str(server.port) for server in self.servers)
        number = len(self.applications) + 1
        command = [sys.executable, "-m", "herdwatch.proof.recordings.traffic", "--ports", ports]
        command += ["--cache", self.scenario.name, "--seed", str(number), *habits.arguments()]
        process = self.supervisor.start(f"{self.scenario.name}-application-{number}", command)
        self.applications.append(process)
        return process

    def retire(self, application: Process) -> None:
        """End an application politely: it writes a last report."""
        application.stop()
        self.supervisor.forget(application)

    def restart(self, server: RedisServer) -> None:
        """SIGKILL, and a new process at once."""
        server.kill()
        server.restart()

    def shut_down(self, server: RedisServer) -> None:
        """SHUTDOWN SAVE: the dataset lies on the disk, for whoever starts there next."""
        with server.client(socket_timeout=STOP_SECONDS) as client:
            client.shutdown(save=True)
        deadline = time.monotonic() + STOP_SECONDS
        while server.process.running:
            if time.monotonic() > deadline:
                raise StackError(
                    f"{server.address} did not end within {STOP_SECONDS:g} s: {server.process.last_words()}"
                )
            time.sleep(0.02)
        self.supervisor.forget(server.process)

    def warm_up(self, *, target: int, done: int) -> None:
        """Write the report of a warm-up that is under way."""
        with self.redis.client() as client:
            seconds, microseconds = client.time()
            now = seconds + microseconds / 1e6
            report = Report("warmer", "night", now - 1, now, 10.0, {}, warmup=Warmup(target, done, active=True))
            client.hset(reports.KEY, *reports.render(report))
