"""The verbs that make a bundle and check it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from herdwatch.bundle.location import bundle_root
from herdwatch.cli.app import ConfigOption, app, fail_with, load


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
    from herdwatch.cli import reference

    loaded = load(config)
    bundle = rendering.render_bundle(loaded)
    if config is None and out.resolve() == bundle_root():  # this project's own documents, and not those of a bundle
        bundle |= reference.documents(bundle, loaded, bundle_root())
    if not check:
        for path in rendering.write(bundle, out):
            print(f"wrote {path}")
        return
    fail_with(rendering.stale(bundle, out))
    print(f"{len(bundle)} rendered files are in step with their templates")


@app.command()
def check(
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="The folder of a rendered bundle.")] = Path(),
) -> None:
    """Validate a rendered bundle offline: rules, configuration, dashboards, pages, and what ties them together."""
    from herdwatch.bundle import check as checking

    outcome = checking.check_bundle(directory)
    fail_with(outcome.problems)
    print(outcome.summary)
