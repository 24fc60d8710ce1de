"""What all runs of a drill share: the database, and everything that watches the caches."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from herdwatch import config as configuration
from herdwatch.bundle import render as rendering
from herdwatch.drill.replay import users
from herdwatch.drill.replay.cast import Cast
from herdwatch.drill.replay.scale import Scale
from herdwatch.errors import CheckFailed, StackError
from herdwatch.stack import (
    AlertmanagerServer,
    ExporterServer,
    PrometheusServer,
    Supervisor,
    WebhookReceiver,
    free_port,
)
from herdwatch.stack.postgres import PostgresServer

ROWS = 10_000
"""Users in the table, at least: as many as the seed warms."""
CAPACITY_SECONDS = 4.0
LEARN_SECONDS = 240.0


@dataclass(frozen=True, slots=True)
class Behind:
    """The database, how to reach it, and what it takes a second. The dsn holds a password."""

    dsn: str
    users: users.Users
    capacity: float

    @classmethod
    def start(cls, supervisor: Supervisor, dsn: str | None, scale: Scale) -> Behind:
        """One's own, or an embedded one; its capacity is measured. Raises StackError for one that refuses."""
        found = dsn or PostgresServer(supervisor).dsn
        table = users.Users(found, rows=max(ROWS, scale.keys))
        try:
            connections = scale.workers * scale.pool
            capacity = users.capacity(
                found, connections=connections, seconds=scale.query, keys=scale.keys, during=CAPACITY_SECONDS
            )
        except BaseException:
            table.drop()
            raise
        if not capacity:
            raise StackError(f"the database answered no query within {CAPACITY_SECONDS:g} s")
        return cls(found, table, capacity)


@dataclass(frozen=True, slots=True)
class Watchers:
    """Exporter, Prometheus and Alertmanager, on a bundle rendered for the caches of the drill."""

    config: Path
    exporter: ExporterServer
    prometheus: PrometheusServer
    alertmanager: AlertmanagerServer
    webhook: WebhookReceiver

    @classmethod
    def start(
        cls,
        supervisor: Supervisor,
        webhook: WebhookReceiver,
        casts: Sequence[Cast],
        *,
        capacity: float,
        rate: float,
        interval: int,
    ) -> Watchers:
        """Start them; each cache has a database of its own in the configuration, since runs come one after another."""
        listen, alertmanager = (f"127.0.0.1:{free_port()}" for _ in range(2))
        file, bundle = supervisor.folder / "herdwatch.yaml", supervisor.folder / "bundle"
        severities = ("critical", "warning", "info", "watchdog")
        data = {
            "scrape_interval": f"{interval}s",
            "caches": [
                {"name": name, "url": url, "team": "on-call", "database": cast.name}
                for cast in casts
                for name, url in caches(cast).items()
            ],
            "databases": {cast.name: {"capacity": round(capacity, 1), "peak": round(rate, 1)} for cast in casts},
            "exporter": {"listen": listen},
            "prometheus": {"alertmanagers": [alertmanager]},
            "receivers": {severity: {"webhook_url": f"{webhook.url}/{severity}"} for severity in severities},
            "links": {"runbook_base_url": f"http://{listen}/runbooks"},
        }
        file.write_text(yaml.safe_dump(data), encoding="utf-8")
        rendering.write(rendering.render_bundle(configuration.load(file)), bundle)
        exporter = ExporterServer(supervisor, file, listen=listen, runbooks=bundle / "runbooks")
        delivering = AlertmanagerServer(supervisor, bundle / "alerts" / "alertmanager.yml", listen=alertmanager)
        prometheus = PrometheusServer(supervisor, bundle / "alerts" / "prometheus.yml")
        return cls(file, exporter, prometheus, delivering, webhook)

    def learnt(self, casts: Sequence[Cast]) -> bool:
        """Whether Prometheus knows of every cache what is normal: its keys, its process and its traffic."""
        names = "|".join(cast.name for cast in casts)
        known = f'cache:requests:rate{{cache=~"{names}"}} > 0 and on (cache) cache_instance:keys:settled > 0'
        return (self.prometheus.value(f"count({known})") or 0) >= len(casts)

    def wait_until_learnt(self, supervisor: Supervisor, casts: Sequence[Cast]) -> None:
        """Wait for that; raises CheckFailed when it takes too long, StackError when something died."""
        deadline = time.monotonic() + LEARN_SECONDS
        while not self.learnt(casts):
            refuse_the_dead(supervisor)
            if time.monotonic() > deadline:
                raise CheckFailed(f"Prometheus did not learn within {LEARN_SECONDS:g} s what is normal")
            time.sleep(0.5)


def caches(cast: Cast) -> dict[str, str]:
    """The caches of a run in herdwatch.yaml, with their addresses: a replica is one of its own there."""
    names = [cast.name if not number else f"{cast.name}-{number + 1}" for number in range(len(cast.servers))]
    return {name: server.url for name, server in zip(names, cast.servers, strict=True)}


def refuse_the_dead(supervisor: Supervisor) -> None:
    """Raise StackError for a process that has ended although nobody stopped it."""
    for process in supervisor.dead():
        raise StackError(f"{process.name} has ended: {process.last_words()}")
