"""HTTP whose timeout is a deadline: that of a socket begins anew with each byte, and a header that drips never ends."""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
import urllib.request
from typing import Any


class _Timed(io.RawIOBase):
    """What comes over a socket until a moment of time.monotonic(): its own timeout begins anew with each byte."""

    def __init__(self, sock: socket.socket, until: float) -> None:
        self._sock, self._until = sock, until
        self._raw = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(_left(self._until))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Connection(http.client.HTTPConnection):
    """Its timeout is the deadline of all that is sent and read, headers included."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._until = time.monotonic() + (self.timeout or 0.0)

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(_left(self._until))

    def response_class(self, sock: socket.socket, *args: Any, **options: Any) -> http.client.HTTPResponse:  # type: ignore[override]
        response = http.client.HTTPResponse(sock, *args, **options)
        response.fp.close()
        response.fp = io.BufferedReader(_Timed(sock, self._until))
        return response


class _TlsConnection(http.client.HTTPSConnection, _Connection):
    """The same over TLS."""


class _Timely(urllib.request.HTTPSHandler, urllib.request.HTTPHandler):
    """Opens connections that keep their deadline."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        super().__init__(context=tls)
        self._tls = tls

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Connection, request)

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_TlsConnection, request, context=self._tls)


class _EveryStatus(urllib.request.HTTPErrorProcessor):
    """An error is an answer. So is a redirect: it would take the credentials to wherever it leads."""

    def http_response(self, request: Any, response: Any) -> Any:  # noqa: ARG002 - urllib gives it
        return response

    https_response = http_response


def opener(*, direct: bool, tls: ssl.SSLContext | None = None) -> urllib.request.OpenerDirector:
    """One that gives answers of every status. The timeout of a request is the deadline of its last byte.

    A `direct` one asks no proxy of the environment.
    """
    handlers: list[urllib.request.BaseHandler] = [_EveryStatus(), _Timely(tls)]
    if direct:
        handlers.append(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(*handlers)


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left
