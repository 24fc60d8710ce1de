"""Key groups in a scrape: their families, their failures, and that neither costs the scrape anything else."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from herdwatch.collector import CacheCollector, Scrape
from herdwatch.config import Cache
from herdwatch.stack import RedisServer, Supervisor

GENEROUS_SECONDS = 20
GROUPS = {"users": "user:*", "carts": "cart:*", "none": "nothing:*"}
Found = dict[tuple[str, ...], float]


def values(scrape: Scrape) -> Found:
    return {(name, *labels): value for name, labels, value in scrape.samples}


def run(
    work: Callable[[CacheCollector], Coroutine[Any, Any, Any]], url: str, *, cache: dict[str, Any], **options: Any
) -> Any:
    async def bounded() -> Any:
        collector = CacheCollector(Cache(name="users", url=url, **cache), timeout=5, **options)
        try:
            async with asyncio.timeout(GENEROUS_SECONDS):
                return await work(collector)
        finally:
            await collector.aclose()

    return asyncio.run(bounded())


async def once(collector: CacheCollector) -> Found:
    return values(await collector.scrape())


@pytest.fixture(scope="module")
def filled(shared: RedisServer) -> RedisServer:
    with shared.client() as client:
        client.flushall()
        client.mset({f"user:{number}": number for number in range(800)})
        client.mset({f"cart:{number}": number for number in range(200)})
    return shared


def test_groups_are_estimated_with_their_error(filled: RedisServer) -> None:
    found = run(once, filled.url, cache={"groups": GROUPS})
    for group, true in (("users", 800), ("carts", 200), ("none", 0)):
        keys, error = found["cache_key_group_keys", group], found["cache_key_group_error_keys", group]
        assert error > 0
        assert abs(keys - true) <= 2 * error, "four standard deviations"
    assert found["cache_collector_success", "key_groups"] == 1
    assert not any(name == "cache_key_group_age_seconds" for name, *_ in found)


def test_a_cache_without_groups_has_none_of_their_families_and_parts(filled: RedisServer) -> None:
    found = run(once, filled.url, cache={})
    assert not any(name.startswith("cache_key_group") for name, *_ in found)
    assert ("cache_collector_success", "key_groups") not in found


def test_an_exact_group_is_estimated_until_it_is_counted_and_then_tells_its_age(filled: RedisServer) -> None:
    async def work(collector: CacheCollector) -> tuple[Found, Found]:
        first = values(await collector.scrape())
        while ("cache_key_group_age_seconds", "carts") not in (found := values(await collector.scrape())):
            await asyncio.sleep(0.05)
        return first, found

    cache = {"groups": GROUPS, "exact_groups": ("carts",)}
    first, last = run(work, filled.url, cache=cache, scan_budget=0.5)
    assert first["cache_key_group_error_keys", "carts"] > 0
    assert last["cache_key_group_keys", "carts"] == 200
    assert last["cache_key_group_error_keys", "carts"] == 0
    assert 0 <= last["cache_key_group_age_seconds", "carts"] < GENEROUS_SECONDS
    assert last["cache_key_group_error_keys", "users"] > 0
    assert last["cache_collector_success", "exact_pass"] == 1


def test_a_closed_collector_counts_no_more(filled: RedisServer) -> None:
    def connections() -> int:
        with filled.client() as client:
            return int(client.info("clients")["connected_clients"])

    before = connections()
    run(once, filled.url, cache={"groups": GROUPS, "exact_groups": ("carts",)})
    assert connections() == before


def test_the_keys_of_the_database_that_the_url_names_are_counted(filled: RedisServer) -> None:
    with filled.client(db=3) as client:
        client.mset({"user:1": 1, "user:2": 2})
    found = run(once, filled.url.replace("/0", "/3"), cache={"groups": {"users": "user:*"}})
    assert found["cache_key_group_keys", "users"] == 2


def test_an_empty_redis_has_no_keys_without_any_error(supervisor: Supervisor) -> None:
    found = run(once, RedisServer(supervisor, name="empty").url, cache={"groups": GROUPS})
    for group in GROUPS:
        assert found["cache_key_group_keys", group] == found["cache_key_group_error_keys", group] == 0


@pytest.mark.parametrize(
    ("allowed", "failing"),
    [(["+info", "+hgetall"], {"key_groups", "exact_pass"}), (["+info", "+hgetall", "+randomkey"], {"exact_pass"})],
)
def test_what_may_not_be_counted_says_so_and_the_rest_is_there(
    supervisor: Supervisor, tmp_path: Path, allowed: list[str], failing: set[str]
) -> None:
    redis = RedisServer(supervisor, name="restricted")
    with redis.client() as client:
        client.set("cart:1", 1)
        client.execute_command("ACL", "SETUSER", "watch", "on", ">secret", "~herdwatch:reports", "-@all", *allowed)
    password = tmp_path / "password"
    password.write_text("secret")

    async def work(collector: CacheCollector) -> Found:
        while ("cache_collector_failure", "exact_pass", "permission") not in (
            found := values(await collector.scrape())
        ):
            await asyncio.sleep(0.05)
        return found

    cache = {"groups": GROUPS, "exact_groups": ("carts",), "username": "watch", "password_file": password}
    found = run(work, redis.url, cache=cache)
    failed = [labels for name, *labels in found if name == "cache_collector_failure"]
    assert sorted(failed) == [[part, "permission"] for part in sorted(failing)]
    assert found["cache_up",] == 1
    assert (("cache_key_group_keys", "users") in found) == ("key_groups" not in failing)


def test_a_scrape_that_has_no_time_left_to_count_tells_the_rest(filled: RedisServer) -> None:
    ticks = itertools.chain([0.0, 4.96], itertools.repeat(4.96))
    found = run(once, filled.url, cache={"groups": GROUPS}, clock=lambda: next(ticks))
    assert found["cache_up",] == 1
    assert found["cache_collector_failure", "key_groups", "timeout"] == 1
    assert not any(name.startswith("cache_key_group") for name, *_ in found)
