"""What a Prometheus remembers of the series that the rules read: first how much, then piece by piece the samples."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from herdwatch.bundle.promql import Matcher
from herdwatch.prometheus import Api, TooMuch
from herdwatch.proof.backtest import samples
from herdwatch.proof.backtest.needs import Needs, Wanted
from herdwatch.proof.backtest.samples import Sample, Window
from herdwatch.proof.plays import Play, Series

STEPS = 500
"""Places in the time asked for at which series are counted."""
FINE = 15
"""Seconds to which the beginning of a history is found."""
RHYTHM = 5
"""Seconds between the questions whether Prometheus scraped anything."""
MAX_SAMPLES = 500_000
"""Samples in one answer, as far as they can be foreseen at a scrape every 5 seconds."""
SHORTEST = 60
"""Seconds of a piece that is still halved when it is too much."""
INSTANCES = 100
"""Targets that are asked for one by one; of more, all of their job are fetched."""

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Extent:
    """From when on there is history, in seconds since 1970, and how many series at once, by selector; 0 is none.

    `fresh` are the selectors with series in the time that was asked for, and not only in the past that rules need.
    """

    begins: int
    counts: Mapping[Wanted, int]
    fresh: frozenset[Wanted]

    @property
    def series(self) -> int:
        """Series of all selectors at once."""
        return sum(self.counts.values())

    @property
    def missing(self) -> list[str]:
        """Metrics of which there is no series in the time that was asked for."""
        found = {wanted.metric for wanted in self.fresh}
        return sorted({wanted.metric for wanted in self.counts} - found)


@dataclass(frozen=True, slots=True)
class Past:
    """One window of history: what is played, each cache's first second, and when nothing was scraped."""

    play: Play
    first: Mapping[str, int]
    holes: tuple[tuple[int, int], ...]


