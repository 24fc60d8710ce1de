"""What must be so after a run, in sentences that are the same whenever the outcome is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from herdwatch.drill.replay.levels import Level
from herdwatch.drill.replay.results import Drill, Result, Verdict
from herdwatch.drill.replay.scale import OVERRUN
from herdwatch.drill.replay.scenarios import SCENARIOS, Scenario

PAGE_SECONDS = {5: 15.0, 15: 30.0}
"""Within which a page has to come, by scrape interval."""
OVER, BUSY = 1.5, 0.8
"""Times the capacity that count as more than it takes, and the share of it that counts as busy."""
PROMPT = ("CacheRestarted", "CacheKeysLost")
"""Alerts that need no time to be sure of; others wait on purpose before they page."""


def of(results: Sequence[Result], scrape_interval: int) -> list[Verdict]:
    """The verdicts on these runs, in their order."""
    return [verdict for result in results for verdict in _of(result, SCENARIOS[result.scenario], scrape_interval)]


def _of(result: Result, scenario: Scenario, interval: int) -> Iterator[Verdict]:
    level, name = Level(result.level), result.name
    if (scenario.name == "restart" and level == Level.NONE) or (scenario.overruns and not level.has(Level.LIMITER)):
        yield Verdict(
            f"{name}: the incident is real, the database was asked for at least {OVERRUN:g} times its capacity",
            result.peak_ratio >= OVERRUN,
        )
        yield Verdict(f"{name}: users felt it", result.failed > 0)
    elif level.has(Level.LIMITER):
        yield Verdict(f"{name}: the database was never asked for more than its capacity", result.peak_ratio <= 1.0)
        yield Verdict(f"{name}: nobody failed beyond those shed on purpose", result.failed == 0)
    if not level.has(Level.LIMITER):
        told = f"{name}: it was the database that could not keep up, and not the processes of the application"
        yield Verdict(told, saturated(result))
    if level == Level.WARM:
        yield Verdict(f"{name}: traffic was admitted, and 95 % of it hit", result.recovered is not None)
    if level == Level.REPLICA:
        yield Verdict(f"{name}: the cache was never cold", result.recovered == 0)
    yield from _signals(result, scenario, interval)
    guard = "the guard counted what the application asked, and " if result.counted.executions is not None else ""
    yield Verdict(f"{name}: {guard}PostgreSQL counted what the application sent", result.counted.agree)


def saturated(result: Result) -> bool:
    """Whether the database was kept busy in the seconds in which it was asked for more than it takes.

    Where it was not, the processes in front of it had no time for it, and the run shows a slow machine.
    """
    curves, limit = result.curves, result.capacity
    busy = [sent for asked, sent in zip(curves.asked, curves.sent, strict=True) if asked > OVER * limit]
    return sum(busy) >= BUSY * limit * len(busy)


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
