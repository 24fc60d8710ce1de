"""A small model of Alertmanager: what its configuration makes of alerts that fire, and which of it is a page.

It follows the dispatcher, the inhibitor and the notification log of Alertmanager 0.25, as far as a single instance
without silences and time intervals goes: https://github.com/prometheus/alertmanager. Every delivery succeeds at once.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from herdwatch.proof.plays import Firing
from herdwatch.proof.routes import Labels, Route, Tree, load

MAINTENANCE = 30.0
"""Seconds after which Alertmanager looks for groups that are empty; until then one keeps its pace."""


@dataclass(frozen=True, slots=True)
class Notification:
    """What one receiver gets `at` a second: alerts of a group that fire, and others that did and have ended.

    It is a page where nothing of the group fired before, as far as the receiver had been told.
    """

    receiver: str
    group: Labels
    at: float
    alerts: tuple[Firing, ...]
    resolved: tuple[Firing, ...] = ()
    page: bool = False


@dataclass(frozen=True, slots=True)
class Routing:
    """The routing, grouping and inhibition of one alertmanager.yml."""

    tree: Tree

    @classmethod
    def of(cls, text: str, source: str = "alertmanager.yml") -> Routing:
        """Read a configuration; raises CheckFailed naming `source` and what is wrong or not understood here."""
        return cls(load(text, source))

    def receivers(self, labels: Labels) -> list[str]:
        """Who is told of an alert with these labels, alertname among them."""
        return [route.receiver for route in self.tree.route.of(labels)]

    def inhibited(self, labels: Labels, firing: Iterable[Labels]) -> bool:
        """Whether one of the alerts that fire keeps the one with these labels from being told."""
        rules = [rule for rule in self.tree.inhibitions if rule.concerns(labels)]
        return bool(rules) and any(rule.inhibits(source, labels) for source in firing for rule in rules)

    def notifications(
        self, firings: Iterable[Firing], until: float, *, maintenance: float = MAINTENANCE
    ) -> list[Notification]:
        """Everything that is sent up to second `until`, in order.

        Each firing is known to Alertmanager from its first to its last second; `end` None lasts.
        """
        return list(_Dispatcher(self, tuple(firings), maintenance).run(until))

    def pages(self, firings: Iterable[Firing], until: float) -> list[Notification]:
        """Of these, the pages: each is a group that went from nothing firing to firing."""
        return [one for one in self.notifications(firings, until) if one.page]


_Key = tuple[str, ...]


@dataclass(slots=True)
class _Group:
    route: Route
    labels: Labels
    members: dict[_Key, Firing] = field(default_factory=dict)
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class _Logged:
    """What a receiver was told last of a group."""

    firing: frozenset[_Key]
    resolved: frozenset[_Key]
    at: float


class _Dispatcher:
    def __init__(self, routing: Routing, firings: Sequence[Firing], maintenance: float) -> None:
        self._routing = routing
        self._firings = sorted(firings, key=lambda firing: firing.start)
        self._maintenance = maintenance
        self._groups: dict[tuple[int, _Key], _Group] = {}
        # Alertmanager keeps it beyond the end of a group.
        self._log: dict[tuple[int, _Key], _Logged] = {}
        self._flushes: list[tuple[float, int, tuple[int, _Key], _Group]] = []
        self._number = count()

    def run(self, until: float) -> Iterator[Notification]:
        waiting = list(reversed(self._firings))
        clean = self._maintenance
        while True:
            start = waiting[-1].start if waiting else float("inf")
            flush = self._flushes[0][0] if self._flushes else float("inf")
            now = min(start, flush, clean)
            if now > until or min(start, flush) == float("inf"):
                return
            # An alert that comes in the same moment as a flush is in it.
            if start == now:
                self._insert(waiting.pop())
            elif flush == now:
                yield from self._flush(now)
            else:
                self._stop_empty_groups()
                clean += self._maintenance

    def _insert(self, firing: Firing) -> None:
        labels = labels_of(firing)
        for route in self._routing.tree.route.of(labels):
            grouped = route.grouped(labels)
            key = (id(route), tuple(f"{name}={value}" for name, value in sorted(grouped.items())))
            if key not in self._groups:
                self._groups[key] = _Group(route, grouped)
                self._wait(firing.start + route.group_wait, key)
            self._groups[key].members[_identity(firing)] = firing

    def _wait(self, at: float, key: tuple[int, _Key]) -> None:
        heapq.heappush(self._flushes, (at, next(self._number), key, self._groups[key]))

    def _stop_empty_groups(self) -> None:
        for key, group in list(self._groups.items()):
            if not group.members:
                group.stopped = True
                del self._groups[key]

    def _flush(self, now: float) -> Iterator[Notification]:
        _, _, key, group = heapq.heappop(self._flushes)
        if group.stopped:
            return
        self._wait(now + group.route.group_interval, key)
        firing = [labels_of(one) for one in self._firings if _fires(one, now)]
        audible = {
            identity: one
            for identity, one in sorted(group.members.items())
            if not self._routing.inhibited(labels_of(one), firing)
        }
        if audible:
            yield from self._tell(key, group, audible, now)
        group.members = {identity: one for identity, one in group.members.items() if _fires(one, now)}

    def _tell(
        self, key: tuple[int, _Key], group: _Group, audible: Mapping[_Key, Firing], now: float
    ) -> Iterator[Notification]:
        tells_ends = group.route.receiver not in self._routing.tree.silent_on_ends
        before = self._log.get(key)
        told = _Logged(
            frozenset(identity for identity, one in audible.items() if _fires(one, now)),
            frozenset(identity for identity, one in audible.items() if not _fires(one, now)),
            now,
        )
        if not _news(before, told, tells_ends=tells_ends, repeat=group.route.repeat_interval):
            return
        self._log[key] = told
        if told.firing or tells_ends:
            yield Notification(
                group.route.receiver,
                group.labels,
                now,
                tuple(audible[identity] for identity in audible if identity in told.firing),
                tuple(audible[identity] for identity in audible if identity in told.resolved and tells_ends),
                page=bool(told.firing) and not (before and before.firing),
            )


def labels_of(firing: Firing) -> Labels:
    """The labels that Alertmanager sees, alertname among them; an empty one is none."""
    return {name: value for name, value in {"alertname": firing.alert, **firing.labels}.items() if value}


def _identity(firing: Firing) -> _Key:
    return tuple(f"{name}={value}" for name, value in sorted(labels_of(firing).items()))


def _fires(firing: Firing, now: float) -> bool:
    return firing.start <= now and (firing.end is None or now < firing.end)


def _news(before: _Logged | None, told: _Logged, *, tells_ends: bool, repeat: float) -> bool:
    if before is None:
        return bool(told.firing)
    if not told.firing <= before.firing:
        return True
    if not told.firing:
        return bool(before.firing)
    if tells_ends and not told.resolved <= before.resolved:
        return True
    # Strictly: the log is written a moment after the flush, so that the one a whole interval later comes too early.
    return before.at < told.at - repeat
