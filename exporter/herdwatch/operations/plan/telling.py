"""A plan as a table, as JSON, and the commands that come next."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from io import StringIO
from itertools import product
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from herdwatch.operations.hot_keys import ago
from herdwatch.operations.plan.arithmetic import Question, tightest_pace
from herdwatch.operations.plan.figures import PER_SECOND
from herdwatch.operations.plan.popularity import Popularity
from herdwatch.operations.plan.rows import Plan, Row, number, percent
from herdwatch.operations.plan.writing import Written

NARROWEST, WIDEST = 80, 140
_LONG_SECONDS = 120
ASSUMED = (
    "assumed, since nothing says better: let the application write a journal, Reporter(guard, journal=FOLDER), and "
    "give --journal FOLDER"
)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the exponent is from: fitted to a journal, or given, or neither; and what the next commands name."""

    popularity: Popularity | None = None
    given: bool = False
    journal: Path | None = None
    cache: str | None = None

    def as_text(self) -> str:
        """In words."""
        if self.popularity is not None:
            return self.popularity.as_text()
        return "given with --zipf" if self.given else ASSUMED


def as_text(plan: Plan, origin: Origin, written: Written | None = None, *, width: int = WIDEST) -> str:
    """What was asked, a table for so many columns, its sources, and what to do next."""
    out = StringIO()
    console = Console(file=out, width=max(NARROWEST, min(width, WIDEST)), color_system=None)
    for line in (_asked(plan.asked), f"s = {plan.asked.exponent:.3g}, Zipf's exponent, {origin.as_text()}"):
        console.print(Text(line))
    for line in origin.popularity.left_out if origin.popularity else ():
        console.print(Text(f"left out: {line}"), soft_wrap=True)
    sources = list(dict.fromkeys(source for row in plan.rows for source in row.sources))
    console.print(_table(plan, sources))
    console.print()
    for place, source in enumerate(sources, 1):
        console.print(Text(f"[{place}] {source}"), soft_wrap=True)
    console.print()
    for line in (*(() if written is None else written.said), "next:"):
        console.print(Text(line), soft_wrap=True)
    for line in commands(plan, origin, written):
        console.print(Text(f"  {line}"), soft_wrap=True)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def as_json(plan: Plan, origin: Origin, written: Written | None = None) -> str:
    """The same as one JSON object; a fit is there for an exponent from a journal."""
    found = origin.popularity
    exponent = {
        "from": "journal" if found else "given" if origin.given else "assumed",
        "text": origin.as_text(),
        "fit": None if found is None else {**asdict(found.fit), "good": found.fit.good},
        "left_out": [] if found is None else list(found.left_out),
    }
    content = {
        "asked": asdict(plan.asked),
        "exponent": exponent,
        "rows": [asdict(row) for row in plan.rows],
        "written": None if written is None else written.as_data(),
        "next": list(commands(plan, origin, written)),
    }
    return json.dumps(content, indent=2, ensure_ascii=False)


def commands(plan: Plan, origin: Origin, written: Written | None = None) -> Iterator[str]:
    """What to run next, ready to be copied; words in capitals are the reader's to fill in."""
    asked = plan.asked
    if not plan.needs_cache:
        yield "# nothing: the database takes its peak without a cache"
        return
    config = shlex.quote("herdwatch.yaml" if written is None else str(written.path))
    if written is None:
        question = f"--peak-rps {asked.peak_rps:.12g} --db-capacity {asked.capacity:.12g} --keys {asked.keys}"
        yield f"herdwatch plan {question}{_exponent(plan, origin)} --write --config {config} --database NAME"
    yield f"herdwatch render --config {config} --out FOLDER"
    caches = (origin.cache,) if origin.cache else (() if written is None else written.caches)
    journal = "JOURNAL" if origin.journal is None else shlex.quote(str(origin.journal))
    group = f" --group {shlex.quote(origin.popularity.group)}" if origin.popularity else ""
    name, pace = tightest_pace(asked)
    rate = "" if name == "seed" else f" --max-rate {pace:.6g}"
    services = origin.popularity.services if origin.popularity else ()
    # Each service has a loader of its own, so the keys of one are warmed at a time.
    chosen = [f" --service {shlex.quote(service)}" for service in services] if len(services) > 1 else [""]
    for cache, service in product(caches or ("NAME",), chosen):
        yield (
            f"herdwatch warm --cache {shlex.quote(cache)} --journal {journal}{service}{group} --loader MODULE:FUNCTION "
            f"--config {config} --until-hit-ratio capacity --ttl {asked.ttl:.12g}{rate}"
        )


def _exponent(plan: Plan, origin: Origin) -> str:
    """The options that say the exponent again."""
    if origin.popularity is not None and origin.journal is not None:
        of = origin.popularity
        where = ("--journal", str(origin.journal), "--cache", of.cache, "--group", of.group)
        return f" {shlex.join(where)}"
    return f" --zipf {plan.asked.exponent:.12g}" if origin.given else ""


def _asked(asked: Question) -> str:
    parts = (
        f"R = {number(asked.peak_rps)} lookups/s at the peak",
        f"C = {number(asked.capacity)} loads/s that the database takes",
        f"N = {number(asked.keys)} keys",
        f"L = {number(asked.load_seconds)} s a load (--load-ms)",
        f"P = {number(asked.processes)} processes (--processes)",
        f"M = {number(asked.max_loads)} loads at a time in each (--max-loads)",
        f"ttl = {number(asked.ttl)} s (--ttl)",
    )
    return ", ".join(parts)


def _table(plan: Plan, sources: list[str]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=True)
    table.add_column("")
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("of C", justify="right", no_wrap=True)
    table.add_column("formula and sources")
    part = ""
    for row in plan.rows:
        if row.part != part:
            part = row.part
            table.add_row()
            table.add_row(Text(f"{part}:"))
        places = "".join(f"[{sources.index(source) + 1}]" for source in row.sources)
        told = Text(f"{row.formula} {places}")
        table.add_row(Text(f"  {row.what}"), Text(figure(row)), Text(_of_capacity(row, plan.asked)), told)
    return table


def figure(row: Row) -> str:
    """The number of a row with its unit."""
    if row.unit == "ratio":
        return f"{row.number:.4f}"
    if row.unit == "s" and row.number >= _LONG_SECONDS:
        return f"{number(row.number)} s, {ago(row.number)}"
    return f"{number(row.number)} {row.unit}"


def _of_capacity(row: Row, asked: Question) -> str:
    if row.unit != PER_SECOND:
        return ""
    times = row.number / asked.capacity
    return f"{number(times)} x" if times >= 2 else percent(times)
