"""The user that `herdwatch acl` prints may do all that a scrape takes and nothing else; with less, the rest works."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis import exceptions as errors

from herdwatch import reports
from herdwatch.collector import CacheCollector, Scrape
from herdwatch.collector.acl import DEFAULT_USER, PLACEHOLDER, setuser
from herdwatch.config import Cache
from herdwatch.metrics import PROBE, REDIS
from herdwatch.stack import RedisServer, Supervisor

SECRET = "correct-horse"
Values = dict[tuple[str, ...], float]
MakeCache = Callable[..., Cache]

PRIMARY_ONLY = {"cache_connected_replicas", "cache_replication_lag_bytes"}
REPLICA_ONLY = {"cache_replica_link_up"}
WHEN_IT_FAILS = {"cache_failure", "cache_collector_failure"}
GROUPS = {family.name for family in REDIS if family.name.startswith("cache_key_group")}
ALWAYS = {family.name for family in (*PROBE, *REDIS)} - PRIMARY_ONLY - REPLICA_ONLY - WHEN_IT_FAILS - GROUPS


@pytest.fixture
def cache(tmp_path: Path) -> MakeCache:
    """A cache whose user is the one of the ACL rule."""

    def make(redis: RedisServer, *, database: int = 0, **more: Any) -> Cache:
        (tmp_path / "password").write_text(SECRET)
        url = f"redis://{redis.address}/{database}"
        password = tmp_path / "password"
        return Cache(name="users", url=url, username=DEFAULT_USER, password_file=password, **more)

    return make


@pytest.fixture(scope="module")
def pair(supervisor: Supervisor) -> tuple[RedisServer, RedisServer]:
    """A primary with a report in two databases, and a replica of it."""
    primary = RedisServer(supervisor, name="primary")
    for database in (0, 3):
        with primary.client(db=database) as client:
            now = float(client.time()[0])
            group = '{"users": {"lookups": {"hit": 5, "miss": 3}, "requests": 3}}'
            client.hset(reports.KEY, "app/1", f'{{"v":1,"start":{now},"at":{now},"every":600,"groups":{group}}}')
    replica = RedisServer(supervisor, "--replicaof", "127.0.0.1", str(primary.port), name="replica")
    replica.process.wait_until(lambda: linked(primary, replica))
    return primary, replica


def linked(primary: RedisServer, replica: RedisServer) -> bool:
    with primary.client() as up, replica.client() as down:
        online = str(up.info("replication").get("slave0", "")).count("online")
        return bool(online) and down.info("replication")["master_link_status"] == "up"


def permit(client: Redis, *words: str) -> None:
    """Carry out an ACL command, and forget what was refused so far."""
    client.execute_command(*words)
    client.execute_command("ACL", "LOG", "RESET")


def as_printed(cache: Cache) -> list[str]:
    """The rule of a cache as a shell reads it, with the real password."""
    return [word.replace(PLACEHOLDER, SECRET) for word in shlex.split(setuser(cache))]


def scrape(cache: Cache, protocol: int = 2) -> tuple[Scrape, Values]:
    async def run() -> Scrape:
        collector = CacheCollector(cache, timeout=5, protocol=protocol)
        try:
            return await collector.scrape()
        finally:
            await collector.aclose()

    found = asyncio.run(run())
    return found, {(name, *labels): value for name, labels, value in (*found.samples, *found.guard)}


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("database", [0, 3])
@pytest.mark.parametrize("role", ["primary", "replica"])
def test_the_printed_user_sees_every_family_and_is_refused_nothing(
    pair: tuple[RedisServer, RedisServer], cache: MakeCache, role: str, database: int, protocol: int
) -> None:
    redis = pair[role == "replica"]
    watched = cache(redis, database=database)
    with redis.client() as client:
        permit(client, *as_printed(watched))
        found, values = scrape(watched, protocol)
        assert client.execute_command("ACL", "LOG") == []
    assert found.failure is None
    seen = {name for name, *_ in values}
    assert seen >= ALWAYS | (PRIMARY_ONLY if role == "primary" else REPLICA_ONLY)
    assert seen & WHEN_IT_FAILS == set()
    assert {value for (name, *_), value in values.items() if name == "cache_collector_success"} == {1}
    assert values["singleflight_requests_total", "app", "users"] == 0


ALLOWED: dict[str, tuple[dict[str, Any], set[str]]] = {
    "a cache": ({}, set()),
    "another database": ({"database": 3}, {"SELECT 3"}),
    "key groups": ({"groups": {"users": "user:*"}}, {"RANDOMKEY"}),
    "exact key groups": ({"groups": {"users": "user:*"}, "exact_groups": ("users",)}, {"RANDOMKEY", "SCAN 0"}),
}
TRIED = [
    *("INFO", "INFO commandstats", f"HGETALL {reports.KEY}", f"HSET {reports.KEY} a b", f"DEL {reports.KEY}"),
    *("HGETALL other", "GET other", "SET other 1", "KEYS *", "SCAN 0", "RANDOMKEY", "SELECT 3", "DBSIZE", "FLUSHALL"),
    *("CONFIG GET *", "CLIENT LIST", "ACL LIST", "SUBSCRIBE a", "EVAL return 0", "REPLICAOF NO ONE", "PING", "TIME"),
]


@pytest.mark.parametrize("sentence", ALLOWED)
def test_the_printed_user_may_run_what_a_scrape_takes_and_nothing_else(
    supervisor: Supervisor, cache: MakeCache, sentence: str
) -> None:
    redis = RedisServer(supervisor, name=sentence.replace(" ", "-"))
    more, allowed = ALLOWED[sentence]
    with redis.client() as client:
        permit(client, *as_printed(cache(redis, **more)))
    with redis.client(username=DEFAULT_USER, password=SECRET) as client:
        may = {command for command in TRIED if permitted(client, command)}
    assert may == {"INFO", "INFO commandstats", f"HGETALL {reports.KEY}"} | allowed


def permitted(client: Redis, command: str) -> bool:
    try:
        client.execute_command(*command.split())
    except errors.NoPermissionError:
        return False
    return True


LESS: dict[str, tuple[str, set[str]]] = {
    "without +hgetall": ("resetkeys ~herdwatch:reports -@all +info", {"reports"}),
    "without a key pattern": ("resetkeys -@all +info +hgetall", {"reports"}),
    "with another key pattern": ("resetkeys ~other:* -@all +info +hgetall", {"reports"}),
    "with INFO alone": ("resetkeys -@all +info", {"reports"}),
}


@pytest.mark.parametrize("sentence", LESS)
def test_with_less_the_part_that_lacks_it_says_permission_and_the_rest_is_there(
    supervisor: Supervisor, cache: MakeCache, sentence: str
) -> None:
    rule, lacking = LESS[sentence]
    redis = RedisServer(supervisor, name=sentence.replace(" ", "-"))
    with redis.client() as client:
        permit(client, "ACL", "SETUSER", DEFAULT_USER, "on", f">{SECRET}", *rule.split())
    found, values = scrape(cache(redis))
    assert found.failure is None
    assert {key[1] for key, value in values.items() if key[0] == "cache_collector_success" and not value} == lacking
    assert {key[1:]: value for key, value in values.items() if key[0] == "cache_collector_failure"} == {
        (part, "permission"): 1 for part in lacking
    }
    assert {name for name, *_ in values} >= ALWAYS
    assert found.guard == []


@pytest.mark.parametrize(
    ("rule", "database"),
    [("resetkeys ~herdwatch:reports -@all +hgetall", 0), ("resetkeys ~herdwatch:reports -@all +info +hgetall", 3)],
    ids=["without INFO", "without SELECT for another database"],
)
def test_without_what_everything_takes_the_scrape_says_permission(
    supervisor: Supervisor, cache: MakeCache, rule: str, database: int
) -> None:
    redis = RedisServer(supervisor, name=f"nothing{database}")
    with redis.client() as client:
        permit(client, "ACL", "SETUSER", DEFAULT_USER, "on", f">{SECRET}", *rule.split())
    found, values = scrape(cache(redis, database=database))
    assert found.failure == "permission"
    assert (values["cache_up",], values["cache_failure", "permission"]) == (0, 1)
    assert {name for name, *_ in values} == {family.name for family in PROBE}
