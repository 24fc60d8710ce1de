"""The verb that makes a warm replica the primary."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from herdwatch.cli.app import ConfigOption, app, named
from herdwatch.cli.silencing import SilenceOption, ending, silenced, silencing
from herdwatch.errors import CheckFailed, UsageError
from herdwatch.operations import promote as promotion
from herdwatch.operations.promote import Endpoint, Kind, Login, Name, Request, Step

_PATIENCE = {Kind.PLANNED: 10.0, Kind.CRASH: 10.0, Kind.SENTINEL: 60.0}
"""--timeout where it is not given."""


@app.command()
def promote(
    primary: Annotated[str | None, typer.Option(metavar="URL", help="The primary that is to become a replica.")] = None,
    replica: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="The replica to promote; left out, the only one. With --crash repeated."),
    ] = None,
    cache: Annotated[
        str | None, typer.Option(metavar="NAME", help="The primary: this cache of herdwatch.yaml.")
    ] = None,
    config: ConfigOption = None,
    plan: Annotated[bool, typer.Option("--plan", help="Print the checks and the steps; change nothing.")] = False,
    crash: Annotated[bool, typer.Option("--crash", help="The primary is dead: cut its best replica loose.")] = False,
    demote: Annotated[
        bool, typer.Option("--demote", help="Make the old primary follow if it is back as a primary.")
    ] = False,
    sentinel: Annotated[
        str | None, typer.Option(metavar="HOST:PORT[,...]", help="Let these Sentinels do it; name all of them.")
    ] = None,
    master: Annotated[str | None, typer.Option(metavar="NAME", help="What the Sentinels call the primary.")] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=3600,
            help="Seconds to wait for the replica, with 5 more to hand over: 10. For all of it with --sentinel: 60.",
        ),
    ] = None,
    allow: Annotated[
        list[Name] | None, typer.Option(metavar="CHECK", help="Override this check, by its name. May be repeated.")
    ] = None,
    username: Annotated[str | None, typer.Option(help="ACL user, where the URL names none.")] = None,
    password_env: Annotated[
        str | None, typer.Option(metavar="NAME", help="Environment variable with the password.")
    ] = None,
    password_file: Annotated[Path | None, typer.Option(metavar="FILE", help="File with the password.")] = None,
    sentinel_password_env: Annotated[
        str | None, typer.Option(metavar="NAME", help="Environment variable with the Sentinels' own password.")
    ] = None,
    silence: SilenceOption = None,
    json: Annotated[bool, typer.Option("--json", help="The plan, or the outcome, as JSON on stdout.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Make a warm replica the primary: planned with FAILOVER, after a crash, or through Sentinel."""
    kind = _kind(crash=crash, sentinel=sentinel, master=master, replica=replica, demote=demote)
    login = Login(username, password_env, password_file)
    old = _primary(primary, cache, config, login)
    request = Request(
        kind,
        old,
        replicas=tuple(_replica(url, old, login) for url in replica or ()),
        sentinels=_sentinels(sentinel, Login(password_env=sentinel_password_env)),
        master=master or "",
        allow=frozenset(allow or ()),
        timeout=timeout or _PATIENCE[kind],
        demote=demote,
    )
    silencing(silence, cache, config)
    if plan:
        _show_plan(request, json=json)
        return
    if not yes:
        _ask(request)
    quiet = silence if silence is not None and _begins(request) else None
    with ending(silenced(quiet, cache, config, why="herdwatch promote")):
        outcome = promotion.promote(request, tell=_tell)
    print(promotion.as_json(outcome) if json else promotion.as_text(outcome))


def _kind(*, crash: bool, sentinel: str | None, master: str | None, replica: list[str] | None, demote: bool) -> Kind:
    if (sentinel is None) != (master is None):
        raise UsageError("--sentinel and --master go together: who is asked, and for what name")
    if sentinel is None:
        return Kind.CRASH if crash else Kind.PLANNED
    if crash or demote:
        raise UsageError("--crash and --demote are not for Sentinel, which does both by itself")
    if replica:
        raise UsageError("Sentinel chooses the replica; leave --replica out (replica-priority 0 bars one from it)")
    return Kind.SENTINEL


def _primary(url: str | None, cache: str | None, config: Path | None, login: Login) -> Endpoint:
    if (url is None) == (cache is None):
        raise UsageError("give --primary URL or --cache NAME, one of them")
    if url is not None:
        if config is not None:
            raise UsageError("--config goes with --cache")
        return promotion.of_url("--primary", url, login)
    found = named(cache, config)
    return promotion.of_cache(found.model_copy(update=_login(login)))


def _login(login: Login) -> dict[str, object]:
    """What the options say of the login, instead of what herdwatch.yaml says."""
    if login.password_env and login.password_file:
        raise UsageError("give --password-env or --password-file, not both")
    user = {"username": login.username} if login.username else {}
    if not login.password_env and not login.password_file:
        return {**user}
    return {**user, "password_env": login.password_env, "password_file": login.password_file}


def _replica(url: str, primary: Endpoint, login: Login) -> Endpoint:
    """A replica has the login of its primary where neither its URL nor an option says another."""
    given = promotion.of_url("--replica", url, login)
    return given if given.has_login else given.logging_in_as(primary)


def _sentinels(addresses: str | None, login: Login) -> tuple[Endpoint, ...]:
    words = [word.strip() for word in (addresses or "").split(",") if word.strip()]
    if addresses is not None and not words:
        raise UsageError("--sentinel names no Sentinel; an address is HOST:PORT")
    if len(set(words)) < len(words):
        raise UsageError("--sentinel names one Sentinel twice")
    return tuple(promotion.of_address("--sentinel", word, login) for word in words)


def _show_plan(request: Request, *, json: bool) -> None:
    found = promotion.prepare(request)
    print(promotion.as_json(found) if json else promotion.as_text(found))
    if found.refused:
        raise CheckFailed(promotion.refusal(found.refused))


def _begins(request: Request) -> bool:
    """Whether there is anything to do; what is refused needs no silence."""
    found = promotion.prepare(request)
    return not found.done and not found.refused


def _ask(request: Request) -> None:
    if not all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr)):  # None where it is closed
        raise UsageError(
            "this changes who is primary and nobody is there to be asked; look with --plan, then give --yes"
        )
    found = promotion.prepare(request)
    if found.done or found.refused:
        return
    print(promotion.as_text(found), file=sys.stderr)
    if not typer.confirm("\nDo it?", err=True):
        raise CheckFailed("nothing was done, since the answer was no")


def _tell(step: Step, sentence: str) -> None:
    print(f"{step}: {sentence}", file=sys.stderr, flush=True)
