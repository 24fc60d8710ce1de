"""What a drill's own Prometheus stored of the targets of one run: when each was scraped, and what it showed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from herdwatch.errors import CheckFailed
from herdwatch.operations.report.asked import Result, matcher
from herdwatch.prometheus import Api
from herdwatch.proof.recordings import load
from herdwatch.proof.recordings.load import Target
from herdwatch.proof.recordings.record import EXPORTER
from herdwatch.proof.recordings.scraping import KEPT

LATEST = 1.0
"""Seconds that a scrape may be off the place that a recording gives it."""
_OF_TARGET = ("job", "cache", "instance", "team")
_START = "cache_start_time_seconds"


@dataclass(frozen=True, slots=True)
class Scraped:
    """One target as Prometheus has it: when it was scraped, and each series by these times, in seconds since 1970.

    `labels` are those of the recording, where addresses are made up.
    """

    labels: Mapping[str, str]
    interval: int
    times: Sequence[float]
    series: Mapping[str, Mapping[float, float]]

    @property
    def rhythm(self) -> float:
        """A time from which most scrapes are a whole number of intervals away."""
        first = self.times[0]
        return median(at - self.interval * round((at - first) / self.interval) for at in self.times)

    def second(self, begin: int, at: float | None = None) -> int:
        """The second, of a recording that begins then, of the scrape that was made at some time; or of any scrape."""
        rhythm = self.rhythm
        return round(rhythm - begin) + (0 if at is None else self.interval * round((at - rhythm) / self.interval))

    def last(self, begin: int) -> int:
        """The second of the last scrape."""
        return self.second(begin, self.times[-1])

    def target(self, begin: int, seconds: int) -> Target:
        """What a recording keeps of it; raises CheckFailed where a scrape is missing, or not where it should be."""
        placed = self._placed(begin, seconds)
        first = self.second(begin) % self.interval
        due = range(first, seconds, self.interval)
        if missing := [second for second in due if second not in placed]:
            raise CheckFailed(
                f"{self.labels['instance']} was not scraped at second {missing[0]}, and a recording has a scrape every "
                f"{self.interval} s"
            )
        series = {}
        for name, values in sorted(self.series.items()):
            # As all times: from the begin. What was started before it started at a negative time.
            gone = begin if name == _START else 0
            shown = (values.get(placed[second]) for second in due)
            series[name] = [None if value is None else value - gone for value in shown]
        return Target(self.labels, first, series)

    def _placed(self, begin: int, seconds: int) -> dict[int, float]:
        """When the scrape of each second really was."""
        placed = {second: at for at in self.times if 0 < (second := self.second(begin, at)) < seconds}
        for second, at in placed.items():
            off = at - begin - second
            if abs(off) > LATEST:
                raise CheckFailed(
                    f"{self.labels['instance']} was scraped {abs(off):.1f} s too {'late' if off > 0 else 'early'} at "
                    f"second {second}, and a recording allows {LATEST:g} s"
                )
        return placed


def scraped(api: Api, caches: Sequence[str], begin: int, end: int, interval: int) -> Iterator[Scraped]:
    """The exporter, and each cache under the name of the first one; raises CheckFailed where one was not scraped."""
    # A second more: some versions leave out a sample at the very beginning of a range.
    span = f"[{end - begin + 1}s]"
    exporter = api.query(f'up{{job="{EXPORTER["job"]}"}}{span}', end)
    _target_labels(exporter, "the exporter")
    yield _of(exporter, EXPORTER, interval)
    names = matcher("__name__", sorted({*KEPT, "up"}))
    for number, cache in enumerate(caches, 1):
        result = api.query(f"{{{names},{matcher('cache', [cache])}}}{span}", end)
        made_up = {"cache": caches[0], "instance": f"{caches[0]}-{number}.example:6379"}
        labels = {**_target_labels(result, cache), **made_up}
        yield _of(result, {name: labels[name] for name in _OF_TARGET}, interval)


def _target_labels(result: Result, what: str) -> Mapping[str, str]:
    ups: list[Mapping[str, str]] = [one["metric"] for one in result if one["metric"].get("__name__") == "up"]
    if len(ups) != 1:
        raise CheckFailed(f"Prometheus scraped {len(ups)} targets of {what} in the time of the run, not one")
    return ups[0]


def _of(result: Result, labels: Mapping[str, str], interval: int) -> Scraped:
    series = {_text(one["metric"]): _values(one) for one in result}
    return Scraped(labels, interval, sorted(series["up"]), series)


def _text(metric: Mapping[str, str]) -> str:
    """Name and own labels of a series, as a recording has them; raises CheckFailed for what its notation cannot say."""
    own = {name: value for name, value in sorted(metric.items()) if name not in ("__name__", *_OF_TARGET)}
    text = load.rendered(metric["__name__"], own)
    try:
        same = load.named(text) == (metric["__name__"], own)
    except ValueError:
        same = False
    if not same:
        raise CheckFailed(f"{text!r} cannot be recorded: a label's value has no quote, backslash or line break there")
    return text


def _values(series: Mapping[str, Any]) -> dict[float, float]:
    values = {float(at): float(value) for at, value in series["values"]}
    if not all(map(math.isfinite, values.values())):
        raise CheckFailed(f"{series['metric']['__name__']} cannot be recorded: a value is no finite number")
    return values
