"""The fault table: what can be wrong with a Redis, and what the exporter answers Prometheus then, and that it does.

One exporter watches all of it at once. Its own deadline is a minute and Prometheus leaves it a second, so whatever is
answered within the client's ten was answered because of the header.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from tests import certificates
from tests.redis import fakes

from herdwatch.metrics import FAILURE_REASONS, PART_FAILURE_REASONS, PROBE, REDIS
from herdwatch.stack import ExporterServer, RedisServer, Supervisor, free_port, http

HANGING_SECONDS = 10
MAX_MEGABYTES = 200
"""INFO and the reports of one cache several times over."""
PASSWORD = "correct-horse"
PARTS = ("info", "commandstats", "reports")
REPLICATED_ONLY = {"cache_replica_link_up", "cache_replication_lag_bytes"}
CLOSED = {"reason": set(PART_FAILURE_REASONS), "collector": set(PARTS), "command": {"flushall", "flushdb"}}
"""Labels that name a cause, and all that they may say."""


@dataclass(frozen=True)
class Place:
    """Where a fault is put: the port at which the exporter looks for a Redis."""

    supervisor: Supervisor
    port: int

    def redis(self, *options: str) -> RedisServer:
        return RedisServer(self.supervisor, *options, name=f"redis-{self.port}", port=self.port)


Arrangement = Callable[[Place], AbstractContextManager[object]]


@dataclass(frozen=True)
class Fault:
    """One row. `reasons`: what `cache_failure` may say, nothing where Redis is up. `lost`: parts that fail, and why."""

    name: str
    arrange: Arrangement
    reasons: frozenset[str] = frozenset()
    lost: Mapping[str, str] = field(default_factory=dict)
    url: str = "redis://127.0.0.1:{port}/0"
    user: str | None = None
    password: str | None = None
    leaves: str = "1"
    """What Prometheus says how long it will wait, in seconds."""
    values: Mapping[str, float] = field(default_factory=dict)


def down(name: str, arrange: Arrangement, *reasons: str, **more: str) -> Fault:
    return Fault(name, arrange, frozenset(reasons), **more)


def up(name: str, arrange: Arrangement, lost: Mapping[str, str], **more: str) -> Fault:
    return Fault(name, arrange, lost=lost, **more)


def nobody(_: Place) -> AbstractContextManager[object]:
    return contextlib.nullcontext()


def fake(behave: fakes.Behaviour) -> Arrangement:
    return lambda place: fakes.serving(behave, place.port)


def real(*options: str, acl: str = "") -> Arrangement:
    """A Redis with these options, and one more user."""

    @contextlib.contextmanager
    def arrange(place: Place) -> Iterator[None]:
        redis = place.redis(*options)
        if acl:
            with redis.client() as client:
                client.execute_command("ACL", "SETUSER", "herdwatch", "on", f">{PASSWORD}", *acl.split())
        yield
        redis.kill()

    return arrange


@contextlib.contextmanager
def stopped(place: Place) -> Iterator[None]:
    redis = place.redis()
    redis.process.send(signal.SIGSTOP)
    yield
    redis.kill()


@contextlib.contextmanager
def crowded(place: Place) -> Iterator[None]:
    redis = place.redis("--maxclients", "2")
    with redis.client() as first, redis.client() as second:
        assert (first.ping(), second.ping()) == (True, True)
        yield
    redis.kill()


@contextlib.contextmanager
def mistyped(place: Place) -> Iterator[None]:
    redis = place.redis()
    with redis.client() as client:
        client.set("herdwatch:reports", "no hash")
    yield
    redis.kill()


@contextlib.contextmanager
def loading(place: Place) -> Iterator[None]:
    # Redis answers once in 2 MB of what it loads: a hundred keys of 20 kB, 0.2 s.
    redis = place.redis("--key-load-delay", "2000")
    with redis.client(socket_timeout=30) as client:
        for number in range(2000):
            client.set(f"key:{number}", os.urandom(20_000))
        client.save()
    redis.kill()
    redis.restart()
    yield
    redis.kill()


def unsigned(place: Place) -> AbstractContextManager[object]:
    pair = certificates.self_signed(place.supervisor.folder, f"tls-{place.port}")
    return fakes.serving(functools.partial(fakes.handshaking, pair=pair), place.port)


BILLION = b"*1000000000\r\n+OK\r\n$x\r\n"
HALF = b"$5000\r\n" + fakes.INFO
NOPERM = b"-NOPERM this user has no permissions to run the 'info' command or its subcommand\r\n"
NUMBERS = dict.fromkeys((b"INFO", b"INFO COMMANDSTATS", b"HGETALL HERDWATCH:REPORTS"), b":7\r\n")
NO_STATS = {b"INFO COMMANDSTATS": NOPERM, b"HGETALL HERDWATCH:REPORTS": b"*0\r\n"}
ODD_REPORTS = {b"INFO COMMANDSTATS": fakes.bulk(b""), b"HGETALL HERDWATCH:REPORTS": b":7\r\n"}
LATE = {"commandstats": "timeout", "reports": "timeout"}

# What a plain Redis does with the beginning of a TLS handshake depends on whether its random bytes hold a line break.
FAULTS = (
    down("nobody listens", nobody, "refused"),
    down("the socket file is missing", nobody, "refused", url="unix:///nowhere/redis-{port}.sock"),
    down("the name does not resolve", nobody, "dns", url="redis://redis.invalid:{port}/0", leaves="9"),
    down("it is stopped with SIGSTOP", stopped, "timeout"),
    down("it accepts and stays silent", fake(fakes.silent), "timeout"),
    down("it sends half an INFO and no more", fake(fakes.saying(HALF)), "timeout"),
    down("it closes in the middle of INFO", fake(fakes.saying(HALF, then_leaving=True)), "other"),
    down("it closes at once", fake(fakes.saying(b"", then_leaving=True)), "other"),
    down("it sends an INFO that does not end", fake(fakes.endless), "timeout", "protocol"),
    down("it promises a billion parts", fake(fakes.saying(BILLION)), "protocol"),
    down("it speaks HTTP", fake(fakes.saying(b"HTTP/1.1 400 Bad Request\r\n\r\n")), "protocol"),
    down("it sends garbage", fake(fakes.saying(bytes(range(256)) * 8)), "protocol"),
    down("it answers everything with a number", fake(fakes.answering(NUMBERS)), "protocol"),
    down("the password is missing", real("--requirepass", PASSWORD), "auth"),
    down("the password is wrong", real("--requirepass", PASSWORD), "auth", password="geheim"),
    down("the user is unknown", real(), "auth", user="nobody", password=PASSWORD),
    down("the user may not run INFO", real(acl="+ping"), "permission", user="herdwatch", password=PASSWORD),
    down("it has no connection left", crowded, "maxclients"),
    down("TLS is asked of a plain Redis", real(), "tls", "timeout", url="rediss://127.0.0.1:{port}/0"),
    down("the server with TLS has no certificate", fake(fakes.handshaking), "tls", url="rediss://127.0.0.1:{port}/0"),
    down("nobody known has signed the certificate", unsigned, "tls", url="rediss://127.0.0.1:{port}/0"),
    down("a server with TLS is asked without", fake(fakes.handshaking), "protocol", "other"),
    Fault("it is loading", loading, lost={"reports": "loading"}, values={"cache_loading": 1}),
    up("the user may not run INFO commandstats", fake(fakes.answering(NO_STATS)), {"commandstats": "permission"}),
    up(
        "the user may not run HGETALL",
        real(acl="+info ~herdwatch:reports"),
        {"reports": "permission"},
        user="herdwatch",
        password=PASSWORD,
    ),
    up(
        "the user may not read the reports",
        real(acl="+info +hgetall ~other:*"),
        {"reports": "permission"},
        user="herdwatch",
        password=PASSWORD,
    ),
    up("it says no more after INFO", fake(fakes.saying(fakes.bulk(fakes.INFO))), LATE),
    up("the key of the reports is no hash", mistyped, {"reports": "other"}),
    up("the reports are a number", fake(fakes.answering(ODD_REPORTS)), {"reports": "protocol"}),
)


@dataclass(frozen=True)
class Fleet:
    """The exporter that watches all rows."""

    supervisor: Supervisor
    url: str
    ports: Mapping[str, int]

    def ask(self, name: str, leaves: str) -> list[Sample]:
        """What Prometheus reads when it asks for one row."""
        headers = {"X-Prometheus-Scrape-Timeout-Seconds": leaves}
        url = f"{self.url}/probe?target={target(name)}"
        status, text = http.get(url, headers=headers, seconds=HANGING_SECONDS)
        assert status == 200
        return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def target(name: str) -> str:
    return name.replace(" ", "-")


def configured(fault: Fault, port: int, folder: Path) -> dict[str, str]:
    cache = {"name": target(fault.name), "url": fault.url.format(port=port)}
    if fault.user is not None:
        cache["username"] = fault.user
    if fault.password is not None:
        file = folder / f"password-{port}"
        file.write_text(fault.password)
        cache["password_file"] = str(file)
    return cache


def exporter(supervisor: Supervisor, name: str, caches: list[dict[str, str]], deadline: str) -> ExporterServer:
    listen = f"127.0.0.1:{free_port()}"
    file = supervisor.folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump({"caches": caches, "exporter": {"listen": listen, "deadline": deadline}}))
    return ExporterServer(supervisor, file, listen=listen)


@pytest.fixture(scope="module")
def fleet(supervisor: Supervisor) -> Fleet:
    ports = {fault.name: free_port() for fault in FAULTS}
    caches = [configured(fault, ports[fault.name], supervisor.folder) for fault in FAULTS]
    return Fleet(supervisor, exporter(supervisor, "fleet", caches, "60s").url, ports)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: target(fault.name))
def test_a_fault_is_answered_in_time_with_its_reason_and_nothing_else(fleet: Fleet, fault: Fault) -> None:
    with fault.arrange(Place(fleet.supervisor, fleet.ports[fault.name])):
        samples = fleet.ask(fault.name, fault.leaves)

    values = {sample.name: sample.value for sample in samples}
    said = [sample.labels["reason"] for sample in samples if sample.name == "cache_failure"]
    assert values["cache_up"] == (not fault.reasons)
    assert len(said) == bool(fault.reasons)
    assert set(said) <= fault.reasons
    assert set(said) <= set(FAILURE_REASONS)
    assert failures(samples) == (dict.fromkeys(PARTS, *said) if said else fault.lost)
    assert values.keys() == families(fault)
    assert fault.values.items() <= values.items()
    for label, value in [pair for sample in samples for pair in sample.labels.items()]:
        # No text of the other side: a cause is of a closed set, and what else there is comes from an INFO.
        assert value in CLOSED[label] if label in CLOSED else not fault.reasons


def failures(samples: list[Sample]) -> dict[str, str]:
    """Why parts failed, by part; the parts that say that they worked are all others."""
    worked = {one.labels["collector"]: one.value for one in samples if one.name == "cache_collector_success"}
    why = {one.labels["collector"]: one.labels["reason"] for one in samples if one.name == "cache_collector_failure"}
    assert worked == {part: part not in why for part in PARTS}
    return why


def families(fault: Fault) -> set[str]:
    probe = {family.sample for family in PROBE}
    if fault.reasons:
        return probe
    redis = {family.sample for family in REDIS} - REPLICATED_ONLY
    return (probe | redis) - {"cache_failure"} - ({"cache_flushes_total"} if "commandstats" in fault.lost else set())


@pytest.fixture(scope="module")
def impatient(supervisor: Supervisor) -> Iterator[str]:
    """An exporter that gives up after 0.3 s, on a Redis that does not answer."""
    with fakes.serving(fakes.silent) as port:
        caches = [{"name": "silent", "url": f"redis://127.0.0.1:{port}/0"}]
        yield f"{exporter(supervisor, 'impatient', caches, '300ms').url}/probe?target=silent"


@pytest.mark.parametrize("leaves", ["600", "1e308", "inf", "nan", "0", "-1", "soon", None])
def test_no_header_extends_the_configured_deadline(impatient: str, leaves: str | None) -> None:
    headers = {} if leaves is None else {"X-Prometheus-Scrape-Timeout-Seconds": leaves}
    status, text = http.get(impatient, headers=headers, seconds=HANGING_SECONDS)
    assert (status, 'cache_failure{reason="timeout"} 1.0' in text) == (200, True)


def test_twenty_scrapes_that_hang_delay_nobody(supervisor: Supervisor) -> None:
    healthy = RedisServer(supervisor, name="healthy")
    with fakes.serving(fakes.silent) as port, ThreadPoolExecutor(20) as pool:
        caches = [{"name": f"hangs-{number}", "url": f"redis://127.0.0.1:{port}/0"} for number in range(20)]
        caches.append({"name": "healthy", "url": healthy.url})
        url = exporter(supervisor, "neighbours", caches, "4s").url
        hanging = [pool.submit(http.get, f"{url}/probe?target={cache['name']}") for cache in caches[:-1]]
        for _ in range(20):
            assert "\ncache_up 1.0\n" in http.get(f"{url}/probe?target=healthy", seconds=HANGING_SECONDS)[1]
        # They still hang, so it was not their end that let the others through.
        assert not any(future.done() for future in hanging)
        assert all("\ncache_up 0.0\n" in future.result(HANGING_SECONDS)[1] for future in hanging)


@pytest.mark.parametrize("behave", [fakes.endless, fakes.saying(BILLION)], ids=["without end", "a billion parts"])
def test_an_answer_that_promises_too_much_does_not_take_the_memory(
    supervisor: Supervisor, behave: fakes.Behaviour
) -> None:
    with fakes.serving(behave) as port:
        caches = [{"name": "greedy", "url": f"redis://127.0.0.1:{port}/0"}]
        server = exporter(supervisor, f"greedy-{port}", caches, "2s")
        before = peaks(server.process.pid)
        text = http.get(f"{server.url}/probe?target=greedy", seconds=HANGING_SECONDS * 3)[1]
        assert "\ncache_up 0.0\n" in text
        for was, now in zip(before, peaks(server.process.pid), strict=True):
            assert now - was < MAX_MEGABYTES


def peaks(pid: int) -> list[float]:
    """The most memory that a process has had so far, in MB: asked for, and resident."""
    status = Path(f"/proc/{pid}/status").read_text()
    return [int(size) / 1000 for size in re.findall(r"(?:VmPeak|VmHWM):\s+(\d+) kB", status)]
