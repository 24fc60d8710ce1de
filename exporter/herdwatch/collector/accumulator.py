"""Reports of applications -> counters of the exporter that never count a lookup twice.

Totals of reporters are never summed as they are: a reporter that leaves would look like a counter reset, and Prometheus
would add everything the others ever did. Each incarnation's last totals are kept here and only differences are added.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from herdwatch import metrics, reports
from herdwatch.collector.info import Sample
from herdwatch.metrics import BY_NAME
from herdwatch.reports import MalformedReport, Place, Report, Totals, UnknownVersion

MAX_INCARNATIONS = 10_000
MAX_GROUPS = 200
"""Pairs of service and group that one cache may publish; each is up to 15 series."""
MAX_SERVICES = 100
"""Services that one cache may publish; each is up to 6 series besides those of its groups."""
STEP_REPORTS = 25
"""Reports between two pauses of `steps`: a few milliseconds."""


@dataclass(slots=True)
class _Incarnation:
    """What one process has told: its last report, the last of every total, and how many of them found no place."""

    report: Report
    totals: Totals
    refused: int


class ReportAccumulator:
    """The counters of one cache. Feed it every read of the hash, in order; it is not thread-safe.

    Where the truth cannot be known it counts less, never more: what an incarnation did before this exporter's first
    read, before it was first seen (unless it started later than that read), or before it was forgotten.
    """

    def __init__(
        self,
        *,
        max_incarnations: int = MAX_INCARNATIONS,
        max_groups: int = MAX_GROUPS,
        max_services: int = MAX_SERVICES,
    ) -> None:
        self._max_incarnations = max_incarnations
        self._max_groups = max_groups
        self._max_services = max_services
        self._counted_from: float | None = None
        self._last: OrderedDict[tuple[str, str], _Incarnation] = OrderedDict()
        self._counters: dict[str, dict[Place, int]] = {}
        self._groups: set[tuple[str, str]] = set()
        self._known: dict[bytes, tuple[int, Report]] = {}
        self._fresh: list[Report] = []
        self._warming: list[Report] = []
        self.dropped = Counter(dict.fromkeys(metrics.REPORT_DROP_REASONS, 0))

    def update(self, fields: Mapping[bytes, bytes], now: float) -> None:
        """Take in one read of the hash at `now`, Unix seconds by the cache's clock."""
        for _ in self.steps(fields, now):
            pass

    def steps(self, fields: Mapping[bytes, bytes], now: float) -> Iterator[None]:
        """`update` with a pause after every few reports, for an event loop that others need too.

        It may be left at any pause: what was not reached is taken in by the next read.
        """
        first = self._counted_from is None
        if self._counted_from is None:
            self._counted_from = now
        self._fresh, self._warming = [], []
        for number, report in enumerate(self._read(fields, now), 1):
            self._add(report, now, first)
            self._fresh.append(report)
            if number % STEP_REPORTS == 0:
                yield
        self._forget()

    def _read(self, fields: Mapping[bytes, bytes], now: float) -> Iterator[Report]:
        """The reports that count: known, well-formed, fresh, of a service that may be published."""
        before, self._known = self._known, {}
        for field, value in fields.items():
            try:
                report = self._parsed(field, value, before)
            except UnknownVersion:
                self.dropped["version"] += 1
            except MalformedReport:
                self.dropped["malformed"] += 1
            else:
                stale = report.stale(now)
                if self._publishes(report, stale) and not stale:
                    yield report

    def _parsed(self, field: bytes, value: bytes, before: Mapping[bytes, tuple[int, Report]]) -> Report:
        """The report; the very one of the last read where not a byte has changed since."""
        digest = hash(value)  # 64 bits under a secret key: the bytes themselves would be 64 kB each
        known = before.get(field)
        report = known[1] if known is not None and known[0] == digest else reports.parse(field, value)
        if len(self._known) < self._max_incarnations:
            self._known[field] = digest, report
        return report

    def _publishes(self, report: Report, stale: bool) -> bool:
        warming = report.warmup is not None and report.warmup.active
        if stale:
            self.dropped["stale"] += 1
            if not warming:
                return False
        if not self._admits_service(report.service):
            self.dropped["too_many"] += 1
            return False
        if warming:
            self._warming.append(report)
        return True

    def _add(self, report: Report, now: float, first: bool) -> None:
        key = (report.service, report.incarnation)
        known = self._last.get(key)
        if known is not None:
            self._last.move_to_end(key)
            before = known.totals
        elif not first and self._counted_from is not None and self._counted_from < report.start <= now:
            before = {}
        else:
            before = report.totals
        if known is None or known.report is not report:
            refused = self._count(report, before)
            whole = before.keys() <= report.totals.keys()
            totals = report.totals if whole else {**before, **report.totals}
            self._last[key] = known = _Incarnation(report, totals, refused)
        self.dropped["too_many"] += known.refused

    def _count(self, report: Report, before: Totals) -> int:
        """Add what is more than before; gives the number of totals that found no place."""
        counters = self._counters[report.service]
        refused = 0
        for place, total in report.totals.items():
            gained = total - before.get(place, 0)
            if place in counters:
                if gained > 0:
                    counters[place] += gained
            elif self._admits_group(report.service, place[1]):
                counters[place] = max(0, gained)
            else:
                refused += 1
        return refused

    def _admits_service(self, service: str) -> bool:
        if service not in self._counters:
            if len(self._counters) >= self._max_services:
                return False
            self._counters[service] = {}
        return True

    def _admits_group(self, service: str, group: str) -> bool:
        if (service, group) in self._groups:
            return True
        if len(self._groups) >= self._max_groups:
            return False
        self._groups.add((service, group))
        return True

    def _forget(self) -> None:
        while len(self._last) > self._max_incarnations:
            _, forgotten = self._last.popitem(last=False)
            # Should it come back, it must be a baseline again: nothing that started by then is added whole.
            self._counted_from = max(self._counted_from or 0.0, forgotten.report.start)

    def samples(self) -> Iterator[Sample]:
        """Samples with label values (service, group, own label) for counters and (service,) for gauges."""
        for service, counters in self._counters.items():
            for (family, group, label), total in counters.items():
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
