"""Reports of applications -> counters of the exporter that never count a lookup twice.

Totals of reporters are never summed as they are: a reporter that leaves would look like a counter reset, and Prometheus
would add everything the others ever did. Each incarnation's last totals are kept here and only differences are added.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from operator import attrgetter

from herdwatch import reports
from herdwatch.collector.info import Sample
from herdwatch.metrics import BY_NAME
from herdwatch.reports import MalformedReport, Report, Totals, UnknownVersion

MAX_INCARNATIONS = 10_000
MAX_GROUPS = 200
"""Pairs of service and group that one cache may publish; each is up to 15 series."""


class ReportAccumulator:
    """The counters of one cache. Feed it every read of the hash, in order; it is not thread-safe.

    Where the truth cannot be known it counts less, never more: what an incarnation did before this exporter's first
    read, before it was first seen (unless it started later than that read), or before it was forgotten.
    """

    def __init__(self, *, max_incarnations: int = MAX_INCARNATIONS, max_groups: int = MAX_GROUPS) -> None:
        self._max_incarnations = max_incarnations
        self._max_groups = max_groups
        self._counted_from: float | None = None
        self._last: OrderedDict[tuple[str, str], tuple[float, Totals]] = OrderedDict()
        self._counters: dict[tuple[str, str, str, str], int] = {}
        self._groups: set[tuple[str, str]] = set()
        self._fresh: list[Report] = []
        self._warming: list[Report] = []
        self.dropped: Counter[str] = Counter()

    def update(self, fields: Mapping[bytes, bytes], now: float) -> None:
        """Take in one read of the hash at `now`, Unix seconds by the cache's clock."""
        first = self._counted_from is None
        if self._counted_from is None:
            self._counted_from = now
        self._fresh, self._warming = [], []
        for report in self._read(fields, now):
            self._add(report, now, first)
            self._fresh.append(report)
        self._forget()

    def _read(self, fields: Mapping[bytes, bytes], now: float) -> Iterator[Report]:
        for field, value in fields.items():
            try:
                report = reports.parse(field, value)
            except UnknownVersion:
                self.dropped["version"] += 1
            except MalformedReport:
                self.dropped["malformed"] += 1
            else:
                if report.warmup is not None and report.warmup.active:
                    self._warming.append(report)
                if report.stale(now):
                    self.dropped["stale"] += 1
                else:
                    yield report

    def _add(self, report: Report, now: float, first: bool) -> None:
        key = (report.service, report.incarnation)
        known = self._last.pop(key, None)
        if known is not None:
            before = known[1]
        elif not first and self._counted_from is not None and self._counted_from < report.start <= now:
            before = {}
        else:
            before = report.totals
        for (family, group, label), total in report.totals.items():
            if not self._admits(report.service, group):
                continue
            counter = (family, report.service, group, label)
            gained = total - before.get((family, group, label), 0)
            self._counters[counter] = self._counters.get(counter, 0) + max(0, gained)
        self._last[key] = (report.start, {**before, **report.totals})

    def _admits(self, service: str, group: str) -> bool:
        if (service, group) in self._groups:
            return True
        if len(self._groups) >= self._max_groups:
            self.dropped["too_many"] += 1
            return False
        self._groups.add((service, group))
        return True

    def _forget(self) -> None:
        while len(self._last) > self._max_incarnations:
            _, (start, _) = self._last.popitem(last=False)
            # Should it come back, it must be a baseline again: nothing that started by then is added whole.
            self._counted_from = max(self._counted_from or 0.0, start)

    def samples(self) -> Iterator[Sample]:
        """Samples with label values (service, group, own label) for counters and (service,) for gauges."""
        for (family, service, group, label), total in self._counters.items():
            own = BY_NAME[family].labels[3:]
            yield family, (service, group, label) if own else (service, group), total
        yield from self._gauges()

    def _gauges(self) -> Iterator[Sample]:
        for service, mine in _by_service(self._fresh):
            yield "singleflight_inflight", (service,), sum(report.inflight for report in mine)
            yield "singleflight_waiters", (service,), sum(report.waiters for report in mine)
            switches = [report.enabled for report in mine if report.enabled is not None]
            if switches:
                yield "singleflight_enabled", (service,), all(switches)
        # A warmer that died keeps its `active`: its frozen progress is how a stalled warm-up is seen.
        telling = {(r.service, r.incarnation): r for r in (*self._fresh, *self._warming)}
        for service, mine in _by_service(telling.values()):
            warmups = [report.warmup for report in mine if report.warmup is not None]
            if warmups:
                yield "cache_warmup_target_keys", (service,), sum(warmup.target for warmup in warmups)
                yield "cache_warmup_done_keys", (service,), sum(warmup.done for warmup in warmups)
                yield "cache_warmup_active", (service,), any(warmup.active for warmup in warmups)


def _by_service(told: Iterable[Report]) -> Iterator[tuple[str, list[Report]]]:
    ordered = sorted(told, key=attrgetter("service"))
    return ((service, list(mine)) for service, mine in groupby(ordered, key=attrgetter("service")))
