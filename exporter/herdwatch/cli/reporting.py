"""The verb that tells an incident."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from herdwatch.cli.app import (
    BearerFileOption,
    CaFileOption,
    ConfigOption,
    PrometheusPasswordEnvOption,
    PrometheusPasswordFileOption,
    PrometheusUserOption,
    app,
    load,
)
from herdwatch.errors import UsageError

OUT = Path("incident.html")


@app.command()
def report(
    prometheus: Annotated[
        str | None, typer.Option(metavar="URL", help="Who remembers it; by default that of herdwatch.yaml.")
    ] = None,
    since: Annotated[
        str, typer.Option(metavar="AGE", help="From when on: 6h, 90m, or a time such as 2026-05-01T12:00, UTC.")
    ] = "1h",
    until: Annotated[str | None, typer.Option(metavar="AGE", help="Until when; now by default.")] = None,
    cache: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="This cache; by default those that had an incident. May be repeated."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The page; incident.html by default, none by default with --json."),
    ] = None,
    config: ConfigOption = None,
    json: Annotated[bool, typer.Option("--json", help="Everything as JSON, on stdout.")] = False,
    username: PrometheusUserOption = None,
    password_env: PrometheusPasswordEnvOption = None,
    password_file: PrometheusPasswordFileOption = None,
    bearer_file: BearerFileOption = None,
    ca_file: CaFileOption = None,
) -> None:
    """Draw an incident for the post-mortem: alerts, restarts, hit ratio, keys and loads, as one HTML page."""
    from herdwatch.operations import report as telling
    from herdwatch.prometheus import Prometheus, access_to

    loaded = load(config)
    access = access_to(
        prometheus,
        loaded,
        username=username,
        password_env=password_env,
        password_file=password_file,
        bearer_file=bearer_file,
        ca_file=ca_file,
    )
    if access is None:
        raise UsageError("--prometheus: give the URL of the Prometheus that remembers it, as in http://127.0.0.1:9090")
    asked = telling.Asked(*telling.period(since, until), tuple(cache or ()), loaded.scrape_interval)
    path = out or (None if json else OUT)
    if path is not None:
        telling.check(path)
    found = telling.tell(Prometheus(access), access.url, asked)
    if path is not None:
        telling.write(path, telling.as_html(found))
    if json:
        print(telling.as_json(found))
        return
    print(telling.as_text(found))
    print(f"wrote {path}" + ("; write into its notes what no metric knows" if found.incident else ""))
