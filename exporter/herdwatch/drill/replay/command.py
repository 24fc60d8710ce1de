"""What `herdwatch drill` does: it plays, writes page and JSON, and says what was shown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from herdwatch.drill.replay import page, recording, session
from herdwatch.drill.replay.levels import Level
from herdwatch.drill.replay.results import Drill
from herdwatch.drill.replay.scenarios import SCENARIOS
from herdwatch.drill.replay.session import Order
from herdwatch.drill.replay.telling import Terminal
from herdwatch.drill.replay.users import check_dsn
from herdwatch.errors import CheckFailed, HerdwatchError, UsageError
from herdwatch.operations.report import writing

SHOWN = 3
DATA = writing.Kind('"herdwatch_drill"', "is no drill's", "drill.html")
"""The JSON beside the page; its path follows from the one that is given."""


def listed() -> list[str]:
    """What there is to be played, a line each."""
    width = max(map(len, (*SCENARIOS, *Level)))
    told = [f"{'SCENARIO':<{width}}  what happens (LEVEL where none is given)"]
    told += [f"{one.name:<{width}}  {one.about} ({one.level})" for one in SCENARIOS.values()]
    told += ["", f"{'LEVEL':<{width}}  how the application is protected, each with what those above it have"]
    return [*told, *(f"{level:<{width}}  {level.about}" for level in Level)]


def ordered(
    runs: Sequence[str],
    *,
    everything: bool = False,
    seed: int = 1,
    multiple: float = 20.0,
    interval: int = 15,
    database: str | None = None,
    record: Path | None = None,
) -> Order:
    """What to do, from texts; raises UsageError, which says what is wrong."""
    if everything and runs:
        raise UsageError("--all plays every scenario; give it without names of some")
    chosen = session.ALL if everything else tuple(map(session.parse, runs)) or session.SHORT
    if database is not None:
        check_dsn(database)
    if record is not None:
        recording.check(record)
    order = Order(chosen, seed=seed, multiple=multiple, interval=interval, database=database, record=record)
    session.check(order)
    return order


def run(order: Order, out: Path) -> None:
    """Play it on the terminal and write page and JSON, whatever happens on the way; raises what went wrong.

    CheckFailed, too, where something is not as it should be.
    """
    if out.suffix != ".html":
        raise UsageError(f"--out {out}: it must end in .html; the JSON beside it ends in .json")
    data = out.with_suffix(".json")
    page.check(out)
    writing.check(data, DATA)
    kept: list[Drill] = []

    def keep(drill: Drill) -> None:
        kept[:] = [drill]
        page.write(out, drill)
        writing.write(data, json.dumps(drill.as_json(), indent=1) + "\n", DATA)

    terminal = Terminal()
    try:
        with terminal:
            session.play(order, terminal, keep)
    except (HerdwatchError, KeyboardInterrupt, SystemExit) as error:
        for drill in kept:
            drill.partial = str(error) if isinstance(error, HerdwatchError) else "it was interrupted"
            keep(drill)
            terminal.conclude(drill)
            terminal.say(f"What there is of it: {out} and {data}")
        raise
    [drill] = kept
    terminal.conclude(drill)
    terminal.say(f"Report: {out.resolve()}, and as JSON {data.resolve()}")
    if wrong := [one.sentence for one in drill.verdicts if not one.holds]:
        more = f", and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise CheckFailed(f"not as it should be: {'; '.join(wrong[:SHOWN])}{more}")
