"""The verb that says beforehand what a cold restart would do."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from herdwatch.cli.app import ConfigOption, app
from herdwatch.errors import UsageError

ASSUMED_EXPONENT = 1.0
HERE = Path("herdwatch.yaml")
UNSEEN_WIDTH = 120
"""Columns where there is no terminal."""


@app.command()
def plan(
    peak_rps: Annotated[float, typer.Option(metavar="R", help="Lookups a second at the peak.")],
    db_capacity: Annotated[float, typer.Option(metavar="C", help="Loads a second that the database takes.")],
    keys: Annotated[int, typer.Option(metavar="N", help="How many keys the cache holds when it is warm.")],
    zipf: Annotated[
        float | None, typer.Option(metavar="S", help="Zipf's exponent of popularity; without it and a journal, 1.")
    ] = None,
    journal: Annotated[
        Path | None, typer.Option(metavar="PATH", help="The exponent from a Reporter's journal, or a folder of them.")
    ] = None,
    cache: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which cache of herdwatch.yaml, or of the journals.")
    ] = None,
    group: Annotated[str | None, typer.Option(metavar="NAME", help="Which group of the journal.")] = None,
    load_ms: Annotated[float, typer.Option(metavar="MS", help="How long one load takes, in ms.")] = 20,
    processes: Annotated[int, typer.Option(metavar="P", help="Processes of the application.")] = 10,
    max_loads: Annotated[int, typer.Option(metavar="M", help="Loads at the same time in each: the guard's.")] = 64,
    ttl: Annotated[float, typer.Option(help="Seconds that a value lives.")] = 3600,
    max_rate: Annotated[
        float | None, typer.Option(metavar="N", help="Loads a second of a warm-up; the seed's pace is there anyway.")
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Set capacity and peak in herdwatch.yaml.")] = False,
    database: Annotated[str | None, typer.Option(metavar="NAME", help="Of which database, with --write.")] = None,
    config: ConfigOption = None,
    json: Annotated[bool, typer.Option("--json", help="Everything as JSON, on stdout.")] = False,
) -> None:
    """Work out what a cold restart does to the database, what each guard saves, and what has to be warm before."""
    from herdwatch.operations import plan as planning

    if journal is not None and zipf is not None:
        raise UsageError("give --zipf or --journal, not both: each says what the exponent is")
    if group is not None and journal is None:
        raise UsageError("--group is a group of a journal: give it with --journal PATH")
    if write != (database is not None):
        raise UsageError("--write and --database NAME go together: which database of herdwatch.yaml is it")
    if config is not None and not write:
        raise UsageError("--config is the file to write to: give it with --write and --database NAME")
    numbers = {"--peak-rps": peak_rps, "--db-capacity": db_capacity, "--load-ms": load_ms, "--processes": processes,
               "--max-loads": max_loads, "--ttl": ttl, "--max-rate": max_rate}  # fmt: skip
    _check(numbers, keys, zipf)
    goal = None if database is None else planning.check(database, db_capacity, peak_rps)
    found = None if journal is None else planning.from_journal(journal, keys, cache=cache, group=group)
    exponent = ASSUMED_EXPONENT if zipf is None else zipf
    asked = planning.Question(
        peak_rps=peak_rps,
        capacity=db_capacity,
        keys=keys,
        exponent=exponent if found is None else found.fit.exponent,
        load_seconds=load_ms / 1000,
        processes=processes,
        max_loads=max_loads,
        ttl=ttl,
        warm_rate=max_rate,
    )
    made = planning.plan(asked)
    written = None if goal is None else planning.write(config or HERE, goal)
    origin = planning.Origin(found, zipf is not None, journal, cache if found is None else found.cache)
    if json:
        print(planning.as_json(made, origin, written))
    else:
        print(planning.as_text(made, origin, written, width=shutil.get_terminal_size((UNSEEN_WIDTH, 0)).columns))


def _check(numbers: dict[str, float | None], keys: int, zipf: float | None) -> None:
    """Raise UsageError naming the option whose number is none to plan with."""
    from herdwatch.operations.plan.arithmetic import LARGEST, SMALLEST
    from herdwatch.operations.plan.zipf import MAX_EXPONENT, MAX_KEYS

    for option, value in numbers.items():
        if value is not None and not SMALLEST <= value <= LARGEST:
            raise UsageError(f"{option} {value:g}: it must be a number from {SMALLEST:g} to {LARGEST:g}")
    if not 1 <= keys <= MAX_KEYS:
        raise UsageError(f"--keys {keys}: it must be a whole number from 1 to {MAX_KEYS:g}")
    if zipf is not None and not 0 <= zipf <= MAX_EXPONENT:
        raise UsageError(f"--zipf {zipf:g}: it must be a number from 0 to {MAX_EXPONENT:g}; traffic has 0.6 to 1.3")
