"""The verbs that watch: the exporter, and the user that it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from herdwatch import config as configuration
from herdwatch.bundle.location import bundle_root
from herdwatch.cli.app import (
    ConfigOption,
    PasswordEnvOption,
    PasswordFileOption,
    RedisUrlOption,
    UsernameOption,
    app,
    load,
)
from herdwatch.config import Config
from herdwatch.errors import UsageError


@app.command()
def exporter(
    config: ConfigOption = None,
    redis_url: RedisUrlOption = None,
    listen: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Where to listen.")] = None,
    username: UsernameOption = None,
    password_env: PasswordEnvOption = None,
    password_file: PasswordFileOption = None,
    runbooks: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of rendered runbook pages.")] = None,
    web_config: Annotated[
        Path | None,
        typer.Option(
            "--web.config.file", metavar="FILE", help="TLS and basic auth, as Prometheus's exporters take it."
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Print one scrape and exit; 1 if a cache fails.")] = False,
) -> None:
    """Publish one or many caches to Prometheus."""
    from herdwatch import server

    if redis_url is not None and config is not None:
        raise UsageError("give --config or --redis-url, not both")
    credentials = {"username": username, "password_env": password_env, "password_file": password_file}
    if redis_url is None and any(credentials.values()):
        raise UsageError("--username, --password-env and --password-file go with --redis-url")

    def read() -> Config:
        loaded = load(config) if redis_url is None else configuration.single(redis_url, **credentials)
        return loaded if listen is None else configuration.listening(loaded, listen)

    if once:
        server.once(read())
        return
    server.serve(read, runbooks=runbooks or bundle_root() / "runbooks", web=server.Web(web_config))


@app.command()
def acl(config: ConfigOption = None) -> None:
    """Print the ACL rule of the Redis user that the exporter needs, for each cache; PASSWORD is for you to replace."""
    from herdwatch.collector.acl import explained

    for cache in load(config).caches:
        print(*explained(cache), sep="\n")
    print("# then ACL SAVE where Redis has an aclfile, else CONFIG REWRITE: without, a restart takes the user along")