class History:
    """Fetches what `needs` names from a Prometheus, in answers of bounded size. `caches` narrow it to some.

    `tick` is called after each selector that was counted. Raises what the API raises.
    """

    def __init__(self, api: Api, needs: Needs, *, caches: Sequence[str] = ()) -> None:
        self._api = api
        self._wanted = needs.wanted
        # A series without the label, such as the exporter's own `up`, belongs to every cache.
        names = "|".join(map(re.escape, caches))
        self._narrow = (Matcher("cache", "=~", f"{names}|"),) if caches else ()

    def extent(self, start: int, since: int, end: int, *, tick: Callable[[], None] = lambda: None) -> Extent:
        """How much there is from `since` to `end`, and in the past before it, from `start` on."""
        step = _step(start, end)
        counts: dict[Wanted, int] = {}
        begins: list[int] = []
        fresh = set()
        for wanted in self._wanted:
            seen = self._seen(wanted, start, end, step) or self._between_steps(wanted, since, end)
            counts[wanted] = max((count for _, count in seen), default=0)
            begins.extend(at for at, _ in seen[:1])
            if seen and seen[-1][0] >= since:
                fresh.add(wanted)
            tick()
        return Extent(self._fine(min(begins, default=start), start, step), counts, frozenset(fresh))

    def has(self, wanted: Wanted, since: int, end: int) -> bool:
        """Whether a selector finds any series in a time."""
        return bool(self._seen(wanted, since, end, _step(since, end)) or self._between_steps(wanted, since, end))

    def caches(self, names: Sequence[str], since: int, end: int) -> frozenset[str]:
        """Those of the names that the label `cache` of a series has in a time."""
        named = Matcher("cache", "=~", "|".join(map(re.escape, names)))
        selectors = [Wanted(one.metric, (*one.matchers, named)).selector() for one in self._wanted]
        return frozenset(labels.get("cache", "") for one in selectors for labels in self._api.series(one, since, end))

    def _between_steps(self, wanted: Wanted, since: int, end: int) -> list[tuple[int, int]]:
        short = len(self._api.series(self._text(wanted), since, end))
        return [(since, short)] if short else []

    def _seen(self, wanted: Wanted, start: int, end: int, step: int) -> list[tuple[int, int]]:
        result = self._api.query_range(f"count({self._text(wanted)})", start, end, step)
        return [(int(at), int(count)) for one in result[:1] for at, count in _numbers(one)]

    def _fine(self, begins: int, start: int, step: int) -> int:
        """The beginning, known to a step, to FINE seconds."""
        return begins if begins <= start + FINE else self._finest(max(start, begins - step), begins)

    def _finest(self, start: int, end: int) -> int:
        seen = [at for wanted in self._wanted for at, _ in self._seen(wanted, start, end, FINE)[:1]]
        return min(seen, default=end)

    def window(self, extent: Extent, window: Window) -> Past:
        """Everything in a window, as a play that begins with it."""
        alive = self._alive(window)
        raw = self._raw(((one, count) for one, count in extent.counts.items() if count), window)
        targets, scrapes = self._targets(raw, window)
        until = window.end * 1000
        series = []
        for (name, labels), found in sorted(raw.items()):
            number = None if name == "up" else samples.target_of(dict(labels), targets)
            clock = None if number is None else scrapes[number]
            ends = list(samples.ends([at for at, _ in found], clock, alive, until))
            series.append(Series(name, dict(labels), samples.points(found, ends, window)))
        holes = samples.holes(alive, window.start * 1000, until, GAP_SECONDS * 1000)
        return Past(
            Play(f"{window.start}", series, window.end - window.start),
            _first(raw),
            tuple((begin // 1000, -(-end // 1000)) for begin, end in holes),
        )

    def _alive(self, window: Window) -> list[int]:
        """When anything was scraped: the newest scrape, asked every few seconds."""

        def ask(start: int, end: int) -> list[dict[str, Any]]:
            return self._api.query_range("max(timestamp(up))", start, end, RHYTHM)

        times = {
            round(time * 1000)
            for result in _halved(ask, _cut(window.start, window.end, RHYTHM * 10_000))
            for one in result
            for _, time in _numbers(one)
        }
        return sorted(time for time in times if window.start * 1000 <= time < window.end * 1000)

    def _raw(self, wanted: Iterable[tuple[Wanted, int]], window: Window) -> dict[tuple[str, Labels], list[Sample]]:
        found: dict[tuple[str, Labels], dict[int, float]] = {}
        for one, count in wanted:
            piece = max(SHORTEST, MAX_SAMPLES * 5 // count)
            for result in _halved(self._asking(self._text(one)), _cut(window.start, window.end, piece)):
                for series in result:
                    labels = tuple(
                        sorted((name, text) for name, text in series["metric"].items() if name != "__name__")
                    )
                    kept = found.setdefault((one.metric, labels), {})
                    kept.update((round(at * 1000), float(value)) for at, value in series.get("values", ()))
        first, last = window.start * 1000, window.end * 1000
        ordered = {
            key: sorted((at, value) for at, value in kept.items() if first <= at < last) for key, kept in found.items()
        }
        return {key: kept for key, kept in ordered.items() if kept}

    def _asking(self, selector: str) -> Callable[[int, int], list[dict[str, Any]]]:
        # A second more: some versions leave out a sample at the very beginning of a range.
        return lambda start, end: self._api.query(f"{selector}[{end - start + 1}s]", end)

    def _targets(
        self, raw: Mapping[tuple[str, Labels], object], window: Window
    ) -> tuple[list[Mapping[str, str]], list[list[int]]]:
        """The labels of the targets behind the series, and when each was scraped."""
        ups = self._raw([(one, INSTANCES) for one in _ups(raw)], window)
        return [dict(labels) for _, labels in ups], [[at for at, _ in found] for found in ups.values()]

    def _text(self, wanted: Wanted) -> str:
        return Wanted(wanted.metric, (*wanted.matchers, *self._narrow)).selector()


GAP_SECONDS = 30
"""A time of this length in which nothing was scraped is told; what counts as one is the reader's to say."""


def _numbers(series: Mapping[str, Any]) -> Iterator[Sample]:
    """Its samples, in seconds since 1970, but those that are not finite."""
    samples = ((at, float(value)) for at, value in series.get("values", ()))
    return ((at, value) for at, value in samples if math.isfinite(value))


def _ups(raw: Iterable[tuple[str, Labels]]) -> Iterator[Wanted]:
    """What finds the `up` of the targets that the series are from, one selector a job."""
    jobs: dict[str, set[str]] = {}
    for name, labels in raw:
        named = dict(labels)
        if name != "up" and "job" in named and "instance" in named:
            jobs.setdefault(named["job"], set()).add(named["instance"])
    for job, instances in sorted(jobs.items()):
        of_job = Matcher("job", "=", job)
        some = Matcher("instance", "=~", "|".join(map(re.escape, sorted(instances))))
        yield Wanted("up", (of_job, some) if len(instances) <= INSTANCES else (of_job,))


def _first(raw: Mapping[tuple[str, Labels], Sequence[Sample]]) -> dict[str, int]:
    """The first second of each cache."""
    first: dict[str, int] = {}
    for (_, labels), found in raw.items():
        cache = dict(labels).get("cache")
        if cache is not None:
            at = found[0][0] // 1000
            first[cache] = min(at, first.get(cache, at))
    return first


def _step(start: int, end: int) -> int:
    return max(FINE, (end - start) // STEPS)


def _cut(start: int, end: int, longest: int) -> Iterator[tuple[int, int]]:
    for begin in range(start, end, longest):
        yield begin, min(begin + longest, end)


def _halved(
    ask: Callable[[int, int], list[dict[str, Any]]], pieces: Iterable[tuple[int, int]]
) -> Iterator[list[dict[str, Any]]]:
    """The answers for each piece; one that is too much is asked for by halves."""
    waiting = list(pieces)[::-1]
    while waiting:
        start, end = waiting.pop()
        try:
            yield ask(start, end)
        except TooMuch:
            if end - start < 2 * SHORTEST:
                raise
            middle = (start + end) // 2
            waiting += [(middle, end), (start, middle)]
