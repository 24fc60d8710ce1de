"""One connection: uvicorn's HTTP/1.1 with deadlines, limits on what a request may weigh, and TLS under our own eyes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import NoReturn, cast

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from herdwatch.server.connections import RESPONSE_SECONDS, Connections, Seat
from herdwatch.server.tls import Context
from herdwatch.server.web import Web

HANDSHAKE_SECONDS = 5.0
REQUEST_SECONDS = 10.0
"""For the first byte of the first request, and from a request's first byte to its last."""

IDLE_SECONDS = 75.0
"""Between two requests; a Prometheus that scrapes every minute keeps its connection."""

LINGER_SECONDS = 2.0
"""How long a peer that was turned away may take to see why: closed at once, its system would discard the answer."""

MAX_HEAD_BYTES = 32 * 1024
MAX_BODY_BYTES = 64 * 1024
MAX_PIPELINED = 8


@dataclass(slots=True)
class Front:
    """What all connections of one server share."""

    settings: uvicorn.Config
    connections: Connections
    web: Web
    state: ServerState = field(default_factory=ServerState)
    handshakes: set[asyncio.Task[None]] = field(default_factory=set)

    def protocol(self) -> asyncio.Protocol:
        """The factory of `loop.create_server`."""
        return HttpProtocol(self) if self.web.tls is None else TlsGate(self, self.web.tls)

    def tick(self) -> None:
        """To be called every SWEEP_SECONDS: ends what is overdue, and sets the clock that answers carry."""
        self.state.default_headers = [(b"date", formatdate(usegmt=True).encode()), *self.settings.encoded_headers]
        self.connections.sweep()


class _Refused(Exception):
    """Thrown through the parser, which stops there."""


