"""What answers at the address of a Prometheus, as a test wants it to."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.redis.fakes import serving

Answer = bytes | None
"""What is sent before the connection is closed; None sends nothing until the other side gives up."""


def http(status: int, text: str, kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(text)}\r\nConnection: close\r\n"
    return f"{head}\r\n{text}".encode()


def found(*series: dict[str, object]) -> bytes:
    return http(200, json.dumps({"status": "success", "data": {"resultType": "matrix", "result": series}}))


@contextmanager
def answering(answer: Callable[[str], Answer]) -> Iterator[tuple[str, list[str]]]:
    """A server that answers each request's text; gives its URL and the requests."""
    requests: list[str] = []

    def behave(connection: socket.socket) -> None:
        requests.append(connection.recv(65_536).decode())
        reply = answer(requests[-1])
        if reply is None:
            connection.recv(1)
        else:
            connection.sendall(reply)

    with serving(behave) as port:
        yield f"http://127.0.0.1:{port}", requests
