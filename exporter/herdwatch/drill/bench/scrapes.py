"""One scrape after the other: this exporter, a bare INFO round trip and redis_exporter in turn."""

from __future__ import annotations

import http.client
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field

import yaml
from redis import Redis
from rich.console import Console
from rich.table import Table

from herdwatch.drill.bench import readings
from herdwatch.drill.bench.figures import p99, ratio, verdict
from herdwatch.errors import ToolError
from herdwatch.stack import ExporterServer, Process, RedisServer, Supervisor, free_port
from herdwatch.stack import http as requests
from herdwatch.tools import find

ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Contender:
    """An exporter of one Redis, where its metrics are."""

    name: str
    process: Process
    address: str
    path: str


@dataclass(slots=True)
class Candidate:
    """One way to learn what Redis does: a call that does it once, and whose CPU it costs besides that of Redis."""

    name: str
    once: Callable[[], bytes]
    pid: int | None
    wall: list[float] = field(default_factory=list)
    medians: list[float] = field(default_factory=list)
    own_cpu: list[float] = field(default_factory=list)
    redis_cpu: list[float] = field(default_factory=list)
    answer: bytes = b""

    def measure(self, redis: Redis, count: int) -> None:
        """One round: `count` calls back to back."""
        own, other, took = self._own_seconds(), readings.redis_cpu_seconds(redis), []
        for _ in range(count):
            began = time.perf_counter()
            self.answer = self.once()
            took.append(time.perf_counter() - began)
        self.own_cpu.append((self._own_seconds() - own) / count)
        self.redis_cpu.append((readings.redis_cpu_seconds(redis) - other) / count)
        self.wall += took
        self.medians.append(statistics.median(took))

    def _own_seconds(self) -> float:
        return 0.0 if self.pid is None else readings.cpu_seconds(self.pid)

    @property
    def series(self) -> int:
        """Sample lines of its last answer, 0 where it is no exposition."""
        return 0 if self.pid is None else readings.series(self.answer)


def contenders(supervisor: Supervisor, redis: RedisServer, console: Console) -> list[Contender]:
    """Start our exporter, and redis_exporter where there is one."""
    listen = f"127.0.0.1:{free_port()}"
    file = supervisor.folder / "bench.yaml"
    caches = [{"name": "bench", "url": redis.url}]
    file.write_text(yaml.safe_dump({"caches": caches, "exporter": {"listen": listen}}))
    ours = ExporterServer(supervisor, file, listen=listen)
    found = [Contender("herdwatch exporter", ours.process, listen, "/probe?target=bench")]
    try:
        tool = find("redis_exporter")
    except ToolError as error:
        console.print(f"without redis_exporter: {error}", markup=False)
        return found
    address = f"127.0.0.1:{free_port()}"
    command = tool.command(f"--redis.addr={redis.url}", f"--web.listen-address={address}")
    process = supervisor.start("redis_exporter", command, env=tool.env, cwd=tool.cwd)
    process.wait_until(lambda: requests.answers(f"http://{address}/metrics"))
    return [*found, Contender(f"redis_exporter {tool.version}", process, address, "/metrics")]


def measure(redis: RedisServer, found: list[Contender], console: Console, *, keys: int, scrapes: int) -> list[str]:
    """Print the table of all of them; gives the verdicts on ours, the first."""
    with ExitStack() as stack:
        client = stack.enter_context(redis.client(socket_timeout=60))
        candidates = [Candidate("bare INFO round trip", stack.enter_context(_info(redis)), None)]
        candidates += [Candidate(one.name, stack.enter_context(scraping(one)), one.process.pid) for one in found]
        for candidate in candidates:
            candidate.once()  # the first call connects
        for number in range(ROUNDS):
            console.print(f"round {number + 1} of {ROUNDS}: {scrapes // ROUNDS} calls each, in turn")
            for candidate in candidates:
                candidate.measure(client, scrapes // ROUNDS)
    console.print(_table(candidates, keys))
    return _verdicts(candidates[1], candidates[2:])


@contextmanager
def scraping(one: Contender) -> Iterator[Callable[[], bytes]]:
    """A call that scrapes over a kept connection."""
    with closing(http.client.HTTPConnection(one.address, timeout=10)) as connection:

        def once() -> bytes:
            connection.request("GET", one.path)
            return connection.getresponse().read()

        yield once


@contextmanager
def _info(redis: RedisServer) -> Iterator[Callable[[], bytes]]:
    with redis.client() as client:
        connection = client.connection_pool.get_connection()

        def once() -> bytes:
            connection.send_command("INFO")
            answer: bytes = connection.read_response()
            return answer

        yield once
        client.connection_pool.release(connection)


def _table(candidates: list[Candidate], keys: int) -> Table:
    table = Table(title=f"{keys:,} keys, {len(candidates[0].wall)} calls each; ratio to the first line in brackets")
    for column in ("", "p50 ms", "p99 ms", "own CPU ms", "Redis CPU ms", "bytes", "series", "RSS MB"):
        table.add_column(column, justify="left" if not column else "right")
    base = candidates[0]
    for one in candidates:
        table.add_row(
            one.name,
            _versus(statistics.median(one.wall), statistics.median(base.wall)),
            f"{p99(one.wall) * 1e3:.2f}",
            f"{statistics.median(one.own_cpu) * 1e3:.2f}" if one.pid else "",
            _versus(statistics.median(one.redis_cpu), statistics.median(base.redis_cpu)),
            str(len(one.answer)),
            str(one.series or ""),
            f"{readings.resident_bytes(one.pid) / 1e6:.0f}" if one.pid else "",
        )
    return table


def _versus(seconds: float, base: float) -> str:
    share = f" ({seconds / base:.1f}x)" if base else ""
    return f"{seconds * 1e3:.3f}{share}"


def _verdicts(ours: Candidate, theirs: list[Candidate]) -> list[str]:
    aims = [
        ("p50 at most 1.2 ms", statistics.median(ours.wall) / 1.2e-3),
        ("exporter CPU at most 1 ms a scrape", statistics.median(ours.own_cpu) / 1e-3),
        ("Redis CPU at most 0.1 ms a scrape", statistics.median(ours.redis_cpu) / 1e-4),
    ]
    aims += [(f"p50 at most 0.35 of {one.name}'s", ratio(ours.medians, one.medians).median / 0.35) for one in theirs]
    if ours.pid is not None:
        aims.append(("RSS at most 60 MB for one target", readings.resident_bytes(ours.pid) / 60e6))
    return [verdict(text, share) for text, share in aims]
