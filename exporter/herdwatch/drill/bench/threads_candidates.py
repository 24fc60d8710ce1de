"""Who takes part with threads: each opens against a Redis and gives `get(key)`, which loads on a miss."""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from redis import Redis

from herdwatch.drill.bench.orders import HIT, TTL, VALUES, Order, alike, pool

Get = Callable[[str], Any]
PATIENCE = 10
"""Seconds that a peer's thread waits for a connection; a herd must not lose to an empty pool."""


@contextmanager
def bare(order: Order) -> Iterator[Get]:
    """redis-py alone: a GET of the key HIT, which is there."""
    with Redis(connection_pool=pool(order.url)) as client:
        value = VALUES[order.value]
        client.set(HIT, value if order.value == "raw" else json.dumps(value))

        def get(key: str) -> Any:
            return json.loads(client.get(key))

        yield client.get if order.value == "raw" else get


@contextmanager
def unguarded(order: Order) -> Iterator[Get]:
    """redis-py as an application without protection uses it: GET, load, SET."""
    with Redis(connection_pool=pool(order.url, wait=PATIENCE)) as client:

        def get(key: str) -> Any:
            found = client.get(key)
            if found is None:
                found = order.load_in_thread(key)
                client.set(key, found, ex=TTL)
            return found

        yield get


@contextmanager
def floor(order: Order) -> Iterator[Get]:
    """No cache at all, what the threads alone cost: one waits as long as the loader takes, the others wait for it."""
    lock = threading.Lock()
    waiting: dict[str, list[threading.Lock]] = {}

    def get(key: str) -> Any:
        turn = threading.Lock()
        turn.acquire()
        with lock:
            first = key not in waiting
            line = waiting.setdefault(key, [])
            if not first:
                line.append(turn)
        if first:
            order.load_in_thread(key)
        else:
            turn.acquire()
        with contextlib.suppress(IndexError):  # one wakes the next: woken all at once they fight for the interpreter
            line.pop().release()
        return VALUES[order.value]

    yield get


@contextmanager
def guard(order: Order) -> Iterator[Get]:
    """herdwatch.guard.SyncGuard with its defaults."""
    from herdwatch.guard import SyncGuard
    from herdwatch.guard.values import Json, Raw

    serializer = Raw() if order.value == "raw" else Json()
    with (
        Redis.from_url(order.url, **alike()) as client,
        SyncGuard(client, cache="bench", service="bench", serializer=serializer) as guard,
    ):
        yield functools.partial(guard.get, load=order.load_in_thread, ttl=TTL)


@contextmanager
def dogpile(order: Order) -> Iterator[Get]:
    """A dogpile.cache region with the lock that works across processes."""
    # Peers are in an environment of their own, so they are imported by name.
    region = importlib.import_module("dogpile.cache").make_region(**_json() if order.value == "json" else {})
    arguments = {"connection_pool": pool(order.url, wait=PATIENCE), "redis_expiration_time": TTL}
    locking = {"distributed_lock": True, "thread_local_lock": False, "lock_timeout": 30}
    region.configure("dogpile.cache.redis", arguments=arguments | locking)

    def get(key: str) -> Any:
        return region.get_or_create(key, order.load_in_thread, creator_args=((key,), {}))

    yield get
    arguments["connection_pool"].disconnect()  # type: ignore[attr-defined]


OPEN: dict[str, Callable[[Order], AbstractContextManager[Get]]] = {
    "bare": bare,
    "unguarded": unguarded,
    "floor": floor,
    "guard": guard,
    "dogpile": dogpile,
}


def _json() -> dict[str, Any]:
    return {"serializer": lambda value: json.dumps(value).encode(), "deserializer": json.loads}
