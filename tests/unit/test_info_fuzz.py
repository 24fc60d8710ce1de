"""Whatever a server says where a Redis is expected: a scrape that ends, and an exposition that Prometheus can read."""

from __future__ import annotations

import asyncio
import contextlib
import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Sample
from tests.redis import fakes

from herdwatch.collector import CacheCollector, Scrape
from herdwatch.config import Cache
from herdwatch.metrics import BY_SAMPLE
from herdwatch.promtool import Promtool
from herdwatch.server import exposition

HANGING_SECONDS = 20
NAMES = [line.partition(":")[0] for line in fakes.INFO.decode().split("\r\n") if ":" in line]
NO_NUMBERS = ("", " 7", "+5", "-1", "1_000", "0x10", "1e400", "nan", "-inf", "\u0661", "\u00b2", "1.2.3", "9" * 5000)
HOSTILE = ('"', "\\", '\\"', "\n", "\r", '"} 1\ncache_up 0', "\x00", "\u2028", "é", "{}", "a,b=c", " ", "#")

number = st.one_of(st.integers().map(str), st.floats().map(repr), st.sampled_from(NO_NUMBERS), st.text(max_size=8))
text = st.one_of(st.text(max_size=20), st.lists(st.sampled_from(HOSTILE), max_size=4).map("".join))
pairs = st.lists(st.tuples(st.sampled_from(("keys", "expires", "state", "offset", "calls", "lag")), number), max_size=5)
values = st.one_of(number, text, pairs.map(lambda found: ",".join(f"{name}={value}" for name, value in found)))
replica = st.sampled_from(
    ("ip=::1,port=1,state=online,offset={}", "state=online", "state=online,offset=", "online", "")
)
flush = st.sampled_from(("flushall", "flushdb", "FLUSHALL", "flushall|async", 'flushall"', "flushall\n", "config|get"))
line = st.one_of(
    st.tuples(st.sampled_from(NAMES), values).map(":".join),
    st.tuples(st.one_of(st.integers(-1, 10**6).map(str), text).map("db{}".format), values).map(":".join),
    st.tuples(st.integers(0, 99).map("slave{}".format), replica, number).map(lambda it: f"{it[0]}:{it[1]}{it[2]}"),
    st.tuples(st.one_of(flush, text).map("cmdstat_{}".format), values).map(":".join),
    text,
)
noise = st.one_of(st.just(b""), st.binary(max_size=40))


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """An INFO: a good one with lines put in, left out, cut short, and bytes that are no text."""
    whole = fakes.INFO if draw(st.booleans()) else b""
    for added in draw(st.lists(line, max_size=8)):
        at = draw(st.integers(0, len(whole)))
        ends = draw(st.sampled_from((b"\r\n", b"\n", b"")))
        whole = whole[:at] + ends + added.encode("utf-8", "surrogatepass") + ends + whole[at:]
    return whole[: draw(st.integers(0, len(whole)))] + draw(noise) if draw(st.booleans()) else whole


WHOLE = (
    "$-1",
    "*-1",
    "*0",
    "$0\r\n",
    ":7",
    "+OK",
    "-ERR no",
    "-LOADING busy",
    "-NOPERM no",
    "_",
    "#t",
    ",inf",
    "(99999999",
)
CUT = ("*2", "*3", "%1", "~1", ">2", "$5\r\nab", "$x", "$4294967296", "*1000")
FRAGMENTS = tuple(f"{fragment}\r\n".encode() for fragment in WHOLE + CUT)
replies = st.lists(st.one_of(st.sampled_from(FRAGMENTS), answers().map(fakes.bulk), noise), max_size=6).map(b"".join)


def scraped(reply: bytes | None = None, **answers: bytes) -> Scrape:
    """A scrape of a server in the same event loop, which says `reply` and leaves, or has an answer for each command."""

    left = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while reply is None:
                writer.write(answers[await commanded(reader)])
            await reader.read(65_536)
            writer.write(reply)
            await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        left.set()

    async def run() -> Scrape:
        async with asyncio.timeout(HANGING_SECONDS), await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            collector = CacheCollector(Cache(name="users", url=f"redis://127.0.0.1:{port}/0"), timeout=HANGING_SECONDS)
            try:
                return await collector.scrape()
            finally:
                await collector.aclose()
                await left.wait()

    return asyncio.run(run())


async def commanded(reader: asyncio.StreamReader) -> str:
    """The next command, its words joined, without what cannot be in the name of an argument."""
    words = []
    for _ in range(int((await reader.readuntil())[1:])):
        length = int((await reader.readuntil())[1:])
        words.append((await reader.readexactly(length + 2))[:-2].decode())
    return "_".join(words).replace(":", "_").lower()


def told(info: bytes, stats: bytes) -> Scrape:
    answers = {"info": fakes.bulk(info), "info_commandstats": fakes.bulk(stats)}
    return scraped(**answers, hgetall_herdwatch_reports=b"*0\r\n")


def readable(scrape: Scrape) -> str:
    """The exposition in text format, having looked at all of it in both."""
    plain = exposition.text_of(scrape)
    samples = [sample for family in parse_text(plain) for sample in family.samples]
    modern = parse_openmetrics(f"{exposition.text_of(scrape, openmetrics=True)}# EOF\n")
    assert [sample.name for family in modern for sample in family.samples] == [sample.name for sample in samples]
    assert len({(sample.name, *sorted(sample.labels.items())) for sample in samples}) == len(samples)
    for sample in samples:
        declared_and_possible(sample)
    return plain


def declared_and_possible(sample: Sample) -> None:
    family = BY_SAMPLE[sample.name]
    assert set(sample.labels) == set(family.labels) - {"cache"}
    assert family.kind != "counter" or 0 <= sample.value < math.inf
    assert not math.isinf(sample.value)
    assert re.fullmatch(r"[0-9]{1,5}", sample.labels.get("db", "0"))


@settings(max_examples=150, deadline=None)
@given(answers(), answers())
def test_no_info_makes_an_exposition_that_cannot_be_read(info: bytes, stats: bytes) -> None:
    assert "cache_up" in readable(told(info, stats))


@settings(max_examples=150, deadline=None)
@given(replies)
def test_no_reply_of_whatever_kind_is_an_exception_or_an_exposition_that_cannot_be_read(reply: bytes) -> None:
    assert "cache_up" in readable(scraped(reply))


@pytest.fixture(scope="module")
def promtool() -> Promtool:
    return Promtool()


@settings(max_examples=40, deadline=None)
@given(answers(), answers())
def test_promtool_reads_what_comes_of_any_info(promtool: Promtool, info: bytes, stats: bytes) -> None:
    assert promtool.check_metrics(exposition.text_of(told(info, stats))).problems == ()


def test_a_database_that_no_redis_has_is_none() -> None:
    lines = "".join(f"db{name}:keys=1,expires=0\r\n" for name in ("\u0661", "01x", "-1", "123456", "5\n"))
    found = readable(told(fakes.INFO + lines.encode(), b""))
    assert re.findall(r'cache_keys\{db="([^"]*)"\}', found) == ["0"]
