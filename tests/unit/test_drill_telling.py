"""The drill on a terminal and in a file."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console
from tests.drill_runs import GOOD

from herdwatch.drill.replay import telling
from herdwatch.drill.replay.results import Claim, Counted, Drill, Verdict
from herdwatch.drill.replay.telling import HEADS, Terminal, row

BARE = replace(GOOD, name="restart-none", peak=1150.0, p99=None, recovered=None, alerts=(), paged=None, pages=0)


def said(drill: Drill, **options: object) -> str:
    file = io.StringIO()
    terminal = Terminal(Console(file=file, highlight=False, **options))  # type: ignore[arg-type]
    with terminal:
        for result in drill.results:
            terminal.ended(result)
    terminal.conclude(drill)
    return file.getvalue()


def drill(**more: object) -> Drill:
    return Drill(1, 100.0, 20.0, 20.0, 15, {}, {}, results=[GOOD, BARE], **more)  # type: ignore[arg-type]


def test_a_row_says_every_figure_of_a_run() -> None:
    told = dict(zip(HEADS, row(GOOD), strict=True))
    assert told == {
        "run": "restart-limiter",
        "peak": "0.75x",
        "queries": "500",
        "p50": "3 ms",
        "p99": "600 ms",
        "failed": "0",
        "shed": "900",
        "hits": "20%",
        "back": "20 s",
        "fired": "12 s",
        "page": "17 s",
        "pages": "1",
        "counts": "agree",
    }


def test_what_did_not_happen_is_a_dash_and_counts_that_differ_are_loud() -> None:
    told = dict(zip(HEADS, row(replace(BARE, counted=Counted(1, 1, 2))), strict=True))
    assert (told["peak"], told["p99"], told["back"], told["fired"], told["page"]) == ("11.5x", "-", "-", "-", "-")
    assert told["counts"] == "DIFFER"


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "file"])
def test_at_the_end_there_are_the_table_its_legend_and_every_alert(terminal: bool) -> None:
    text = said(drill(), force_terminal=terminal, width=140)
    for result in (GOOD, BARE):
        assert result.name in text
    assert "restart-limiter: CacheRestarted after 12 s" in text
    assert "restart-none: no alert" in text
    assert telling.LEGEND.splitlines()[0] in text
    assert "…" not in text


def test_claims_plan_verdicts_and_what_is_missing_have_a_line_each() -> None:
    lines = said(
        drill(
            claims=[Claim("it is so", "it was", "we looked", holds=False)],
            planned=[("peak", 75.0, 72.0, 0.04, "f"), ("other", 1.0, 0.0, None, "g")],
            verdicts=[Verdict("all is well", holds=True)],
            partial="it was interrupted",
        )
    )
    assert "NO   it is so" in lines
    assert "measured: it was" in lines
    assert "peak: planned 75.0, measured 72.0 (+4%)" in lines
    assert "other: planned 1.0, measured 0.0 (-)" in lines
    assert "yes  all is well" in lines
    assert "This drill is partial: it was interrupted." in lines