class HttpProtocol(HttpToolsProtocol):
    """A connection of uvicorn that waits for its peer for a bounded time only."""

    def __init__(self, front: Front, *, seat: Seat | None = None, tls: Context | None = None) -> None:
        super().__init__(front.settings, front.state, {})
        self._front = front
        self._seat = seat
        self._tls = tls
        self._received = 0
        self._in_head = False
        self._arriving = False
        self._body = 0
        self._turned_away = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if self._seat is None:
            self._seat = self._front.connections.admit(transport)
        else:
            self._seat.transports.append(transport)
        if self._seat is None:
            self._turned_away = True
            self.transport = transport
            transport.abort()
            return
        super().connection_made(transport)
        self._seat.waits(REQUEST_SECONDS, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._seat is not None:
            self._seat.leaves()
        if self.transport is not None:  # else it was lost at the very end of its handshake
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._turned_away:
            return
        self._received += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return  # answered as the plain request that it also is
        except httptools.HttpParserError:
            if not self._turned_away:
                self._turn_away(400)
            return
        if self._in_head and self._received > MAX_HEAD_BYTES:
            self._turn_away(431, "too_large")
        elif self._arriving and self._received > MAX_HEAD_BYTES + MAX_BODY_BYTES:
            self._turn_away(413, "too_large")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = self._arriving = True
        self._body = 0
        if len(self.pipeline) >= MAX_PIPELINED:
            self._stop(429, "too_many")
        if self._seat is not None and not self._answering:
            self._seat.waits(REQUEST_SECONDS, self._too_slow)

    def on_headers_complete(self) -> None:
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD_BYTES:
            self._stop(431, "too_large")
        for name, value in self.headers:
            # The parser has refused a length that is no number.
            if name == b"content-length" and int(value) > MAX_BODY_BYTES:
                self._stop(413, "too_large")
        super().on_headers_complete()
        self._in_head = False
        if self._tls is not self._front.web.tls or self.parser.should_upgrade():
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._body += len(body)
        if self._body > MAX_BODY_BYTES:
            self._stop(413, "too_large")
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._arriving = False
        self._received = 0
        self._settle()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._unset_keepalive_if_required()  # the seat's deadline takes its place
        self._settle()

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _settle(self) -> None:
        """A request or an answer has ended: say what the connection waits for now."""
        if self._seat is None or self._turned_away:
            return
        if self.transport.is_closing():
            self._seat.waits(RESPONSE_SECONDS, self._seat.close)
        elif self._arriving:
            if not self._seat.is_waiting:
                self._seat.waits(REQUEST_SECONDS, self._too_slow)
        elif self._answering:
            self._seat.works()
        else:
            self._seat.waits(IDLE_SECONDS, self.transport.close)

    def _too_slow(self) -> None:
        if self._arriving:
            self._turn_away(408, "too_slow")
        else:
            self._count("too_slow")
            self.transport.abort()

    def _stop(self, status: int, reason: str) -> NoReturn:
        self._turn_away(status, reason)
        raise _Refused

    def _turn_away(self, status: int, reason: str | None = None) -> None:
        """Answer with an error and end the connection; without an answer where one is under way or was given."""
        self._turned_away = True
        if reason is not None:
            self._count(reason)
        of_earlier = self._answering and (self._in_head or bool(self.pipeline))
        answered = self._arriving and not self._in_head and self.cycle.response_started
        if of_earlier or answered or self.transport.is_closing():
            self.transport.abort()
            return
        if self._answering:
            self.cycle.disconnected = True  # the application may go on, and is not heard
            self.cycle.message_event.set()
        self._say(status)
        if self._seat is not None:
            self._seat.waits(LINGER_SECONDS, self._seat.close)

    def _say(self, status: int) -> None:
        text = f"{HTTPStatus(status).phrase}\n".encode()
        own = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(text))]
        headers = [*self.server_state.default_headers, *own, (b"connection", b"close")]
        lines = b"".join(b"%s: %s\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[status] + lines + b"\r\n" + text)
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _count(self, reason: str) -> None:
        self._front.connections.stats.rejected[reason] += 1


class TlsGate(asyncio.Protocol):
    """Seats a connection before its TLS handshake, so that one that never says hello has a deadline and can make room.

    Handed to `create_server`, the context would be fixed for good, and handshakes would be seen only at their end.
    """

    def __init__(self, front: Front, context: Context) -> None:
        self._front = front
        self._context = context
        self._early = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        seat = self._front.connections.admit(transport)
        if seat is None:
            transport.abort()
            return

        def too_slow() -> None:
            self._front.connections.stats.rejected["too_slow"] += 1
            transport.abort()

        seat.waits(HANDSHAKE_SECONDS, too_slow)
        handshake = asyncio.get_running_loop().create_task(self._shake_hands(transport, seat))
        self._front.handshakes.add(handshake)
        handshake.add_done_callback(self._front.handshakes.discard)

    def data_received(self, data: bytes) -> None:
        self._early += data  # a hello may come before the task has begun

    async def _shake_hands(self, transport: asyncio.Transport, seat: Seat) -> None:
        protocol = HttpProtocol(self._front, seat=seat, tls=self._context)
        secured = None
        try:
            if not transport.is_closing():
                secured = await self._secured(transport, protocol)
        except OSError:  # which TLS's own errors are as well
            pass
        finally:
            if secured is None or transport.is_closing():
                transport.abort()
                seat.leaves()
        if secured is not None and not transport.is_closing():
            protocol.connection_made(secured)

    async def _secured(self, transport: asyncio.Transport, protocol: HttpProtocol) -> asyncio.Transport | None:
        loop = asyncio.get_running_loop()
        loop.call_soon(self._hand_over, transport)
        async with asyncio.timeout(2 * HANDSHAKE_SECONDS):  # the seat's own deadline comes first
            return await loop.start_tls(
                transport, protocol, self._context, server_side=True, ssl_shutdown_timeout=RESPONSE_SECONDS
            )

    def _hand_over(self, transport: asyncio.Transport) -> None:
        """Give TLS, which is in charge of the connection from now on, what came before it was."""
        tls = cast(asyncio.BufferedProtocol, transport.get_protocol())
        while self._early and not transport.is_closing():
            room = memoryview(tls.get_buffer(len(self._early)))[: len(self._early)]
            room[:] = self._early[: len(room)]
            self._early = self._early[len(room) :]
            tls.buffer_updated(len(room))
