"""What surrounds a guard: the address of its Redis, its health in the log, its metrics, its event loop."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
import redis.asyncio
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from herdwatch import metrics
from herdwatch.guard import Guard, SyncGuard, address, health
from herdwatch.guard.health import Health
from herdwatch.guard.store import RedisStore, StoreDown
from herdwatch.guard.sync_store import SyncRedisStore
from herdwatch.guard.testing import MemoryStore, SyncMemoryStore
from herdwatch.guard.values import Raw
from herdwatch.promtool import Promtool
from herdwatch.stack import RedisServer, Supervisor

SECONDS = 20.0
"""Deadline of everything that is waited for."""


def run(work: Coroutine[Any, Any, Any]) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(SECONDS):
            return await work

    return asyncio.run(bounded())


KINDS: list[tuple[Any, str, type]] = [
    (redis.Redis, "SyncGuard", SyncRedisStore),
    (redis.asyncio.Redis, "Guard", RedisStore),
]


def connections(client: Any) -> list[Any]:
    wanted = redis.Redis if isinstance(client, redis.Redis) else redis.asyncio.Redis
    found = address.of(client, wanted=wanted, guard="Guard")
    return [found.connection(), found.async_connection()]


@pytest.mark.parametrize("kind", [redis.Redis, redis.asyncio.Redis])
def test_an_address_is_where_the_client_connects_and_nothing_of_how_often_it_tries(kind: Any) -> None:
    url = "redis://user:pa55@cache.example:7000/3?socket_timeout=7&health_check_interval=5&client_name=app"
    for connection in connections(kind.from_url(url, decode_responses=True, retry_on_timeout=True)):
        assert (connection.host, connection.port, connection.db) == ("cache.example", 7000, 3)
        assert (connection.username, connection.password, connection.client_name) == ("user", "pa55", None)
        assert connection.socket_timeout is connection.socket_connect_timeout is None
        assert connection.health_check_interval == 0
        assert connection.retry.get_retries() == 0
        assert not connection.encoder.decode_responses


@pytest.mark.parametrize("kind", [redis.Redis, redis.asyncio.Redis])
def test_tls_unix_sockets_and_credential_providers_are_kept(kind: Any) -> None:
    secure = kind.from_url("rediss://cache.example:7000", ssl_ca_certs="ca.pem", ssl_check_hostname=False)
    for connection in connections(secure):
        assert "SSL" in type(connection).__name__
        context = getattr(connection, "ssl_context", connection)
        assert getattr(context, "ca_certs", getattr(context, "ssl_ca_certs", None)) or connection.ca_certs == "ca.pem"
    for connection in connections(kind.from_url("unix:///run/redis.sock?db=2")):
        assert "Unix" in type(connection).__name__
        assert (connection.path, connection.db) == ("/run/redis.sock", 2)
    provider = redis.UsernamePasswordCredentialProvider("user", "pa55")
    for connection in connections(kind(host="cache.example", credential_provider=provider)):
        assert connection.credential_provider is provider


def test_two_clients_of_one_redis_are_one_address() -> None:
    def of(url: str, **options: Any) -> address.Address:
        return address.of(redis.Redis.from_url(url, **options), wanted=redis.Redis, guard="SyncGuard")

    one = of("redis://:a@cache:1/0")
    assert one == of("redis://:a@cache:1", socket_timeout=3) == of("redis://:another@cache:1?db=0")
    assert of("redis://localhost") == of("redis://localhost:6379/0") == of("redis://")
    assert hash(one) == hash(of("redis://:a@cache:1"))
    for url in (
        "redis://:a@cache:1/1",
        "redis://:a@cache:2/0",
        "redis://other:1/0",
        "redis://u:a@cache:1",
        "unix:///a",
    ):
        assert one != of(url)


class Ours(redis.connection.Connection):
    """Some connection that a guard does not know."""


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            lambda store: Guard(redis.Redis(), **store),
            "Guard needs a redis.asyncio.Redis, not a redis.Redis; for threads",
        ),
        (lambda store: SyncGuard(redis.asyncio.Redis(), **store), "SyncGuard needs a redis.Redis, not a redis.asyncio"),
        (lambda store: Guard("redis://cache", **store), "Guard needs a redis.asyncio.Redis, not a builtins.str"),
        (lambda store: Guard(SyncMemoryStore(), **store), "Guard needs a redis.asyncio.Redis, not a"),
        (lambda store: SyncGuard(MemoryStore(), **store), "SyncGuard needs a redis.Redis, not a"),
        (lambda store: SyncGuard(None, **store), "SyncGuard needs a redis.Redis, not a builtins.NoneType"),
        (
            lambda store: SyncGuard(
                redis.Redis(connection_pool=redis.ConnectionPool(connection_class=Ours)),
                **store,
            ),
            "SyncGuard cannot connect as Ours does",
        ),
    ],
)
def test_a_client_of_the_wrong_kind_is_a_type_error_at_construction(make: Callable[[Any], Any], says: str) -> None:
    with pytest.raises(TypeError, match=says):
        make({"cache": "c", "service": "s", "registry": None})


def ask(server: RedisServer, client: Any) -> Any:
    """A value that went through Redis and came back, and what Redis saw of it."""
    names = {"cache": "c", "service": "s", "serializer": Raw(), "registry": None}
    with server.client() as admin:
        admin.flushall()
        admin.config_resetstat()

        def look() -> dict[str, Any]:
            own = [one for one in admin.client_list() if one["cmd"] in ("eval", "get")]
            assert own
            assert all(not one.get("name") and not one.get("lib-name") for one in own), own
            return dict(admin.info("commandstats"))

        if isinstance(client, redis.Redis):
            with SyncGuard(client, **names) as guard:
                found = [guard.get("k", load=lambda _: b"\xff", ttl=60) for _ in range(2)]
                return found, look()

        async def body() -> Any:
            async def load(_: str) -> bytes:
                return b"\xff"

            async with Guard(client, **names) as guard:
                found = [await guard.get("k", load=load, ttl=60) for _ in range(2)]
                return found, await asyncio.to_thread(look)

        return run(body())


@pytest.mark.parametrize("kind", [redis.Redis, redis.asyncio.Redis])
def test_the_guard_speaks_as_itself_and_in_bytes_whatever_the_client_was_told(kind: Any, shared: RedisServer) -> None:
    client = kind.from_url(shared.url, decode_responses=True, client_name="app", health_check_interval=1, protocol=3)
    found, stats = ask(shared, client)
    assert found == [b"\xff", b"\xff"]
    spoken = {name.removeprefix("cmdstat_") for name in stats}
    assert not {name for name in spoken if "setinfo" in name or "setname" in name}, spoken
    assert "hello" not in spoken
    assert "ping" not in spoken


@pytest.mark.parametrize("kind", [redis.Redis, redis.asyncio.Redis])
def test_a_password_a_database_and_a_unix_socket_are_used(kind: Any, supervisor: Supervisor) -> None:
    socket = Path(supervisor.folder) / f"{kind.__module__}.sock"
    server = RedisServer(supervisor, "--unixsocket", str(socket), "--requirepass", "pa55", name=kind.__module__)
    server.client = lambda: redis.Redis(port=server.port, password="pa55", db=3, driver_info=None)  # type: ignore
    provider = redis.UsernamePasswordCredentialProvider(password="pa55")
    for client in (
        kind.from_url(f"redis://:pa55@127.0.0.1:{server.port}/3"),
        kind(port=server.port, db=3, credential_provider=provider),
        kind(unix_socket_path=str(socket), db=3, password="pa55"),
    ):
        found, _ = ask(server, client)
        assert found == [b"\xff", b"\xff"]
        with server.client() as admin:
            assert admin.exists("k"), "in database 3"


SECRET = "hunter2"


def test_no_secret_is_in_an_address_a_fault_or_the_log(shared: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    client = redis.Redis(host="127.0.0.1", port=shared.port, username="app", password=SECRET)
    where = address.of(client, wanted=redis.Redis, guard="SyncGuard")
    told = [repr(where), str(where), repr(where.connection()), repr(where.async_connection())]
    store = SyncRedisStore(where, connections=1)
    with pytest.raises(StoreDown) as raised:
        store.get("k", 5.0)

    async def body() -> BaseException:
        with pytest.raises(StoreDown) as raised:
            await RedisStore(where, connections=1).get("k", 5.0)
        return raised.value

    faults = (raised.value, run(body()))
    told += [text for fault in faults for text in (str(fault), repr(fault), str(fault.__cause__))]
    Health(where).failed(redis.ResponseError(f"ERR unknown command '{SECRET}', with args beginning with: '{SECRET}'"))
    told += caplog.messages
    assert caplog.messages
    assert not [text for text in told if SECRET in text]
    assert any("ResponseError ERR" in text for text in caplog.messages), "its first word is no secret"


def test_health_tells_once_that_redis_is_down_and_once_that_it_is_back(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "herdwatch.guard")
    now = itertools.count(1000.0, 0.001)
    minutes = [0.0]
    monkeypatch.setattr(health, "time", SimpleNamespace(monotonic=lambda: next(now) + minutes[0]))
    with redis.Redis.from_url("redis://:pa55@cache:7000") as client:
        watched = Health(address.of(client, wanted=redis.Redis, guard="SyncGuard"))
    for _ in range(100):
        watched.failed(TimeoutError())
    assert not watched.up
    watched.answered()
    assert watched.up
    assert caplog.messages == [
        "Redis at cache:7000 does not serve the guard (TimeoutError); loads go on without it",
        "Redis at cache:7000 serves the guard again",
    ]
    for _ in range(100):  # it comes and goes, as with a pool that is too small
        watched.failed(TimeoutError())
        watched.answered()
    assert len(caplog.messages) == 2
    minutes[0] = 61.0
    watched.failed(ConnectionError())
    watched.answered()
    assert len(caplog.messages) == 4
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"] * 2


def exposed() -> str:
    registry = CollectorRegistry()
    calls = itertools.count()

    async def load(_: str) -> int | None:
        if (number := next(calls)) == 1:
            raise LookupError
        return number or None

    async def body() -> None:
        names: dict[str, Any] = {"service": "profiles", "registry": registry}
        async with Guard(MemoryStore(), cache="users", **names) as one, Guard(MemoryStore(), cache="b", **names) as two:
            for guard, key in ((one, "none"), (one, "fails"), (one, "a"), (one, "a"), (two, "b")):
                try:
                    await guard.get(key, load=load, ttl=60, group='"quoted"\\')
                except LookupError:
                    continue

    run(body())
    with SyncGuard(SyncMemoryStore(), cache="users", service="threads", registry=registry) as guard:
        guard.get("a", load=lambda _: 1, ttl=60)
    return generate_latest(registry).decode()


def test_every_guard_family_is_exposed_with_its_labels_and_promtool_has_nothing_to_say() -> None:
    text = exposed()
    assert Promtool().check_metrics(text).problems == ()
    found = {family.name: family for family in text_string_to_metric_families(text)}
    declared = [
        family
        for family in (*metrics.GUARD_COUNTERS, *metrics.GUARD_GAUGES, *metrics.GUARD_HISTOGRAMS)
        if not family.name.startswith("cache_warmup_")  # which the warmer exposes
    ]
    assert set(found) == {family.name.removesuffix("_total") for family in declared}
    for family in declared:
        shown = found[family.name.removesuffix("_total")]
        assert (shown.type, shown.documentation) == (family.kind, family.help)
        assert shown.samples
        for sample in shown.samples:
            assert set(sample.labels) - {"le"} == set(family.labels), sample
    assert "_created" not in text


def test_the_histogram_is_cumulative_and_counts_every_load() -> None:
    found = {family.name: family for family in text_string_to_metric_families(exposed())}
    samples = found["cache_load_duration_seconds"].samples
    own = [sample for sample in samples if (sample.labels["cache"], sample.labels["service"]) == ("users", "profiles")]
    buckets = [(float(one.labels["le"]), one.value) for one in own if one.name.endswith("_bucket")]
    assert [bound for bound, _ in buckets] == [*metrics.LOAD_BUCKETS, math.inf]
    heights = [height for _, height in buckets]
    assert heights == sorted(heights)
    [count] = [one.value for one in own if one.name.endswith("_count")]
    [total] = [one.value for one in own if one.name.endswith("_sum")]
    assert heights[-1] == count == 3, "one that was none, one that failed, one that went well"
    assert 0 < total < SECONDS


def test_a_get_that_a_closed_loop_left_in_the_air_is_waited_for_by_nobody() -> None:
    class Stuck(MemoryStore):
        async def get(self, key: str, within: float) -> bytes | None:
            if asyncio.get_running_loop() is closed:
                await asyncio.Event().wait()
            return await super().get(key, within)

    async def load(_key: str) -> str:
        return "value"

    async def work() -> None:
        answers = await asyncio.gather(*(guard.get("k", load=load, ttl=60) for _ in range(3)))
        assert answers == ["value"] * 3

    guard = Guard(Stuck(), cache="users", service="profiles", registry=None)
    closed = asyncio.new_event_loop()
    closed.set_exception_handler(lambda *_: None)
    left = guard.get("k", load=load, ttl=60)
    task = closed.create_task(left)
    closed.run_until_complete(asyncio.sleep(0))
    closed.close()
    run(work())
    assert guard.core.counts["default"].led == 1
    assert not task.done()
    left.close()
