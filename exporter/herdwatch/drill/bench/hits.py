"""Hits: one warm key, one caller, sequential calls, beside a bare GET of the same value."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from rich.table import Table

from herdwatch.drill.bench.crew import Worker
from herdwatch.drill.bench.figures import Spread, ratio, verdict
from herdwatch.drill.bench.orders import HIT, TURNS
from herdwatch.drill.bench.setting import Candidate, Setting
from herdwatch.errors import StackError

SAMPLE_SECONDS = 0.4
AIM = 1.10
_TRIAL = 300
_DEADLINE = 30.0


@dataclass(frozen=True, slots=True)
class Pair:
    """One sample: seconds a call of the candidate, and of the bare GET in the same process at the same time.

    The wall's are what a caller waits. CPU is what the process pays; it depends less on who else is on the machine.
    """

    mine: float
    base: float
    mine_cpu: float
    base_cpu: float


LINES = (
    ("asyncio", "raw", "Hit, asyncio, 100 bytes"),
    ("threads", "raw", "Hit, one thread, 100 bytes"),
    ("asyncio", "json", "Hit, asyncio, JSON of a small dict"),
    ("threads", "json", "Hit, one thread, JSON of a small dict"),
)


def run(setting: Setting) -> list[str]:
    """Print a table for each line; returns the verdicts."""
    return [line(setting, kind, value, title) for kind, value, title in LINES]


def candidates(kind: str, value: str) -> list[Candidate]:
    """Who takes part: the bare client as a control, which should read 1.00, then the guard, then its peers."""
    base = "redis-py GET" if value == "raw" else "redis-py GET + json.loads"
    guard = "herdwatch Guard" if kind == "asyncio" else "herdwatch SyncGuard"
    found = [Candidate(base, "bare", kind, value), Candidate(guard, "guard", kind, value)]
    if kind == "asyncio":
        found += [Candidate(name, name, kind, value, peer=True) for name in ("cashews", "aiocache")]
    label = "dogpile.cache in asyncio.to_thread" if kind == "asyncio" else "dogpile.cache"
    return [*found, Candidate(label, "dogpile", kind, value, peer=True)]


def line(setting: Setting, kind: str, value: str, title: str) -> str:
    """Measure and print one line; returns the verdict on the guard."""
    setting.empty()
    taking_part = candidates(kind, value)
    with setting.lineup(taking_part) as lineup:
        counts = {}
        for candidate, workers in lineup.items():
            with setting.excused(candidate, workers):
                counts[candidate] = _count(sample(candidate, workers[0], _TRIAL))
        able = {candidate: lineup[candidate] for candidate in counts}
        results = setting.in_turn(able, lambda one, workers, _: sample(one, workers[0], counts[one]))
    setting.console.print(_table(results, title))
    base, guard = taking_part[:2]
    return verdict(f"{title}: at most {AIM:.2f} of {base.label}", _against(results[guard]).median / AIM)


def sample(candidate: Candidate, worker: Worker, count: int) -> Pair:
    """One sample of `count` calls; raises StackError when they were no hits."""
    key = HIT if candidate.name == "bare" else f"hit:{candidate.name}"
    answer = worker.ask("hits", seconds=_DEADLINE, key=key, count=count)
    if not answer["right"]:
        raise StackError(f"{candidate.label} loaded where every call hits, or gave another value than was loaded")
    return Pair(answer["mine"][0], answer["base"][0], answer["mine"][1], answer["base"][1])


def _count(trial: Pair) -> int:
    """How many calls make a sample."""
    return max(TURNS, round(SAMPLE_SECONDS / (trial.mine + trial.base)) // TURNS * TURNS)


def _against(pairs: list[Pair]) -> Spread:
    return ratio([one.mine for one in pairs], [one.base for one in pairs])


def _table(results: dict[Candidate, list[Pair]], title: str) -> Table:
    rounds = len(next(iter(results.values())))
    table = Table(title=f"{title}; medians of {rounds} rounds in turn")
    for column in ("", "us a call", "bare GET beside it", "ratio", "quartiles", "own CPU us", "CPU ratio"):
        table.add_column(column, justify="left" if not column else "right")
    for candidate, pairs in results.items():
        against = _against(pairs)
        table.add_row(
            candidate.label,
            f"{median(one.mine for one in pairs) * 1e6:.1f}",
            f"{median(one.base for one in pairs) * 1e6:.1f}",
            f"{against.median:.2f}",
            f"{against.low:.2f} - {against.high:.2f}",
            f"{median(one.mine_cpu for one in pairs) * 1e6:.1f}",
            f"{median(one.mine_cpu / one.base_cpu for one in pairs):.2f}",
        )
    return table
