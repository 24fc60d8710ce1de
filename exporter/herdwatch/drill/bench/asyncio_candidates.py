"""Who takes part with asyncio: each opens against a Redis and gives `get(key)`, which loads on a miss."""

from __future__ import annotations

import asyncio
import functools
import importlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from herdwatch.drill.bench import threads_candidates
from herdwatch.drill.bench.orders import CONNECTIONS, HIT, TTL, VALUES, Order, both

Get = Callable[[str], Awaitable[Any]]
PATIENCE = 10
"""Seconds that a peer's caller waits for a connection; a herd must not lose to an empty pool."""


@asynccontextmanager
async def bare(order: Order) -> AsyncIterator[Get]:
    """redis-py alone: a GET of the key HIT, which is there."""
    async with _client(order) as client:
        await client.set(HIT, _bytes(order))

        async def get(key: str) -> Any:
            return json.loads(await client.get(key))  # type: ignore[arg-type]

        yield client.get if order.value == "raw" else get


@asynccontextmanager
async def unguarded(order: Order) -> AsyncIterator[Get]:
    """redis-py as an application without protection uses it: GET, load, SET."""
    async with _client(order, wait=PATIENCE) as client:

        async def get(key: str) -> Any:
            found = await client.get(key)
            if found is None:
                await order.load(key)
                found = _bytes(order)
                await client.set(key, found, ex=TTL)
            return found

        yield get


@asynccontextmanager
async def floor(order: Order) -> AsyncIterator[Get]:
    """No cache at all, what the tasks alone cost: one waits as long as the loader takes, the others wait for it."""
    waiting: dict[str, list[asyncio.Future[None]]] = {}

    async def get(key: str) -> Any:
        line = waiting.get(key)
        if line is None:
            line = waiting[key] = []
            await order.load(key)
            for future in line:
                future.set_result(None)
        else:
            line.append(asyncio.get_running_loop().create_future())
            await line[-1]
        return VALUES[order.value]

    yield get


@asynccontextmanager
async def guard(order: Order) -> AsyncIterator[Get]:
    """herdwatch.guard.Guard with its defaults."""
    from herdwatch.guard import Guard
    from herdwatch.guard.values import Json, Raw

    serializer = Raw() if order.value == "raw" else Json()
    async with (
        Redis.from_url(order.url) as client,
        Guard(client, cache="bench", service="bench", serializer=serializer) as guard,
    ):
        yield functools.partial(guard.get, load=order.load, ttl=TTL)


@asynccontextmanager
async def cashews(order: Order, *, lock: bool = False) -> AsyncIterator[Get]:
    """cashews' decorator; it protects from a herd in its process, and with `lock` beyond."""
    # Peers are in an environment of their own, so they are imported by name.
    cache = importlib.import_module("cashews").Cache()
    pickle = {"pickle_type": "json"} if order.value == "json" else {}
    pool = {"max_connections": CONNECTIONS, "wait_for_connection_timeout": PATIENCE, "health_check_interval": 0}
    cache.setup(order.url, **pickle, **pool, **_alike())

    @cache(ttl=TTL, key="{key}", lock=lock)  # type: ignore[untyped-decorator]
    async def fetch(key: str) -> Any:
        return await order.load(key)

    yield fetch
    await cache.close()


@asynccontextmanager
async def aiocache(order: Order) -> AsyncIterator[Get]:
    """aiocache's decorator against stampedes, with the lease it has by default."""
    package = importlib.import_module("aiocache")
    serializers = importlib.import_module("aiocache.serializers")
    serializer = serializers.NullSerializer(encoding=None) if order.value == "raw" else serializers.JsonSerializer()
    alike = {key: value for key, value in _alike().items() if key != "socket_connect_timeout"}
    stampede = package.cached_stampede(
        ttl=TTL,
        key_builder=lambda _, key: key,
        cache=package.RedisCache,
        serializer=serializer,
        endpoint=urlsplit(order.url).hostname,
        port=urlsplit(order.url).port,
        create_connection_timeout=1,
        pool_max_size=CONNECTIONS,
        connection_pool_class=BlockingConnectionPool,
        connection_pool_kwargs={**alike, "timeout": PATIENCE},
    )
    fetch = stampede(order.load)
    yield fetch
    await fetch.cache.close()


@asynccontextmanager
async def dogpile(order: Order) -> AsyncIterator[Get]:
    """dogpile.cache knows no asyncio: its call goes to the event loop's own threads."""
    with threads_candidates.dogpile(order) as get:

        async def get_in_thread(key: str) -> Any:
            return await asyncio.to_thread(get, key)

        yield get_in_thread


@asynccontextmanager
async def none(_: Order) -> AsyncIterator[Get]:
    """Nobody: for what is measured without a cache."""

    async def get(key: str) -> Any:
        raise LookupError(f"nobody is here to be asked for {key}")

    yield get


OPEN: dict[str, Callable[[Order], AbstractAsyncContextManager[Get]]] = {
    "bare": bare,
    "unguarded": unguarded,
    "floor": floor,
    "guard": guard,
    "cashews": cashews,
    "cashews-lock": functools.partial(cashews, lock=True),
    "aiocache": aiocache,
    "dogpile": dogpile,
    "none": none,
}


def _client(order: Order, *, wait: float = 1) -> Redis:
    pool = BlockingConnectionPool.from_url(order.url, max_connections=CONNECTIONS, timeout=wait, **_alike())
    return Redis.from_pool(pool)


def _alike() -> dict[str, Any]:
    return {**both(), "retry": Retry(NoBackoff(), 0)}


def _bytes(order: Order) -> bytes:
    value = VALUES[order.value]
    return value if isinstance(value, bytes) else json.dumps(value).encode()
