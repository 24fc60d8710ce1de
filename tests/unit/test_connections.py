"""The HTTP side over real sockets: deadlines, limits, and who makes room. The deadlines are shortened here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from tests.front import GET, LIMIT, OK, SECONDS, Peer, Server, closed, play, rejected

from herdwatch.server import connections, protocol, serving


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Sweeps come often, and the deadline that a test is about is set by it."""
    monkeypatch.setattr(serving, "SWEEP_SECONDS", 0.02)
    monkeypatch.setattr(serving, "DRAIN_SECONDS", 0.5)
    return monkeypatch


def test_a_connection_is_kept_for_the_next_request() -> None:
    async def script(server: Server) -> None:
        peer = await server.connect()
        for _ in range(3):
            assert await server.ask(peer) == OK
        assert server.stats.connections == 1
        peer[1].close()
        await server.until(lambda: server.stats.connections == 0)
        assert rejected(server) == {}

    play(script)


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"\r\n\r\n\r\n"])
def test_who_sends_no_request_is_closed(short: pytest.MonkeyPatch, sent: bytes) -> None:
    short.setattr(protocol, "REQUEST_SECONDS", 0.1)

    async def script(server: Server) -> None:
        peer = await server.connect()
        peer[1].write(sent)
        assert await closed(peer) == b""
        assert rejected(server) == {"too_slow": 1}

    play(script)


