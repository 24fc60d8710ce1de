"""One session: all scenarios at the same time on real servers, scraped, and kept as recordings."""

from __future__ import annotations

import heapq
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from herdwatch.errors import StackError
from herdwatch.proof.recordings import scraping
from herdwatch.proof.recordings.load import VERSION, RecordedCache, Recording, Target
from herdwatch.proof.recordings.scene import Scenario, Scene, Watch
from herdwatch.stack import Supervisor, free_port, http
from herdwatch.tools import find

TEAM = "shop"
DATABASE = "main"
START_SECONDS = 120.0
LATEST = 1.0
"""Seconds that a scrape may begin late; a later one would not be where the recording says."""
SETTLE = 3
"""Scrapes that come after the last step of a scenario."""
ON_TIME = 0.5
"""Seconds within which a step of a scenario counts as done when it was due."""
EXPORTER = {"job": "herdwatch-exporter", "instance": "exporter.example:9878"}


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds: between scrapes, before the incidents, after them, and between the beginnings of two of them."""

    interval: int = 5
    lead: int = 175
    after: int = 270
    stagger: float = 0.6


@dataclass(slots=True)
class Cast:
    """One scene with its place in the session: the numbers of its targets, when zero was, and its last step."""

    scene: Scene
    targets: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    zero: int = 0
    done: int = 0

    def end(self, timing: Timing) -> int:
        """When its recording ends: not before some scrapes have seen the last step."""
        return max(self.zero + timing.after, self.done + SETTLE * timing.interval)


class Session:
    """Runs scenarios side by side. Raises StackError for what cannot be started or dies unasked."""

    def __init__(
        self,
        supervisor: Supervisor,
        scenarios: Sequence[Scenario],
        *,
        timing: Timing | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self._supervisor = supervisor
        self._scenarios = scenarios
        self._timing = timing or Timing()
        self._say = say
        self._begin = 0
        self._addresses: list[scraping.Address] = []

    def run(self) -> Iterator[Recording]:
        """Record; gives each recording that was scraped in time, and says which were not."""
        casts = [Cast(Scene.start(self._supervisor, scenario)) for scenario in self._scenarios]
        self._wait_for_applications(casts)
        self._watch(casts)
        output = self._scrape()
        self._say(f"{len(casts)} scenarios run; {self._timing.lead} s until the incidents begin.")
        self._act(casts)
        got = defaultdict[int, list[scraping.Got]](list)
        for one in scraping.results(output):
            got[one.target].append(one)
        for cast in casts:
            late = max(one.late for number, _ in cast.targets for one in got[number])
            if late > LATEST:
                self._say(f"{cast.scene.scenario.name}: a scrape began {late:.1f} s late; record it again.")
            else:
                yield self._recording(cast, got)

    def _now(self) -> float:
        return time.time() - self._begin

    def _wait_for_applications(self, casts: Sequence[Cast]) -> None:
        deadline = time.monotonic() + START_SECONDS
        for cast in casts:
            while not cast.scene.ready():
                self._refuse_the_dead()
                if time.monotonic() > deadline:
                    raise StackError(f"{cast.scene.scenario.name}: no application reported within {START_SECONDS:g} s")
                time.sleep(0.2)

    def _refuse_the_dead(self) -> None:
        for process in self._supervisor.dead():
            raise StackError(f"{process.name} ended by itself: {process.last_words()}")

    def _watch(self, casts: Sequence[Cast]) -> None:
        """Start the exporters: one for all caches, and one for each that wants its own."""
        together = [cast for cast in casts if not cast.scene.scenario.alone]
        for group in ([together] if together else []) + [[cast] for cast in casts if cast.scene.scenario.alone]:
            self._start_exporter(group)

    def _start_exporter(self, casts: Sequence[Cast]) -> None:
        listen = f"127.0.0.1:{free_port()}"
        watched = [
            (cast, number, server)
            for cast in casts
            for number, server in enumerate(cast.scene.servers[: cast.scene.scenario.watched], 1)
        ]
        caches = [{"name": _entry(cast, number), "url": server.url, "team": TEAM} for cast, number, server in watched]
        file = self._supervisor.folder / f"{listen}.yaml"
        file.write_text(json.dumps({"caches": caches, "exporter": {"listen": listen}}), encoding="utf-8")
        watch = Watch(self._supervisor, file, listen)
        exporter = self._target(f"{watch.url}/metrics")
        for cast in casts:
            cast.scene.watch = watch
            cast.targets.append((exporter, dict(EXPORTER)))
        groups = {group["labels"]["__param_target"]: group["labels"] for group in http.get_json(f"{watch.url}/sd")}
        for cast, number, _ in watched:
            entry = _entry(cast, number)
            path = groups[entry]["__metrics_path__"]
            target = self._target(f"{watch.url}{path}?target={quote(entry)}")
            cast.targets.append((target, self._labels(cast, number, groups[entry])))

    def _labels(self, cast: Cast, number: int, found: dict[str, str]) -> dict[str, str]:
        """The labels that /sd gives. A file must not hold the port of a day, and a cache has one name."""
        labels = {name: value for name, value in found.items() if not name.startswith("__")}
        name = cast.scene.scenario.name
        return {"job": "herdwatch", **labels, "cache": name, "instance": f"{name}-{number}.example:6379"}

    def _target(self, url: str) -> int:
        """A new target; the first scrapes of all are spread over the interval, and none is on the grid."""
        number = len(self._addresses)
        interval = self._timing.interval
        self._addresses.append(scraping.Address(url, 1 + number % (interval - 1)))
        return number

    def _scrape(self) -> Path:
        """Begin to scrape: second 0 of all recordings. Returns the file of the results."""
        output, file = self._supervisor.folder / "scrapes", self._supervisor.folder / "job.json"
        scraping.Job(self._timing.interval, self._addresses, str(output)).write(file)
        command = [sys.executable, "-m", "herdwatch.proof.recordings.scraping", str(file)]
        self._supervisor.start("scraper", command).wait_until(lambda: scraping.begun(output) is not None)
        self._begin = scraping.begun(output) or 0
        return output

    def _act(self, casts: Sequence[Cast]) -> None:
        """Let everything happen in its time, and wait for the end."""
        begin = self._now() + self._timing.lead
        events: list[tuple[float, int, Iterator[float]]] = []
        for number, cast in enumerate(casts):
            scenario = cast.scene.scenario
            due = begin + number * self._timing.stagger - scenario.early
            events.append((due, number, scenario.act(cast.scene)))
        heapq.heapify(events)
        while events:
            due, number, act = heapq.heappop(events)
            self._wait_until(due)
            cast = casts[number]
            if not cast.zero:
                # What is late because something else took its time is late by as much in its recording.
                cast.zero = int(self._now() + cast.scene.scenario.early)
                self._say(f"{self._now():6.1f} s  {cast.scene.scenario.about}")
            pause = next(act, None)
            cast.done = int(self._now())
            if pause is not None:
                heapq.heappush(events, (max(due, self._now() - ON_TIME) + pause, number, act))
        self._wait_until(max(cast.end(self._timing) for cast in casts) + self._timing.interval)

    def _wait_until(self, at: float) -> None:
        while (left := at - self._now()) > 0:
            self._refuse_the_dead()
            time.sleep(min(left, 1.0))

    def _recording(self, cast: Cast, got: dict[int, list[scraping.Got]]) -> Recording:
        interval = self._timing.interval
        scenario = cast.scene.scenario
        seconds = cast.end(self._timing) // interval * interval
        database = None if scenario.capacity is None else DATABASE
        return Recording(
            name=scenario.name,
            about=scenario.about,
            scrape_interval=interval,
            zero=cast.zero,
            seconds=seconds,
            caches=(RecordedCache(scenario.name, TEAM, database),),
            told=scenario.told,
            versions={"recording": VERSION, "redis": find("redis-server").version},
            targets=tuple(self._stored(got[number], labels, seconds) for number, labels in cast.targets),
            capacity=scenario.capacity,
        )

    def _stored(self, scrapes: Sequence[scraping.Got], labels: dict[str, str], seconds: int) -> Target:
        kept = [one for one in sorted(scrapes, key=lambda one: one.at) if one.at < seconds]
        series: dict[str, list[float | None]] = {"up": [float(one.samples is not None) for one in kept]}
        if "cache" in labels:
            for name in sorted({name for one in kept for name in one.samples or ()}):
                found = [None if one.samples is None else one.samples.get(name) for one in kept]
                # As all times: from the begin. What was started before it started at a negative time.
                gone = self._begin if name == "cache_start_time_seconds" else 0
                series[name] = [None if value is None else value - gone for value in found]
        return Target(labels, kept[0].at, series)


def _entry(cast: Cast, number: int) -> str:
    """The name in the exporter's configuration, where each url is a cache of its own."""
    name = cast.scene.scenario.name
    return name if number == 1 else f"{name}-{number}"
