"""The verbs that say what alerts are worth."""

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


@app.command()
def score(
    rules: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Rule files to score beside ours; one rule set. May be repeated."),
    ] = None,
    names: Annotated[str, typer.Option(help="Whose metric names they use: herdwatch or redis_exporter.")] = "herdwatch",
    interval: Annotated[
        list[int] | None, typer.Option(metavar="SECONDS", help="Scrape interval: 5, 15, 30 or 60. May be repeated.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Only incidents with this in their name. May be repeated.")
    ] = None,
    recorded: Annotated[bool, typer.Option("--recorded", help="Also what was recorded from real servers.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Everything as JSON, on stdout.")] = False,
    least: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Fail if recall is below this share; of --rules only where it is given, of ours 0.9 else.",
        ),
    ] = None,
) -> None:
    """Play the catalogue of incidents under our rules, and others, and say who would have been told what, and when."""
    from herdwatch.proof import scorecard

    scorecard.run(
        tuple(rules or ()),
        names=names,
        intervals=tuple(interval or (15,)),
        only=tuple(only or ()),
        recorded=recorded,
        json=json,
        least=least,
    )


@app.command()
def mutate(
    rules: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Rule files of yours, with --tests. May be repeated.")
    ] = None,
    tests: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="promtool's test files for them. May be repeated.")
    ] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option("--rule", "--alert", metavar="NAME", help="Only rules of this name. May be repeated."),
    ] = None,
    sample: Annotated[int | None, typer.Option(min=1, help="Only so many mutants, drawn with --seed.")] = None,
    seed: Annotated[int, typer.Option(help="Of the sample.")] = 0,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at a time; all processors by default.")] = None,
    deadline: Annotated[float, typer.Option(min=1, help="Seconds for one run; more is a kill, and said.")] = 60.0,
    equivalent: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Mutants that are no change; by default beside the tests.")
    ] = None,
    least: Annotated[float, typer.Option(min=0, max=1, help="Fail below this share of mutants killed.")] = 0.95,
    json: Annotated[bool, typer.Option("--json", help="Everything as JSON, on stdout.")] = False,
) -> None:
    """Change rules one place at a time and say which changes their tests do not notice."""
    from herdwatch.proof import mutation

    asked = mutation.request(
        rules or (), tests or (), names=rule or (), sample=sample, seed=seed, jobs=jobs, deadline=deadline
    )
    mutation.mutate(asked, equivalent=equivalent, least=least, as_json=json)


@app.command()
def backtest(
    prometheus: Annotated[str, typer.Option(metavar="URL", help="Whose history: http://HOST:PORT, or https.")],
    since: Annotated[
        str, typer.Option(metavar="AGE", help="From when on: 30d, 12h, 90m, or a time such as 2026-05-01T12:00.")
    ] = "30d",
    until: Annotated[str | None, typer.Option(metavar="AGE", help="Until when; now by default.")] = None,
    config: ConfigOption = None,
    rules: Annotated[
        Path | None, typer.Option("--rules", metavar="FILE", help="Other rules than those of herdwatch.yaml.")
    ] = None,
    cache: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this cache. May be repeated.")] = None,
    evaluation: Annotated[
        str, typer.Option(metavar="TIME", help="How often rules are evaluated; 5s is exact, and three times the work.")
    ] = "15s",
    json: Annotated[bool, typer.Option("--json", help="Everything as JSON, on stdout.")] = False,
    username: PrometheusUserOption = None,
    password_env: PrometheusPasswordEnvOption = None,
    password_file: PrometheusPasswordFileOption = None,
    bearer_file: BearerFileOption = None,
    ca_file: CaFileOption = None,
) -> None:
    """Play the alerts on the history in a Prometheus of yours: who would have been paged, when, and for how long."""
    from herdwatch.proof import backtest as history

    if rules is not None and config is not None:
        raise UsageError("give --config or --rules, not both")
    access = history.Access.of(
        prometheus,
        username=username,
        password_env=password_env,
        password_file=password_file,
        bearer_file=bearer_file,
        ca_file=ca_file,
    )
    period, step, caches = history.period(since, until), history.evaluation(evaluation), tuple(cache or ())
    if rules is None:
        request = history.of_config(load(config), period, step, caches=caches)
    else:
        request = history.of_rules(rules, period, step, caches=caches)
    found = history.run(access, request, progress=True)
    print(history.as_json(found) if json else history.as_text(found))
