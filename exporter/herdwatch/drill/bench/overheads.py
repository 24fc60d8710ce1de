"""The guard's parts by themselves: what a probe, a leader and a follower add."""

from __future__ import annotations

from dataclasses import dataclass

from rich.table import Table

from herdwatch.drill.bench.figures import Spread, beyond, ratio, verdict
from herdwatch.drill.bench.setting import Candidate, Setting

_DEADLINE = 30.0
_WORKER = Candidate("the guard's parts", "none", "asyncio")


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its name as parts.py knows it, calls a round, and the most it should add; None: for information."""

    label: str
    measure: str
    count: int
    aim_us: float | None = None
    whole: bool = False
    """Whether the aim is about all of it, and not about what it adds."""


PARTS = (
    Part("Guard.get leader of a probe, beyond GET and decoding", "probe", 40_000, 1.0),
    Part("Flight.do leader", "leader", 8_000, 15.0, whole=True),
    Part("Flight.do follower, beyond its own task", "follower", 10_000, 5.0),
    Part("SyncFlight.do leader", "sync_leader", 80_000),
)


@dataclass(slots=True)
class Cost:
    """Seconds a call, a figure for each round: with the part, and what had to be there anyway."""

    mine: list[float]
    base: list[float]


def run(setting: Setting) -> list[str]:
    """Print one table; returns the verdicts."""
    costs = {part.measure: Cost([], []) for part in PARTS}
    with setting.hire(_WORKER) as worker:
        for _ in range(setting.rounds):
            for part in PARTS:
                answer = worker.ask(part.measure, seconds=_DEADLINE, count=part.count)
                costs[part.measure].mine.append(float(answer["mine"]))
                costs[part.measure].base.append(float(answer["base"]))
    setting.console.print(_table(costs, setting.rounds))
    return [_verdict(part, costs[part.measure]) for part in PARTS if part.aim_us is not None]


def _verdict(part: Part, cost: Cost) -> str:
    figure = Spread.of(cost.mine) if part.whole else beyond(cost.mine, cost.base)
    return verdict(f"{part.label}: at most {part.aim_us:g} us", figure.median * 1e6 / (part.aim_us or 1.0))


def _table(costs: dict[str, Cost], rounds: int) -> Table:
    table = Table(title=f"The guard's parts without Redis; medians of {rounds} rounds in turn")
    for column in ("", "us a call", "of it, there anyway", "added", "quartiles", "ratio"):
        table.add_column(column, justify="left" if not column else "right")
    for part in PARTS:
        mine, base = costs[part.measure].mine, costs[part.measure].base
        added = beyond(mine, base)
        table.add_row(
            part.label,
            f"{Spread.of(mine).median * 1e6:.2f}",
            f"{Spread.of(base).median * 1e6:.2f}",
            f"{added.median * 1e6:.2f}",
            f"{added.low * 1e6:.2f} - {added.high * 1e6:.2f}",
            f"{ratio(mine, base).median:.1f}",
        )
    return table
