"""The counts of guards as a collector of prometheus_client, for applications of one process.

Several guards of one cache and service are added up. prometheus_client's multiprocess mode drops custom collectors:
applications with several workers use a Reporter instead.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from herdwatch.guard.counts import Counts
from herdwatch.metrics import BY_NAME, GUARD_COUNTERS, LOAD_BUCKETS

if TYPE_CHECKING:
    from herdwatch.guard.core import Core

_lock = threading.Lock()
_collectors: weakref.WeakKeyDictionary[CollectorRegistry, GuardCollector] = weakref.WeakKeyDictionary()
_LABELS = ("cache", "service", "group")


def expose(registry: CollectorRegistry, core: Core) -> None:
    """Show this guard's counts on the registry, beside those of other guards."""
    with _lock:
        collector = _collectors.get(registry)
        if collector is None:
            collector = _collectors[registry] = GuardCollector()
            registry.register(collector)
    collector.add(core)


def withdraw(core: Core) -> None:
    """Show this guard no longer: a Reporter sends its counts, and a service is scraped or reports, never both."""
    for collector in list(_collectors.values()):
        collector.remove(core)


class GuardCollector(Collector):
    """Reads plain ints at scrape time. What is gone stays as one sum a cache and service, so that no count falls."""

    def __init__(self) -> None:
        self._guards: list[tuple[Counts, weakref.ref[Core]]] = []
        self._sums: dict[tuple[str, str], Counts] = {}
        self._lock = threading.Lock()

    def add(self, core: Core) -> None:
        with self._lock:
            self._bury()
            self._guards.append((core.counts, weakref.ref(core)))
            self._sum(core.counts)

    def remove(self, core: Core) -> None:
        with self._lock:
            self._guards = [one for one in self._guards if one[0] is not core.counts]
            left = {(counts.cache, counts.service) for counts, _ in self._guards}
            self._sums = {
                place: counts for place, counts in self._sums.items() if place in left or any(counts.totals().values())
            }

    def begin_anew(self) -> None:
        """After a fork: what is gone was counted by the parent, one of whose threads may have had the lock."""
        self._lock = threading.Lock()
        self._guards = [one for one in self._guards if one[1]() is not None]
        self._sums = {}
        for counts, _ in self._guards:
            self._sum(counts)

    def describe(self) -> Iterable[Metric]:
        return self._families({}, {}, {})

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            self._bury()
            merged, gauges = self._merged(), self._gauges()
        counters: dict[tuple[str, ...], int] = {
            (family, *place, group, label): value
            for place, counts in merged.items()
            for (family, group, label), value in counts.totals().items()
        }
        loads: dict[tuple[str, ...], list[float]] = {
            (*place, group): [*one.buckets, one.load_seconds]
            for place, counts in merged.items()
            for group, one in counts.items()
        }
        yield from self._families(counters, gauges, loads)

    def _bury(self) -> None:
        """Add the counts of guards that are gone to the sums, and keep nothing else of them."""
        living = []
        for one in self._guards:
            if one[1]() is not None:
                living.append(one)
            else:
                self._sum(one[0]).add(one[0])
        self._guards = living

    def _sum(self, counts: Counts) -> Counts:
        place = (counts.cache, counts.service)
        return self._sums.setdefault(place, Counts(*place))

    def _merged(self) -> dict[tuple[str, str], Counts]:
        """What is gone and what is not. The sum has every group first, so that it never has another name later."""
        merged = {place: Counts(*place) for place in self._sums}
        for place, own in self._sums.items():
            merged[place].add(own)
        for counts, _ in self._guards:
            own, shown = self._sum(counts), merged[counts.cache, counts.service]
            for group, one in list(counts.items()):
                own[group]
                shown[group].add(one)
        return merged

    def _gauges(self) -> dict[tuple[str, str, str], float]:
        gauges: dict[tuple[str, str, str], float] = defaultdict(float)
        for place in self._sums:
            gauges["singleflight_inflight", *place] = gauges["singleflight_waiters", *place] = 0.0
        for counts, reference in self._guards:
            place, core = (counts.cache, counts.service), reference()
            if core is not None:
                gauges["singleflight_inflight", *place] += counts.inflight
                gauges["singleflight_waiters", *place] += core.waiting()
                enabled = ("singleflight_enabled", *place)
                gauges[enabled] = min(gauges.get(enabled, 1.0), float(core.switches.singleflight))
        return gauges

    @staticmethod
    def _families(
        counters: dict[tuple[str, ...], int],
        gauges: dict[tuple[str, str, str], float],
        loads: dict[tuple[str, ...], list[float]],
    ) -> Iterator[Metric]:
        for declared in GUARD_COUNTERS:
            counter = CounterMetricFamily(declared.name, declared.help, labels=declared.labels)
            own = len(declared.labels) > len(_LABELS)
            for (family, *labels), value in counters.items():
                if family == declared.name:
                    counter.add_metric(labels if own else labels[:-1], value)
            yield counter
        for name in ("singleflight_inflight", "singleflight_waiters", "singleflight_enabled"):
            gauge = GaugeMetricFamily(name, BY_NAME[name].help, labels=_LABELS[:2])
            for (family, cache, service), level in gauges.items():
                if family == name:
                    gauge.add_metric((cache, service), level)
            yield gauge
        declared = BY_NAME["cache_load_duration_seconds"]
        histogram = HistogramMetricFamily(declared.name, declared.help, labels=_LABELS)
        for place, seen in loads.items():
            histogram.add_metric(place, buckets=_cumulative(seen[:-1]), sum_value=seen[-1])
        yield histogram


def _cumulative(counts: list[float]) -> list[tuple[str, float]]:
    total, buckets = 0.0, []
    for bound, count in zip([*map(str, LOAD_BUCKETS), "+Inf"], counts, strict=True):
        total += count
        buckets.append((bound, total))
    return buckets


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()  # the old one may be a thread's of the parent
    for collector in list(_collectors.values()):
        collector.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
