"""A real Alertmanager on the rendered configuration, its times scaled down, and alerts put into it over its API."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from herdwatch.bundle.render import render_bundle, write
from herdwatch.config import parse
from herdwatch.proof.routes import seconds
from herdwatch.stack import AlertmanagerServer, Supervisor, free_port

SEVERITY = {
    "critical": {
        *("CacheRestarted", "CacheKeysLost", "CacheDown", "CacheLoading", "CacheRestartLoop", "CacheStampede"),
        *("CacheExporterDown", "CacheTargetDown"),
    },
    "warning": {
        *("CacheHitRateLow", "SingleflightDisabled", "CacheEvicting", "CacheReplicaMissing", "CacheWarmupStalled"),
        "CacheRefreshFailing",
    },
    "info": {"HighCoalescingRate"},
    "none": {"HerdwatchWatchdog"},
}
SEVERITY_OF = {alert: severity for severity, alerts in SEVERITY.items() for alert in alerts}

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def configuration(webhook: str, **blocks: object) -> dict[str, object]:
    """A herdwatch.yaml in which every receiver is a path of one webhook; the team payments has its own pages."""
    return {
        "caches": [
            {"name": "users", "url": "redis://127.0.0.1", "team": "payments"},
            {"name": "carts", "url": "redis://127.0.0.1", "team": "platform"},
        ],
        "receivers": {
            name: {"webhook_url": f"{webhook}/{name}"} for name in ("critical", "warning", "info", "watchdog")
        },
        "teams": {"payments": {"critical": {"webhook_url": f"{webhook}/payments"}}},
        "links": {"runbook_base_url": "http://127.0.0.1:9878/runbooks"},
        **blocks,
    }


def render(data: Mapping[str, object], folder: Path, *, scale: float = 1.0) -> Path:
    """The rendered alertmanager.yml below `folder`, with every time of a route `scale` as long."""
    write(render_bundle(parse(yaml.safe_dump(dict(data)), "herdwatch.yaml")), folder)
    path = folder / "alerts" / "alertmanager.yml"
    path.write_text(
        re.sub(
            r"(group_wait|group_interval|repeat_interval): (\w+)",
            lambda found: f"{found[1]}: {round(seconds(found[2], found[1]) * scale * 1000)}ms",
            path.read_text(),
        )
    )
    return path


def start(supervisor: Supervisor, config: Path) -> AlertmanagerServer:
    """An Alertmanager; each needs a supervisor, or at least a folder, of its own."""
    return AlertmanagerServer(supervisor, config, listen=f"127.0.0.1:{free_port()}")


def labels(alert: str, **others: str) -> dict[str, str]:
    """The labels of an alert, with the severity that the rules give it."""
    return {"alertname": alert, "severity": SEVERITY_OF[alert], **others}


def now() -> str:
    """This moment, as Alertmanager reads it."""
    return datetime.now(UTC).isoformat()


def post(server: AlertmanagerServer, alerts: Sequence[Mapping[str, Any]]) -> None:
    """Put alerts in: `labels`, and `annotations`, `startsAt`, `endsAt` where they are given."""
    request = urllib.request.Request(  # noqa: S310 - an http:// URL of ours
        f"{server.url}/api/v2/alerts",
        json.dumps(list(alerts)).encode(),
        {"Content-Type": "application/json"},
        method="POST",
    )
    with _OPENER.open(request, timeout=5) as response:
        assert response.status == 200
