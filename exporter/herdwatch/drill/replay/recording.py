"""Runs of a drill as recordings for the catalogue of incidents, made when all runs are over."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from herdwatch.drill.replay import stage, verdicts
from herdwatch.drill.replay.cast import Cast
from herdwatch.drill.replay.results import Drill
from herdwatch.drill.replay.running import Run
from herdwatch.drill.replay.scraped import Scraped, scraped
from herdwatch.drill.replay.signals import Fault
from herdwatch.drill.replay.stage import Watchers
from herdwatch.errors import CheckFailed, UsageError
from herdwatch.prometheus import Access, Api, Prometheus
from herdwatch.proof.recordings import load
from herdwatch.proof.recordings.load import RecordedCache, Recording

LEAD, AFTER = 36, 54
"""Scrapes before the fault and after it, at most."""
SETTLE = 12
"""Scrapes between the end of the last run and its recording: it has some calm, too."""
GRID = 5
"""Seconds between two evaluations when a recording is played, and no sample may lie on one; intervals are multiples."""
ASK_SECONDS = 10.0
PREFIX = "drill-"
"""How the names of these recordings begin."""
_VERSIONS = {"redis": "redis-server", "prometheus": "prometheus"}


def check(folder: Path) -> None:
    """Raise UsageError where `record` would, before a drill is played for it."""
    if not folder.is_dir():
        raise UsageError(f"--record {folder}: is no folder; make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"--record {folder}: cannot be written to")


def record(
    folder: Path,
    faults: Mapping[Run, Fault],
    casts: Mapping[Run, Cast],
    watchers: Watchers,
    drill: Drill,
    say: Callable[[str], None],
) -> None:
    """Wait for some calm after the last run, and write a recording of each; `say` hears of each what came of it.

    Raises UsageError for a folder that cannot be written to, StackError for what dies meanwhile.
    """
    over = max((fault.at + run.scenario.watch for run, fault in faults.items()), default=0.0)
    while (left := over + SETTLE * drill.scrape_interval - time.monotonic()) > 0:
        for cast in casts.values():
            stage.refuse_the_dead(cast.supervisor)
        time.sleep(min(left, 1.0))
    for run, fault in faults.items():
        try:
            path = load.write(recording(run, casts[run], watchers, fault, drill), folder)
        except OSError as error:
            raise UsageError(f"--record {folder}: cannot be written to: {error.strerror}") from None
        except CheckFailed as error:
            say(f"There is no recording of {run.name}: {error}")
        else:
            say(f"Recorded: {path}, {path.stat().st_size:,} bytes.")


def recording(run: Run, cast: Cast, watchers: Watchers, fault: Fault, drill: Drill) -> Recording:
    """One run, from some time before its fault until now; raises CheckFailed where it cannot be one."""
    api = Prometheus(Access.of(watchers.prometheus.url), seconds=ASK_SECONDS)
    return stored(api, run, tuple(stage.caches(cast)), fault.wall, drill, until=time.time())


def stored(api: Api, run: Run, caches: Sequence[str], fault: float, drill: Drill, *, until: float) -> Recording:
    """What Prometheus stored of a run with these caches, the primary first; times are seconds since 1970.

    Second 0 is LEAD scrapes before the fault, or when all targets were first scraped if that was later. Raises
    CheckFailed.
    """
    interval = drill.scrape_interval
    start, end = fault - LEAD * interval, min(until, fault + AFTER * interval)
    found = list(scraped(api, caches, math.floor(start) - interval, math.ceil(end), interval))
    begin = _begin(found, start)
    zero = math.floor(fault) - begin
    seconds = min(one.last(begin) for one in found) // interval * interval + interval
    if not 0 < zero < zero + run.scenario.watch <= seconds:
        raise CheckFailed(
            f"it was scraped for {seconds} s with the fault at second {zero}, and a recording begins before the fault "
            f"and goes on for {run.scenario.watch:g} s after it"
        )
    return Recording(
        name=f"{PREFIX}{run.name}",
        about=about(run),
        scrape_interval=interval,
        zero=zero,
        seconds=seconds,
        caches=(RecordedCache(caches[0], found[-1].labels["team"], run.name),),
        told=verdicts.expected(run.scenario, run.level),
        versions={"recording": load.VERSION, **{name: drill.versions[tool] for name, tool in _VERSIONS.items()}},
        targets=tuple(one.target(begin, seconds) for one in found),
        capacity=round(drill.capacity, 1),
        peak=round(drill.multiple * drill.capacity, 1),
    )


def about(run: Run) -> str:
    """What happens, as a sentence."""
    return f"{run.about[0].upper()}{run.about[1:]}."


def _begin(found: Sequence[Scraped], earliest: float) -> int:
    """Second 0, in seconds since 1970: no target has a sample on the grid. For up to four targets there is one."""
    latest = max(one.times[0] for one in found)
    least = math.ceil(max(earliest, latest - found[0].interval))
    return next(begin for begin in range(least, least + GRID) if all(one.second(begin) % GRID for one in found))
