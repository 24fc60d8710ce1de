"""A drill from end to end: everything is started, Prometheus learns what is normal, and then run after run."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Protocol

from redis.exceptions import RedisError

from herdwatch.drill.replay import claims, planned, recording, rehearsal, running, signals, verdicts
from herdwatch.drill.replay.cast import Cast
from herdwatch.drill.replay.levels import Level
from herdwatch.drill.replay.results import Drill, Result
from herdwatch.drill.replay.running import Run
from herdwatch.drill.replay.scale import MULTIPLE, Scale
from herdwatch.drill.replay.scenarios import SCENARIOS
from herdwatch.drill.replay.signals import Fault
from herdwatch.drill.replay.stage import Behind, Watchers, caches
from herdwatch.errors import StackError, UsageError
from herdwatch.stack import Supervisor, WebhookReceiver
from herdwatch.tools import find

CORES = 2
SPARE = 5
"""Connections for the drill's own questions."""
INTERVALS = (5, 15)
"""Seconds; with longer ones a run would have to be watched for longer."""
LADDER = (Level.NONE, Level.SINGLEFLIGHT, Level.LIMITER, Level.WARM, Level.REPLICA)
"""The levels of the short set; refresh changes nothing about a restart."""
SHORT = tuple(Run(SCENARIOS["restart"], level) for level in LADDER)
ALL = (
    *(Run(SCENARIOS["restart"], level) for level in Level),
    *(Run(one, one.level) for one in SCENARIOS.values() if one.name != "restart"),
)


class Audience(Protocol):
    """Whoever is shown what goes on."""

    def say(self, text: str) -> None:
        """Something that happened."""

    def began(self, run: Run, cast: Cast, capacity: float) -> None:
        """A run begins."""

    def going(self, seconds: float) -> None:
        """It is so many seconds after its fault."""

    def ended(self, result: Result) -> None:
        """It is over."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to do. `database` is the DSN of one's own PostgreSQL; `multiple` is load per capacity.

    `record` is a folder for what Prometheus had of each run, for the catalogue of incidents.
    """

    runs: tuple[Run, ...] = SHORT
    seed: int = 1
    multiple: float = MULTIPLE
    interval: int = 15
    database: str | None = None
    record: Path | None = None
    scale: Scale = field(default_factory=Scale)


def parse(text: str) -> Run:
    """A run by its name: a scenario, or SCENARIO:LEVEL. Raises UsageError, which says what there is."""
    name, _, level = text.partition(":")
    scenario = SCENARIOS.get(name)
    if scenario is None:
        raise UsageError(f"no scenario {name!r}; there is: {', '.join(SCENARIOS)}")
    if level and level not in list(Level):
        raise UsageError(f"{text}: no level {level!r}; there is: {', '.join(Level)}")
    chosen = Level(level) if level else scenario.level
    if chosen in (Level.WARM, Level.REPLICA) and name != "restart":
        raise UsageError(f"{text}: {chosen} is for a restart that was planned: restart:{chosen}")
    if scenario.overruns and not chosen.has(Level.SINGLEFLIGHT):
        raise UsageError(f"{text}: without a guard there is no singleflight to switch off")
    return Run(scenario, chosen)


