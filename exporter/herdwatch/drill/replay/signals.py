"""What Prometheus and Alertmanager told of a run: alerts that fired after the fault, and pages that were delivered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from herdwatch import stack
from herdwatch.drill.replay.results import Alert
from herdwatch.operations.report.asked import Asked
from herdwatch.operations.report.happened import happened
from herdwatch.prometheus import Access, Prometheus
from herdwatch.stack import Notification, PrometheusServer, WebhookReceiver

PATH = "/critical"
ASK_SECONDS = 10.0
BEFORE_SECONDS = 90


@dataclass(frozen=True, slots=True)
class Fault:
    """When it was, in time.monotonic() and in seconds since 1970."""

    at: float
    wall: float


def alerts(prometheus: PrometheusServer, caches: Sequence[str], fault: Fault, until: float) -> tuple[Alert, ...]:
    """Alerts about these caches that began to fire after the fault, the earliest first; raises CheckFailed."""
    api = Prometheus(Access.of(prometheus.url), seconds=ASK_SECONDS)
    # From a little before, so that what fires at once is told from what fired already.
    found = happened(api, Asked(int(fault.wall) - BEFORE_SECONDS, int(until) + 1, tuple(caches)))
    first: dict[str, Alert] = {}
    for one in found.firings:
        # The bundle has the watchdog too; it is about nothing.
        if one.cache in caches and one.start >= fault.wall and not one.earlier:
            first.setdefault(one.alert, Alert(one.alert, one.severity, round(one.start - fault.wall, 1)))
    return tuple(first.values())


def pages(webhook: WebhookReceiver, caches: Sequence[str], fault: Fault) -> tuple[float | None, int]:
    """Seconds from the fault to the first page about these caches, and how many there were."""
    begun = stack.pages(one for one in webhook.received(PATH) if _about(one, caches))
    after = [one.at - fault.at for one in begun if one.at >= fault.at]
    return (min(after), len(after)) if after else (None, 0)


def _about(one: Notification, caches: Sequence[str]) -> bool:
    return any(alert.get("labels", {}).get("cache") in caches for alert in one.body.get("alerts", []))
