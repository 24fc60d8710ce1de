"""What counting key groups costs: our sample beside redis_exporter's count-keys, and what another client feels of it.

Run as a program, with the URL of a Redis and its number of keys, it counts back to back until it is ended.
"""

from __future__ import annotations

import asyncio
import http.client
import random
import signal
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from redis import Redis
from rich.console import Console
from rich.table import Table

from herdwatch.collector.key_groups import KeyGroups
from herdwatch.collector.link import Link
from herdwatch.config import Cache
from herdwatch.config.model import SAMPLES
from herdwatch.drill.bench.figures import Spread, p99, ratio, verdict
from herdwatch.errors import ToolError
from herdwatch.stack import RedisServer, Supervisor, free_port
from herdwatch.stack import http as requests
from herdwatch.tools import find

GROUPS = {"ones": "user:1*", "twos": "user:2*", "hundreds": "user:*00", "pairs": "user:[0-9][0-9]", "none": "session:*"}
CPU_ROUNDS, COUNTS = 5, 10
GET_ROUNDS, GET_SECONDS = 9, 2.0
_SCRAPE_SECONDS = 120


@dataclass(slots=True)
class _Way:
    """One way to count the groups: a call that does it so many times; Redis CPU and time of a count, in seconds."""

    name: str
    count: Callable[[int], object]
    times: int
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    def measure(self, client: Redis, idle: float) -> None:
        """One round; `idle` is the CPU that Redis takes in a second in which nobody asks it anything."""
        used, began = _cpu(client), time.perf_counter()
        self.count(self.times)
        seconds = time.perf_counter() - began
        self.cpu.append((_cpu(client) - used - idle * seconds) / self.times)
        self.wall.append(seconds / self.times)


def measure(supervisor: Supervisor, redis: RedisServer, console: Console, *, keys: int) -> None:
    """Print both comparisons and their verdicts, measured on a Redis that holds so many keys named user:NUMBER."""
    with redis.client(socket_timeout=60) as client:
        console.print(_cost(supervisor, redis, client, console, keys), markup=False)
        console.print(_felt(supervisor, redis, client, console, keys), markup=False)


def _cost(supervisor: Supervisor, redis: RedisServer, client: Redis, console: Console, keys: int) -> str:
    ways = [_Way(f"herdwatch, sample of {SAMPLES}", _ours(redis, keys), COUNTS), *_theirs(supervisor, redis, console)]
    for number in range(CPU_ROUNDS):
        console.print(f"key groups, round {number + 1} of {CPU_ROUNDS}: {len(GROUPS)} patterns, each way in turn")
        idle = _idle(client)
        for way in ways:
            way.measure(client, idle)
    console.print(_table(ways, keys))
    mine = statistics.median(ways[0].cpu)
    lines = [verdict("Redis CPU of a count at most 5 ms", mine / 5e-3)]
    if len(ways) > 1:
        share = ratio(ways[0].cpu, ways[1].cpu).median * 400
        lines.append(verdict("Redis CPU of a count at most 1/400 of count-keys", share))
    return "\n".join(lines)


def _ours(redis: RedisServer, keys: int) -> Callable[[int], object]:
    return lambda times: asyncio.run(_count(redis.url, keys, times))


async def _count(url: str, keys: int, times: int | None) -> None:
    """Count so many times, None for ever."""
    link, groups = Link(Cache(name="bench", url=url)), KeyGroups(GROUPS)
    while times is None or times > 0:
        await groups.samples(link.ask, keys)
        times = None if times is None else times - 1
    link.hang_up()


def _theirs(supervisor: Supervisor, redis: RedisServer, console: Console) -> list[_Way]:
    try:
        tool = find("redis_exporter")
    except ToolError as error:
        console.print(f"without redis_exporter: {error}", markup=False)
        return []
    address = f"127.0.0.1:{free_port()}"
    patterns = ",".join(f"db0={pattern}" for pattern in GROUPS.values())
    options = (f"--redis.addr={redis.url}", f"--web.listen-address={address}", f"--count-keys={patterns}")
    process = supervisor.start("count-keys", tool.command(*options), env=tool.env, cwd=tool.cwd)
    process.wait_until(lambda: requests.answers(f"http://{address}/"))

    def count(times: int) -> None:
        for _ in range(times):
            _scrape(address)

    return [_Way(f"redis_exporter {tool.version} count-keys", count, 1)]


def _scrape(address: str) -> None:
    connection = http.client.HTTPConnection(address, timeout=_SCRAPE_SECONDS)
    connection.request("GET", "/metrics")
    answer = connection.getresponse().read()
    connection.close()
    counted = answer.count(b"redis_keys_count{")
    if counted != len(GROUPS):
        raise ToolError(f"redis_exporter counted {counted} of {len(GROUPS)} groups; look at its log")


def _cpu(client: Redis) -> float:
    cpu = client.info("cpu")
    return float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])


def _idle(client: Redis) -> float:
    used, began = _cpu(client), time.perf_counter()
    time.sleep(1)
    return (_cpu(client) - used) / (time.perf_counter() - began)


def _table(ways: list[_Way], keys: int) -> Table:
    table = Table(title=f"a count of {len(GROUPS)} key groups among {keys:,} keys, beyond what Redis takes when idle")
    for column in ("", "Redis CPU ms", "takes ms"):
        table.add_column(column, justify="left" if not column else "right")
    for way in ways:
        cpu, wall = statistics.median(way.cpu), statistics.median(way.wall)
        table.add_row(way.name, f"{cpu * 1e3:.2f}", f"{wall * 1e3:.0f}")
    return table


def _felt(supervisor: Supervisor, redis: RedisServer, client: Redis, console: Console, keys: int) -> str:
    """GETs of another client while a process counts back to back, and while it is stopped, in turn."""
    counted = _randomkeys(client)
    command = [sys.executable, "-m", "herdwatch.drill.bench.key_groups", redis.url, str(keys)]
    counter = supervisor.start("counter", command)
    counter.wait_until(lambda: _randomkeys(client) > counted)
    alone, beside = [], []
    for number in range(GET_ROUNDS):
        console.print(f"GETs, round {number + 1} of {GET_ROUNDS}: alone, and beside back-to-back counts")
        counter.send(signal.SIGSTOP)
        alone.append(_get_p99(redis, keys))
        counter.send(signal.SIGCONT)
        beside.append(_get_p99(redis, keys))
    counter.stop()
    supervisor.forget(counter)
    worse, usual = ratio(beside, alone), Spread.of(alone)
    console.print(f"GET p99 alone {usual.median * 1e6:.0f} us, beside counts {worse.median:.2f} of it", markup=False)
    return verdict("GET p99 of another client at most 1.2 of its baseline", worse.median / 1.2)


def _randomkeys(client: Redis) -> int:
    return int(client.info("commandstats").get("cmdstat_randomkey", {}).get("calls", 0))


def _get_p99(redis: RedisServer, keys: int) -> float:
    with redis.client() as client:
        connection = client.connection_pool.get_connection()
        took, now = [], time.perf_counter()
        end = now + GET_SECONDS
        while now < end:
            connection.send_command("GET", f"user:{random.randint(1, keys)}")  # noqa: S311
            connection.read_response()
            before, now = now, time.perf_counter()
            took.append(now - before)
        client.connection_pool.release(connection)
    return p99(took)


if __name__ == "__main__":
    asyncio.run(_count(sys.argv[1], int(sys.argv[2]), None))
