"""What the command lines of runbooks run against: one small stack that is well, and servers that are in trouble."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from redis import Redis
from redis.exceptions import RedisError
from tests.waiting import until

from herdwatch import config as configuration
from herdwatch import reports, tools
from herdwatch.bundle import render as rendering
from herdwatch.reports import Report, Warmup
from herdwatch.stack import AlertmanagerServer, ExporterServer, PrometheusServer, RedisServer, Supervisor, free_port
from herdwatch.tools import catalogue

KEYS = 1000
CACHE = "cache"
GONE = "gone"
"""A cache whose Redis is dead."""
REPLICA = "replica"
"""A cache that is the replica of the other one."""
PAST_SECONDS = 3600
APPLICATION = """
import random, sys, threading, time
import redis
from prometheus_client import start_http_server
from herdwatch.guard import Reporter, SyncGuard

def load(key):
    time.sleep(0.002)
    return {"key": key}

def read(guard):
    while True:
        guard.get(f"user:{int(random.paretovariate(0.6)) % 2000}", load=load, ttl=20)
        time.sleep(0.01)

if __name__ == "__main__":
    port, metrics, journal = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    guards = [SyncGuard(redis.Redis(port=port), cache="cache", service="profiles", registry=None),
              SyncGuard(redis.Redis(port=port), cache="cache", service="orders")]
    reporters = [Reporter(guards[0], every=2, journal=journal, journal_every=2), Reporter(guards[1], report=False)]
    start_http_server(metrics, addr="127.0.0.1")
    for guard in guards * 2:
        threading.Thread(target=read, args=(guard,), daemon=True).start()
    threading.Event().wait()
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a line runs: its folder, with herdwatch.yaml in it, and what the page's variables are there.

    `servers` are its own, ended after it; `open` is what must stay open until then.
    """

    folder: Path
    values: dict[str, str]
    servers: list[RedisServer] = field(default_factory=list)
    open: list[Redis] = field(default_factory=list)

    def close(self) -> None:
        for client in self.open:
            client.close()
        for server in self.servers:
            server.process.kill()


def programs(folder: Path) -> Path:
    """A folder with what pages name and a clean Debian has not, for PATH: those of the project's tools, and itself."""
    folder.mkdir()
    _script(folder / "herdwatch", {}, [sys.executable, "-m", "herdwatch"])
    with pytest.MonkeyPatch.context() as patched:
        # Everyone has curl, except a container; there it is fetched as the others are.
        patched.setitem(catalogue.PACKAGES, "curl", ("curl",))  # type: ignore[arg-type]
        patched.setitem(catalogue.PROGRAMS, "curl", catalogue.Program("curl", ("curl",), ("curl",), "curl"))  # type: ignore[arg-type]
        for tool in tools.ensure(["redis-cli", "promtool", "amtool", "curl"]):
            _script(folder / tool.name, dict(tool.env), tool.command())
    return folder


def _script(path: Path, env: dict[str, str], command: list[str]) -> None:
    assignments = "".join(f"{name}='{value}' " for name, value in env.items())
    path.write_text(f'#!/bin/sh\n{assignments}exec {" ".join(command)} "$@"\n')
    path.chmod(0o755)


Arrangement = Callable[["Stack"], Place]


