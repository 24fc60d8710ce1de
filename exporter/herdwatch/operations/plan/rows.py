"""The plan: the figures with the numbers of a question put in, and what has to be said beside them."""

from __future__ import annotations

from dataclasses import dataclass

from herdwatch.operations.plan import arithmetic as of
from herdwatch.operations.plan.arithmetic import Question
from herdwatch.operations.plan.figures import FIGURES, Figure
from herdwatch.operations.plan.zipf import EXACT


@dataclass(frozen=True, slots=True)
class Row:
    """A figure of one question. The unit is ratio, loads/s, loads at a time, keys or s."""

    part: str
    name: str
    what: str
    number: float
    unit: str
    formula: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked, and all that follows from it."""

    asked: Question
    rows: tuple[Row, ...]

    def __getitem__(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name)

    @property
    def needs_cache(self) -> bool:
        """Whether the database could not take the peak without its cache."""
        return self.asked.peak_rps > self.asked.capacity


def plan(asked: Question) -> Plan:
    """All figures, in the order of an incident: what is needed, the first second, warming, coming back, calm days."""
    known = symbols(asked)
    rows = []
    for one in FIGURES:
        figure = one.number(asked)
        if figure is not None:
            formula = one.formula.format(**known) + _remark(one, asked, figure)
            rows.append(Row(one.part, one.name, one.what, figure, one.unit, formula, one.sources))
    return Plan(asked, tuple(rows))


def symbols(asked: Question) -> dict[str, str]:
    """What a formula may name, as text."""
    keys = of.keys_to_warm(asked)
    values = {
        "R": asked.peak_rps,
        "C": asked.capacity,
        "P": asked.processes,
        "M": asked.max_loads,
        "L": asked.load_seconds,
        "limit": of.limit(asked),
        "fill": of.fill_rate(asked),
        "batch": of.SEED_PACE.batch,
        "pause": of.SEED_PACE.pause * 1000,
        "rate": asked.warm_rate or 0,
    }
    return {
        **{name: number(value) for name, value in values.items()},
        "h": f"{asked.law.mass(keys):.4f}",
        "share": percent(keys / asked.keys),
    }


def _remark(figure: Figure, asked: Question, found: float) -> str:
    """What holds for this question alone."""
    remarks = []
    if figure.name == "needed_hit_ratio" and not found:
        remarks.append("the database takes its peak without a cache")
    if figure.name == "singleflight" and asked.keys > EXACT:
        remarks.append("added up by bands of ranks, to 1 in 10,000")
    if (
        figure.name == "limiter_for_capacity"
        and found * asked.processes > asked.capacity * asked.load_seconds * 1.000001
    ):
        remarks.append("all processes together are still over the capacity then")
    pace = figure.name.removeprefix("warm_seconds_")
    if pace != figure.name:
        remarks += ["over the capacity"] if of.warm_paces(asked)[pace] > asked.capacity else []
        remarks += ["the tightest"] if pace == of.tightest_pace(asked)[0] else []
    if figure.unit == "s" and found > asked.ttl:
        remarks.append(f"longer than the ttl of {number(asked.ttl)} s, so the first keys end before it is over")
    return "".join(f"; {remark}" for remark in remarks)


def number(value: float) -> str:
    """As people read it: whole from 100 on, else three digits."""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return "under 0.001" if 0 < value < 0.001 else f"{value:.3g}"


def percent(ratio: float) -> str:
    """A ratio in percent, in three digits."""
    return f"{number(100 * ratio)} %"
