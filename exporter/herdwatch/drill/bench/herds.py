"""Herds: many callers at once on one cold key, in one process, in threads, in several processes."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from rich.table import Table

from herdwatch.drill.bench.crew import Worker
from herdwatch.drill.bench.figures import p99, verdict
from herdwatch.drill.bench.setting import Candidate, Setting, calls, spent

LOADER_SECONDS = 0.05
_DEADLINE = 60.0
_START_IN = 0.3
_SETTLE = 0.05


@dataclass(frozen=True, slots=True)
class Herd:
    """One line: who takes part, how many callers in each of how many processes, and what is aimed at."""

    title: str
    candidates: tuple[Candidate, ...]
    callers: int
    processes: int = 1
    p99_aim: float | None = None
    commands_aim: int | None = None


@dataclass(slots=True)
class Outcome:
    """One round of one candidate; times in seconds, commands as Redis counted them."""

    times: list[float]
    loads: int
    commands: dict[str, int]
    wrong: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """How many commands."""
        return sum(self.commands.values())


def _asyncio(*names: tuple[str, str]) -> tuple[Candidate, ...]:
    return tuple(Candidate(label, name, "asyncio", peer=name not in OURS) for label, name in names)


OURS = ("guard", "floor", "unguarded")
GUARD = ("herdwatch Guard", "guard")
FLOOR = ("no cache: one waits, all follow", "floor")
UNGUARDED = ("redis-py: GET, load, SET", "unguarded")
PEERS = (("cashews", "cashews"), ("cashews lock=True", "cashews-lock"), ("aiocache", "aiocache"))
TO_THREAD = ("dogpile.cache in asyncio.to_thread", "dogpile")
DOGPILE = Candidate("dogpile.cache, distributed, threads", "dogpile", "threads", peer=True)

LINES = (
    Herd(
        "Herd, 1000 asyncio callers on one cold key",
        _asyncio(GUARD, FLOOR, UNGUARDED, *PEERS, TO_THREAD),
        callers=1000,
        p99_aim=0.060,
        commands_aim=10,
    ),
    Herd(
        "Herd, 200 threads on one cold key",
        (
            Candidate("herdwatch SyncGuard", "guard", "threads"),
            Candidate(*FLOOR, "threads"),
            Candidate(*UNGUARDED, "threads"),
            DOGPILE,
        ),
        callers=200,
        p99_aim=0.060,
    ),
    Herd(
        "Herd, 4 processes x 250 callers on one cold key",
        (*_asyncio(GUARD, UNGUARDED, *PEERS), DOGPILE),
        callers=250,
        processes=4,
    ),
)


def run(setting: Setting) -> list[str]:
    """Print a table for each line; returns the verdicts."""
    return [text for herd in LINES for text in line(setting, herd)]


def line(setting: Setting, herd: Herd) -> list[str]:
    """Measure and print one line; returns the verdicts on the guard."""
    setting.empty()
    order: dict[str, Any] = {"delay": LOADER_SECONDS}
    if herd.processes > 1:
        order["counter"] = setting.counter.url
    with setting.lineup(herd.candidates, processes=herd.processes, **order) as lineup:
        warm = {}
        for candidate, workers in lineup.items():
            with setting.excused(candidate, workers):
                _round(setting, herd, workers, f"warm-up:{candidate.name}")
                warm[candidate] = workers
        results = setting.in_turn(
            warm, lambda one, workers, number: _round(setting, herd, workers, f"cold:{one.name}:{number}")
        )
    setting.console.print(_table(results, herd))
    for text in _failures(results):
        setting.console.print(text, markup=False)
    return _verdicts(results[herd.candidates[0]], herd)


def _round(setting: Setting, herd: Herd, workers: list[Worker], key: str) -> Outcome:
    """One herd on a key that nobody has seen."""
    with setting.redis.client() as client, setting.counter.client() as counter:
        counter.delete("loads")
        before = calls(client)
        at = time.time() + _START_IN
        for worker in workers:
            worker.tell("herd", seconds=_DEADLINE, key=key, callers=herd.callers, at=at)
        answers = [worker.answer(seconds=_DEADLINE) for worker in workers]
        time.sleep(_SETTLE)  # what a candidate still does once its callers are served counts too
        commands = spent(before, calls(client))
        counted = counter.get("loads")
    return outcome(answers, commands, None if herd.processes == 1 else int(counted or 0))


def outcome(answers: list[dict[str, Any]], commands: dict[str, int], counted: int | None) -> Outcome:
    """The answers of all processes as one; `counted` is what the loaders counted in Redis, None without that."""
    return Outcome(
        times=[one for answer in answers for one in answer["times"]],
        loads=sum(answer["loads"] for answer in answers) if counted is None else counted,
        commands=commands,
        wrong=[one for answer in answers for one in answer["wrong"]],
    )


def _table(results: dict[Candidate, list[Outcome]], herd: Herd) -> Table:
    rounds = len(next(iter(results.values())))
    about = f"loader {LOADER_SECONDS * 1e3:.0f} ms; medians of {rounds} rounds in turn, loads as least - most"
    table = Table(title=f"{herd.title}; {about}")
    for column in ("", "p50 ms", "p99 ms", "worst p99 ms", "p99 ratio", "loads", "Redis commands", "failed calls"):
        table.add_column(column, justify="left" if not column else "right")
    base = median(p99(one.times) for one in next(iter(results.values())))
    for candidate, outcomes in results.items():
        tails = [p99(one.times) for one in outcomes]
        table.add_row(
            candidate.label,
            f"{median(median(one.times) for one in outcomes) * 1e3:.1f}",
            f"{median(tails) * 1e3:.1f}",
            f"{max(tails) * 1e3:.1f}",
            f"{median(tails) / base:.2f}",
            _range([one.loads for one in outcomes]),
            f"{median(one.total for one in outcomes):.0f}",
            str(sum(len(one.wrong) for one in outcomes) or ""),
        )
    return table


def _failures(results: dict[Candidate, list[Outcome]]) -> list[str]:
    """A line for each candidate that failed somebody, with the first failure."""
    failed = {
        candidate.label: [text for one in outcomes for text in one.wrong] for candidate, outcomes in results.items()
    }
    return [
        f"{label}: {len(texts)} calls failed, the first with {texts[0]}" for label, texts in failed.items() if texts
    ]


def _range(values: list[int]) -> str:
    return str(min(values)) if min(values) == max(values) else f"{min(values)} - {max(values)}"


def _verdicts(ours: list[Outcome], herd: Herd) -> list[str]:
    failed = sum(len(one.wrong) for one in ours)
    found = [f"aim: {herd.title}: every call gets its value: MISSED, {failed} did not"] if failed else []
    if herd.p99_aim is not None:
        share = median(p99(one.times) for one in ours) / herd.p99_aim
        found.append(verdict(f"{herd.title}: p99 at most {herd.p99_aim * 1e3:.0f} ms", share))
    found.append(verdict(f"{herd.title}: 1 load in every round", max(one.loads for one in ours)))
    if herd.commands_aim is not None:
        most = max(ours, key=lambda one: one.total)
        spelled = ", ".join(f"{count} {name}" for name, count in Counter(most.commands).most_common())
        text = f"{herd.title}: at most {herd.commands_aim} Redis commands in every round (at most {spelled})"
        found.append(verdict(text, most.total / herd.commands_aim))
    return found
