"""One command, `herdwatch`; each verb is a thin call into a room."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

import herdwatch
from herdwatch import config as configuration
from herdwatch.bundle.location import bundle_root
from herdwatch.config import Config
from herdwatch.errors import CheckFailed, HerdwatchError, UsageError

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

INTERRUPTED = 130

ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="herdwatch.yaml; by default the one in this folder")
]


class Subject(StrEnum):
    """What the benchmark measures."""

    EXPORTER = "exporter"
    GUARD = "guard"


# A ClickException: click's own, or that of the copy of click which newer typers carry and do not export.
_WrongUsage: Any = typer.BadParameter.__mro__[2]


def run(arguments: list[str]) -> int:
    """Run the command line; returns the exit code and shows no traceback for what herdwatch can explain."""
    command = typer.main.get_command(app)
    try:
        code = command.main(arguments, prog_name="herdwatch", standalone_mode=False)
    except HerdwatchError as error:
        print(f"herdwatch: {error}", file=sys.stderr)
        return error.exit_code
    except _WrongUsage as error:
        print(f"herdwatch: {error.format_message().rstrip('.')}; see: herdwatch --help", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        return 1
    except OSError as error:  # a name too long, a folder that may not be searched
        print(f"herdwatch: {error.filename or 'cannot go on'}: {error.strerror or error}", file=sys.stderr)
        return 2
    if code == INTERRUPTED:  # typer may have made this code of the interrupt itself
        print("herdwatch: interrupted", file=sys.stderr)
    return code if isinstance(code, int) else 0


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


@app.command()
def exporter(
    config: ConfigOption = None,
    redis_url: Annotated[
        str | None, typer.Option(metavar="URL", help="One Redis, instead of a configuration file.")
    ] = None,
    listen: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Where to listen.")] = None,
    username: Annotated[str | None, typer.Option(help="ACL user, with --redis-url.")] = None,
    password_env: Annotated[
        str | None, typer.Option(metavar="NAME", help="Environment variable with the password, with --redis-url.")
    ] = None,
    password_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File with the password, with --redis-url.")
    ] = None,
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
        loaded = _load(config) if redis_url is None else configuration.single(redis_url, **credentials)
        return loaded if listen is None else configuration.listening(loaded, listen)

    if once:
        server.once(read())
        return
    server.serve(read, runbooks=runbooks or bundle_root() / "runbooks", web=server.Web(web_config))


@app.command()
def acl(config: ConfigOption = None) -> None:
    """Print the ACL rule of the Redis user that the exporter needs, for each cache; PASSWORD is for you to replace."""
    from herdwatch.collector.acl import explained

    for cache in _load(config).caches:
        print(*explained(cache), sep="\n")
    print("# then ACL SAVE where Redis has an aclfile, else CONFIG REWRITE: without, a restart takes the user along")


@app.command()
def render(
    config: ConfigOption = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where alerts/, dashboards/ and runbooks/ are written.")
    ] = Path(),
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail when something is stale.")] = False,
) -> None:
    """Render rules, Prometheus and Alertmanager configuration, dashboards and runbook pages."""
    from herdwatch.bundle import render as rendering

    bundle = rendering.render_bundle(_load(config))
    if not check:
        for path in rendering.write(bundle, out):
            print(f"wrote {path}")
        return
    _fail_with(rendering.stale(bundle, out))
    print(f"{len(bundle)} rendered files are in step with their templates")


@app.command()
def check(
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="The folder of a rendered bundle.")] = Path(),
) -> None:
    """Validate a rendered bundle offline: rules, configuration, dashboards, pages, and what ties them together."""
    from herdwatch.bundle import check as checking

    outcome = checking.check_bundle(directory)
    _fail_with(outcome.problems)
    print(outcome.summary)


@app.command()
def tools() -> None:
    """Find or fetch promtool, prometheus, alertmanager and redis-server, and say which were taken."""
    from herdwatch import tools as programs

    for tool in programs.ensure(programs.ALL):
        print(f"{tool.name:<13} {tool.version:<10} {tool.origin}")


@app.command()
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running until Ctrl-C.")] = False,
) -> None:
    """Kill a real Redis and follow what happens, up to the resolved page."""
    from herdwatch.drill import demo as incident

    incident.run(keep=keep)


@app.command()
def bench(
    subject: Annotated[
        Subject | None, typer.Argument(help="What is measured; both if it is left out.", show_default=False)
    ] = None,
    keys: Annotated[int, typer.Option(min=1, help="Exporter: keys in the Redis that is scraped.")] = 1_000_000,
    scrapes: Annotated[int, typer.Option(min=10, help="Exporter: scrapes per measurement.")] = 1000,
    rounds: Annotated[int, typer.Option(min=1, help="Guard: rounds, in each of which every candidate runs.")] = 15,
) -> None:
    """Measure a scrape beside a bare INFO, and the guard beside a bare GET and its peers."""
    from herdwatch.drill.bench import exporter as scraping
    from herdwatch.drill.bench import guard as guarding

    if subject is not Subject.GUARD:
        scraping.run(keys=keys, scrapes=scrapes)
    if subject is not Subject.EXPORTER:
        guarding.run(rounds=rounds)


def _load(path: Path | None) -> Config:
    if path is None:
        here = Path("herdwatch.yaml")
        path = here if here.is_file() else bundle_root() / "herdwatch.yaml"
    return configuration.load(path)


def _fail_with(problems: list[str]) -> None:
    if problems:
        raise CheckFailed("\n".join([f"{len(problems)} wrong", *problems]))
