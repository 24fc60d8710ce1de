"""The application's own loader, sync or async, and a guard such as the application has."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import os
import sys
from typing import Any

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from herdwatch.config import Cache
from herdwatch.errors import UsageError
from herdwatch.guard import Guard, SyncGuard
from herdwatch.guard.settings import Settings
from herdwatch.guard.store import RedisStore
from herdwatch.operations.warm.workers import Loader, in_threads

SERVICE = "herdwatch-warm"
"""The service of a warm-up in metrics: the application's own counts stay the application's."""


def loader_of(path: str, *, concurrency: int = 100) -> Loader:
    """`package.module:function` as an async loader; one that blocks runs in as many threads as `concurrency`.

    The function takes the key and returns the value, None where there is none. Raises UsageError saying what is wrong.
    """
    function = _named("--loader", path)
    if not callable(function):
        raise UsageError(f"--loader {path}: not a function; it must take the key and return the value")
    if isinstance(getattr(function, "guard", None), (Guard, SyncGuard)):
        raise UsageError(f"--loader {path}: a guard wraps this function already; name the one that asks the database")
    try:
        inspect.signature(function).bind("key")
    except TypeError:
        raise UsageError(f"--loader {path}: it must take one argument, the key") from None
    except ValueError:  # a builtin that does not tell
        pass
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004
        return function  # type: ignore[no-any-return]
    return in_threads(function, concurrency)


def guard_like(path: str) -> Guard | SyncGuard:
    """The application's guard at `package.module:attribute`. Raises UsageError."""
    guard = _named("--guard", path)
    if not isinstance(guard, (Guard, SyncGuard)):
        raise UsageError(f"--guard {path}: a {type(guard).__name__}; it must be a herdwatch Guard or SyncGuard")
    if guard.address is None:
        raise UsageError(f"--guard {path}: its store is in memory; there is nothing to warm that others would see")
    return guard


def warming_guard(
    of: Cache | Guard | SyncGuard, *, cache: str, service: str = SERVICE, concurrency: int = 100, **options: Any
) -> Guard:
    """A guard for the warm-up: with the address and the options of the application's, or at a cache of herdwatch.yaml.

    As many loads as `concurrency` may run in it at the same time.
    """
    if isinstance(of, Cache):
        return Guard(_client(of), cache=cache, service=service, registry=None, **{**options, "max_loads": concurrency})
    given = {field.name: getattr(of.core.settings, field.name) for field in dataclasses.fields(Settings)}
    given |= {**options, "max_loads": concurrency}
    assert of.address is not None  # noqa: S101 - guard_like has looked
    store = RedisStore(of.address, connections=given["connections"])
    return Guard(store, cache=cache, service=service, registry=None, **given)


def _client(cache: Cache) -> redis.asyncio.Redis:
    """Taken as an address: the guard opens connections of its own."""
    tls = {"ssl_ca_certs": cache.tls_ca_file, "ssl_certfile": cache.tls_cert_file, "ssl_keyfile": cache.tls_key_file}
    options: dict[str, Any] = {name: str(file) for name, file in tls.items() if file is not None}
    options |= {"username": cache.user, "password": cache.password()}
    return redis.asyncio.Redis.from_url(cache.url, retry=Retry(NoBackoff(), 0), **options)


def _named(option: str, path: str) -> Any:
    """What an import path leads to. The folder of the caller is looked in first, as with python -m."""
    module_name, colon, attribute = path.partition(":")
    if not colon or not module_name or not attribute:
        raise UsageError(f"{option} {path}: it must look as in package.module:name")
    if os.getcwd() not in sys.path:  # noqa: PTH109 - sys.path holds texts
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        hint = "run this where the application can be imported, or set PYTHONPATH"
        raise UsageError(f"{option} {path}: no module {error.name}; {hint}") from None
    except Exception as error:  # an application may do anything when it is imported; its text may hold a secret
        raise UsageError(f"{option} {path}: importing {module_name} failed with {type(error).__name__}") from None
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise UsageError(f"{option} {path}: {module_name} has no {attribute}")
        found = getattr(found, part)
    return found
