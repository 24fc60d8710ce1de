"""The rendered alertmanager.yml: amtool accepts it, and says who is told of what."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from tests import pager

from herdwatch.bundle import alertmanager
from herdwatch.bundle.location import bundle_root
from herdwatch.bundle.rules import load
from herdwatch.proof.routing import Routing
from herdwatch.tools import find

ODD = 'o\'dd "team", \\ {=~ [= x =] $1 é'
"""A team's name that has something of every syntax on its way."""
RULES = (bundle_root() / "alerts" / "herdwatch.rules.yml").read_text(encoding="utf-8")
ALERTS = [rule for rule in load(RULES, "rules") if rule.is_alert]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The alertmanager.yml of three teams, of which one has pages of its own and one more than that."""
    hook = {"webhook_url": "http://127.0.0.1:9099/odd"}
    data = pager.configuration("http://127.0.0.1:9099", teams={"payments": {"critical": hook}, ODD: {"info": hook}})
    data["caches"] = [*data["caches"], {"name": "odd", "url": "redis://h", "team": ODD}]  # type: ignore[misc]
    return pager.render(data, tmp_path_factory.mktemp("routes"))


@pytest.fixture
def spoil(rendered: Path, tmp_path: Path) -> Callable[[str, str, str], Path]:
    """A copy in which one file has another text in one place."""

    def once(name: str, old: str, new: str) -> Path:
        folder = Path(shutil.copytree(rendered.parent, tmp_path / "alerts"))
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))
        return folder / "alertmanager.yml"

    return once


def amtool(*arguments: str) -> str:
    tool = find("amtool")
    done = subprocess.run(
        tool.command(*arguments),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        cwd=tool.cwd,
        env={**os.environ, **tool.env},
    )
    return done.stdout.strip()


TEAMS = ["platform", "payments", ODD, "unheard of", None]
ROUTES = {
    ("critical", "payments"): "payments/critical",
    ("info", ODD): f"{ODD}/info",
    ("none", None): "watchdog",
    **{("none", team): "nobody" for team in TEAMS if team},
    **{("emergency", team): "nobody" for team in TEAMS},
}


@pytest.mark.parametrize("team", TEAMS)
@pytest.mark.parametrize("severity", ["critical", "warning", "info", "none", "emergency"])
def test_a_team_is_told_by_its_own_receiver_and_else_by_that_of_the_severity(
    severity: str, team: str | None, rendered: Path
) -> None:
    labels = {"alertname": "HerdwatchWatchdog" if (severity, team) == ("none", None) else "A", "severity": severity}
    labels |= {"team": team, "cache": "c"} if team else {}
    expected = ROUTES.get((severity, team), severity)
    escaped = {name: value.replace("\\", "\\\\").replace('"', '\\"') for name, value in labels.items()}
    written = [f'{name}="{value}"' for name, value in escaped.items()]
    assert amtool("config", "routes", "test", f"--config.file={rendered}", *written) == expected
    assert Routing.of(rendered.read_text()).receivers(labels) == [expected]


def test_every_alert_of_the_bundle_is_told_to_the_receiver_of_its_severity() -> None:
    routing = Routing.of((bundle_root() / "alerts" / "alertmanager.yml").read_text())
    assert len(ALERTS) >= 16
    for rule in ALERTS:
        severity = rule.labels["severity"]
        receiver = "watchdog" if severity == "none" else severity
        assert routing.receivers({"alertname": rule.name, **rule.labels, "team": "platform"}) == [receiver]


def test_the_committed_configuration_and_one_with_every_kind_of_name_are_right(rendered: Path) -> None:
    for path in (rendered, bundle_root() / "alerts" / "alertmanager.yml"):
        assert list(alertmanager.problems(path, find("amtool"), ALERTS)) == []


SPOILT = {
    "a route to nobody": (
        ("alertmanager.yml", "receiver: critical", "receiver: nosuch"),
        'undefined receiver "nosuch" used in route',
    ),
    "a message that no template defines": (
        ("herdwatch.tmpl", 'define "herdwatch.summary"', 'define "herdwatch.sumary"'),
        "no template defines herdwatch.summary",
    ),
    "a template that does not parse": (
        ("herdwatch.tmpl", "{{ len . }}", "{{ lenght . }}"),
        'function "lenght" not defined',
    ),
    "a template that is not there": (
        ("alertmanager.yml", "templates: [herdwatch.tmpl]", "templates: [herdwatsch.tmpl]"),
        "alerts/alertmanager.yml: its template herdwatsch.tmpl is not there; run: herdwatch render",
    ),
}


@pytest.mark.parametrize("sentence", SPOILT)
def test_a_spoilt_configuration_is_told(sentence: str, spoil: Callable[[str, str, str], Path]) -> None:
    place, told = SPOILT[sentence]
    problems = list(alertmanager.problems(spoil(*place), find("amtool"), ALERTS))
    assert problems
    assert all(problem.startswith("alerts/") for problem in problems)
    assert told in problems[0]


def test_a_message_that_a_receiver_names_and_no_template_defines_is_told_with_its_line(
    spoil: Callable[[str, str, str], Path],
) -> None:
    slack = 'send_resolved: true\n        # {{ template "herdwatch.nosuch" . }}'
    path = spoil("alertmanager.yml", "send_resolved: true", slack)
    line = next(number for number, text in enumerate(path.read_text().splitlines(), 1) if "nosuch" in text)
    told = f"alerts/alertmanager.yml:{line}: no template defines herdwatch.nosuch"
    assert list(alertmanager.problems(path, find("amtool"), ALERTS)) == [told]


def test_a_url_in_a_file_needs_an_alertmanager_that_can_read_it(tmp_path: Path) -> None:
    receivers = {"watchdog": {"webhook_url_file": "/s/url"}}
    path = pager.render(pager.configuration("http://h", receivers=receivers, teams={}), tmp_path)
    tool = find("amtool")
    old = tuple(int(part) for part in tool.version.split(".")[:2]) < (0, 26)
    told = f"alerts/alertmanager.yml: webhook_url_file needs Alertmanager 0.26 or later; here it is {tool.version}"
    assert list(alertmanager.problems(path, tool, ALERTS)) == [told] * old
    watchdog = next(one for one in yaml.safe_load(path.read_text())["receivers"] if one["name"] == "watchdog")
    assert watchdog["webhook_configs"] == [{"url_file": "/s/url", "send_resolved": False}]


def test_what_hides_and_what_is_hidden_are_alerts_of_the_bundle() -> None:
    alerts = bundle_root() / "alerts"
    names = {rule.name for rule in load((alerts / "herdwatch.rules.yml").read_text(), "rules") if rule.is_alert}
    rules = Routing.of((alerts / "alertmanager.yml").read_text()).tree.inhibitions
    matchers = [one for rule in rules for one in (*rule.source, *rule.target) if one.name == "alertname"]
    assert {name for one in matchers for name in one.value.split("|")} <= names
    assert len(matchers) >= 2 * len(rules) - 1  # without an exporter every alert of a cache is hidden