@pytest.mark.parametrize(
    ("drop", "before"),
    [
        (b"G", b""),
        (b"a", b"GET / HTTP/1.1\r\nX: "),
        (b"X: y\r\n", b"GET / HTTP/1.1\r\n"),
        (b"a", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n"),
        (b"1\r\na\r\n", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ],
)
def test_a_request_that_drips_is_closed_however_long_it_goes_on(
    short: pytest.MonkeyPatch, drop: bytes, before: bytes
) -> None:
    short.setattr(protocol, "REQUEST_SECONDS", 0.2)

    async def script(server: Server) -> None:
        server.hold.clear()  # the application does not answer a request before its body is there
        peer = await server.connect()
        peer[1].write(before)
        answer = asyncio.ensure_future(closed(peer))
        while not answer.done():
            peer[1].write(drop)
            await asyncio.sleep(0.01)
        assert answer.result()[:12] in (b"HTTP/1.1 408", b"HTTP/1.1 400")
        assert rejected(server).keys() <= {"too_slow"}

    play(script)


def test_a_later_request_that_drips_is_closed_as_well(short: pytest.MonkeyPatch) -> None:
    short.setattr(protocol, "REQUEST_SECONDS", 1.0)

    async def script(server: Server) -> None:
        peer = await server.connect()
        assert await server.ask(peer) == OK
        assert await server.ask(peer, b"GET / HTTP/1.1\r\n") == "HTTP/1.1 408 Request Timeout"
        assert await closed(peer) == b""

    play(script)


def test_only_our_own_deadline_ends_an_idle_connection() -> None:
    async def script(server: Server) -> None:
        server.front.settings.timeout_keep_alive = 0.05  # type: ignore[assignment]
        peer = await server.connect()
        assert await server.ask(peer) == OK
        await asyncio.sleep(0.3)
        assert await server.ask(peer) == OK

    play(script)


def test_an_idle_connection_is_closed_in_the_end_and_nobody_is_blamed(short: pytest.MonkeyPatch) -> None:
    short.setattr(protocol, "IDLE_SECONDS", 0.1)

    async def script(server: Server) -> None:
        peer = await server.connect()
        assert await server.ask(peer) == OK
        peer[1].write(b"\r\n")  # which is no request
        assert await closed(peer) == b""
        assert rejected(server) == {}

    play(script)


@pytest.mark.parametrize("connection", [b"keep-alive", b"close"])
def test_who_does_not_read_the_answer_is_closed(short: pytest.MonkeyPatch, connection: bytes) -> None:
    short.setattr(connections, "RESPONSE_SECONDS", 0.2)

    async def script(server: Server) -> None:
        server.big = 20_000_000
        reader, writer = await server.connect()
        writer.transport.pause_reading()
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: %s\r\n\r\n" % connection)
        await server.until(lambda: server.stats.connections == 0)
        assert rejected(server) == {"too_slow": 1}
        writer.transport.resume_reading()
        assert len(await closed((reader, writer))) < server.big

    play(script)


def test_a_long_scrape_is_no_slow_peer(short: pytest.MonkeyPatch) -> None:
    for place, name in ((protocol, "REQUEST_SECONDS"), (protocol, "IDLE_SECONDS"), (connections, "RESPONSE_SECONDS")):
        short.setattr(place, name, 0.5)

    async def script(server: Server) -> None:
        server.hold.clear()
        answer = asyncio.ensure_future(server.ask(await server.connect()))
        await asyncio.sleep(1.5)  # three times as long as any peer may take
        server.hold.set()
        assert await answer == OK

    play(script)


LARGE = {
    "one long header": (b"GET / HTTP/1.1\r\nX: " + b"a" * 40_000 + b"\r\n\r\n", "431"),
    "a header that does not end": (b"GET / HTTP/1.1\r\nX: " + b"a" * 40_000, "431"),
    "many headers": (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n", "431"),
    "a long path": (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n\r\n", "431"),
    "a body by its length": (b"POST / HTTP/1.1\r\nContent-Length: 65537\r\n\r\n", "413"),
    "a body in too many chunks": (
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + (b"2000\r\n" + b"a" * 8192 + b"\r\n") * 9,
        "413",
    ),
    "a body of chunks that say much and hold little": (
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + (b"1;" + b"e" * 8192 + b"\r\na\r\n") * 15,
        "413",
    ),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00", "400"),
    "a path that is none": (b"GET \xff HTTP/1.1\r\n\r\n", "400"),
    "a tunnel": (b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n", "400"),
}


@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("sentence", LARGE)
def test_what_is_too_large_is_told_so_and_closed(sentence: str, pieces: int, capfd: pytest.CaptureFixture[str]) -> None:
    data, status = LARGE[sentence]

    async def script(server: Server) -> None:
        server.hold.clear()
        reader, writer = await server.connect()
        size = -(-len(data) // pieces)
        with suppress(ConnectionError):  # an answer that comes before the request is whole
            for start in range(0, len(data), size):
                writer.write(data[start : start + size])
                await asyncio.sleep(0.05 if pieces > 1 else 0)
        assert (await asyncio.wait_for(reader.readline(), SECONDS)).decode().split()[1] == status
        await closed((reader, writer))
        assert rejected(server) == ({"too_large": 1} if status in ("413", "431") else {})
        server.hold.set()
        assert await server.ask(await server.connect()) == OK

    play(script)
    assert capfd.readouterr() == ("", "")


LARGEST = {
    "a body by its length": b"Content-Length: 65536\r\n\r\n" + b"a" * 65536,
    "a body in chunks": b"Transfer-Encoding: chunked\r\n\r\n"
    + (b"2000\r\n" + b"a" * 8192 + b"\r\n") * 8
    + b"0\r\n\r\n",
    "headers": b"X: " + b"a" * 32_000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("sentence", LARGEST)
def test_what_is_just_small_enough_is_answered_and_the_connection_kept(sentence: str) -> None:
    async def script(server: Server) -> None:
        peer = await server.connect()
        for _ in range(3):
            peer[1].write(b"POST / HTTP/1.1\r\nHost: x\r\n")
            await asyncio.sleep(0.05)  # so that it comes in two pieces
            assert await server.ask(peer, LARGEST[sentence]) == OK
        assert rejected(server) == {}

    play(script)


def test_who_wants_another_protocol_is_answered_in_this_one_for_the_last_time(
    capfd: pytest.CaptureFixture[str],
) -> None:
    async def script(server: Server) -> None:
        peer = await server.connect()
        assert await server.ask(peer, GET[:-2] + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n") == OK
        assert await closed(peer) == b""

    play(script)
    assert capfd.readouterr() == ("", "")


def test_requests_in_a_row_are_answered_in_order_and_too_many_of_them_end_the_connection() -> None:
    async def script(server: Server) -> None:
        server.hold.clear()
        few, many = await server.connect(), await server.connect()
        few[1].write(GET * 3)
        many[1].write(GET * 10_000)
        assert await closed(many) == b""
        assert rejected(server) == {"too_many": 1}
        assert server.asked <= 2
        server.hold.set()
        assert [await server.ask(few, b"") for _ in range(3)] == [OK] * 3
        assert await server.ask(few) == OK

    play(script)


async def idle(server: Server) -> Peer:
    return await server.connect()


async def kept(server: Server) -> Peer:
    peer = await server.connect()
    assert await server.ask(peer) == OK
    return peer


async def dripping(server: Server) -> Peer:
    peer = await server.connect()
    peer[1].write(b"GET / HTTP/1.1\r\n")
    return peer


@pytest.mark.parametrize("kind", [idle, kept, dripping])
def test_when_all_seats_are_taken_whoever_waits_longest_makes_room(kind: Callable[[Server], Awaitable[Peer]]) -> None:
    async def script(server: Server) -> None:
        peers = [await kind(server) for _ in range(LIMIT)]
        await server.until(lambda: server.stats.connections == LIMIT)
        for number in range(3):
            assert await server.ask(await server.connect()) == OK
            assert await closed(peers[number]) == b""
        assert rejected(server) == {"too_many": 3}
        assert server.stats.connections == LIMIT

    play(script)


def test_who_did_something_lately_stays_longer() -> None:
    async def script(server: Server) -> None:
        active = await kept(server)
        first, second, *_ = [await idle(server) for _ in range(LIMIT - 1)]
        first[1].write(b"GET")
        assert await server.ask(active) == OK
        await server.until(lambda: server.stats.connections == LIMIT)
        assert await server.ask(await server.connect()) == OK
        assert await closed(second) == b""
        assert await server.ask(first, GET[3:]) == OK
        assert await server.ask(active) == OK

    play(script)


def test_nobody_who_is_being_answered_makes_room() -> None:
    async def script(server: Server) -> None:
        server.hold.clear()
        answers = [asyncio.ensure_future(server.ask(await server.connect())) for _ in range(LIMIT)]
        await server.until(lambda: server.asked == LIMIT)
        assert await closed(await server.connect()) == b""
        assert rejected(server) == {"too_many": 1}
        server.hold.set()
        assert await asyncio.gather(*answers) == [OK] * LIMIT

    play(script)


def test_a_stop_does_not_wait_for_who_does_not_read() -> None:
    async def script(server: Server) -> None:
        server.big = 20_000_000
        _, writer = await server.connect()
        writer.transport.pause_reading()
        writer.write(GET)
        await server.until(lambda: server.front.connections.unread)
        await asyncio.wait_for(serving._drain(server.front), SECONDS)
        await server.until(lambda: server.stats.connections == 0)

    play(script)


def test_a_stop_waits_for_an_answer_that_is_due_and_for_nothing_else() -> None:
    async def script(server: Server) -> None:
        await idle(server)
        await dripping(server)
        server.hold.clear()
        answer = asyncio.ensure_future(server.ask(await server.connect()))
        await server.until(lambda: server.asked == 1)
        drained = asyncio.ensure_future(serving._drain(server.front))
        await asyncio.sleep(0)
        server.hold.set()
        assert await answer == OK
        await asyncio.wait_for(drained, SECONDS)
        await server.until(lambda: server.stats.connections == 0)

    play(script)
