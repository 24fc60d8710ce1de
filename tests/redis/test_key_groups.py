"""Key groups against a real Redis with a million keys: the estimates, the exact pass, and what both may cost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress

import pytest
from redis import Redis
from tests.redis.asking import asking

from herdwatch.collector.exact_pass import REST_SECONDS, ExactPass
from herdwatch.collector.key_groups import KeyGroups
from herdwatch.collector.link import Ask
from herdwatch.collector.resp import ReplyError
from herdwatch.stack import RedisServer, Supervisor

KEYS = 1_000_000
TRUE = {"users": 200_000, "orders": 10_000, "staff": 100, "nobody": 0}
"""20 %, 1 %, 0.01 % and none of all keys."""

GROUPS = {"users": "user:*", "orders": "order:[0-9]*", "staff": "staff:?*", "nobody": "nobody:*"}
TRIALS = 1000
INSIDE = 0.93
"""Of the trials. By arithmetic 95.6 % are inside for the group of 20 %, more for the others: of a hundred trials,
fewer than 93 are by chance once in thirteen times, of a thousand once in ten thousand."""

_FILL = """
for i = ARGV[1], ARGV[2] do
  local group = 'other'
  if i <= 200000 then group = 'user' elseif i <= 210000 then group = 'order' elseif i <= 210100 then group = 'staff' end
  redis.call('SET', group .. ':' .. i, i)
