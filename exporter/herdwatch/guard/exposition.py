"""The counts of guards as a collector of prometheus_client, for applications of one process.

Several guards of one cache and service are added up. prometheus_client's multiprocess mode drops custom collectors:
applications with several workers use a Reporter instead.
"""

from __future__ import annotations

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
    """Reads plain ints at scrape time."""

    def __init__(self) -> None:
        # Strong references: the counts of a guard that is gone must not fall back to nothing.
        self._cores: list[tuple[Counts, weakref.ref[Core]]] = []

    def add(self, core: Core) -> None:
        self._cores.append((core.counts, weakref.ref(core)))

    def remove(self, core: Core) -> None:
        self._cores = [one for one in self._cores if one[0] is not core.counts]

    def describe(self) -> Iterable[Metric]:
        return self._families({}, {}, {})

    def collect(self) -> Iterator[Metric]:
        counters: dict[tuple[str, ...], int] = defaultdict(int)
        gauges: dict[tuple[str, str, str], float] = defaultdict(float)
        loads: dict[tuple[str, ...], list[float]] = {}
        for counts, reference in list(self._cores):
            place = (counts.cache, counts.service)
            for (family, group, label), value in counts.totals().items():
                counters[family, *place, group, label] += value
            gauges["singleflight_inflight", *place] += counts.inflight
            core = reference()
            gauges["singleflight_waiters", *place] += core.waiting() if core is not None else 0
            enabled = ("singleflight_enabled", *place)
            if core is not None:
                gauges[enabled] = min(gauges.get(enabled, 1.0), float(core.switches.singleflight))
            for group, one in list(counts.items()):
                seen = loads.setdefault((*place, group), [0.0] * (len(LOAD_BUCKETS) + 2))
                for number, amount in enumerate([*one.buckets, one.load_seconds]):
                    seen[number] += amount
        yield from self._families(counters, gauges, loads)

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
