"""What the guide of the guard says is what the code does: its tables, its numbers, its names."""

from __future__ import annotations

import asyncio
import inspect
import re
import struct
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from prometheus_client import CollectorRegistry, generate_latest
from redis.asyncio import Redis
from redis.cluster import RedisCluster
from redis.sentinel import Sentinel

import herdwatch.guard
from herdwatch import metrics
from herdwatch.bundle import pages
from herdwatch.guard import (
    Flight,
    Guard,
    GuardError,
    LoadTimeout,
    RemoteLoadError,
    Reporter,
    Shed,
    SyncFlight,
    SyncGuard,
    values,
)
from herdwatch.guard.commands import lease_of
from herdwatch.guard.counts import MAX_GROUPS, OVERFLOW
from herdwatch.guard.refresh import Coin
from herdwatch.guard.settings import Options, Settings
from herdwatch.stack import RedisServer
from herdwatch.stack.processes import free_port

FILE = Path(herdwatch.guard.__file__).with_name("README.md")
GUIDE = FILE.read_text(encoding="utf-8")
SECONDS = 10.0
"""Deadline of everything that is waited for."""

Loader = Callable[[str], Awaitable[str]]


def table(*heading: str) -> list[list[str]]:
    """The rows of the table whose first header cells are these."""
    _, _, after = GUIDE.partition("\n| " + " | ".join(heading) + " |")
    assert after, heading
    lines = after.split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def written(value: object) -> str:
    """A default as one would type it."""
    if inspect.isroutine(value):
        return f"{value.__module__}.{value.__name__}"
    return "prometheus_client.REGISTRY" if isinstance(value, CollectorRegistry) else repr(value)


def parameters(function: Callable[..., Any]) -> dict[str, str]:
    """Keyword arguments that have a default, and what it is."""
    found = inspect.signature(function).parameters.values()
    return {one.name: written(one.default) for one in found if one.default is not inspect.Parameter.empty}


@pytest.mark.parametrize("guard", [Guard, SyncGuard])
def test_the_table_of_options_is_the_code_s(guard: Callable[..., Any]) -> None:
    settings = Settings()
    real = {name: written(getattr(settings, name)) for name in Options.__annotations__} | parameters(guard)
    assert {row[0].strip("`"): row[1].strip("`") for row in table("option", "default", "unit")} == real


def test_every_option_of_the_code_is_one_that_a_caller_may_pass() -> None:
    assert set(Settings.__dataclass_fields__) == set(Options.__annotations__)


def test_the_table_of_reporter_options_is_the_code_s() -> None:
    rows = table("option of Reporter", "default", "unit")
    assert {row[0].strip("`"): row[1].strip("`") for row in rows} == parameters(Reporter)


def test_a_flight_has_the_load_timeout_of_a_guard() -> None:
    assert parameters(Flight) == parameters(SyncFlight) == {"load_timeout": repr(Settings().load_timeout)}


def test_the_coin_of_the_guide_is_the_default_coin() -> None:
    assert f"`{Coin()!r}`" in GUIDE


def test_the_layout_of_a_stored_value_is_the_code_s() -> None:
    *fields, (end, *_) = table("offset", "bytes")
    raw = values.pack(b"payload", loaded_at=1.5, load_seconds=0.25, expires_at=9.5)
    read = [struct.unpack_from(">" + row[2].strip("`"), raw, int(row[0]))[0] for row in fields]
    assert read == [b"hw", 1, 0, 1.5, 0.25, 9.5]
    assert values.pack(None, loaded_at=1.5, load_seconds=0.25, expires_at=9.5)[3] == 1
    assert sum(int(row[1]) for row in fields) == values.HEADER_BYTES == int(end)
    assert raw[int(end) :] == b"payload"


def test_the_table_of_metrics_names_each_one_with_its_own_label() -> None:
    shared = {"cache", "service", "group"}
    families = metrics.GUARD_COUNTERS + metrics.GUARD_GAUGES + metrics.GUARD_HISTOGRAMS
    declared = {
        family.name + "".join(f"{{{label}}}" for label in family.labels if label not in shared)
        for family in families
        if not family.name.startswith("cache_warmup_")  # a guard does not warm
    }
    assert {row[0].strip("`") for row in table("metric", "what it tells an operator")} == declared


