"""The verb that answers the runbook's questions."""

from __future__ import annotations

import asyncio
from typing import Annotated

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
from herdwatch.errors import CheckFailed, UsageError


@app.command()
def verify(
    cache: Annotated[str | None, typer.Option(metavar="NAME", help="Which cache of herdwatch.yaml.")] = None,
    config: ConfigOption = None,
    redis_url: RedisUrlOption = None,
    username: UsernameOption = None,
    password_env: PasswordEnvOption = None,
    password_file: PasswordFileOption = None,
    prometheus: Annotated[
        str | None, typer.Option(metavar="URL", help="Who knows what is normal; by default that of herdwatch.yaml.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, max=60, help="The longest to wait for each server.")] = 1.0,
    json: Annotated[bool, typer.Option("--json", help="Everything as JSON, on stdout.")] = False,
) -> None:
    """Answer the runbook's questions on one cache: singleflight, warm-up, replica, how cold, who counts twice."""
    from herdwatch.operations import verify as verifying
    from herdwatch.prometheus import Prometheus, access_to

    credentials = {"username": username, "password_env": password_env, "password_file": password_file}
    found = one_cache(cache, config, redis_url, credentials)
    loaded = load(config) if redis_url is None else None
    access = access_to(prometheus, loaded)
    api = None if access is None else Prometheus(access, seconds=seconds, pause=None)
    if prometheus is not None and redis_url is not None:
        raise UsageError("--prometheus needs the name of the cache: give --cache of a configuration, not --redis-url")
    sight = asyncio.run(verifying.see(found, api, seconds=seconds))
    told = {} if loaded is None else {"scrape_interval": loaded.scrape_interval}
    answers = verifying.answers(sight, cache_job=loaded.jobs.cache if loaded else "", **told)
    print(verifying.as_json(sight, answers) if json else verifying.as_text(sight, answers))
    bad = [one.question for one in answers if one.verdict == "bad"]
    if bad:
        raise CheckFailed(f"cache {sight.cache}: see to {', '.join(bad)}")
