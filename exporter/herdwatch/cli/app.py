"""The command itself, and what its verbs share."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Annotated

import typer

import herdwatch
from herdwatch import config as configuration
from herdwatch.bundle.location import bundle_root
from herdwatch.config import Cache, Config
from herdwatch.errors import CheckFailed, UsageError

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="herdwatch.yaml; by default the one in this folder")
]

RedisUrlOption = Annotated[
    str | None, typer.Option("--redis-url", metavar="URL", help="One Redis, instead of a configuration file.")
]
UsernameOption = Annotated[
    str | None, typer.Option("--username", help="ACL user of the Redis of --redis-url or --cache.")
]
PasswordEnvOption = Annotated[
    str | None,
    typer.Option("--password-env", metavar="NAME", help="Environment variable with its password."),
]
PasswordFileOption = Annotated[
    Path | None, typer.Option("--password-file", metavar="FILE", help="File with its password.")
]

# Prometheus asks for other credentials than Redis.
PrometheusUserOption = Annotated[str | None, typer.Option("--username", help="User of Prometheus's basic auth.")]
PrometheusPasswordEnvOption = Annotated[
    str | None, typer.Option("--password-env", metavar="NAME", help="Environment variable with the password.")
]
PrometheusPasswordFileOption = Annotated[
    Path | None, typer.Option("--password-file", metavar="FILE", help="File with the password.")
]
BearerFileOption = Annotated[
    Path | None, typer.Option("--bearer-file", metavar="FILE", help="File with a bearer token.")
]
CaFileOption = Annotated[
    Path | None, typer.Option("--ca-file", metavar="FILE", help="Who signed Prometheus's certificate.")
]


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """Sees a Redis cache restart at the next scrape, pages one person once, and says what to do."""
    if version:
        print(f"herdwatch {herdwatch.__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise UsageError("no command given; see the list above")


def load(path: Path | None) -> Config:
    """The configuration that is given, else the one of this folder, else the default one, and then that is said."""
    if path is None:
        path = Path("herdwatch.yaml")
        if not path.is_file():
            path = bundle_root() / "herdwatch.yaml"
            _tell_default(Path.cwd(), path)
    return configuration.load(path)


@functools.cache
def _tell_default(folder: Path, taken: Path) -> None:
    """Once for each folder, since a verb may load more than once."""
    told = f"{folder} has no herdwatch.yaml; the default one is taken, {taken}; --config FILE names another"
    print(f"herdwatch: {told}", file=sys.stderr)


def named(cache: str | None, config: Path | None) -> Cache:
    """The cache of this name, or the only one; raises UsageError saying which there are."""
    caches = {one.name: one for one in load(config).caches}
    if cache is None and len(caches) == 1:
        return next(iter(caches.values()))
    if cache in caches:
        return caches[cache]
    what = "no --cache is given" if cache is None else f"no cache {cache!r} in {config or 'herdwatch.yaml'}"
    raise UsageError(f"{what}; there is: {', '.join(caches)}")


def fail_with(problems: list[str]) -> None:
    """Raise CheckFailed with all problems, if there are any."""
    if problems:
        raise CheckFailed("\n".join([f"{len(problems)} wrong", *problems]))
