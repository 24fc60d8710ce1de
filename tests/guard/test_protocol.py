"""What a guard says to Redis, on a real one: fences, leases, times to live; and the memory that stands in for it."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import re
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import redis
import redis.asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.crc import key_slot

from herdwatch.guard import Guard, SyncGuard, address, commands, values
from herdwatch.guard.commands import lease_of
from herdwatch.guard.store import RedisStore, Store, StoreDown
from herdwatch.guard.sync_store import SyncRedisStore
from herdwatch.guard.testing import MemoryStore, SyncMemoryStore
from herdwatch.stack import RedisServer

WITHIN = 10.0
"""Deadline of everything that is waited for, in seconds."""


def run(work: Coroutine[Any, Any, Any]) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(60):
            return await work

    return asyncio.run(bounded())


@pytest.fixture
def client(shared: RedisServer) -> Iterator[redis.Redis]:
    with shared.client() as opened:
        opened.flushall()
        yield opened


def say(client: redis.Redis, command: commands.Command) -> Any:
    return client.execute_command(*command)


@pytest.mark.parametrize(
    "key",
    ["user:42", "{user}:42", "a{b}c", "a{b", "}a{b}", "{{a}}", "a{{b}c", "{a}{b}", "{a", "ä{ö}ü", "a b", "a\nb"],
)
def test_the_lease_lies_in_the_slot_of_its_value(key: str) -> None:
    assert key_slot(lease_of(key).encode()) == key_slot(key.encode())


def test_no_two_keys_share_a_lease_and_those_that_can_be_a_tag_are_in_their_slot() -> None:
    keys = ["".join(letters) for size in range(1, 7) for letters in itertools.product("{}a:", repeat=size)]
    assert len({lease_of(key) for key in keys}) == len(keys)
    for key in keys:
        if "}" not in key or re.match(r"[^{]*\{[^}]+\}", key):
            assert key_slot(lease_of(key).encode()) == key_slot(key.encode()), key


def test_only_the_holder_of_the_lease_can_fill(client: redis.Redis) -> None:
    taken, read = commands.acquire("k", "mine", 5.0)
    assert say(client, taken)
    assert say(client, read) is None
    assert say(client, commands.fill("k", "another's", b"wrong", 60.0)) == 0
    assert client.get("k") is None
    assert say(client, commands.fill("k", "mine", b"right", 60.0)) == 1
    assert client.get("k") == b"right"
    assert client.exists(lease_of("k")) == 0, "the lease ends with the fill"
    assert say(client, commands.fill("k", "mine", b"late", 60.0)) == 0, "and so does the right to fill"
    assert client.get("k") == b"right"


def test_only_the_holder_can_release_or_extend(client: redis.Redis) -> None:
    say(client, commands.acquire("k", "mine", 5.0)[0])
    assert say(client, commands.extend("k", "another's", 60.0)) == 0
    assert client.pttl(lease_of("k")) <= 5000
    assert say(client, commands.extend("k", "mine", 60.0)) == 1
    assert 5000 < client.pttl(lease_of("k")) <= 60_000
    assert say(client, commands.release("k", "another's", commands.GONE)) == 0
    assert client.get(lease_of("k")) == b"mine"
    assert say(client, commands.release("k", "mine", commands.GONE)) == 1
    assert client.exists(lease_of("k")) == 0
    assert say(client, commands.extend("k", "mine", 60.0)) == 0, "a lease that ended stays ended"


@pytest.mark.parametrize("write", [commands.put("k", b"new", 60.0), commands.remove("k")], ids=["put", "remove"])
def test_a_write_breaks_the_lease_so_that_the_load_cannot_fill(client: redis.Redis, write: commands.Command) -> None:
    say(client, commands.acquire("k", "mine", 5.0)[0])
    say(client, write)
    after = client.get("k")
    assert client.exists(lease_of("k")) == 0
    assert say(client, commands.fill("k", "mine", b"old", 60.0)) == 0
    assert client.get("k") == after


def test_remove_says_how_many_values_there_were(client: redis.Redis) -> None:
    client.set("k", b"x")
    assert say(client, commands.remove("k")) == 1
    assert say(client, commands.remove("k")) == 0


def test_a_fill_replaces_what_is_of_another_type(client: redis.Redis, shared: RedisServer) -> None:
    client.rpush("k", "not", "ours")

    async def body() -> None:
        store = store_of(shared)
        assert await store.get("k", WITHIN) is None
        assert await store.get_many(["k", "other"], WITHIN) == [None, None]
        assert await store.acquire("k", "mine", 5.0, WITHIN) == (True, None)
        assert await store.run(commands.fill("k", "mine", b"ours", 60.0), WITHIN) == 1
        assert await store.get("k", WITHIN) == b"ours"
        await store.aclose()

    run(body())


def test_acquire_gives_the_value_whoever_has_the_lease(client: redis.Redis, shared: RedisServer) -> None:
    client.set("full", b"value")

    async def body() -> None:
        store = store_of(shared)
        assert await store.acquire("full", "one", 5.0, WITHIN) == (True, b"value")
        assert await store.acquire("full", "two", 5.0, WITHIN) == (False, b"value")
        assert await store.acquire("empty", "one", 5.0, WITHIN) == (True, None)
        assert await store.acquire("empty", "two", 5.0, WITHIN) == (False, None)
        await store.aclose()

    run(body())
    assert client.get(lease_of("full")) == b"one"
    assert 0 < client.pttl(lease_of("full")) <= 5000


@pytest.mark.parametrize(
    "command",
    [
        commands.fill("k", "mine", b"v", 60.0),
        commands.release("k", "mine", commands.GONE),
        commands.put("k", b"v", 60.0),
        commands.remove("k"),
    ],
    ids=["fill", "release", "put", "remove"],
)
def test_an_acl_that_denies_channels_fails_the_message_and_not_the_script(
    client: redis.Redis, shared: RedisServer, command: commands.Command
) -> None:
    client.acl_setuser("mute", enabled=True, passwords=["+secret"], keys=["*"], commands=["+@all"], reset=True)
    client.execute_command("ACL", "SETUSER", "mute", "resetchannels")
    client.set("k", b"before")
    with shared.client(username="mute", password="secret") as mute:
        with pytest.raises(redis.exceptions.NoPermissionError):
            mute.publish(lease_of("k"), b"x")
        say(mute, commands.acquire("k", "mine", 5.0)[0])
        assert say(mute, command) == 1
    assert client.exists(lease_of("k")) == 0
    client.acl_deluser("mute")


def store_of(server: RedisServer) -> RedisStore:
    client = redis.asyncio.Redis.from_url(server.url)
    return RedisStore(address.of(client, wanted=redis.asyncio.Redis, guard="Guard"), connections=4)


def sync_store_of(server: RedisServer) -> SyncRedisStore:
    with redis.Redis.from_url(server.url) as client:
        return SyncRedisStore(address.of(client, wanted=redis.Redis, guard="SyncGuard"), connections=4)


LIVES = {"loaded": 100.0, "set": 100.0, "none": 30.0}


def test_redis_keeps_a_value_for_its_jittered_ttl_and_the_stale_limit(client: redis.Redis, shared: RedisServer) -> None:
    """PTTL is ttl * uniform(1 - jitter, 1) + stale, and the soft expiry in the header lies `stale` before the end."""

    async def body() -> None:
        options: dict[str, Any] = {"ttl_jitter": 0.5, "stale": 1000.0, "negative_ttl": 30.0, "registry": None}
        async with Guard(redis.asyncio.Redis.from_url(shared.url), cache="c", service="s", **options) as guard:
            await guard.get_many([f"loaded:{n}" for n in range(40)], load=one, ttl=100.0)
            await guard.get_many([f"none:{n}" for n in range(40)], load=none, ttl=100.0)
            for number in range(40):
                assert await guard.set(f"set:{number}", 1, ttl=100.0)

    began = time.time()
    run(body())
    for kind, ttl in LIVES.items():
        lives = []
        for number in range(40):
            pttl = client.pttl(f"{kind}:{number}") / 1000
            negative, loaded_at, _, expires_at = values.unpack(client.get(f"{kind}:{number}")) or (None, 0, 0, 0)
            assert negative == (kind == "none")
            assert began <= loaded_at <= time.time()
            lives.append(expires_at - loaded_at)
            assert ttl * 0.5 - 0.01 <= lives[-1] <= ttl + 0.01
            assert lives[-1] - (time.time() - loaded_at) - 0.01 <= pttl - 1000 <= lives[-1] + 0.01
        assert max(lives) - min(lives) > ttl * 0.2, "what was loaded together does not end together"
    assert not client.keys("herdwatch:lease:*")


def test_threads_keep_values_as_long(client: redis.Redis, shared: RedisServer) -> None:
    options: dict[str, Any] = {"ttl_jitter": 0.0, "stale": 1000.0, "negative_ttl": 30.0, "registry": None}
    with SyncGuard(redis.Redis.from_url(shared.url), cache="c", service="s", **options) as guard:
        guard.get("loaded:0", load=lambda _: 1, ttl=100.0)
        guard.get("none:0", load=lambda _: None, ttl=100.0)
        guard.set("set:0", 1, ttl=100.0)
    for kind, ttl in LIVES.items():
        assert ttl + 940 < client.pttl(f"{kind}:0") / 1000 <= ttl + 1000


def test_a_negative_ttl_of_0_stores_nothing_and_leaves_no_lease(client: redis.Redis, shared: RedisServer) -> None:
    async def body() -> None:
        redis_ = redis.asyncio.Redis.from_url(shared.url)
        async with Guard(redis_, cache="c", service="s", negative_ttl=0.0, registry=None) as guard:
            assert await guard.get("k", load=none, ttl=100.0) is None
            await guard.set("old", 1, ttl=100.0)
            assert await guard.set("old", None, ttl=100.0), "to store nothing is to remove what there was"

    run(body())
    assert client.keys("*") == []


async def one(_: str) -> int:
    return 1


async def none(_: str) -> None:
    return None


KEYS, TOKENS = ("a", "{b}:1"), ("one", "two")
SECONDS = st.sampled_from((20.0, 80.0, 320.0))
"""Far enough apart to tell which of them a key was given."""
COMMANDS: st.SearchStrategy[Any] = st.one_of(
    st.tuples(st.just("get"), st.sampled_from(KEYS)),
    st.tuples(st.just("get_many"), st.lists(st.sampled_from((*KEYS, "none")), max_size=3)),
    st.tuples(st.just("acquire"), st.sampled_from(KEYS), st.sampled_from(TOKENS), SECONDS),
    st.builds(commands.fill, st.sampled_from(KEYS), st.sampled_from(TOKENS), st.binary(max_size=3), SECONDS),
    st.builds(commands.release, st.sampled_from(KEYS), st.sampled_from(TOKENS), st.just(commands.GONE)),
    st.builds(commands.extend, st.sampled_from(KEYS), st.sampled_from(TOKENS), SECONDS),
    st.builds(commands.put, st.sampled_from(KEYS), st.binary(max_size=3), SECONDS),
    st.builds(commands.put_without_lease, st.sampled_from(KEYS), st.binary(max_size=3), SECONDS),
    st.builds(commands.remove, st.sampled_from(KEYS)),
)


class Stopped:
    """A clock that stands until it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


