"""The demo's path, end to end on real servers: killed, seen, fired, paged, linked, recovered, resolved."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from tests.leftovers import processes_in

from herdwatch.drill import demo
from herdwatch.drill.timeline import Timeline
from herdwatch.errors import CheckFailed
from herdwatch.stack import Supervisor, WebhookReceiver

KEYS = 20_000


def test_a_cold_restart_becomes_one_page_with_a_runbook_and_is_resolved(supervisor: Supervisor) -> None:
    output = io.StringIO()
    timeline = Timeline(Console(file=output))
    with WebhookReceiver() as webhook:
        stack = demo.start(supervisor, webhook, timeline, keys=KEYS)
        quiet_before = [one for one in webhook.received() if one.path != "/watchdog"]
        outcome = demo.replay(stack, timeline, keys=KEYS)
        pages = webhook.received("/critical")
        watchdog = webhook.received("/watchdog")
        held = {alert["labels"]["alertname"] for alert in stack.alertmanager.alerts()}

    assert quiet_before == []
    assert outcome.pages == 1
    assert 0 < outcome.scraped <= outcome.fired <= outcome.paged < outcome.resolved
    labels = pages[0].body["alerts"][0]["labels"]
    assert labels.items() >= {"cache": "demo", "team": "on-call", "severity": "critical"}.items()
    assert labels["instance"] == stack.redis.address
    annotations = pages[0].body["alerts"][0]["annotations"]
    assert set(annotations) >= {"summary", "description", "runbook_url"}
    assert "keys; before the restart there were 20k" in annotations["description"]
    assert "First: redis-cli" in annotations["description"]
    assert watchdog
    assert "HerdwatchWatchdog" in held
    assert "resolve message delivered" in output.getvalue()


@pytest.mark.parametrize("moment", ["Starting", "Alertmanager"])
def test_ctrl_c_at_any_moment_of_the_demo_leaves_nothing(moment: str, tmp_path: Path) -> None:
    demo_run = subprocess.Popen(
        [sys.executable, "-m", "herdwatch", "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert demo_run.stdout is not None
    next(line for line in demo_run.stdout if moment in line)
    demo_run.send_signal(signal.SIGINT)
    _, complaint = demo_run.communicate(timeout=60)
    assert (demo_run.returncode, complaint) == (130, "herdwatch: interrupted\n")
    assert processes_in(str(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


def test_a_step_that_does_not_happen_is_named() -> None:
    timeline = Timeline(Console(file=io.StringIO()))
    with pytest.raises(CheckFailed, match=r"did not happen within 0.2 s: the moon falls"):
        timeline.step("the moon falls", lambda: None, seconds=0.2)
