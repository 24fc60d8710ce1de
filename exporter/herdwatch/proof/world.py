"""Where an incident happens: its caches, the exporter and the Prometheus that scrapes it, and the clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from herdwatch.proof import scraper
from herdwatch.proof.model import Cache, Node, Service
from herdwatch.proof.plays import Play, Point, Series

Script = Callable[["World"], Iterator[float]]
"""Does things to a world, and yields the seconds to wait between them."""

LEAD_SCRAPES = 45
"""Calm before an incident: more than twice the longest window that needs a past."""

JOB, EXPORTER_JOB, APPLICATION_JOB = "herdwatch", "herdwatch-exporter", "herdwatch-applications"


class World:
    """Runs a script second by second and keeps what a scraper saw; a scrape comes `phase` seconds after each interval.

    Phases that are no multiple of five lie between the evaluations. `zero` is when the incident began, `known` when
    a watcher could first have known of it: later than zero where nobody could see it happen. `gaps` are the seconds,
    first and last, in which Prometheus was away.
    """

    def __init__(self, prefix: str, *, interval: int = 15, phase: int = 7) -> None:
        self.prefix, self.interval, self.phase = prefix, interval, phase
        self.now = self.zero = self.known = 0
        self.caches: list[Cache] = []
        self.scraping = True
        self.gaps: list[tuple[int, int]] = []
        self.exporters = {"exporter-1:9878": True}
        self._points: dict[tuple[str, tuple[tuple[str, str], ...]], list[Point]] = {}
        self._alive: set[tuple[str, tuple[tuple[str, str], ...]]] = set()

    def cache(
        self,
        name: str = "users",
        *,
        lookups: float = 1_000,
        keys: float = 200_000,
        hit_ratio: float = 0.95,
        shards: int = 1,
        replicas: int = 0,
        databases: dict[str, float] | None = None,
        guard: bool | str = True,
        capacity: float | None = None,
        peak: float | None = None,
        limit: float | None = None,
        empty: bool = False,
        configured: bool = True,
    ) -> Cache:
        """A warm cache. `guard` is False, True (one service that reports) or "scraped"; `databases` maps db to share.

        `lookups` are per second, `keys` those of all shards; `capacity` and `peak` are the database's, in requests.
        """
        label = f"{self.prefix}.{name}"
        shares = databases or {"0": 1.0}
        nodes = [Node(f"{label}-{number}:6379", started=-86_400, replicas=replicas) for number in range(1, shards + 1)]
        for node in nodes:
            node.keys = {db: 0.0 if empty else keys / shards * share for db, share in shares.items()}
            node.hits, node.misses = 1e6, 1e5
        instances = (f"{label}-app-1:8000", f"{label}-app-2:8000") if guard == "scraped" else ()
        services = [Service("profiles", instances=instances)] if guard else []
        made = Cache(label, "platform", lookups, keys, hit_ratio, nodes, services, shares=shares)
        made.capacity, made.peak, made.limit, made.configured = capacity, peak or lookups, limit, configured
        made.database = f"{label}-db" if capacity else ""
        self.caches.append(made)
        return made

    def calm(self) -> Iterator[float]:
        """The past that every incident has; what comes after it is measured from there."""
        yield LEAD_SCRAPES * self.interval + 11
        self.zero = self.known = self.now

    def visible(self) -> None:
        """From now on a watcher could know."""
        self.known = self.now

    def restart_exporters(self) -> None:
        """What the exporter accumulated begins at zero again."""
        for cache in self.caches:
            for service in cache.services:
                if not service.instances:
                    service.forget()

    def run(self, script: Script) -> None:
        """Run the script to its end."""
        for seconds in script(self):
            until = self.now + round(seconds)
            while self.now < until:
                self._second()

    def play(self, name: str) -> Play:
        """What was scraped."""
        series = [Series(name, dict(labels), points) for (name, labels), points in self._points.items()]
        return Play(name, series, self.now)

    def _second(self) -> None:
        self.now += 1
        for cache in self.caches:
            cache.tick(self.now)
        if not self.scraping:
            begin = self.gaps.pop()[0] if self.gaps and self.gaps[-1][1] == self.now - 1 else self.now
            self.gaps.append((begin, self.now))
        elif self.now % self.interval == self.phase % self.interval:
            self._scrape()

    def _scrape(self) -> None:
        alive = set()
        for name, labels, value in self._samples():
            key = (name, tuple(sorted(labels.items())))
            self._points.setdefault(key, []).append((self.now, value))
            alive.add(key)
        for key in self._alive - alive:
            self._points[key].append((self.now, None))
        self._alive = alive

    def _samples(self) -> Iterator[scraper.Sample]:
        for address, lives in self.exporters.items():
            yield "up", {"job": EXPORTER_JOB, "instance": address}, float(lives)
        for cache in self.caches:
            yield from scraper.of_cache(cache, self.now, job=JOB, watched=any(self.exporters.values()))
            yield from scraper.of_applications(cache, job=APPLICATION_JOB)