class Stack:
    """A primary with its replica, watched, with an application; and places for lines that hurt."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._number = 0
        self._unspent: dict[Arrangement, Place] = {}
        self._folder = supervisor.folder
        path = f"{programs(self._folder / 'bin')}:{os.environ['PATH']}"
        self.env = {**os.environ, "PATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        self.primary, self.replica = self.pair("--maxmemory-policy", "allkeys-lfu")
        self._open = list(self._marked(self.primary))
        self.listen, self.alerts, self.metrics = (f"127.0.0.1:{free_port()}" for _ in range(3))
        journal = self._folder / "journal"
        (self._folder / "an_app.py").write_text(APPLICATION)
        metrics_port = self.metrics.rpartition(":")[2]
        command = [sys.executable, str(self._folder / "an_app.py"), str(self.primary.port), metrics_port, str(journal)]
        supervisor.start("application", command)
        self.prometheus = self._watch()
        until(lambda: list(journal.glob("*.hotkeys")), "a journal of the application")
        self.place = Place(self._folder, self._values(self.primary, self.replica))

    def _watch(self) -> PrometheusServer:
        """Exporter, Alertmanager and Prometheus on what a configuration renders; gives the last."""
        file = self._folder / "herdwatch.yaml"
        file.write_text(yaml.safe_dump(self._configuration()))
        bundle = self._folder / "bundle"
        rendering.write(rendering.render_bundle(configuration.load(file)), bundle)
        ExporterServer(self._supervisor, file, listen=self.listen, runbooks=bundle / "runbooks")
        AlertmanagerServer(self._supervisor, bundle / "alerts" / "alertmanager.yml", listen=self.alerts)
        self._give_a_past(self._folder / "prometheus")
        return PrometheusServer(self._supervisor, bundle / "alerts" / "prometheus.yml")

    def _configuration(self) -> dict[str, object]:
        return {
            "scrape_interval": "5s",
            "caches": [
                {"name": CACHE, "url": self.primary.url, "database": "main"},
                {"name": REPLICA, "url": self.replica.url},
                {"name": GONE, "url": f"redis://127.0.0.1:{free_port()}"},
            ],
            "databases": {"main": {"capacity": 2500, "peak": 50_000}},
            "exporter": {"listen": self.listen},
            "prometheus": {"alertmanagers": [self.alerts], "applications": [self.metrics]},
        }

    def _give_a_past(self, data: Path) -> None:
        """Keys of the last hour, for who asks how many there were before."""
        labels = f'cache="{CACHE}",instance="{self.primary.address}",team="platform",job="herdwatch",db="0"'
        now = int(time.time())
        times = range(now - PAST_SECONDS, now - 600, 15)
        text = "".join(f"cache_keys{{{labels}}} {KEYS} {at}\n" for at in times)
        (self._folder / "past.txt").write_text(f"# TYPE cache_keys gauge\n{text}# EOF\n")
        command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(self._folder / "past.txt"), str(data)]
        subprocess.run(command, env=self.env, check=True, capture_output=True, timeout=30)

    def _marked(self, server: RedisServer) -> Iterator[Redis]:
        """What incidents leave in a Redis: a refused command, the end of a warm-up, a connection that deleted a key."""
        client = server.client()
        now = time.time()
        ended = Report("warmer", "1", now, now, 3600, {}, warmup=Warmup(KEYS, KEYS, False))
        client.hset(reports.KEY, *reports.render(ended))
        client.acl_setuser("nobody", enabled=True, nopass=True)
        with server.client(username="nobody") as nobody, contextlib.suppress(RedisError):
            nobody.get("user:1")
        client.hset("herdwatch:switches", "singleflight", "on")
        client.config_set("slowlog-log-slower-than", "0")
        client.delete("user:none")
        client.config_set("slowlog-log-slower-than", "10000")
        client.delete("user:none")
        yield client

    def _values(self, primary: RedisServer, replica: RedisServer | None = None) -> dict[str, str]:
        values = {
            "CACHE": CACHE,
            "INSTANCE": primary.address,
            "EXPORTER": f"http://{self.listen}",
            "PROM": self.prometheus.url,
            "ALERTS": f"http://{self.alerts}",
            "LOADER": "an_app:load",
            "JOURNAL": str(self._folder / "journal"),
            "MAXCLIENTS": "1000",  # what every machine allows
        }
        return values | ({"REPLICA_PORT": str(replica.port)} if replica is not None else {})

    @contextlib.contextmanager
    def for_itself(self, arrange: Arrangement, *, spent: bool) -> Iterator[Place]:
        """A place of a line's own; what it has not spent is left to the next one that needs the same."""
        place = self._unspent.pop(arrange, None) or arrange(self)
        try:
            yield place
        finally:
            if spent:
                place.close()
            else:
                self._unspent[arrange] = place

    def server(self, *options: str, port: int | None = None) -> RedisServer:
        self._number += 1
        return RedisServer(self._supervisor, *options, name=f"redis-{self._number}", port=port)

    def pair(self, *options: str, keys: int = KEYS, size: int = 10) -> tuple[RedisServer, RedisServer]:
        """A primary and a replica that has all of its keys; the options are the primary's."""
        primary = self.server(*options)
        with primary.client(socket_timeout=30) as client:
            for first in range(0, keys, 500):
                client.mset({f"user:{number}": "x" * size for number in range(first, first + 500)})
            client.config_set("repl-diskless-sync-delay", "0")
            following = ("--replicaof", "127.0.0.1", str(primary.port), "--repl-diskless-sync-delay", "0")
            replica = self.server(*following)
            with replica.client() as other:
                until(lambda: other.info("replication")["master_link_status"] == "up", "a replica that has everything")
            until(lambda: client.info("replication").get("slave0", {}).get("state") == "online", "an online replica")
        return primary, replica

    def _at(self, primary: RedisServer, replica: RedisServer | None = None, **values: str) -> Place:
        folder = self._folder / f"line-{self._number}"
        folder.mkdir()
        cache = {"name": CACHE, "url": primary.url}
        (folder / "herdwatch.yaml").write_text(
            yaml.safe_dump({"caches": [cache], "prometheus": {"alertmanagers": [self.alerts]}})
        )
        (folder / "primary-password").write_text("hunter2\n")
        servers = [server for server in (primary, replica) if server is not None]
        return Place(folder, {**self._values(primary, replica), **values}, servers)

    def alone(self) -> Place:
        """One Redis with keys, of which some have the old name."""
        server = self.server()
        with server.client() as client:
            client.mset({f"old-name:{number}": "x" for number in range(7)})
        return self._at(server)

    def well(self) -> Place:
        """A pair to promote or to change."""
        return self._at(*self.pair())

    def dead(self) -> Place:
        """A dead primary, and its replica that holds the keys."""
        primary, replica = self.pair()
        self._kill(primary, replica)
        return self._at(primary, replica)

    def empty(self) -> Place:
        """The primary is back and empty, and its replica cannot log in: only therefore it is still full."""
        primary, replica = self.pair()
        with replica.client() as client:
            client.config_set("masterauth", "hunter2")
        self._kill(primary, replica)
        return self._at(self.server(port=primary.port), replica)

    def promoted(self) -> Place:
        """The replica is the primary, and the old one is back, as a primary."""
        primary, replica = self.pair()
        self._kill(primary, replica)
        with replica.client() as client:
            client.replicaof("NO", "ONE")
        return self._at(self.server(port=primary.port), replica)

    def loading(self) -> Place:
        """A primary that loads for some seconds; while it does, it answers every 2 MB: each 0.2 s here."""
        slow = ("--key-load-delay", "2000", "--rdbcompression", "no")
        primary, replica = self.pair(*slow, keys=3000, size=20_000)
        with primary.client(socket_timeout=30) as client:
            client.save()
        self._kill(primary, replica)
        primary.restart()
        return self._at(primary, replica)

    def hung(self) -> Place:
        """A Redis that is held by a script."""
        place = self.alone()
        client = place.servers[0].client(socket_timeout=30)
        client.config_set("lua-time-limit", "10")
        script = threading.Thread(target=_endlessly, args=(client,), daemon=True)
        script.start()
        with place.servers[0].client() as other:
            until(lambda: _is_busy(other), "a Redis that is busy")
        return place

    def leaking(self) -> Place:
        """A client that somebody wants to be rid of, at the address that the page's variable has."""
        place = self.alone()
        client = place.servers[0].client()
        place.open.append(client)
        client.client_setname("leak")
        (leak,) = [one for one in client.client_list() if one["name"] == "leak"]
        place.values["CLIENT_ADDR"] = str(leak["addr"])
        return place

    def littered(self) -> Place:
        """The report of a warmer that was killed."""
        place = self.alone()
        report = Report("warmer", "0123456789abcdef", 1.0, 2.0, 10, {}, warmup=Warmup(1000, 250, True))
        with place.servers[0].client() as client:
            client.hset(reports.KEY, *reports.render(report))
        return place

    @staticmethod
    def _kill(primary: RedisServer, replica: RedisServer) -> None:
        primary.kill()
        with replica.client() as client:
            until(lambda: client.info("replication")["master_link_status"] == "down", "a link that is down")


def _endlessly(client: Redis) -> None:
    with contextlib.suppress(RedisError, OSError):
        client.eval("while true do end", 0)
    client.close()


def _is_busy(client: Redis) -> bool:
    try:
        client.ping()
    except RedisError as error:
        return "BUSY" in str(error)
    return False
