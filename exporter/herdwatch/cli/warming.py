"""The verb that fills a cache ahead of its traffic."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from herdwatch.cli.app import (
    ConfigOption,
    PasswordEnvOption,
    PasswordFileOption,
    RedisUrlOption,
    UsernameOption,
    app,
    load,
)
from herdwatch.cli.operating import one_cache
from herdwatch.cli.silencing import SilenceOption, ending, silenced, silencing
from herdwatch.config import Cache
from herdwatch.errors import OperationError, UsageError

if TYPE_CHECKING:
    from herdwatch.guard import Guard, SyncGuard
    from herdwatch.operations.warm import Keys

LONGEST_TTL = 10 * 365 * 86_400
"""Seconds; what is more is a slip of the finger."""


@app.command()
def warm(
    loader: Annotated[
        str, typer.Option(metavar="MODULE:FUNCTION", help="The application's own loader: key to value; sync or async.")
    ],
    journal: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Keys from the journal of a Reporter, or a folder of them.")
    ] = None,
    keys: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keys from a file, one a line, hottest first; - is stdin.")
    ] = None,
    guard: Annotated[
        str | None, typer.Option(metavar="MODULE:NAME", help="The application's guard: its Redis and its options.")
    ] = None,
    cache: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which cache of herdwatch.yaml, or of the journals.")
    ] = None,
    config: ConfigOption = None,
    redis_url: RedisUrlOption = None,
    username: UsernameOption = None,
    password_env: PasswordEnvOption = None,
    password_file: PasswordFileOption = None,
    ttl: Annotated[
        float, typer.Option(min=1, max=LONGEST_TTL, help="Seconds that a value lives, as the application says it.")
    ] = 3600,
    group: Annotated[str | None, typer.Option(metavar="NAME", help="Whose keys: a group of the guard.")] = None,
    service: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Whose lookups in the journals; may be given again.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the hottest so many.")] = None,
    until_hit_ratio: Annotated[
        str | None,
        typer.Option(metavar="RATIO", help="Only so many as give this hit ratio; 'capacity': 1 - capacity / peak."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Loads at a time, then a pause.")] = 100,
    pause: Annotated[float, typer.Option(min=0, help="Seconds from one batch to the next.")] = 0.1,
    max_rate: Annotated[
        float | None, typer.Option(min=0.01, metavar="N", help="Loads a second, instead of batches.")
    ] = None,
    max_latency: Annotated[
        float | None, typer.Option(min=0.1, metavar="MS", help="As fast as the median load stays below, in ms.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=10_000, help="Loads at the same time, at most.")] = 100,
    patience: Annotated[float, typer.Option(min=0, help="Seconds to wait for a Redis that does not answer.")] = 60,
    max_failures: Annotated[int, typer.Option(min=1, help="Failed loads in a row that end it.")] = 100,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is cold and how long that takes.")] = False,
    silence: SilenceOption = None,
    json: Annotated[bool, typer.Option("--json", help="What came of it as JSON, on stdout.")] = False,
) -> None:
    """Load the hottest keys through the application's own loader, at a pace that its database can bear."""
    from herdwatch.operations import warm as warming

    speed = warming.Speed(batch, pause, max_rate, None if max_latency is None else max_latency / 1000, concurrency)
    wanted, journal_cache = _keys(journal, keys, cache=cache, group=group, services=service or [])
    credentials = {"username": username, "password_env": password_env, "password_file": password_file}
    if guard is not None:
        if redis_url is not None or any(credentials.values()):
            raise UsageError("--guard says where the Redis is; give it without --redis-url and credentials")
        of: Cache | Guard | SyncGuard = warming.guard_like(guard)
    else:
        of = one_cache(None if redis_url else cache or journal_cache, config, redis_url, credentials)
    name = of.core.cache if not isinstance(of, Cache) else cache or journal_cache or of.name
    if limit is not None:
        wanted = wanted.first(limit)
    ratio = None if until_hit_ratio is None else _ratio(until_hit_ratio, name, config)
    load_one = warming.loader_of(loader, concurrency=concurrency)
    made = warming.warming_guard(of, cache=name, concurrency=concurrency)
    warmer = warming.Warmer(
        made, load_one, wanted, ttl=ttl, speed=speed, patience=patience, max_failures=max_failures, until=ratio
    )
    quiet, _ = silencing(silence, name, config)
    print(warming.plan_of(warmer.keys, speed, until=ratio, silence=quiet), file=sys.stderr, flush=True)
    if dry_run:
        print(warming.dry_run(warmer, made, as_json=json))
        return
    with ending(silenced(silence, name, config, why=f"herdwatch warm of {len(warmer.keys):,} keys")):
        outcome = warming.shown(warmer, made)
        print(warming.as_json(outcome) if json else warming.as_text(outcome), flush=True)
        if outcome.interrupted:
            raise KeyboardInterrupt
        if outcome.problems:
            raise OperationError("; ".join(outcome.problems))


def _keys(
    journal: Path | None, keys: Path | None, *, cache: str | None, group: str | None, services: list[str]
) -> tuple[Keys, str | None]:
    """The keys, and the cache that their journal is of."""
    from herdwatch.operations import warm as warming

    if (journal is None) == (keys is None):
        raise UsageError("give --journal PATH or --keys FILE, one of them: what is to be warm")
    if journal is not None:
        return warming.from_journal(journal, cache=cache, group=group, services=services)
    if services:
        raise UsageError("--service chooses among the services of a journal; give it with --journal")
    assert keys is not None  # noqa: S101 - one of the two is given
    return warming.from_file(keys, group=group), None


def _ratio(text: str, cache: str, config: Path | None) -> float:
    """The hit ratio to reach: a number, or what the database of this cache needs at its peak."""
    if text == "capacity":
        loaded = load(config)
        databases = [loaded.databases[one.database] for one in loaded.caches if one.name == cache and one.database]
        if not databases:
            raise UsageError(f"--until-hit-ratio capacity: herdwatch.yaml names no database behind cache {cache!r}")
        return databases[0].needed_hit_ratio
    try:
        ratio = float(text)
    except ValueError:
        ratio = 0.0
    if not 0 < ratio <= 1:
        raise UsageError(f"--until-hit-ratio {text}: it must be a ratio such as 0.95, or 'capacity'")
    return ratio