end
"""
STEP = 50_000


def fill(client: Redis, keys: int) -> None:
    for begin in range(1, keys + 1, STEP):
        client.eval(_FILL, 0, begin, min(begin + STEP - 1, keys))


def add(client: Redis, prefix: str, keys: int) -> None:
    client.eval("for i = 1, ARGV[2] do redis.call('SET', ARGV[1] .. i, i) end", 0, prefix, keys)


async def at_once(_: float) -> None:
    """Sleep no time: a pass that keeps its budget takes minutes."""
    await asyncio.sleep(0)


def counting(patterns: dict[str, str]) -> ExactPass:
    return ExactPass(patterns, budget=0.5, sleep=at_once)


def exactly(
    exact: ExactPass,
    connect: Callable[[], AbstractAsyncContextManager[Ask]],
    *meanwhile: Callable[[], object],
    ready: Callable[[], bool] | None = None,
) -> dict[str, int]:
    """What it counts, while one after the other of these is done; ends when a pass has ended, or when it is `ready`."""

    async def run() -> None:
        task = asyncio.create_task(exact.run(connect))
        async with asyncio.timeout(180):
            for action in meanwhile:
                await asyncio.sleep(0.1)
                assert exact.counted is None
                await asyncio.to_thread(action)
            while not (exact.counted is not None if ready is None else ready()):
                await asyncio.sleep(0.01)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(run())
    return dict(exact.counted.keys) if exact.counted is not None else {}


@pytest.fixture(scope="module")
def million(supervisor: Supervisor) -> RedisServer:
    redis = RedisServer(supervisor, name="million")
    with redis.client(socket_timeout=60) as client:
        fill(client, KEYS)
        assert client.dbsize() == KEYS
    return redis


def calls(redis: RedisServer) -> dict[str, int]:
    with redis.client() as client:
        return {name: int(one["calls"]) for name, one in client.info("commandstats").items()}


def test_the_true_size_of_a_group_is_inside_its_interval_as_often_as_promised(million: RedisServer) -> None:
    inside, before = dict.fromkeys(TRUE, 0), calls(million)

    async def run() -> None:
        groups = KeyGroups(GROUPS, samples=1000)
        async with asking(million.port) as ask:
            for _ in range(TRIALS):
                found = {(name, group): value for name, (group,), value in await groups.samples(ask, KEYS, spread=0)}
                for group, true in TRUE.items():
                    number = found["cache_key_group_keys", group]
                    error = found["cache_key_group_error_keys", group]
                    inside[group] += number - error <= true <= number + error

    asyncio.run(run())
    after = calls(million)
    assert min(inside.values()) >= INSIDE * TRIALS, inside
    assert after["cmdstat_randomkey"] == TRIALS * 1000
    assert {name for name in after if after[name] > before.get(name, 0)} == {"cmdstat_randomkey", "cmdstat_info"}


def test_the_exact_pass_counts_every_key_and_never_issues_keys(million: RedisServer) -> None:
    before = calls(million)
    exact = counting(GROUPS)
    assert exactly(exact, lambda: asking(million.port)) == TRUE
    after = calls(million)
    assert {name for name in after if after[name] > before.get(name, 0)} == {"cmdstat_scan", "cmdstat_info"}
    assert exact.failure is None


def test_a_pass_that_is_interrupted_goes_on_where_it_was(million: RedisServer) -> None:
    exact, before = counting(GROUPS), calls(million)["cmdstat_scan"]

    def kill() -> None:
        with million.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    assert exactly(exact, lambda: asking(million.port), kill, kill, kill) == TRUE
    whole = KEYS // 100
    assert whole * 0.9 <= calls(million)["cmdstat_scan"] - before <= whole * 1.1


def remove(client: Redis, prefix: str, keys: int) -> None:
    client.eval("for i = 1, ARGV[2] do redis.call('UNLINK', ARGV[1] .. i) end", 0, prefix, keys)


@pytest.mark.parametrize("change", ["grows", "shrinks"])
def test_keys_that_are_there_all_along_are_counted_once_while_the_table(supervisor: Supervisor, change: str) -> None:
    redis = RedisServer(supervisor, name=change)
    # Redis shrinks a table of which less than a tenth is left, and doubles a full one.
    passing, action = (480_000, remove) if change == "shrinks" else (260_000, add)
    with redis.client(socket_timeout=60) as client:
        add(client, "session:", 20_000)
        add(client, "other:", 20_000 if change == "shrinks" else 220_000)
        if change == "shrinks":
            add(client, "passing:", passing)
        exact = counting({"sessions": "session:*", "others": "other:*"})
        found = exactly(exact, lambda: asking(redis.port), lambda: action(client, "passing:", passing))
    assert found["sessions"] == 20_000
    redis.kill()


def test_after_a_restart_the_new_process_is_counted_from_its_beginning(supervisor: Supervisor) -> None:
    redis = RedisServer(supervisor, name="restarts")
    with redis.client(socket_timeout=60) as client:
        add(client, "user:", 200_000)
    passes: list[int] = []

    async def noting(seconds: float) -> None:
        if seconds == REST_SECONDS and exact.counted is not None:
            passes.append(exact.counted.keys["users"])
        await asyncio.sleep(0)

    def restart() -> None:
        redis.kill()
        redis.restart()
        with redis.client() as client:
            add(client, "user:", 777)

    exact = ExactPass({"users": "user:*"}, budget=0.5, sleep=noting)
    exactly(exact, lambda: asking(redis.port), restart, ready=lambda: 777 in passes)
    assert set(passes) <= {0, 777}
    redis.kill()


def test_a_user_who_may_run_info_randomkey_and_scan_and_touch_no_key_is_enough(supervisor: Supervisor) -> None:
    redis = RedisServer(supervisor, name="least")
    login = ("AUTH", "exporter", "secret")
    with redis.client() as client:
        client.acl_setuser(
            "exporter", enabled=True, passwords=["+secret"], commands=["-@all", "+info", "+randomkey", "+scan"]
        )
        add(client, "user:", 5000)

        async def sampled() -> dict[str, float]:
            async with asking(redis.port, login) as ask:
                return {name: value for name, _, value in await KeyGroups({"users": "user:*"}).samples(ask, 5000)}

        assert asyncio.run(sampled())["cache_key_group_keys"] == 5000
        assert exactly(counting({"users": "user:*"}), lambda: asking(redis.port, login)) == {"users": 5000}
        assert client.acl_log() == []


def test_without_permission_each_of_the_two_says_so(supervisor: Supervisor) -> None:
    redis = RedisServer(supervisor, name="forbidden")
    login = ("AUTH", "exporter", "secret")
    with redis.client() as client:
        client.acl_setuser("exporter", enabled=True, passwords=["+secret"], commands=["-@all", "+info"])

    async def sampled() -> None:
        async with asking(redis.port, login) as ask:
            await KeyGroups({"users": "user:*"}).samples(ask, 5000)

    with pytest.raises(ReplyError, match="NOPERM"):
        asyncio.run(sampled())
    exact = counting({"users": "user:*"})
    assert exactly(exact, lambda: asking(redis.port, login), ready=lambda: exact.failure is not None) == {}
    assert isinstance(exact.failure, ReplyError)
    assert exact.failure.code == "NOPERM"


def test_only_the_database_of_the_connection_is_counted(shared: RedisServer) -> None:
    with shared.client() as client, shared.client(db=3) as third:
        client.flushall()
        add(client, "user:", 3000)
        add(third, "user:", 2000)
        add(third, "other:", 2000)

    async def sampled() -> dict[str, float]:
        async with asking(shared.port, ("SELECT", 3)) as ask:
            return {name: value for name, _, value in await KeyGroups({"users": "user:*"}).samples(ask, 4000)}

    found = asyncio.run(sampled())
    assert abs(found["cache_key_group_keys"] - 2000) < 1.5 * found["cache_key_group_error_keys"]
    assert exactly(counting({"users": "user:*"}), lambda: asking(shared.port, ("SELECT", 3))) == {"users": 2000}


def test_the_exact_pass_keeps_its_budget_and_nobody_else_waits(shared: RedisServer) -> None:
    with shared.client() as client:
        client.flushall()
        add(client, "user:", 10_000)
        exact = ExactPass({"users": "user:*"}, budget=0.05)
        before, began = float(client.info("commandstats")["cmdstat_scan"]["usec"]), time.monotonic()
        assert exactly(exact, lambda: asking(shared.port)) == {"users": 10_000}
        used = float(client.info("commandstats")["cmdstat_scan"]["usec"]) - before
        assert used / 1e6 <= 0.05 * (time.monotonic() - began)
