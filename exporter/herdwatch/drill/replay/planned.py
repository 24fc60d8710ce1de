"""What `herdwatch plan` says of a drill before it is played, beside what was measured, with the error of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from herdwatch.drill.replay.results import Result
from herdwatch.drill.replay.scale import Scale
from herdwatch.drill.replay.scenarios import WARM_SHARE
from herdwatch.operations.plan import arithmetic
from herdwatch.operations.plan.arithmetic import Question

SHUT = 0.99
"""Share of the requests that are turned away in a second in which nobody is admitted."""


class Row(NamedTuple):
    """A figure that was planned and measured; `error` is their difference as a share of what was measured."""

    what: str
    planned: float
    measured: float
    error: float | None
    formula: str


def question(scale: Scale, capacity: float, rate: float) -> Question:
    """What one would have asked `herdwatch plan`."""
    return Question(
        peak_rps=rate,
        capacity=capacity,
        keys=scale.keys,
        exponent=scale.exponent,
        load_seconds=scale.query,
        processes=scale.workers,
        max_loads=scale.loads,
        ttl=scale.ttl,
        warm_rate=WARM_SHARE * capacity,
    )


def rows(results: Sequence[Result], scale: Scale) -> list[Row]:
    """Those that there are runs for."""
    if not results:
        return []
    asked = question(scale, results[0].capacity, results[0].rate)
    return list(_rows(asked, {one.name: one for one in results}))


def _rows(asked: Question, runs: Mapping[str, Result]) -> Iterator[Row]:
    if bare := runs.get("restart-none"):
        yield _row("peak without a guard, at most, loads/s", asked.peak_rps, bare.peak, "R: every lookup misses")
    if single := runs.get("restart-singleflight"):
        told = "keys that are asked for in a second: sum of 1 - (1 - p)^R"
        yield _row("peak with singleflight, loads/s", arithmetic.coalesced_loads(asked), single.peak, told)
    if limited := runs.get("restart-limiter"):
        told = "processes * max_loads / load time"
        yield _row("peak with the limiter, loads/s", arithmetic.limited_loads(asked), limited.peak, told)
        if limited.recovered:
            back = arithmetic.recovery_seconds(asked, 0.95)
            yield _row("back at 95 % hits by its own traffic, s", back, limited.recovered, "mean field, see the plan")
    if warmed := runs.get("restart-warm"):
        keys, (_, pace) = arithmetic.keys_to_warm(asked), arithmetic.tightest_pace(asked)
        yield _row("peak of a warm-up, loads/s", pace, warmed.peak, f"{WARM_SHARE:g} * C, as it was told")
        if warmed.recovered is not None:
            yield _row("warm before admitting, s", keys / pace, _shut(warmed), f"{keys:,} keys / {pace:.0f} loads/s")
        share = arithmetic.loads_when_admitted(asked) / asked.peak_rps
        if admitted := _admitted(warmed):
            yield _row("hit ratio when admitted, %", 100 * (1 - share), 100 * admitted, "p(1) + ... + p(keys)")
    if promoted := runs.get("restart-replica"):
        yield _row("peak with a replica, loads/s", 0.0, promoted.peak, "nothing is cold")


def _shut(result: Result) -> float:
    """Seconds for which nobody was admitted."""
    return float(sum(shed >= SHUT * result.rate for shed in result.curves.shed))


def _admitted(result: Result) -> float | None:
    """The hit ratio of the second after the first one with traffic again: that one is not whole."""
    ratios = result.curves.hit_ratio[-result.curves.first :]
    shed = result.curves.shed[-result.curves.first :]
    again = [ratio for ratio, turned_away in zip(ratios, shed, strict=True) if turned_away < SHUT * result.rate]
    return again[1] if len(again) > 1 else None


def _row(what: str, planned: float, measured: float, formula: str) -> Row:
    error = (planned - measured) / measured if measured else (0.0 if not planned else None)
    return Row(what, round(planned, 1), round(measured, 1), None if error is None else round(error, 3), formula)
