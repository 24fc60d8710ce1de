"""The HTTP side in this process, on a real socket, with an application whose answers a test holds back."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from herdwatch.server import HttpStats, Web, serving
from herdwatch.server.connections import Connections
from herdwatch.server.protocol import Front

SECONDS = 20.0
"""Deadline of every wait."""

LIMIT = 8
"""Connections that this server has room for."""

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
OK = "HTTP/1.1 200 OK"
Peer = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Server:
    """A server on a free port, with what it counts; `hold` keeps answers back, `big` makes them that large."""

    def __init__(self, web: Web) -> None:
        self.stats = HttpStats()
        self.hold = asyncio.Event()
        self.hold.set()
        self.big = 0
        self.asked = 0
        app = Starlette(routes=[Route("/", self._page, methods=["GET", "POST"])])
        self.front = Front(serving._settings(app), Connections(self.stats, limit=LIMIT), web)
        self.peers: list[Peer] = []
        self.port = 0

    async def _page(self, _: Request) -> Response:
        self.asked += 1
        await self.hold.wait()
        return PlainTextResponse("x" * self.big or "ok")

    async def connect(self, context: ssl.SSLContext | None = None) -> Peer:
        peer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context)
        self.peers.append(peer)
        return peer

    async def ask(self, peer: Peer, data: bytes = GET) -> str:
        """The status line of the answer, whose rest is read, or an empty text from a connection that was closed."""
        reader, writer = peer
        try:
            writer.write(data)
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), SECONDS)
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            await asyncio.wait_for(reader.readexactly(length), SECONDS)
        except (asyncio.IncompleteReadError, ConnectionError):
            return ""
        return head.split(b"\r\n")[0].decode()

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS):
            while not true():
                await asyncio.sleep(0.01)


async def closed(peer: Peer) -> bytes:
    """What is read until the other side closes."""
    try:
        return await asyncio.wait_for(peer[0].read(), SECONDS)
    except ConnectionError:
        return b""


@asynccontextmanager
async def running(web: Web) -> AsyncIterator[Server]:
    server = Server(web)
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(server.front.protocol, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    stop = asyncio.Event()
    keeper = asyncio.ensure_future(serving._until(stop, server.front))
    try:
        yield server
    finally:
        server.hold.set()
        stop.set()
        await keeper
        listener.close()
        for _, writer in server.peers:
            writer.transport.abort()
        await asyncio.wait_for(serving._drain(server.front), SECONDS)
        await server.until(lambda: server.stats.connections == 0)


def play(script: Callable[[Server], Awaitable[None]], web: Web | None = None) -> None:
    """Run a script against a server of its own."""

    async def whole() -> None:
        async with running(web or Web()) as server:
            await script(server)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(whole())


def rejected(server: Server) -> dict[str, int]:
    """What was counted, without what was not."""
    return {reason: count for reason, count in server.stats.rejected.items() if count}
