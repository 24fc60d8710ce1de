"""A drill in the terminal: a table that fills while it runs, and at its end what it has shown."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from herdwatch.drill.replay import figures, logs
from herdwatch.drill.replay.cast import Cast
from herdwatch.drill.replay.results import Drill, Result
from herdwatch.drill.replay.running import Run

LOOK_SECONDS = 1.0
HEADS = ("run", "peak", "queries", "p50", "p99", "failed", "shed", "hits", "back", "fired", "page", "pages", "counts")
LEGEND = """\
peak     queries asked for in the busiest second, as a multiple of the capacity; queries: all of them
p50 p99  latency from when a request was due, of all that were not turned away (shed) on purpose
hits     hit ratio of the worst second, of those who were admitted; back: seconds until it is 95 % again
fired    seconds from the fault to the first alert, most of them until the next scrape; page: until it was delivered
counts   whether the guard counted what the application asked, and PostgreSQL what it sent"""
WIDTH = 120
"""Of the table where no terminal says how wide it is."""
UNKNOWN = "-"


class Terminal:
    """On a terminal a live table; elsewhere a line when something happens. Use as a context manager."""

    def __init__(self, console: Console | None = None) -> None:
        found = console or Console(file=sys.stdout, highlight=False)
        self._console = found if found.is_terminal else Console(file=found.file, highlight=False, width=WIDTH)
        self._rows: list[tuple[str, ...]] = []
        self._live: Live | None = None
        self._cast: Cast | None = None
        self._name, self._capacity, self._looked = "", 1.0, 0.0

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """A line above the table."""
        self._console.print(text, markup=False, soft_wrap=True)

    def began(self, run: Run, cast: Cast, capacity: float) -> None:
        """A run begins."""
        self._cast, self._name, self._capacity, self._looked = cast, run.name, capacity, 0.0
        if self._live is None:
            self.say(f"{run.name}: {run.about}")
        else:
            self._show((run.name, "full load", *[""] * (len(HEADS) - 2)))

    def going(self, seconds: float) -> None:
        """What the application has written so far, once a second."""
        now = time.monotonic()
        if self._live is None or self._cast is None or now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        noted = [logs.read(path) for path in self._cast.logs]
        asked = [query.asked for one in noted for query in one.queries]
        ratio = figures.hit_ratios(noted, (now - 1.5, now - 0.5))[0]
        told = (self._name, _over(figures.busiest(asked), self._capacity), f"{len(asked):,}", *[""] * 4)
        self._show((*told, "" if ratio is None else f"{ratio:.0%} now", f"{seconds:+.0f} s", *[""] * 4))

    def ended(self, result: Result) -> None:
        """It is over: its row stays."""
        self._rows.append(row(result))
        if self._live is None:
            self.say("  " + ", ".join(f"{head} {cell}" for head, cell in zip(HEADS[1:], row(result)[1:], strict=True)))
        else:
            self._show()

    def _show(self, last: tuple[str, ...] | None = None) -> None:
        if self._live is not None:
            self._live.update(_table([*self._rows, *([last] if last else [])]), refresh=True)

    def conclude(self, drill: Drill) -> None:
        """The whole table, what the seed says beside what was measured, and the verdicts."""
        if drill.results:
            self._console.print(_table([row(result) for result in drill.results]))
            self.say(LEGEND)
            for result in drill.results:
                fired = ", ".join(f"{one.name} after {one.seconds:.0f} s" for one in result.alerts) or "no alert"
                self.say(f"{result.name}: {fired}")
        for line in told(drill):
            self.say(line)


def told(drill: Drill) -> Iterator[str]:
    """Claims and verdicts, a line each."""
    if drill.claims:
        yield ""
        yield "What the seed says, and what was measured:"
    for claim in drill.claims:
        yield f"  {'yes' if claim.holds else 'NO '}  {claim.claimed}"
        yield f"       measured: {claim.measured}"
        yield f"       how: {claim.how}"
    if drill.planned:
        yield ""
        yield "What herdwatch plan says beforehand:"
    for what, planned, measured, error, _ in drill.planned:
        off = UNKNOWN if error is None else f"{error:+.0%}"
        yield f"  {what}: planned {planned:,.1f}, measured {measured:,.1f} ({off})"
    if drill.verdicts:
        yield ""
        yield "Verdicts:"
    for verdict in drill.verdicts:
        yield f"  {verdict}"
    if drill.partial:
        yield ""
        yield f"This drill is partial: {drill.partial}."


def row(result: Result) -> tuple[str, ...]:
    """A run as cells under HEADS."""
    return (
        result.name,
        _over(result.peak, result.capacity),
        f"{result.counted.asked:,}",
        _milliseconds(result.p50),
        _milliseconds(result.p99),
        f"{result.failed:,}",
        f"{result.shed:,}",
        UNKNOWN if result.lowest is None else f"{result.lowest:.0%}",
        UNKNOWN if result.recovered is None else f"{result.recovered:.0f} s",
        f"{result.alerts[0].seconds:.0f} s" if result.alerts else UNKNOWN,
        UNKNOWN if result.paged is None else f"{result.paged:.0f} s",
        str(result.pages),
        "agree" if result.counted.agree else "DIFFER",
    )


def _table(rows: list[tuple[str, ...]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for head in HEADS:
        table.add_column(head, justify="left" if head in ("run", "counts") else "right", no_wrap=True)
    for cells in rows:
        table.add_row(*cells)
    return table


def _over(peak: float, capacity: float) -> str:
    return f"{peak / capacity:.2f}x" if peak < capacity else f"{peak / capacity:.1f}x"


def _milliseconds(seconds: float | None) -> str:
    return UNKNOWN if seconds is None else f"{seconds * 1000:.0f} ms"
