"""What must be so after a run, in sentences that are the same whenever the outcome is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from herdwatch.drill.replay.levels import Level
from herdwatch.drill.replay.results import Drill, Result, Verdict
from herdwatch.drill.replay.scale import LEAST_MULTIPLE
from herdwatch.drill.replay.scenarios import SCENARIOS, Scenario

PAGE_SECONDS = {5: 15.0, 15: 30.0, 30: 60.0, 60: 120.0}
"""Within which a page has to come, by scrape interval."""
PROMPT = ("CacheRestarted", "CacheKeysLost")
"""Alerts that need no time to be sure of; others wait on purpose before they page."""


def of(results: Sequence[Result], scrape_interval: int) -> list[Verdict]:
    """The verdicts on these runs, in their order."""
    return [verdict for result in results for verdict in _of(result, SCENARIOS[result.scenario], scrape_interval)]


def _of(result: Result, scenario: Scenario, interval: int) -> Iterator[Verdict]:
    level, name = Level(result.level), result.name
    if (scenario.name == "restart" and level == Level.NONE) or scenario.overruns:
        yield Verdict(
            f"{name}: the incident is real, the database was asked for at least {LEAST_MULTIPLE:g} times its capacity",
            result.peak_ratio >= LEAST_MULTIPLE,
        )
        yield Verdict(f"{name}: users felt it", result.failed > 0)
    elif level.has(Level.LIMITER):
        yield Verdict(f"{name}: the database was never asked for more than its capacity", result.peak_ratio <= 1.0)
        yield Verdict(f"{name}: nobody failed beyond those shed on purpose", result.failed == 0)
    if level == Level.REPLICA:
        yield Verdict(f"{name}: the cache was never cold", result.recovered == 0)
    yield from _signals(result, scenario, interval)
    yield Verdict(f"{name}: guard, application and PostgreSQL counted the same loads", result.counted.agree)


def _signals(result: Result, scenario: Scenario, interval: int) -> Iterator[Verdict]:
    wanted = expected(scenario, Level(result.level))
    fired = {alert.name for alert in result.alerts}
    if not wanted:
        yield Verdict(f"{result.name}: nobody was paged", result.pages == 0)
        return
    yield Verdict(f"{result.name}: {' and '.join(wanted)} fired", fired >= set(wanted))
    yield Verdict(f"{result.name}: exactly one page", result.pages == 1)
    if set(wanted) & set(PROMPT) and scenario.act.__name__ in ("restart", "flush"):
        limit = PAGE_SECONDS[interval]
        within = result.paged is not None and result.paged <= limit
        yield Verdict(f"{result.name}: the page came within {limit:g} s of the fault", within)


def expected(scenario: Scenario, level: Level) -> tuple[str, ...]:
    """The alerts that should fire."""
    if level == Level.REPLICA:
        return ()
    return scenario.told if level.has(Level.REFRESH) else scenario.told_unprotected or scenario.told


def judge(drill: Drill) -> None:
    """Put the verdicts into a drill."""
    drill.verdicts = of(drill.results, drill.scrape_interval)
