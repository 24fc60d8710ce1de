"""The exporter's server as a process, leaned on from all sides while somebody scrapes a real Redis through it.

The bounds on time are generous, against hanging; what a scrape takes among such crowds is for the benchmark to say.
"""

from __future__ import annotations

import http.client
import select
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import bcrypt
import pytest
import yaml
from tests.certificates import Pair, self_signed
from tests.waiting import until

from herdwatch import config as configuration
from herdwatch.bundle.render import render_bundle, write
from herdwatch.server.connections import MAX_CONNECTIONS
from herdwatch.server.serving import MOST_FILES, raise_file_limit
from herdwatch.stack import ExporterServer, PrometheusServer, RedisServer, Supervisor, free_port

SCRAPE_SECONDS = 5.0
PASSWORD = "correct-horse"
HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(10)).decode()
AUTHORIZATION = {"Authorization": "Basic " + b64encode(f"prometheus:{PASSWORD}".encode()).decode()}


class Exporter:
    """The exporter of one Redis, with requests and bare connections to it."""

    def __init__(self, supervisor: Supervisor, *, web: str = "", context: ssl.SSLContext | None = None) -> None:
        redis = RedisServer(supervisor)
        listen = f"127.0.0.1:{free_port()}"
        config, web_config = supervisor.folder / "herdwatch.yaml", supervisor.folder / "web.yml"
        config.write_text(f"caches: [{{name: users, url: '{redis.url}'}}]\nexporter: {{listen: '{listen}'}}\n")
        web_config.write_text(web)
        self.server = ExporterServer(supervisor, config, listen=listen, web_config=web_config if web else None)
        self.port = int(listen.rpartition(":")[2])
        self.context = context

    @property
    def log(self) -> str:
        return self.server.process.log.read_text()

    def request(
        self, path: str, method: str = "GET", *, headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> tuple[int, str]:
        """Status and text of the answer to one request on a connection of its own, within SCRAPE_SECONDS."""
        address = ("127.0.0.1", self.port)
        if self.context is None:
            connection = http.client.HTTPConnection(*address, timeout=SCRAPE_SECONDS)
        else:
            connection = http.client.HTTPSConnection(*address, timeout=SCRAPE_SECONDS, context=self.context)
        begun = time.monotonic()
        try:
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        assert time.monotonic() - begun < SCRAPE_SECONDS
        return answer.status, text

    def scrapes(self, times: int, **headers: str) -> None:
        for _ in range(times):
            status, text = self.request("/probe?target=users", headers=headers)
            assert status == 200
            assert "\ncache_up 1" in text

    @contextmanager
    def crowd(self, size: int) -> Iterator[list[socket.socket]]:
        """Open connections that say nothing."""
        with ExitStack() as stack:
            address = ("127.0.0.1", self.port)
            yield [stack.enter_context(socket.create_connection(address, timeout=SCRAPE_SECONDS)) for _ in range(size)]


def ended(connections: list[socket.socket]) -> int:
    """How many of them the other side has closed; what it said before is read, once each time."""
    poll = select.poll()
    for connection in connections:
        poll.register(connection, select.POLLIN)
    ready = {number for number, _ in poll.poll(0)}
    return sum(connection.fileno() in ready and at_end(connection) for connection in connections)


def at_end(connection: socket.socket) -> bool:
    try:
        return connection.recv(65536) == b""
    except ConnectionError:
        return True


@contextmanager
def dripping(connections: list[socket.socket]) -> Iterator[None]:
    """Write a request into each of them that never ends, one byte at a time."""
    stop = threading.Event()

    def drip() -> None:
        for byte in b"GET /metrics HTTP/1.1\r\nX-Slow: " + b"a" * 10_000:
            for connection in connections:
                try:
                    connection.send(bytes([byte]))
                except OSError:  # it was closed, which is what it is for
                    continue
            if stop.wait(0.05):
                return

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.fixture(autouse=True)
def files() -> None:
    """Crowds are made of open files."""
    raise_file_limit()


def test_idle_connections_and_slow_writers_delay_nobody(supervisor: Supervisor) -> None:
    exporter = Exporter(supervisor)
    with exporter.crowd(500) as idle, exporter.crowd(200) as slow, dripping(slow):
        exporter.scrapes(20)
        with ThreadPoolExecutor(50) as threads:
            for outcome in [threads.submit(exporter.scrapes, 2) for _ in range(50)]:
                outcome.result()
        until(lambda: ended(idle + slow) >= 700, every=0.1)
        exporter.scrapes(1)
    assert exporter.log.count("\n") == 1  # the address; strangers do not fill the log


def test_a_crowd_that_takes_every_seat_makes_room_for_a_scrape(supervisor: Supervisor) -> None:
    exporter = Exporter(supervisor)
    with exporter.crowd(MAX_CONNECTIONS + 50) as crowd:
        exporter.scrapes(10)
        until(lambda: ended(crowd[:50]) >= 50, every=0.1)


def test_who_stops_the_exporter_does_not_wait_for_strangers(supervisor: Supervisor) -> None:
    exporter = Exporter(supervisor)
    with exporter.crowd(20), exporter.crowd(20) as slow, dripping(slow):
        exporter.scrapes(1)
        exporter.server.process.send(signal.SIGTERM)
        until(lambda: not exporter.server.process.running)
    assert exporter.server.process._child.returncode == 0
    assert "Traceback" not in exporter.log


def test_each_request_gets_the_status_that_it_deserves(supervisor: Supervisor) -> None:
    exporter = Exporter(supervisor)
    small, large = b"a" * 1000, b"a" * 100_000
    expected = {
        ("GET", "/metrics", None): 200,
        ("HEAD", "/metrics", None): 200,
        ("HEAD", "/", None): 200,
        ("POST", "/metrics", None): 405,
        ("POST", "/metrics", small): 405,
        ("PUT", "/probe?target=users", small): 405,
        ("DELETE", "/sd", None): 405,
        ("GET", "/probe?target=other", None): 404,
        ("GET", "/nowhere", None): 404,
        ("POST", "/nowhere", small): 404,
        ("GET", "/runbooks/Nowhere", None): 404,
        ("POST", "/metrics", large): 413,
    }
    found = {key: exporter.request(key[1], key[0], body=key[2])[0] for key in expected}
    assert found == expected
    assert exporter.request("/metrics", headers={"X": "a" * 40_000})[0] == 431
    assert exporter.request("/metrics", "HEAD") == (200, "")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    folder = tmp_path_factory.mktemp("certificates")
    return {name: self_signed(folder, name) for name in ("server", "prometheus")}


def guarded(supervisor: Supervisor, pairs: dict[str, Pair], *, mutual: bool = False) -> Exporter:
    """An exporter with TLS and one user; `mutual` asks for a client certificate too."""
    server, client = pairs["server"], pairs["prometheus"]
    lines = [f"cert_file: {server.certificate}", f"key_file: {server.key}"]
    context = ssl.create_default_context(cafile=server.certificate)
    if mutual:
        lines += ["client_auth_type: RequireAndVerifyClientCert", f"client_ca_file: {client.certificate}"]
        context.load_cert_chain(client.certificate, client.key)
    block = "".join(f"  {line}\n" for line in lines)
    web = f"tls_server_config:\n{block}basic_auth_users:\n  prometheus: {HASH}\n"
    return Exporter(supervisor, web=web, context=context)


def test_idle_tls_clients_delay_nobody(supervisor: Supervisor, pairs: dict[str, Pair]) -> None:
    exporter = guarded(supervisor, pairs)
    with exporter.crowd(100) as silent, exporter.crowd(100) as slow, dripping(slow):
        exporter.scrapes(20, **AUTHORIZATION)
        until(lambda: ended(silent + slow) >= 200, every=0.1)
        exporter.scrapes(1, **AUTHORIZATION)
    assert exporter.log == f"herdwatch: exporter listens on https://127.0.0.1:{exporter.port}\n"


def test_only_the_password_opens_and_nothing_tells_it(supervisor: Supervisor, pairs: dict[str, Pair]) -> None:
    exporter = guarded(supervisor, pairs)
    wrong = {"Authorization": "Basic " + b64encode(b"prometheus:wrong-horse").decode()}
    pages = []
    for path in ("/metrics", "/probe?target=users", "/sd", "/", "/runbooks/", "/-/healthy", "/-/ready", "/nowhere"):
        for headers, expected in (({}, 401), (wrong, 401), (AUTHORIZATION, 404 if path == "/nowhere" else 200)):
            status, text = exporter.request(path, headers=headers)
            assert status == expected
            pages.append(text)
    process = Path(f"/proc/{exporter.server.process.pid}")
    shown = [*pages, exporter.log, *((process / name).read_text() for name in ("cmdline", "environ", "comm"))]
    for secret in (PASSWORD, "wrong-horse", HASH, HASH[7:], AUTHORIZATION["Authorization"]):
        assert [text for text in shown if secret in text] == []


def test_without_the_client_certificate_that_is_asked_for_nobody_gets_an_answer(
    supervisor: Supervisor, pairs: dict[str, Pair]
) -> None:
    exporter = guarded(supervisor, pairs, mutual=True)
    assert exporter.request("/metrics", headers=AUTHORIZATION)[0] == 200
    assert exporter.request("/metrics")[0] == 401
    exporter.context = ssl.create_default_context(cafile=pairs["server"].certificate)
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
        exporter.request("/metrics", headers=AUTHORIZATION)


def test_a_prometheus_discovers_and_scrapes_over_tls_with_a_password(
    supervisor: Supervisor, pairs: dict[str, Pair]
) -> None:
    exporter = guarded(supervisor, pairs, mutual=True)
    password = supervisor.folder / "password"
    password.write_text(PASSWORD)
    access = {"scheme": "https", "ca_file": str(pairs["server"].certificate)}
    access |= {"cert_file": str(pairs["prometheus"].certificate), "key_file": str(pairs["prometheus"].key)}
    access |= {"username": "prometheus", "password_file": str(password)}
    file = supervisor.folder / "herdwatch.yaml"
    data = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**data, "scrape_interval": "5s", "prometheus": {"exporter_access": access}}))
    write(render_bundle(configuration.load(file)), supervisor.folder / "bundle")
    config = supervisor.folder / "bundle/alerts/prometheus.yml"
    prometheus = PrometheusServer(supervisor, config)
    prometheus.process.wait_until(lambda: prometheus.value('cache_up{cache="users"}') == 1)
    prometheus.process.wait_until(lambda: prometheus.value('up{job="herdwatch-exporter"}') == 1)
    assert urlsplit(exporter.server.url).scheme == "https"


def test_the_file_limit_is_raised_as_far_as_the_system_allows() -> None:
    code = (
        "import resource; from herdwatch.server.serving import raise_file_limit; files = resource.RLIMIT_NOFILE; "
        "hard = resource.getrlimit(files)[1]; resource.setrlimit(files, (256, hard)); "
        "raise_file_limit(); print(*resource.getrlimit(files))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    soft, hard = map(int, done.stdout.split())
    assert soft == (MOST_FILES if hard < 0 else min(hard, MOST_FILES))
