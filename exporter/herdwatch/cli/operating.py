"""The verbs that runbooks name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from herdwatch import config as configuration
from herdwatch.cli.app import (
    ConfigOption,
    PasswordEnvOption,
    PasswordFileOption,
    RedisUrlOption,
    UsernameOption,
    app,
    named,
)
from herdwatch.config import Cache
from herdwatch.errors import OperationError, UsageError


@app.command()
def hotkeys(
    journal: Annotated[
        Path | None, typer.Option(metavar="PATH", help="A journal that a Reporter wrote, or a folder of them.")
    ] = None,
    cache: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which cache of herdwatch.yaml, or of the journals.")
    ] = None,
    config: ConfigOption = None,
    redis_url: RedisUrlOption = None,
    username: UsernameOption = None,
    password_env: PasswordEnvOption = None,
    password_file: PasswordFileOption = None,
    top: Annotated[int, typer.Option(min=1, max=1_000_000, metavar="N", help="How many keys.")] = 100,
    group: Annotated[str | None, typer.Option(metavar="NAME", help="Only keys of this group.")] = None,
    match: Annotated[str | None, typer.Option(metavar="PATTERN", help="Only keys such as 'user:*'.")] = None,
    seconds: Annotated[float, typer.Option(min=1, max=86_400, help="The longest that a live Redis is looked at.")] = 30,
    json: Annotated[bool, typer.Option("--json", help="Everything as JSON, on stdout.")] = False,
    keys: Annotated[bool, typer.Option("--keys", help="The keys alone on stdout, one a line.")] = False,
) -> None:
    """List the keys that are looked up most: from the application's journal, or from a live Redis."""
    from herdwatch.operations import hot_keys, live_keys

    if json and keys:
        raise UsageError("give --json or --keys, not both")
    credentials = {"username": username, "password_env": password_env, "password_file": password_file}
    wanted = hot_keys.Wanted(top, group, match)
    if journal is not None:
        if config is not None or redis_url is not None or any(credentials.values()):
            raise UsageError("--journal is a source of its own: give it without --config, --redis-url and credentials")
        found = hot_keys.from_journal(journal, wanted, cache=cache)
    else:
        found = live_keys.listing(
            one_cache(cache, config, redis_url, credentials, also="--journal PATH, "), wanted, seconds=seconds
        )
    if keys:
        plain, odd = found.as_keys()
        print(*plain, sep="\n", end="\n" if plain else "")
        print(
            *found.said,
            *([f"Left out, since they are no plain text: {odd:,}."] if odd else []),
            sep="\n",
            file=sys.stderr,
        )
    else:
        print(found.as_json() if json else found.as_text())
    if found.failure:
        raise OperationError(found.failure)
    if found.interrupted:
        raise KeyboardInterrupt


def one_cache(
    name: str | None,
    config: Path | None,
    redis_url: str | None,
    credentials: dict[str, str | Path | None],
    *,
    also: str = "",
) -> Cache:
    """The cache that a verb is about; raises UsageError where it is not clear. `also` is what else the verb takes.

    Credentials take the place of those of the configuration: the exporter's user may only look.
    """
    if redis_url is not None:
        if config is not None or name is not None:
            raise UsageError("give --redis-url, or --cache of a configuration, not both")
        return configuration.single(redis_url, **credentials).caches[0]
    if name is None and config is None and not Path("herdwatch.yaml").is_file():
        raise UsageError(f"say where to look: {also}--cache NAME of herdwatch.yaml, or --redis-url URL")
    cache = named(name, config)
    if not any(credentials.values()):
        return cache
    login = configuration.single(cache.url, **credentials).caches[0]
    return cache.model_copy(update={one: getattr(login, one) for one in credentials})