async def ask(store: Any, command: Any) -> Any:
    """The reply of either kind of store; 1 and 0 of scripts, OK and True are one."""
    if command[0] in ("get", "get_many", "acquire"):
        reply = getattr(store, command[0])(*command[1:], WITHIN)
        return await reply if inspect.isawaitable(reply) else reply
    reply = store.run(command, WITHIN)
    reply = await reply if inspect.isawaitable(reply) else reply
    return True if reply == b"OK" else int(reply)


@pytest.mark.parametrize(("make", "memory_type"), [(store_of, MemoryStore), (sync_store_of, SyncMemoryStore)])
def test_the_memory_answers_as_redis_does_and_holds_the_same(
    shared: RedisServer, client: redis.Redis, make: Callable[[RedisServer], Any], memory_type: Callable[..., Any]
) -> None:
    async def same(sequence: list[Any]) -> None:
        client.flushall()
        clock = Stopped()
        real, memory = make(shared), memory_type(clock)
        try:
            for command in sequence:
                assert await ask(memory, command) == await ask(real, command), command
                for key in (*KEYS, *map(lease_of, KEYS)):
                    assert await ask(memory, ("get", key)) == client.get(key), (command, key)
            for key in (*KEYS, *map(lease_of, KEYS)):
                left = client.pttl(key) / 1000
                if left > 0:  # Redis may have used up some of it, less than the slack
                    clock.now = left - 0.01
                    assert await ask(memory, ("get", key)) is not None, (key, left)
                    clock.now = left + 15.0
                    assert await ask(memory, ("get", key)) is None, (key, left)
        finally:
            closed = real.aclose() if isinstance(real, Store) else real.close()
            if closed is not None:
                await closed

    @settings(
        max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(st.lists(COMMANDS, max_size=12))
    def any_sequence(sequence: list[Any]) -> None:
        run(same(sequence))

    any_sequence()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (commands.fill("k", "mine", b"v", 60.0), commands.FILLED),
        (commands.put("k", b"v", 60.0), commands.FILLED),
        (commands.remove("k"), commands.GONE),
        (commands.release("k", "mine", b"failed KeyError"), b"failed KeyError"),
        (commands.fill("k", "another's", b"v", 60.0), None),
        (commands.release("k", "another's", commands.GONE), None),
        (commands.extend("k", "mine", 60.0), None),
    ],
)
@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("kind", ["redis", "memory"])
def test_waiters_are_told_what_became_of_a_lease(
    shared: RedisServer, kind: str, command: commands.Command, message: bytes | None
) -> None:
    async def body() -> bytes | None:
        store: Store = store_of(shared) if kind == "redis" else MemoryStore()
        await store.acquire("k", "mine", 5.0, WITHIN)
        watch = await store.watch("k", WITHIN)
        await store.run(command, WITHIN)
        if message is None:  # the next message is that of a command which surely sends one
            await store.run(commands.release("k", "mine", b"the end"), WITHIN)
        heard = await watch.wait(WITHIN)
        await watch.close()
        await store.aclose()
        return heard

    assert run(body()) == (message or b"the end")


@pytest.mark.parametrize("make", [store_of, sync_store_of])
def test_an_error_of_redis_is_a_store_that_is_down(
    shared: RedisServer, client: redis.Redis, make: Callable[[RedisServer], Any]
) -> None:
    client.set("k", b"a string")

    async def body() -> None:
        store = make(shared)
        with pytest.raises(StoreDown):
            await ask(store, ("HSET", "k", "field", "value"))
        assert await ask(store, ("get", "k")) == b"a string", "and serves again with the next command"
        closed = store.aclose() if isinstance(store, Store) else store.close()
        if closed is not None:
            await closed

    run(body())


@given(st.text(max_size=150))
def test_a_failure_is_told_by_its_type_alone(name: str) -> None:
    error = type(name.replace("\0", "") or "E", (Exception,), {})("password=hunter2")
    message = commands.failure_of(error)
    assert b"hunter2" not in message
    assert commands.failed_kind(message) == type(error).__name__[:100].encode("utf-8", "replace").decode()


@pytest.mark.parametrize("message", [commands.FILLED, commands.GONE, b"", b"nonsense"])
def test_other_messages_are_no_failure(message: bytes) -> None:
    assert commands.failed_kind(message) is None
