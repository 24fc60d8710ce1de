"""One exporter and a thousand targets, each scraped once per interval, as one Prometheus does it."""

from __future__ import annotations

import asyncio
import statistics
import time

import yaml
from rich.console import Console

from herdwatch.drill.bench import clients, readings
from herdwatch.drill.bench.figures import p99, verdict
from herdwatch.stack import ExporterServer, RedisServer, Supervisor, free_port

TARGETS = 1_000
SERVERS = 4
INTERVAL_SECONDS = 15.0
ROUNDS = 2
AIM_BYTES = 150e6


def measure(console: Console, *, targets: int = TARGETS, interval: float = INTERVAL_SECONDS) -> list[str]:
    """Start the fleet, scrape it and print what that took; gives the verdict on memory."""
    with Supervisor() as supervisor:
        servers = [RedisServer(supervisor, name=f"redis-{number}") for number in range(SERVERS)]
        listen = f"127.0.0.1:{free_port()}"
        file = supervisor.folder / "fleet.yaml"
        caches = [{"name": f"cache-{number}", "url": servers[number % SERVERS].url} for number in range(targets)]
        file.write_text(yaml.safe_dump({"caches": caches, "exporter": {"listen": listen}}))
        exporter = ExporterServer(supervisor, file, listen=listen)
        paths = [f"/probe?target={cache['name']}" for cache in caches]
        console.print(f"{targets:,} targets every {interval:g} s, evenly: once to connect, {ROUNDS} times to measure")
        asyncio.run(clients.evenly(listen, paths, interval=interval, rounds=1))
        cpu, began = readings.cpu_seconds(exporter.process.pid), time.perf_counter()
        took = asyncio.run(clients.evenly(listen, paths, interval=interval, rounds=ROUNDS))
        share = (readings.cpu_seconds(exporter.process.pid) - cpu) / (time.perf_counter() - began)
        resident = readings.resident_bytes(exporter.process.pid)
    console.print(
        f"{targets:,} targets: {share:.1%} of one core, p50 {statistics.median(took) * 1e3:.2f} ms, "
        f"p99 {p99(took) * 1e3:.2f} ms, RSS {resident / 1e6:.0f} MB",
        markup=False,
    )
    return [verdict(f"RSS at most 150 MB for {targets:,} targets", resident / AIM_BYTES)]
