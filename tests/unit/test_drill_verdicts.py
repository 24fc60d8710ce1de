"""Verdicts and claims on made-up runs: each of them can hold, and each can fail."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.drill_runs import GOOD

from herdwatch.drill.replay import claims, verdicts
from herdwatch.drill.replay.levels import Level
from herdwatch.drill.replay.results import Alert, Counted, Curves, Drill, Result
from herdwatch.drill.replay.scenarios import SCENARIOS

BARE = replace(
    GOOD, name="restart-none", level="none", peak=1500.0, failed=9000, shed=0, counted=Counted(9000, 3000, 3000)
)
BUSY = Curves(first=-1, asked=(0.0, 900.0, 400.0, 90.0), sent=(0.0, 96.0, 97.0, 20.0))
STARVED = replace(BUSY, sent=(0.0, 40.0, 30.0, 20.0))
BARE = replace(BARE, curves=BUSY)
WARM = replace(GOOD, name="restart-warm", level="warm")
REPLICA = replace(
    GOOD, name="restart-replica", level="replica", peak=0.0, recovered=0.0, lowest=1.0, alerts=(), paged=None, pages=0
)
OFF = replace(
    BARE,
    name="singleflight-off-refresh",
    scenario="singleflight-off",
    level="refresh",
    alerts=(Alert("SingleflightDisabled", "warning", 9.0), *GOOD.alerts),
)


def wrong(result: Result) -> list[str]:
    return [one.sentence.partition(": ")[2] for one in verdicts.of([result], 15) if not one.holds]


@pytest.mark.parametrize("result", [GOOD, BARE, WARM, REPLICA, OFF], ids=lambda one: one.name)
def test_a_run_as_it_should_be_has_verdicts_and_all_of_them_hold(result: Result) -> None:
    assert len(verdicts.of([result], 15)) >= 4
    assert wrong(result) == []


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        (replace(GOOD, peak=100.5), "the database was never asked for more than its capacity"),
        (replace(GOOD, failed=1), "nobody failed beyond those shed on purpose"),
        (replace(GOOD, alerts=()), "CacheRestarted fired"),
        (replace(GOOD, pages=2), "exactly one page"),
        (replace(GOOD, paged=30.5), "the page came within 30 s of the fault"),
        (replace(GOOD, paged=None), "the page came within 30 s of the fault"),
        (replace(GOOD, counted=Counted(500, 500, 499, 500, 900, 900)), "PostgreSQL counted what the application sent"),
        (replace(GOOD, counted=Counted(500, 500, 500, 501, 900, 900)), "the guard counted what the application asked"),
        (replace(GOOD, counted=Counted(500, 500, 500, 500, 901, 900)), "the guard counted what the application asked"),
        (replace(WARM, recovered=None), "traffic was admitted, and 95 % of it hit"),
        (replace(BARE, curves=STARVED), "it was the database that could not keep up"),
        (replace(BARE, peak=499.0), "at least 5 times its capacity"),
        (replace(BARE, failed=0), "users felt it"),
        (replace(BARE, counted=Counted(9000, 3000, 3001)), "PostgreSQL counted what the application sent"),
        (replace(REPLICA, recovered=3.0), "the cache was never cold"),
        (replace(REPLICA, pages=1), "nobody was paged"),
        (replace(OFF, alerts=GOOD.alerts), "SingleflightDisabled and CacheRestarted fired"),
    ],
    ids=lambda one: one.replace(" ", "-") if isinstance(one, str) else one.name,
)
def test_what_is_not_as_it_should_be_is_the_one_verdict_that_fails(result: Result, sentence: str) -> None:
    [found] = wrong(result)
    assert sentence in found


def test_the_sentences_are_the_same_whatever_the_figures_are() -> None:
    slower = replace(GOOD, peak=10.0, p99=1.9, paged=29.0, shed=5)
    assert [one.sentence for one in verdicts.of([GOOD], 15)] == [one.sentence for one in verdicts.of([slower], 15)]


@pytest.mark.parametrize("interval", [5, 15])
def test_every_scrape_interval_that_a_drill_takes_has_its_deadline(interval: int) -> None:
    assert any("within" in one.sentence for one in verdicts.of([GOOD], interval))


def test_every_scenario_tells_somebody_of_an_alert_that_exists_or_nobody_of_anything() -> None:
    known = {path.stem for path in (Path(__file__).parents[2] / "runbooks").glob("*.md")}
    for scenario in SCENARIOS.values():
        for level in Level:
            assert set(verdicts.expected(scenario, level)) <= known


def test_a_claim_of_the_seed_says_what_was_measured_and_whether_it_holds() -> None:
    found = claims.of([BARE, replace(GOOD, name="restart-singleflight", peak=900.0), GOOD, REPLICA])
    assert [one.holds for one in found] == [True] * 4
    assert "15.0 times" in found[0].measured
    assert "9.0 times the capacity at the peak instead of 15.0" in found[1].measured
    assert "0.0 % of the requests failed, not 14.1 %" in found[1].measured


def test_a_claim_that_is_not_so_is_said_not_to_hold() -> None:
    weak, single = replace(BARE, peak=300.0), replace(GOOD, name="restart-singleflight", peak=300.0)
    cold = replace(REPLICA, recovered=None)
    assert [one.holds for one in claims.of([weak, single, replace(GOOD, failed=1), cold])] == [False] * 4


def test_a_partial_drill_has_not_passed() -> None:
    drill = Drill(1, 100.0, 20.0, 20.0, 15, {}, {}, results=[GOOD])
    verdicts.judge(drill)
    assert drill.passed
    assert drill.as_json()["passed"] is True
    drill.partial = "interrupted"
    assert not drill.passed
