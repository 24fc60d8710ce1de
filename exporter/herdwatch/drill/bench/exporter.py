"""What a scrape costs: this exporter, a bare INFO round trip and redis_exporter side by side, in turn, in one run."""

from __future__ import annotations

import http.client
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from redis import Redis
from rich.console import Console
from rich.table import Table

from herdwatch.drill import demo
from herdwatch.drill.bench.figures import p99, verdict
from herdwatch.drill.timeline import Timeline
from herdwatch.errors import ToolError
from herdwatch.stack import ExporterServer, RedisServer, Supervisor, WebhookReceiver, free_port
from herdwatch.stack import http as requests
from herdwatch.tools import find

ROUNDS = 5
_FILL = "for i = ARGV[1], ARGV[2] do redis.call('SET', 'user:' .. i, 'profile of user ' .. i) end"
_FILL_STEP = 50_000


@dataclass(slots=True)
class Candidate:
    """One way to learn what Redis does: a call that does it once, and whose CPU it costs besides that of Redis."""

    name: str
    once: Callable[[], bytes]
    pid: int | None
    wall: list[float] = field(default_factory=list)
    own_cpu: list[float] = field(default_factory=list)
    redis_cpu: list[float] = field(default_factory=list)
    answer: bytes = b""

    def measure(self, redis: Redis, count: int) -> None:
        """One round: `count` calls back to back."""
        own, other = self._own_seconds(), _redis_seconds(redis)
        for _ in range(count):
            began = time.perf_counter()
            self.answer = self.once()
            self.wall.append(time.perf_counter() - began)
        self.own_cpu.append((self._own_seconds() - own) / count)
        self.redis_cpu.append((_redis_seconds(redis) - other) / count)

    def _own_seconds(self) -> float:
        return 0.0 if self.pid is None else _process_seconds(self.pid)

    @property
    def series(self) -> int:
        """Sample lines of its last answer, 0 where it is no exposition."""
        lines = self.answer.splitlines() if self.pid is not None else []
        return sum(1 for line in lines if line and not line.startswith(b"#"))


def run(*, keys: int, scrapes: int) -> None:
    """Print the comparison, then the time from kill to page in the demo; every figure is measured in this run."""
    console = Console(highlight=False, width=max(100, Console().width))
    with Supervisor() as supervisor:
        redis = RedisServer(supervisor)
        with redis.client(socket_timeout=60) as client:
            console.print(f"filling Redis with {keys:,} keys")
            for begin in range(1, keys + 1, _FILL_STEP):
                client.eval(_FILL, 0, begin, min(begin + _FILL_STEP - 1, keys))
            candidates = _candidates(supervisor, redis, console)
            for candidate in candidates:
                candidate.once()  # the first call connects
            for number in range(ROUNDS):
                console.print(f"round {number + 1} of {ROUNDS}: {scrapes // ROUNDS} calls each, in turn")
                for candidate in candidates:
                    candidate.measure(client, scrapes // ROUNDS)
    console.print(_table(candidates, keys))
    console.print(_verdicts(candidates[1]), markup=False)
    _time_to_page(console)


def _candidates(supervisor: Supervisor, redis: RedisServer, console: Console) -> list[Candidate]:
    listen = f"127.0.0.1:{free_port()}"
    file = supervisor.folder / "bench.yaml"
    caches = [{"name": "bench", "url": redis.url}]
    file.write_text(yaml.safe_dump({"caches": caches, "exporter": {"listen": listen}}))
    ours = ExporterServer(supervisor, file, listen=listen)
    found = [
        Candidate("bare INFO round trip", _info(redis), None),
        Candidate("herdwatch exporter", _scrape(listen, "/probe?target=bench"), ours.process.pid),
    ]
    try:
        tool = find("redis_exporter")
    except ToolError as error:
        console.print(f"without redis_exporter: {error}", markup=False)
        return found
    address = f"127.0.0.1:{free_port()}"
    command = tool.command(f"--redis.addr={redis.url}", f"--web.listen-address={address}")
    process = supervisor.start("redis_exporter", command, env=tool.env, cwd=tool.cwd)
    process.wait_until(lambda: requests.answers(f"http://{address}/metrics"))
    return [*found, Candidate(f"redis_exporter {tool.version}", _scrape(address, "/metrics"), process.pid)]


def _scrape(address: str, path: str) -> Callable[[], bytes]:
    connection = http.client.HTTPConnection(address, timeout=10)

    def once() -> bytes:
        connection.request("GET", path)
        return connection.getresponse().read()

    return once


def _info(redis: RedisServer) -> Callable[[], bytes]:
    connection = redis.client().connection_pool.get_connection()

    def once() -> bytes:
        connection.send_command("INFO")  # type: ignore[no-untyped-call]
        answer: bytes = connection.read_response()
        return answer

    return once


def _process_seconds(pid: int) -> float:
    """User and system CPU of a process so far, from /proc."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _redis_seconds(redis: Redis) -> float:
    cpu = redis.info("cpu")
    return float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])


def _table(candidates: list[Candidate], keys: int) -> Table:
    table = Table(title=f"{keys:,} keys, {len(candidates[0].wall)} calls each; ratio to the first line in brackets")
    for column in ("", "p50 ms", "p99 ms", "own CPU ms", "Redis CPU ms", "bytes", "series"):
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
        )
    return table


def _versus(seconds: float, base: float) -> str:
    ratio = f" ({seconds / base:.1f}x)" if base else ""
    return f"{seconds * 1e3:.3f}{ratio}"


def _verdicts(ours: Candidate) -> str:
    aims = (
        ("p50 at most 1.2 ms", statistics.median(ours.wall), 1.2e-3),
        ("exporter CPU at most 1 ms a scrape", statistics.median(ours.own_cpu), 1e-3),
        ("Redis CPU at most 0.1 ms a scrape", statistics.median(ours.redis_cpu), 1e-4),
    )
    return "\n".join(verdict(text, value / limit) for text, value, limit in aims)


def _time_to_page(console: Console) -> None:
    console.print("the demo, for the time from the kill to the delivered page:")
    with Supervisor() as supervisor, WebhookReceiver() as webhook:
        timeline = Timeline(console)
        outcome = demo.replay(demo.start(supervisor, webhook, timeline), timeline)
    console.print(verdict("kill to page at most 20 s", outcome.paged / 20), markup=False)