def test_every_value_of_a_label_is_explained() -> None:
    told = "\n".join(row[1] for row in table("metric", "what it tells an operator"))
    for one in metrics.LOOKUP_RESULTS + metrics.TRIGGERS + metrics.SCOPES + metrics.REFRESH_RESULTS:
        assert f"`{one}`" in told
    assert f"After {MAX_GROUPS} groups the next ones are counted as `{OVERFLOW}`" in " ".join(GUIDE.split())


@pytest.mark.parametrize("name", herdwatch.guard.__all__)
def test_every_public_name_but_a_type_that_needs_no_naming_is_mentioned(name: str) -> None:
    assert name == "Flown" or f"`{name}`" in GUIDE


def test_every_link_leads_somewhere() -> None:
    anchors = {"#" + one for one in pages.heading_ids(GUIDE)}
    for link in pages.links(GUIDE):
        assert link in anchors if link.startswith("#") else (FILE.parent / link).is_file(), link


@pytest.mark.parametrize("text", [text for language, text in pages.code_blocks(GUIDE) if language == "bash"])
def test_a_block_of_commands_is_valid_bash(text: str) -> None:
    done = subprocess.run(["/bin/bash", "-n"], input=text, text=True, capture_output=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (0, "")


NAMES = {
    "cache_lookups_total": "lookups",
    "singleflight_executions_total": "executions",
    "singleflight_coalesced_total": "coalesced",
    "singleflight_stale_total": "stale",
    "singleflight_shed_total": "shed",
    "singleflight_errors_total": "errors",
    "cache_refreshes_total": "refreshes",
}
"""The guide's short names of the counters."""


class World:
    """One Redis, a guard that is watched and one elsewhere, and a loader that may be held."""

    def __init__(self, url: str, **options: Any) -> None:
        self.registry = CollectorRegistry()
        self.elsewhere = Guard(Redis.from_url(url), cache="users", service="profiles", registry=None, ttl_jitter=0)
        self.guard = Guard(Redis.from_url(url), cache="users", service="profiles", registry=self.registry, **options)
        self.client = Redis.from_url(url)
        self.gate = asyncio.Event()
        self.calls = 0
        self._before: dict[str, float] = {}
        self._calls_before = 0

    async def __aenter__(self) -> World:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.elsewhere.aclose()
        await self.guard.aclose()
        await self.client.aclose()

    async def load(self, key: str) -> str:
        self.calls += 1
        return f"value of {key}"

    async def load_held(self, key: str) -> str:
        self.calls += 1
        await self.gate.wait()
        return f"value of {key}"

    async def fail(self, key: str) -> str:
        self.calls += 1
        raise LookupError(key)

    async def fail_held(self, key: str) -> str:
        await self.gate.wait()
        raise LookupError(key)

    def get(self, key: str, load: Loader, guard: Guard | None = None) -> Awaitable[Any]:
        return (guard or self.guard).get(key, load=load, ttl=60, group="users")

    def mark(self) -> None:
        """What is counted from here on belongs to the caller of the row."""
        self._before, self._calls_before = self._totals(), self.calls

    def counted(self) -> set[str]:
        now = self._totals()
        assert all(now[name] - self._before.get(name, 0) in (0, 1) for name in now)
        return {name for name in now if now[name] != self._before.get(name, 0)}

    def seen_by_the_database(self) -> int:
        return self.calls - self._calls_before

    def value(self, name: str) -> float:
        return self.registry.get_sample_value(name, {"cache": "users", "service": "profiles"}) or 0.0

    def _totals(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for family in self.registry.collect():
            for sample in family.samples:
                if sample.name in NAMES:
                    own = [text for label, text in sample.labels.items() if label not in ("cache", "service", "group")]
                    found[NAMES[sample.name] + "".join(f"{{{text}}}" for text in own)] = sample.value
        return found


async def until(true: Callable[[], bool] | Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(SECONDS):
        while True:
            answer = true()
            if await answer if inspect.isawaitable(answer) else answer:
                return
            await asyncio.sleep(0.005)


Situation = Callable[[str], Awaitable[World]]
SITUATIONS: dict[str, Situation] = {}


def situation(text: str) -> Callable[[Situation], Situation]:
    def keep(function: Situation) -> Situation:
        SITUATIONS[text] = function
        return function

    return keep


@situation("hit")
async def _(url: str) -> World:
    world = World(url)
    await world.elsewhere.set("user:1", "stored", ttl=60)
    assert await world.get("user:1", world.load) == "stored"
    return world


@situation('hit on a stored "there is none"')
async def _(url: str) -> World:
    world = World(url)
    await world.elsewhere.set("user:1", None, ttl=60)
    assert await world.get("user:1", world.load) is None
    return world


@situation("hit that is due for a refresh")
async def _(url: str) -> World:
    world = World(url, refresh=Coin(probability=1.0))
    await world.elsewhere.set("user:1", "stored", ttl=60)
    assert await world.get("user:1", world.load) == "stored"
    return world


@situation("hit after its ttl, within `stale`")
async def _(url: str) -> World:
    now = [1_000_000.0]
    world = World(url, stale=100, ttl_jitter=0, clock=lambda: now[0])
    await world.guard.set("user:1", "stored", ttl=60)
    now[0] += 61
    assert await world.get("user:1", world.load) == "stored"
    return world


@situation("miss")
async def _(url: str) -> World:
    world = World(url)
    assert await world.get("user:1", world.load) == "value of user:1"
    return world


@situation("miss while this process loads the key")
async def _(url: str) -> World:
    world = World(url)
    leader = asyncio.ensure_future(world.get("user:1", world.load_held))
    await until(lambda: world.calls == 1)
    world.mark()
    follower = asyncio.ensure_future(world.get("user:1", world.load))
    await until(lambda: world.value("singleflight_waiters") == 2)
    world.gate.set()
    assert await follower == await leader == "value of user:1"
    return world


async def _loads_elsewhere(
    world: World, load: Callable[[str], Awaitable[str]]
) -> tuple[Awaitable[Any], Awaitable[Any]]:
    """The load of another process, and a caller here who is known to wait for its lease."""
    other = asyncio.ensure_future(world.get("user:1", load, world.elsewhere))
    await until(lambda: _exists(world, lease_of("user:1")))
    world.mark()
    here = asyncio.ensure_future(world.get("user:1", world.load))
    await until(lambda: _refused_twice(world))
    return other, here


async def _exists(world: World, key: str) -> bool:
    return bool(await world.client.exists(key))


async def _refused_twice(world: World) -> bool:
    """One lease was taken elsewhere; the caller here is refused before it listens, and again after."""
    calls = (await world.client.info("commandstats")).get("cmdstat_set", {}).get("calls", 0)
    return bool(calls >= 3)


@situation("miss while another process loads the key")
async def _(url: str) -> World:
    world = World(url)
    other, here = await _loads_elsewhere(world, world.load_held)
    world.mark()
    world.gate.set()
    assert await here == await other == "value of user:1"
    return world


@situation("the loader raises")
async def _(url: str) -> World:
    world = World(url)
    with pytest.raises(LookupError, match="user:1"):
        await world.get("user:1", world.fail)
    assert not await world.client.exists("user:1")
    return world


@situation("the loader raises in another process")
async def _(url: str) -> World:
    world = World(url)
    other, here = await _loads_elsewhere(world, world.fail_held)
    world.gate.set()
    with pytest.raises(RemoteLoadError, match="LookupError"):
        await here
    with pytest.raises(LookupError):
        await other
    return world


@situation("the load takes longer than `load_timeout`")
async def _(url: str) -> World:
    world = World(url, load_timeout=0.1)
    with pytest.raises(LoadTimeout):
        await world.get("user:1", world.load_held)
    return world


@situation("no load slot is free in time")
async def _(url: str) -> World:
    world = World(url, max_loads=1, max_wait=0.05)
    first = asyncio.ensure_future(world.get("user:2", world.load_held))
    await until(lambda: world.calls == 1)
    world.mark()
    with pytest.raises(Shed):
        await world.get("user:1", world.load)
    world.gate.set()
    await first
    return world


@situation("Redis is down, hung or refuses")
async def _(url: str) -> World:  # noqa: ARG001 - nobody listens where this one looks
    world = World(f"redis://127.0.0.1:{free_port()}/0")
    assert await world.get("user:1", world.load) == "value of user:1"
    return world


@pytest.fixture
def empty(shared: RedisServer) -> Iterator[str]:
    with shared.client() as client:
        client.flushall()
        client.config_resetstat()
        yield shared.url
        client.flushall()


def test_every_situation_of_the_table_is_tried() -> None:
    assert [row[0] for row in table("situation", "the caller gets")] == list(SITUATIONS)


@pytest.mark.parametrize("row", table("situation", "the caller gets"), ids=lambda row: row[0])
def test_a_situation_is_counted_as_the_table_says(row: list[str], empty: str) -> None:
    situation, _, database, counted = row

    async def scenario() -> None:
        async with await SITUATIONS[situation](empty) as world:
            expected = set(re.findall(r"`([^`]+)`", counted))
            await until(lambda: world.counted() >= expected)
            assert world.counted() == expected
            assert world.seen_by_the_database() == (0 if database == "nothing" else 1)

    asyncio.run(scenario())


def test_an_old_value_is_given_where_the_load_fails(empty: str) -> None:
    async def scenario() -> None:
        now = [1_000_000.0]
        async with World(empty, stale=100, refresh=None, ttl_jitter=0, clock=lambda: now[0]) as world:
            await world.guard.set("user:1", "old", ttl=60)
            now[0] += 61
            assert await world.get("user:1", world.fail) == "old"
            now[0] += 100
            with pytest.raises(LookupError):
                await world.get("user:1", world.fail)
            assert world.calls == 2

    asyncio.run(scenario())


@pytest.mark.parametrize(("processes", "callers"), [(1, 1000), (4, 250)])
def test_the_worked_example_is_what_a_thousand_callers_count(processes: int, callers: int, empty: str) -> None:
    shown = [text for language, text in pages.code_blocks(GUIDE) if language == "text"][processes > 1]

    async def scenario() -> None:
        registry, gate = CollectorRegistry(), asyncio.Event()

        async def load(key: str) -> str:
            await gate.wait()
            return key

        # This one event loop starts a thousand callers before it reads what Redis answered.
        clients = [Redis.from_url(empty) for _ in range(processes)]
        guards = [
            Guard(client, cache="users", service="profiles", registry=registry, timeout=SECONDS) for client in clients
        ]
        place = {"cache": "users", "service": "profiles"}
        gets = [guard.get("user:1", load=load, ttl=60, group="users") for guard in guards for _ in range(callers)]
        everyone = asyncio.gather(*gets)
        await until(lambda: registry.get_sample_value("singleflight_waiters", place) == 1000)
        gate.set()
        assert await everyone == ["user:1"] * 1000
        for guard in guards:
            await guard.aclose()
        assert set(shown.splitlines()) <= set(generate_latest(registry).decode().splitlines())

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("guard", "client"),
    [
        (Guard, lambda: redis.Redis()),
        (SyncGuard, lambda: Redis()),
        (SyncGuard, lambda: object.__new__(RedisCluster)),
        (SyncGuard, lambda: Sentinel([("127.0.0.1", 1)]).master_for("users")),
        (SyncGuard, lambda: "redis://127.0.0.1:6379/0"),
    ],
    ids=["a blocking client", "an asyncio client", "a cluster", "a Sentinel", "a URL"],
)
def test_a_client_of_another_kind_is_refused(guard: Callable[..., Any], client: Callable[[], Any]) -> None:
    with pytest.raises(TypeError, match=guard.__name__):
        guard(client(), cache="users", service="profiles", registry=None)


def test_every_error_of_the_guard_is_a_guard_error() -> None:
    assert all(issubclass(one, GuardError) for one in (Shed, RemoteLoadError, herdwatch.guard.LoadCancelled))


def test_a_thread_that_loads_for_too_long_stays_in_its_loader_and_its_follower_does_not_wait(empty: str) -> None:
    guard = SyncGuard(redis.Redis.from_url(empty), cache="users", service="profiles", registry=None, load_timeout=0.2)
    inside, leave = threading.Event(), threading.Event()

    def load(key: str) -> str:
        inside.set()
        assert leave.wait(SECONDS)
        return key

    with guard, ThreadPoolExecutor() as pool:
        leader = pool.submit(guard.get, "user:1", load=load, ttl=60)
        assert inside.wait(SECONDS)
        with pytest.raises(LoadTimeout):
            guard.get("user:1", load=load, ttl=60)
        assert not leader.done()
        leave.set()
        assert leader.result(SECONDS) == "user:1"
