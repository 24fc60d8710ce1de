"""Servers at the address of a Redis that do what no real Redis does."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

from tests.certificates import Pair

Behaviour = Callable[[socket.socket], None]
"""What is done with a connection that has just been accepted; when it returns the connection is closed."""

INFO = (
    b"# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nrun_id:aaa\r\n"
    b"server_time_usec:1700000100900000\r\nuptime_in_seconds:100\r\n"
    b"# Clients\r\nconnected_clients:3\r\nblocked_clients:0\r\n"
    b"# Memory\r\nused_memory:1000\r\nmaxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\n"
    b"# Persistence\r\nloading:0\r\n"
    b"# Stats\r\ntotal_commands_processed:50\r\nkeyspace_hits:30\r\nkeyspace_misses:10\r\n"
    b"evicted_keys:1\r\nexpired_keys:2\r\nrejected_connections:0\r\n"
    b"# Replication\r\nrole:master\r\nconnected_slaves:0\r\nmaster_repl_offset:900\r\n"
    b"# Keyspace\r\ndb0:keys=5,expires=4,avg_ttl=0\r\n"
)


def bulk(text: bytes) -> bytes:
    """A RESP bulk string."""
    return b"$%d\r\n%s\r\n" % (len(text), text)


@contextlib.contextmanager
def serving(behave: Behaviour, port: int = 0) -> Iterator[int]:
    """Treat every connection to a port of 127.0.0.1 so, each in a thread; gives the port."""
    threads: list[threading.Thread] = []
    connections: list[socket.socket] = []

    def treat(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            behave(connection)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connections.append(connection)
                threads.append(threading.Thread(target=treat, args=[connection], daemon=True))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", port)) as listener:
        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join(5)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(5)


def silent(connection: socket.socket) -> None:
    """Listens and says nothing until the other side leaves."""
    while connection.recv(65_536):
        pass


def saying(answer: bytes, *, then_leaving: bool = False) -> Behaviour:
    """Says this when it is first spoken to, and then nothing more."""

    def behave(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(answer)
        if not then_leaving:
            silent(connection)

    return behave


def endless(connection: socket.socket) -> None:
    """Begins a bulk string of a gigabyte and sends on for as long as somebody reads."""
    connection.recv(65_536)
    connection.sendall(b"$1000000000\r\n")
    while True:
        connection.sendall(b"x" * 65_536)


def answering(answers: dict[bytes, bytes]) -> Behaviour:
    """Answers each command line, in upper case, with these bytes; INFO as a Redis does, all else as unknown."""
    known = {b"INFO": bulk(INFO), **answers}

    def behave(connection: socket.socket) -> None:
        with connection.makefile("rb") as stream:
            while first := stream.readline():
                words = [stream.read(int(stream.readline()[1:]) + 2)[:-2] for _ in range(int(first[1:]))]
                command = b" ".join(words).upper()
                connection.sendall(known.get(command, b"-ERR unknown command\r\n"))

    return behave


def handshaking(connection: socket.socket, pair: Pair | None = None) -> None:
    """Speaks TLS, with this certificate or with none, and leaves after the first byte that it can read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if pair is not None:
        context.load_cert_chain(pair.certificate, pair.key)
    with contextlib.suppress(ssl.SSLError), context.wrap_socket(connection, server_side=True) as secured:
        secured.recv(1)
