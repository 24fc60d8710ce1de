"""What firings make of an Alertmanager: pages, each a group that goes from nothing firing to firing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from herdwatch.proof.plays import Firing
from herdwatch.proof.routing import Notification, Routing

NOBODY = frozenset({"nobody", "watchdog"})
"""Receivers of the bundle that tell no person anything."""

PLAIN = """
route:
  receiver: nobody
  group_wait: 0s
  group_interval: 30s
  group_by: [severity, cache, team]
  routes: [{receiver: somebody, matchers: ['severity!="none"']}]
"""
"""The routing of rules that come without one: grouped by cache, team and severity, nothing inhibited."""


@dataclass(frozen=True, slots=True)
class Page:
    """What somebody is told, from then until nothing of the group fires; `end` is None if it goes on.

    `alerts` are in the order in which they were told; `cache` and `team` are empty where the group has none.
    """

    start: int
    end: int | None
    severity: str
    cache: str
    team: str
    alerts: tuple[str, ...]


def pages(firings: Iterable[Firing], alertmanager: str | None, begins: int, until: int) -> list[Page]:
    """The pages, in order, that an alertmanager.yml makes of firings in seconds since 1970; None is for a plain one.

    Raises CheckFailed where the configuration is wrong or not understood.
    """
    routing = Routing.of(PLAIN if alertmanager is None else alertmanager)
    # The model counts from second 0. The watchdog fires for ever, and nobody is paged by it.
    moved = [
        replace(one, start=one.start - begins, end=None if one.end is None else one.end - begins)
        for one in firings
        if one.labels.get("severity") != "none"
    ]
    told = [one for one in routing.notifications(moved, until - begins) if one.receiver not in NOBODY and one.alerts]
    made = [_page(group, begins) for group in _by_page(told)]
    return sorted(made, key=lambda page: (page.start, page.cache, page.severity))


def _by_page(told: Iterable[Notification]) -> Iterator[Sequence[Notification]]:
    """Each page with what followed it in its group."""
    open_pages: dict[object, list[Notification]] = {}
    for one in told:
        key = one.receiver, frozenset(one.group.items())
        if one.page or key not in open_pages:
            if key in open_pages:
                yield open_pages[key]
            open_pages[key] = []
        open_pages[key].append(one)
    yield from open_pages.values()


def _page(told: Sequence[Notification], begins: int) -> Page:
    alerts = [alert for one in told for alert in one.alerts]
    ends = [alert.end for alert in alerts if alert.end is not None]
    first = alerts[0]
    return Page(
        start=int(told[0].at) + begins,
        end=max(ends) + begins if len(ends) == len(alerts) else None,
        severity=first.labels.get("severity", ""),
        cache=first.labels.get("cache", ""),
        team=first.labels.get("team", ""),
        alerts=tuple(dict.fromkeys(alert.alert for alert in alerts)),
    )
