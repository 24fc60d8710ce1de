"""What happened: alerts that fired, new processes, flushes. Read from raw samples, so that nothing is too short."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from herdwatch.operations.report.asked import Asked, Result, batches, in_time, matcher
from herdwatch.prometheus import Api

GAP = 60.0
"""Seconds without a sample after which an alert that fires again is another firing."""
JITTER = 2.0
"""Seconds that the start of one and the same process may move, by rounding and between two exporters."""
TWINS = 60.0
"""Seconds within which two exporters of one Redis see the same flush."""
_OWN = ("__name__", "alertstate")

Labels = tuple[tuple[str, str], ...]
Sample = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Firing:
    """An alert that fired. `end` is None where it still did at the end of the time that was asked for.

    `pending` is since when it had been about to, None where it fired at once; `earlier` says that it was there already
    when the time began, firing or about to. Seconds since 1970, known to one evaluation.
    """

    alert: str
    severity: str
    cache: str
    where: str
    start: float
    end: float | None
    pending: float | None = None
    earlier: bool = False

    @property
    def begins(self) -> float:
        """When it was about to fire, or fired."""
        return self.start if self.pending is None else self.pending

    @property
    def already(self) -> bool:
        """Whether it fired already when the time began: nobody knows since when."""
        return self.earlier and self.pending is None


@dataclass(frozen=True, slots=True)
class Restart:
    """A process that was another at the scrape before: when that was seen, and when it started by its own clock."""

    cache: str
    instance: str
    at: float
    started: float


@dataclass(frozen=True, slots=True)
class Flush:
    """A flush command that had been called at a scrape, so many times."""

    cache: str
    instance: str
    command: str
    at: float
    count: int


@dataclass(frozen=True, slots=True)
class Happened:
    """All of it, each in the order of time."""

    firings: tuple[Firing, ...] = ()
    restarts: tuple[Restart, ...] = ()
    flushes: tuple[Flush, ...] = ()


@dataclass(slots=True)
class _Run:
    """Samples without a gap: the first, the last, and the least time between two."""

    first: float
    last: float
    spacing: float = GAP
    several: bool = field(default=False)


def happened(api: Api, asked: Asked) -> Happened:
    """Ask for it; raises what the API raises."""
    caches = matcher("cache", asked.caches)
    return Happened(_firings(api, asked, caches), _restarts(api, asked, caches), _flushes(api, asked, caches))


def _firings(api: Api, asked: Asked, caches: str) -> tuple[Firing, ...]:
    gap = max(GAP, 2 * asked.interval)
    runs: dict[tuple[str, Labels], list[_Run]] = {}
    # The exporter's own alert carries no cache and is about each; the watchdog always fires and is about none.
    for selector in (f"ALERTS{{{caches}}}", 'ALERTS{alertname="CacheExporterDown",cache=""}'):
        for labels, samples in _raw(api, asked, selector):
            plain = tuple((name, value) for name, value in labels if name not in _OWN)
            into = runs.setdefault((dict(labels).get("alertstate", ""), plain), [])
            for at, _ in samples:
                _extend(into, at, gap)
    found = [
        _firing(dict(labels), run, runs.get(("pending", labels), ()), asked, gap)
        for (state, labels), some in runs.items()
        if state == "firing"
        for run in some
    ]
    return tuple(sorted(found, key=lambda one: (one.start, one.alert, one.cache, one.where)))


def _extend(runs: list[_Run], at: float, gap: float) -> None:
    if runs and at - runs[-1].last <= gap:
        run = runs[-1]
        run.spacing, run.last, run.several = min(run.spacing, at - run.last) or run.spacing, at, True
    else:
        runs.append(_Run(at, at))


def _firing(labels: Mapping[str, str], run: _Run, pending: Sequence[_Run], asked: Asked, gap: float) -> Firing:
    """An alert fires up to the evaluation after the last one at which it did."""
    end = run.last + (run.spacing if run.several else 0.0)
    before = next((one for one in pending if one.first < run.first <= one.last + gap), None)
    begun = before or run
    return Firing(
        alert=labels.get("alertname", ""),
        severity=labels.get("severity", ""),
        cache=labels.get("cache", ""),
        where=", ".join(labels[name] for name in ("instance", "service", "database") if labels.get(name)),
        start=run.first,
        end=None if end + min(run.spacing, 2 * asked.interval) >= asked.until else end,
        pending=before.first if before else None,
        earlier=begun.first - asked.since <= min(begun.spacing, 2 * asked.interval),
    )


def _restarts(api: Api, asked: Asked, caches: str) -> tuple[Restart, ...]:
    found: list[Restart] = []
    for labels, (_, before), (at, value) in _changes(api, asked, "cache_start_time_seconds", caches):
        if abs(value - before) > JITTER:
            found.append(Restart(labels.get("cache", ""), labels.get("instance", ""), at, value))
    found.sort(key=lambda one: (one.at, one.cache, one.instance))
    kept: list[Restart] = []
    for one in found:
        if not any(_same(one, other) for other in kept):
            kept.append(one)
    return tuple(kept)


def _same(one: Restart, other: Restart) -> bool:
    return (one.cache, one.instance) == (other.cache, other.instance) and abs(one.started - other.started) <= JITTER


def _flushes(api: Api, asked: Asked, caches: str) -> tuple[Flush, ...]:
    found: list[tuple[Flush, str]] = []
    for labels, (_, before), (at, value) in _changes(api, asked, "cache_flushes_total", caches):
        # A counter that fell is that of another process: all it counts came after the start.
        count = value - before if value > before else value
        if count >= 1:
            cache, instance, command = (labels.get(name, "") for name in ("cache", "instance", "command"))
            found.append((Flush(cache, instance, command, at, round(count)), repr(sorted(labels.items()))))
    found.sort(key=lambda one: (one[0].at, one[0].cache, one[0].instance, one[0].command, one[1]))
    kept: list[tuple[Flush, str]] = []
    for flush, series in found:
        if not any(series != twin and _twins(flush, other) for other, twin in kept):
            kept.append((flush, series))
    return tuple(flush for flush, _ in kept)


def _twins(one: Flush, other: Flush) -> bool:
    same = (one.cache, one.instance, one.command) == (other.cache, other.instance, other.command)
    return same and one.at - other.at <= TWINS


def _changes(api: Api, asked: Asked, metric: str, caches: str) -> Iterator[tuple[dict[str, str], Sample, Sample]]:
    """Every change of a series, with the sample before it and the one that shows it.

    First only the processes are asked for of which something changed: there may be a thousand others.
    """
    result = api.query(f"changes({metric}{{{caches}}}[{asked.seconds + 1}s]) > 0", asked.until)
    changed = sorted({one["metric"].get("instance", "") for one in result})
    for some in batches(changed):
        last: dict[Labels, Sample] = {}
        selector = f"{metric}{{{caches},{matcher('instance', some)}}}"
        for labels, samples in _raw(api, asked, selector):
            for sample in samples:
                before = last.get(labels)
                if before is not None and sample[1] != before[1]:
                    yield dict(labels), before, sample
                last[labels] = sample


def _raw(api: Api, asked: Asked, selector: str) -> Iterator[tuple[Labels, list[Sample]]]:
    """The samples of each series, piece by piece in the order of time; none twice."""
    # A second more: some versions leave out a sample at the very beginning of a range.
    ask: Callable[[int, int], Result] = lambda start, end: api.query(f"{selector}[{end - start + 1}s]", end)  # noqa: E731
    reached: dict[Labels, float] = {}
    for result in in_time(ask, asked.since, asked.until):
        for series in result:
            labels = tuple(sorted(series["metric"].items()))
            after = reached.get(labels, asked.since - 0.001)
            samples = [one for one in _numbers(series.get("values", ())) if after < one[0] <= asked.until]
            if samples:
                reached[labels] = samples[-1][0]
                yield labels, samples


def _numbers(values: Iterable[Any]) -> Iterator[Sample]:
    for at, value in values:
        number = float(value)
        if number == number:
            yield float(at), number
