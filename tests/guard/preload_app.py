"""A WSGI application whose guard and Reporter are made at import: in gunicorn's master, with --preload.

Every request asks for the key in its path and answers with the process that served it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from typing import Any

import redis

from herdwatch.guard import Reporter, SyncGuard

client = redis.Redis.from_url(os.environ["REDIS_URL"])
guard = SyncGuard(client, cache="users", service="preloaded", refresh=None)
reporter = Reporter(guard, every=3600)


def load(key: str) -> str:
    redis.Redis.from_url(os.environ["REDIS_URL"]).incr(f"loads:{key}")
    time.sleep(0.5)
    return key.upper()


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    value = guard.get(environ["PATH_INFO"].strip("/"), load=load, ttl=60, group="users")
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"pid": os.getpid(), "value": value}).encode()]
