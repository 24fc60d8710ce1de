"""The verbs that run real servers on this machine: tools, the demo and the benchmarks."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from herdwatch.cli.app import app


class Subject(StrEnum):
    """What the benchmark measures."""

    EXPORTER = "exporter"
    GUARD = "guard"
    RULES = "rules"
    WARM = "warm"


@app.command()
def tools() -> None:
    """Find or fetch promtool, prometheus, alertmanager and redis-server, and say which were taken."""
    from herdwatch import tools as programs

    for tool in programs.ensure(programs.ALL):
        print(f"{tool.name:<13} {tool.version:<10} {tool.origin:<17} {tool.path}")


@app.command()
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running until Ctrl-C.")] = False,
) -> None:
    """Kill a real Redis and follow what happens, up to the resolved page."""
    from herdwatch.drill import demo as incident

    incident.run(keep=keep)


@app.command()
def drill(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SCENARIO[:LEVEL]]...", help="What is played; by default a restart, less and more protected."
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every scenario.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="Say which scenarios and levels there are.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Who asks, and when values end: the same for the same seed.")] = 1,
    multiple: Annotated[
        float, typer.Option(min=10, max=100, help="Load, as a multiple of the database's measured capacity.")
    ] = 20,
    scrape_interval: Annotated[
        int, typer.Option(metavar="SECONDS", help="How often Prometheus scrapes: 15, or 5.")
    ] = 15,
    database: Annotated[
        str | None,
        typer.Option(metavar="DSN", help="Your own PostgreSQL, its password in PGPASSWORD; by default one is made."),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Keep there what Prometheus had of each run, as herdwatch score plays it."),
    ] = None,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="The report, an HTML page; beside it the same as JSON.")
    ] = Path("drill.html"),
) -> None:
    """Replay the incident on real servers, with and without the guards, and measure what each of them saves."""
    from herdwatch.drill.replay import command

    if list_:
        print("\n".join(command.listed()))
        return
    order = command.ordered(
        runs or (),
        everything=everything,
        seed=seed,
        multiple=multiple,
        interval=scrape_interval,
        database=database,
        record=record,
    )
    command.run(order, out)


@app.command()
def bench(
    subject: Annotated[
        Subject | None, typer.Argument(help="What is measured; all if it is left out.", show_default=False)
    ] = None,
    keys: Annotated[int, typer.Option(min=1, help="Exporter: keys in the Redis that is scraped.")] = 1_000_000,
    scrapes: Annotated[int, typer.Option(min=10, help="Exporter: scrapes per measurement.")] = 1000,
    rounds: Annotated[int, typer.Option(min=1, help="Guard: rounds, in each of which every candidate runs.")] = 15,
    caches: Annotated[int, typer.Option(min=1, help="Rules: caches that one Prometheus watches.")] = 1000,
) -> None:
    """Measure a scrape, the guard beside a bare GET and its peers, what a Prometheus pays, and a warm-up."""
    from herdwatch.drill.bench import exporter as scraping
    from herdwatch.drill.bench import guard as guarding
    from herdwatch.drill.bench import rules as evaluating
    from herdwatch.drill.bench import warm as warming

    if subject in (None, Subject.EXPORTER):
        scraping.run(keys=keys, scrapes=scrapes)
    if subject in (None, Subject.GUARD):
        guarding.run(rounds=rounds)
    if subject in (None, Subject.RULES):
        evaluating.run(caches=caches)
    if subject in (None, Subject.WARM):
        warming.run()