def check(order: Order) -> None:
    """Raise UsageError for what cannot be done on this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores < CORES:
        raise UsageError(f"a drill needs {CORES} cores, and there is {cores}: load and servers would starve each other")
    if order.interval not in INTERVALS:
        raise UsageError(f"--scrape-interval {order.interval}: it must be 5 or 15")
    names = [run.name for run in order.runs]
    if len(set(names)) < len(names):
        raise UsageError(f"a run can be in a drill once: {', '.join(names)}")


def play(order: Order, audience: Audience, keep: Callable[[Drill], None]) -> Drill:
    """Do all of it. `keep` takes the drill whenever something was added, marked as partial until it is whole.

    Raises StackError, CheckFailed or KeyboardInterrupt, after everything was stopped; what `keep` has is what there is.
    """
    check(order)
    with Supervisor() as supervisor, WebhookReceiver() as webhook:
        whose = "Your PostgreSQL gets a table of users" if order.database else "Starting PostgreSQL"
        audience.say(f"{whose}; what it takes over {order.scale.workers * order.scale.pool} connections is measured.")
        behind = Behind.start(supervisor, order.database, order.scale)
        try:
            drill = _play(order, audience, keep, supervisor, webhook, behind)
        except BaseException:
            with contextlib.suppress(StackError):  # what went wrong is told, and not that the database is gone as well
                behind.users.drop()
            raise
        behind.users.drop()
        return drill


def _play(
    order: Order,
    audience: Audience,
    keep: Callable[[Drill], None],
    supervisor: Supervisor,
    webhook: WebhookReceiver,
    behind: Behind,
) -> Drill:
    scale = order.scale
    audience.say(f"The database takes {behind.capacity:.0f} queries a second.")
    _refuse_too_many(behind, order)
    multiple = rehearsal.allowed(supervisor, behind, scale, order.multiple, order.seed)
    rate = multiple * behind.capacity
    audience.say(f"The application gets {rate:,.0f} requests a second, {_times(multiple, order.multiple)}.")
    drill = Drill(
        seed=order.seed,
        capacity=behind.capacity,
        multiple=multiple,
        multiple_wanted=order.multiple,
        scrape_interval=order.interval,
        scale=asdict(scale),
        versions=_versions(behind),
        partial="it has not ended yet",
    )
    keep(drill)
    casts = _casts(supervisor, order, behind)
    watchers = Watchers.start(
        supervisor, webhook, list(casts.values()), capacity=behind.capacity, rate=rate, interval=order.interval
    )
    audience.say("Every run's cache is warm and read from; Prometheus learns what is normal.")
    drill.claims.append(rehearsal.one_query(supervisor, behind, scale, order.seed))
    audience.say(f"1,000 requests for one user: {drill.claims[-1].measured}.")
    drill.claims.append(rehearsal.seed_pace(supervisor, behind, scale))
    audience.say(f"A warm-up at the pace of the seed: {drill.claims[-1].measured}.")
    watchers.wait_until_learnt(supervisor, list(casts.values()))
    first, faults = list(drill.claims), dict[Run, Fault]()
    for run in order.runs:
        audience.began(run, casts[run], behind.capacity)
        try:
            drill.results.append(running.carry_out(run, casts[run], behind, watchers, rate, audience.going, faults))
        except RedisError as error:
            raise StackError(f"{run.name}: a Redis of it does not answer: {error}") from None
        verdicts.judge(drill)
        drill.claims = [*claims.of(drill.results), *first]
        drill.planned = list(planned.rows(drill.results, scale))
        keep(drill)
        audience.ended(drill.results[-1])
    drill.results = [
        _at_the_end(one, casts[run], watchers, faults[run]) for run, one in zip(order.runs, drill.results, strict=True)
    ]
    verdicts.judge(drill)
    drill.partial = ""
    keep(drill)
    if order.record is not None:
        recording.record(order.record, faults, casts, watchers, drill, audience.say)
    return drill


def _at_the_end(result: Result, cast: Cast, watchers: Watchers, fault: Fault) -> Result:
    """A run with what was told of it after its own end: its servers stayed up, and a page may come late."""
    names = list(caches(cast))
    paged, pages = signals.pages(watchers.webhook, names, fault)
    fired = signals.alerts(watchers.prometheus, names, fault, time.time())
    return replace(result, alerts=fired, paged=None if paged is None else round(paged, 1), pages=pages)


def _refuse_too_many(behind: Behind, order: Order) -> None:
    """Every process keeps its connections from the start, and a rehearsal and a warm-up need some besides."""
    needed = (len(order.runs) + 2) * order.scale.workers * order.scale.pool + SPARE
    room = behind.users.room()
    if room < needed:
        raise StackError(
            f"the database lets {room} connections in, and these {len(order.runs)} runs need {needed}; "
            "play fewer of them at a time, or raise its max_connections"
        )


def _casts(supervisor: Supervisor, order: Order, behind: Behind) -> dict[Run, Cast]:
    return {
        run: Cast.start(
            supervisor, run.name, run.level, order.scale, dsn=behind.dsn, seed=order.seed, replicas=run.replicas
        )
        for run in order.runs
    }


def _times(multiple: float, wanted: float) -> str:
    told = f"{multiple:.3g} times what the database takes"
    return told if multiple >= wanted else f"{told}: this machine does not carry the {wanted:g} times that were wanted"


def _versions(behind: Behind) -> dict[str, str]:
    tools = {name: find(name).version for name in ("redis-server", "prometheus", "alertmanager")}
    return {**tools, "PostgreSQL": behind.users.version}
