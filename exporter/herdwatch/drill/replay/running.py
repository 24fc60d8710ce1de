"""One run from its first full load to its figures."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from herdwatch.drill.replay import figures, logs, signals, stage
from herdwatch.drill.replay.cast import Cast, soon
from herdwatch.drill.replay.levels import Level
from herdwatch.drill.replay.results import Counted, Result
from herdwatch.drill.replay.scenarios import Scenario, Scene
from herdwatch.drill.replay.signals import Fault
from herdwatch.drill.replay.stage import Behind, Watchers

POLL_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Run:
    """A scenario at a level of protection."""

    scenario: Scenario
    level: Level

    @property
    def name(self) -> str:
        """That of its cache, too."""
        return f"{self.scenario.name}-{self.level}"

    @property
    def about(self) -> str:
        """In words."""
        planned = ", on purpose" if self.level in (Level.WARM, Level.REPLICA) else ""
        return f"{self.scenario.about}{planned}; {self.level.guards}"

    @property
    def replicas(self) -> int:
        """How many its cache has."""
        return int(self.level == Level.REPLICA)


def carry_out(
    run: Run,
    cast: Cast,
    behind: Behind,
    watchers: Watchers,
    rate: float,
    show: Callable[[float], None],
    faults: dict[Run, Fault],
) -> Result:
    """Load the application, let it happen, and measure. `show` is told the seconds since the fault now and then.

    `faults` takes when it was.

    Raises StackError for what dies unasked.
    """
    scale, watch = cast.scale, run.scenario.watch
    scanned = behind.users.queries()
    at = soon()
    cast.load(rate, scale.before + watch, at=at)
    _wait_until(at + scale.before, cast, show, at + scale.before)
    fault = faults[run] = Fault(time.monotonic(), time.time())
    for pause in run.scenario.act(Scene(cast, watchers.config, behind.capacity)):
        _wait_until(time.monotonic() + pause, cast, show, fault.at)
    _wait_until(fault.at + watch, cast, show, fault.at)
    cast.loaded()
    cast.end()
    return _measured(run, cast, behind, watchers, rate, fault, scanned)


def _wait_until(until: float, cast: Cast, show: Callable[[float], None], zero: float) -> None:
    while (left := until - time.monotonic()) > 0:
        stage.refuse_the_dead(cast.supervisor)
        show(time.monotonic() - zero)
        time.sleep(min(left, POLL_SECONDS))


def _measured(
    run: Run, cast: Cast, behind: Behind, watchers: Watchers, rate: float, fault: Fault, scanned: int
) -> Result:
    watch = run.scenario.watch
    load, noted = logs.Load.read(cast.output), [logs.read(path) for path in cast.logs]
    asked = [query.asked for one in noted for query in one.queries if query.asked >= fault.at]
    sent = [query.began for one in noted for query in one.queries if query.began and query.began >= fault.at]
    before, after = (
        figures.users(load, begin, end) for begin, end in ((load.at, fault.at), (fault.at, fault.at + watch))
    )
    curves = figures.curves(load, noted, fault.at, before=int(cast.scale.before), after=int(watch))
    ratios = curves.hit_ratio[int(cast.scale.before) :]
    seen = [ratio for ratio in ratios if ratio is not None]
    names = list(stage.caches(cast))
    recovered = figures.recovered(ratios)
    paged, pages = signals.pages(watchers.webhook, names, fault)
    return Result(
        name=run.name,
        scenario=run.scenario.name,
        level=run.level.value,
        about=run.about,
        rate=rate,
        capacity=behind.capacity,
        seconds=watch,
        peak=figures.busiest(asked),
        peak_sent=figures.busiest(sent),
        counted=_counted(cast, noted, behind.users.queries() - scanned),
        requests=after.requests,
        failed=after.failed,
        shed=after.shed,
        p50=after.p50,
        p99=after.p99,
        p99_before=before.p99,
        lowest=min(seen, default=None),
        recovered=None if recovered is None else float(recovered),
        alerts=signals.alerts(watchers.prometheus, names, fault, time.time()),
        paged=None if paged is None else round(paged, 1),
        pages=pages,
        late=load.late,
        curves=curves,
    )


def _counted(cast: Cast, noted: list[logs.Noted], scanned: int) -> Counted:
    queries = [query for one in noted for query in one.queries]
    asked, sent = len(queries), sum(query.began is not None for query in queries)
    if cast.level == Level.NONE:
        return Counted(asked, sent, scanned)
    totals: dict[str, int] = {}
    for report in cast.reported().values():
        for (family, _, label), value in report.totals.items():
            totals[family] = totals.get(family, 0) + value
            totals[f"{family}:{label}"] = totals.get(f"{family}:{label}", 0) + value
    kinds = ("coalesced_total", "stale_total", "shed_total")
    classes = sum(totals.get(f"singleflight_{kind}", 0) for kind in kinds)
    classes += totals.get("singleflight_executions_total:miss", 0)
    executions = totals.get("singleflight_executions_total", 0)
    return Counted(asked, sent, scanned, executions, totals.get("singleflight_requests_total", 0), classes)
