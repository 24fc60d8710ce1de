"""The machinery of the exporter's benchmark, on small figures. No time is asserted."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO

import pytest
from rich.console import Console

from herdwatch.drill.bench import clients, command_types, crowds, exporter, fleets, readings, scrapes
from herdwatch.errors import StackError, ToolError
from herdwatch.stack import RedisServer, Supervisor, free_port

HEAD = b"HTTP/1.1 200 OK\r\n"
WHOLE = HEAD + b"Content-Length: 5\r\n\r\na 1\n\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\na \r\n3\r\n1\n\n\r\n0\r\n\r\n"


@pytest.fixture(scope="module")
def redis(supervisor: Supervisor) -> RedisServer:
    return RedisServer(supervisor)


@pytest.fixture
def console() -> Console:
    return Console(file=StringIO(), width=200, highlight=False)


def printed(console: Console) -> str:
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


@pytest.fixture(scope="module")
def ours(supervisor: Supervisor, redis: RedisServer) -> Iterator[list[scrapes.Contender]]:
    """Our exporter alone."""

    def nowhere(name: str) -> None:
        raise ToolError(f"{name} is missing")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scrapes, "find", nowhere)
        console = Console(file=StringIO(), width=200)
        yield scrapes.contenders(supervisor, redis, console)
    assert printed(console) == "without redis_exporter: redis_exporter is missing\n"


def answered(reply: bytes) -> bytes:
    """What a client makes of an answer after which the server leaves."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        writer.close()
        await writer.wait_closed()

    async def run() -> bytes:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with clients.connected(f"127.0.0.1:{port}", 1) as [client]:
                return await client.get("/metrics")

    return asyncio.run(run())


@pytest.mark.parametrize("reply", [WHOLE, CHUNKED], ids=["whole", "chunked"])
def test_a_client_reads_a_body_that_comes_whole_and_one_that_comes_in_chunks(reply: bytes) -> None:
    assert answered(reply) == b"a 1\n\n"


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "/metrics was answered with HTTP/1.1 404 Not Found"),
        (WHOLE[:-3], "/metrics was not answered: IncompleteReadError"),
        (CHUNKED[:-3], "/metrics was not answered: IncompleteReadError"),
        (b"", "/metrics was not answered: IncompleteReadError"),
    ],
)
def test_what_is_no_answer_is_one_sentence(reply: bytes, told: str) -> None:
    with pytest.raises(StackError, match=f"^{re.escape(told)}$"):
        answered(reply)


def test_nobody_to_scrape_is_one_sentence() -> None:
    with pytest.raises(StackError, match=r"^127\.0\.0\.1:\d+ does not answer: "):
        asyncio.run(clients.at_once(f"127.0.0.1:{free_port()}", "/", clients=1, each=1))


def test_every_client_scrapes_as_often_as_it_is_told(ours: list[scrapes.Contender]) -> None:
    took = asyncio.run(clients.at_once(ours[0].address, ours[0].path, clients=3, each=4, idle=5))
    assert len(took) == 12
    assert min(took) > 0


def test_evenly_spread_scrapes_are_one_for_each_path_and_round(ours: list[scrapes.Contender]) -> None:
    paths = [ours[0].path, "/-/ready", "/sd"]
    assert len(asyncio.run(clients.evenly(ours[0].address, paths, interval=0.1, rounds=4))) == 12


def test_scrapes_are_measured_and_judged(redis: RedisServer, ours: list[scrapes.Contender], console: Console) -> None:
    verdicts = scrapes.measure(redis, ours, console, keys=0, scrapes=10)
    assert all(re.fullmatch(r"aim: .*: (met|MISSED), \d+\.\d\d of it", one) for one in verdicts)
    [row] = [line for line in printed(console).splitlines() if "herdwatch exporter" in line]
    cells = [cell.strip() for cell in row.strip("│ ").split("│")]
    with scrapes.scraping(ours[0]) as once:
        assert int(cells[-2]) == readings.series(once())
    assert 20 < int(cells[-1]) < 1000


def test_where_redis_exporter_is_there_it_is_what_p50_is_compared_with() -> None:
    mine, other = (scrapes.Candidate(name, lambda: b"", None) for name in ("ours", "theirs"))
    for one, medians in ((mine, [1.0, 10.0]), (other, [2.0, 20.0])):
        one.wall, one.medians, one.own_cpu, one.redis_cpu = medians, medians, [1.0], [1.0]
    assert "aim: p50 at most 0.35 of theirs's: MISSED, 1.43 of it" in scrapes._verdicts(mine, [other])


def test_a_crowd_is_measured_with_and_without_idle_connections(
    ours: list[scrapes.Contender], console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("CLIENTS", 3), ("EACH", 2), ("IDLE", 4), ("ROUNDS", 1)):
        monkeypatch.setattr(crowds, name, value)
    verdicts = crowds.measure(ours, console)
    assert [one.partition(":")[0] for one in verdicts] == ["aim", "aim"]
    assert "p99 of 3 scrapes at once beside 4 idle connections at most 100 ms" in verdicts[1]


def test_more_types_of_commands_are_counted_by_redis_and_do_nothing(
    redis: RedisServer, ours: list[scrapes.Contender], console: Console
) -> None:
    exporter.fill(redis, 100)
    with redis.client() as client:
        before = set(client.info("commandstats"))
        assert command_types.measure(redis, ours, console) == [
            "aim: as many series after them as before: met, 1.00 of it"
        ]
        assert len(set(client.info("commandstats")) - before) >= command_types.TYPES
        assert client.dbsize() == 100
        assert client.get("user:100") == b"profile of user 100"


def test_a_redis_that_has_no_more_types_of_commands_is_one_sentence(redis: RedisServer) -> None:
    with redis.client() as client, pytest.raises(StackError, match=r"^this Redis has \d+ types .*, not 10000$"):
        command_types.call_more_types(client, 10_000)


def test_a_fleet_is_connected_and_measured(console: Console) -> None:
    [told] = fleets.measure(console, targets=8, interval=0.2)
    assert told.startswith("aim: RSS at most 150 MB for 8 targets: met, ")
    assert re.search(r"^8 targets: \d+\.\d% of one core, p50 .* ms, p99 .* ms, RSS \d+ MB$", printed(console), re.M)


def test_readings_of_a_process_that_has_ended_are_one_sentence() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait(20)
    for reading in (readings.cpu_seconds, readings.resident_bytes):
        with pytest.raises(StackError, match=f"^process {child.pid} has ended$"):
            reading(child.pid)


def test_series_are_lines_that_are_no_comment() -> None:
    assert readings.series(b'# HELP a b\n# TYPE a gauge\na 1\na{b="#"} 2\n\n# EOF\n') == 2
