"""Real primaries, replicas and Sentinels, and a gate that holds up what passes between two of them."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.waiting import until

from herdwatch import cli
from herdwatch.operations.promote import Endpoint, Kind, Request, of_url
from herdwatch.stack import RedisServer, Supervisor
from herdwatch.stack.processes import free_port
from herdwatch.tools import find

Run = Callable[..., tuple[int, str, str]]


class Gate:
    """Passes on what comes to its port, and what is answered. Closed, it keeps the answers; what comes still passes."""

    def __init__(self, to: int, port: int) -> None:
        self._to, self._open, self._closed = to, threading.Event(), False
        self._open.set()
        self._sockets: list[socket.socket] = []
        self._answering: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self) -> None:
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    def close(self) -> None:
        """For good; what it kept is lost."""
        self._closed = True
        self._open.set()
        for one in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._join(self._listener.accept()[0])

    def _join(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(("127.0.0.1", self._to))
        except OSError:
            near.close()
            return
        self._sockets += [near, far]
        self._answering.add(far)
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if source in self._answering:
                    self._open.wait()
                if self._closed:
                    return
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


class Server(RedisServer):
    """A server that comes back empty: what a synchronisation has left in its folder is not loaded."""

    def restart(self) -> None:
        (self._supervisor.folder / self._name / "dump.rdb").unlink(missing_ok=True)
        super().restart()


class Town:
    """The servers of one test."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor
        self._gates: list[Gate] = []
        self._number = 0

    def server(self, *options: str) -> RedisServer:
        self._number += 1
        return Server(self.supervisor, "--repl-diskless-sync", "no", *options, name=f"redis{self._number}")

    def held(self) -> tuple[RedisServer, Gate, RedisServer]:
        """A pair with the gate between them closed and a write that has not come through, so that a failover waits."""
        primary = self.server()
        fill(primary, 1000)
        gate = self.gate(primary.port)
        replica = self.replica(primary, through=gate)
        gate.hold()
        with primary.client() as client:
            client.set("held", "1")
        return primary, gate, replica

    def replica(self, primary: RedisServer, *options: str, through: Gate | None = None) -> RedisServer:
        port = through.port if through is not None else primary.port
        found = self.server("--replicaof", "127.0.0.1", str(port), *options)
        self.caught_up(primary, found)
        return found

    def pair(self, keys: int = 1000) -> tuple[RedisServer, RedisServer]:
        primary = self.server()
        fill(primary, keys)
        return primary, self.replica(primary)

    def gate(self, to: int, port: int = 0) -> Gate:
        self._gates.append(Gate(to, port))
        return self._gates[-1]

    def sentinels(self, primary: RedisServer, names: int = 3) -> list[RedisServer]:
        """Sentinels that have found each other and the replica."""
        found = [self.sentinel(primary) for _ in range(names)]
        for one in found:
            until(lambda one=one: self.knows_all(one, names - 1), "Sentinels that know each other")  # type: ignore[misc]
        return found

    def knows_all(self, sentinel: RedisServer, others: int) -> bool:
        with sentinel.client() as client:
            return bool(
                client.sentinel_master("main")["num-other-sentinels"] == others and self.knows_replica(sentinel)
            )

    def knows_replica(self, sentinel: RedisServer) -> bool:
        with sentinel.client() as client:
            return bool(client.sentinel_slaves("main"))

    def sentinel(self, primary: RedisServer, *lines: str) -> RedisServer:
        port = free_port()
        file = self.supervisor.folder / f"sentinel-{port}.conf"
        file.write_text(
            f"port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {primary.port} 2\n"
            "sentinel down-after-milliseconds main 3000\nsentinel failover-timeout main 20000\n" + "\n".join(lines)
        )
        return Sentinel(self.supervisor, file, port)

    def caught_up(self, primary: RedisServer, replica: RedisServer) -> None:
        def same() -> bool:
            with primary.client() as one, replica.client() as other:
                info = other.info("replication")
                offset = one.info("replication")["master_repl_offset"]
                return bool(info["master_link_status"] == "up" and info["slave_repl_offset"] == offset)

        until(same, "a replica that has everything")
        with primary.client() as client:
            until(lambda: client.info("replication").get("slave0", {}).get("state") == "online", "an online replica")

    def close(self) -> None:
        for gate in self._gates:
            gate.close()


class Sentinel(RedisServer):
    """A Sentinel with its configuration file, which it writes into."""

    def __init__(self, supervisor: Supervisor, file: Path, port: int) -> None:
        self._file = file
        super().__init__(supervisor, name=file.stem, port=port)

    def _start(self):  # type: ignore[no-untyped-def]
        tool = find("redis-server")
        command = tool.command(str(self._file), "--sentinel")
        process = self._supervisor.start(self._name, command, env=tool.env, cwd=tool.cwd)
        process.wait_until(lambda: self._answers(process))
        return process


def fill(server: RedisServer, keys: int) -> None:
    with server.client() as client:
        for first in range(0, keys, 10_000):
            client.mset({f"key:{number}": number for number in range(first, min(keys, first + 10_000))})


@pytest.fixture
def town() -> Iterator[Town]:
    with Supervisor() as supervisor:
        servers = Town(supervisor)
        yield servers
        servers.close()


@pytest.fixture
def ask() -> Callable[..., Request]:
    """A request for these servers; the options are those of Request."""

    def asking(primary: RedisServer, *replicas: RedisServer, kind: Kind = Kind.PLANNED, **options: object) -> Request:
        return Request(kind, at(primary), tuple(map(at, replicas)), **options)  # type: ignore[arg-type]

    return asking


def at(server: RedisServer) -> Endpoint:
    return of_url("--url", server.url)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`herdwatch promote` in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str) -> tuple[int, str, str]:
        code = cli.run(["promote", *arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return code, captured.out, captured.err

    return command
