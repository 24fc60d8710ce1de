"""The tables of a drill's page, and its verdicts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from herdwatch.drill.replay.results import Counted, Drill, Result
from herdwatch.operations.report.parts import box, table
from herdwatch.operations.report.words import UNKNOWN, latency, percent, safe, si, times_over

RUNS = (
    "run",
    "peak asked for, of the capacity",
    "peak sent to PostgreSQL, a second",
    "queries in total",
    "p50",
    "p99 before",
    "p99 after",
    "failed",
    "shed",
    "lowest hit ratio",
    "95 % hits after",
    "alerts after",
    "page after",
    "pages",
    "the three counts agree",
)
PLAN = ("what", "planned", "measured", "error", "formula")
NOTE = (
    "Times are seconds after the fault. Queries in total are those of the whole run, all else is of the time after the "
    "fault, or before it where it says so. A latency is that of every request that was not shed, from the moment at "
    "which it was due; who gave up counts with the time that he waited. The three counts of the queries are those of "
    "the guard, of the application's log and of PostgreSQL."
)


def claims(drill: Drill) -> str:
    """What the seed says beside what was measured; nothing where nothing can be said yet."""
    if not drill.claims:
        return ""
    rows = [[safe(one.claimed), safe(one.measured), safe(one.how), yes(one.holds)] for one in drill.claims]
    return box("Claims", table(("claimed by the seed", "measured", "how", "holds"), rows), "claims")


def runs(drill: Drill) -> str:
    """The comparison: a row a run."""
    if not drill.results:
        return "<p>No run has come to its end.</p>\n"
    rows = [list(_run(one)) for one in drill.results]
    late = max(one.late for one in drill.results)
    behind = f" The generator of the load was never more than {latency(late)} behind its own schedule."
    return box("Runs", table(RUNS, rows), "runs") + f'<p class="note">{safe(NOTE + behind)}</p>\n'


def _run(one: Result) -> Iterator[str]:
    yield safe(one.name)
    yield times_over(one.peak_ratio if one.capacity else None)
    yield f"{one.peak_sent:,.0f}"
    yield f"{one.counted.asked:,} asked<br>{one.counted.scanned:,} run"
    yield from (latency(value) for value in (one.p50, one.p99_before, one.p99))
    yield from (_part(count, one.requests) for count in (one.failed, one.shed))
    yield percent(one.lowest)
    yield (
        "never lower" if one.recovered == 0 else "not while watched" if one.recovered is None else _after(one.recovered)
    )
    yield "<br>".join(f"{safe(alert.name)} {_after(alert.seconds)}" for alert in one.alerts) or "none"
    yield _after(one.paged)
    yield f"{one.pages:,}"
    yield _agree(one.counted)


def _part(count: int, whole: int) -> str:
    return f"{count:,}<br>{percent(count / whole)}" if count and whole else f"{count:,}"


def _after(seconds: float | None) -> str:
    return UNKNOWN if seconds is None else f"{seconds:.1f} s"


def _agree(counted: Counted) -> str:
    if counted.agree:
        return yes(True)
    told = [f"log {counted.asked:,}, sent {counted.sent:,}", f"PostgreSQL {counted.scanned:,}"]
    if counted.executions is not None:
        told.insert(0, f"guard {counted.executions:,}")
        told.append(f"requests {_count(counted.requests)}, classes {_count(counted.classes)}")
    return "<br>".join([yes(False), *told])


def _count(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"


def verdicts(drill: Drill) -> str:
    """The verdicts in their order."""
    if not drill.verdicts:
        return ""
    lines = "".join(f"<li>{yes(one.holds)}<span>{safe(one.sentence)}</span></li>\n" for one in drill.verdicts)
    return f'<ul class="verdicts" role="list">\n{lines}</ul>\n'


def plan(drill: Drill) -> str:
    """What `herdwatch plan` had said beside what came; nothing where it was not asked."""
    if not drill.planned:
        return ""
    rows = []
    for what, planned, measured, error, formula in drill.planned:
        numbers = (_number(planned), _number(measured), _error(error))
        rows.append([safe(str(what)), *map(safe, numbers), f"<code>{safe(str(formula))}</code>"])
    return box("Plan", table(PLAN, rows), "planned")


def _number(value: Any) -> str:
    return si(value) if value is None or isinstance(value, (int, float)) else str(value)


def _error(value: Any) -> str:
    return percent(value) if value is None or isinstance(value, (int, float)) else str(value)


def yes(holds: bool) -> str:
    """Whether something holds, in a word that needs no colour."""
    return '<strong class="holds">yes</strong>' if holds else '<strong class="bad">NO</strong>'
