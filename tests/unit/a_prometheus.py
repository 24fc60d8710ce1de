"""What answers at the address of a Prometheus, as a test wants it to."""

from __future__ import annotations

import json
import re
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.redis.fakes import Behaviour, serving

Answer = bytes | None
"""What is sent before the connection is closed; None sends nothing until the other side gives up."""


def http(status: int, text: str, kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(text)}\r\nConnection: close\r\n"
    return f"{head}\r\n{text}".encode()


def found(*series: dict[str, object]) -> bytes:
    return http(200, json.dumps({"status": "success", "data": {"resultType": "matrix", "result": series}}))


def replying(answer: bytes) -> Behaviour:
    """Reads a request with its body, and answers."""

    def behave(connection: socket.socket) -> None:
        with connection.makefile("rb") as stream:
            head = b"".join(iter(stream.readline, b"\r\n"))
            length = re.search(rb"(?i)content-length: (\d+)", head)
            stream.read(int(length[1]) if length else 0)
            connection.sendall(answer)

    return behave


def dripping(at_once: bytes, more: bytes) -> Behaviour:
    """Sends the first part, and the second one byte by byte: in ten seconds."""

    def behave(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(at_once)
        for number in range(len(more)):
            time.sleep(10 / len(more))
            connection.sendall(more[number : number + 1])

    return behave


def cut_off(answer: bytes) -> Behaviour:
    """Sends the answer, and a reset in place of its end."""

    def behave(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(answer)
        time.sleep(0.2)  # or the reset would take the answer along
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    return behave


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
