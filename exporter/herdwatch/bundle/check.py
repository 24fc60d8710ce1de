"""Every offline validation of a rendered bundle: each file by itself, then what ties the rooms together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from herdwatch.bundle import alertmanager, pages, rules
from herdwatch.bundle.dashboards import checks as dashboards
from herdwatch.bundle.dashboards.house import Facts
from herdwatch.bundle.expressions import expression_problems
from herdwatch.bundle.rules import Rule
from herdwatch.errors import CheckFailed, UsageError
from herdwatch.promtool import Promtool, testfiles
from herdwatch.tools import find

__all__ = ["Outcome", "check_bundle", "expression_problems"]

SEVERITIES = ("critical", "warning", "info", "none")
"""Those that alertmanager.yml has routes for; none is the watchdog's."""


@dataclass(slots=True)
class Outcome:
    """Problems as `file:line: sentence`, and what was looked at."""

    problems: list[str] = field(default_factory=list)
    looked_at: list[str] = field(default_factory=list)

    @property
    def summary(self) -> str:
        """One line on what is right."""
        return f"the bundle is right: {', '.join(self.looked_at)}"


def check_bundle(root: Path) -> Outcome:
    """Validate the bundle below `root`; raises UsageError where there is none, ToolError without promtool or amtool."""
    path = root / "alerts" / "herdwatch.rules.yml"
    if not path.is_file():
        raise UsageError(f"{root}: holds no rendered bundle (no alerts/herdwatch.rules.yml); run: herdwatch render")
    outcome = Outcome()
    found = _rules(path, root, outcome)
    recorded = {rule.name for rule in found if not rule.is_alert}
    alerts = [rule for rule in found if rule.is_alert]
    for rule in found:
        where = f"{path.relative_to(root)}:{rule.line}: {rule.name}"
        outcome.problems += expression_problems(rule.expr, where, recorded)
    outcome.looked_at.append(f"{len(alerts)} alerts, {len(found) - len(alerts)} recording rules")
    _tools(root, alerts, outcome)
    _dashboards(root, found, outcome)
    _runbooks(root, alerts, outcome)
    _tests(root, alerts, outcome)
    return outcome


def _rules(path: Path, root: Path, outcome: Outcome) -> list[Rule]:
    try:
        return rules.load(path.read_text(encoding="utf-8"), str(path.relative_to(root)))
    except CheckFailed as error:
        outcome.problems.append(str(error))
        return []


def _tools(root: Path, alerts: list[Rule], outcome: Outcome) -> None:
    promtool = Promtool()
    folder = root.absolute() / "alerts"
    outcome.problems += promtool.check_rules(folder / "herdwatch.rules.yml").problems
    outcome.problems += promtool.check_config(folder / "prometheus.yml").problems
    amtool = find("amtool")
    routed = [rule for rule in alerts if rule.labels.get("severity") in SEVERITIES]  # of others _runbooks tells
    outcome.problems += alertmanager.problems(folder / "alertmanager.yml", amtool, routed)
    silent = alertmanager.silent(folder / "alertmanager.yml")
    outcome.looked_at.append(
        f"prometheus.yml and alertmanager.yml by promtool {promtool.version} and amtool {amtool.version}"
        + (f" (nobody is told by the receivers {', '.join(silent)}: herdwatch.yaml has none)" if silent else "")
    )


def _dashboards(root: Path, found: list[Rule], outcome: Outcome) -> None:
    facts = Facts(
        recorded=frozenset(rule.name for rule in found if not rule.is_alert),
        alerts=tuple(rule for rule in found if rule.is_alert),
        pages=_pages(root),
    )
    problems, count = dashboards.check(root, facts)
    outcome.problems += problems
    outcome.looked_at.append(f"{count} dashboard queries")


def _pages(root: Path) -> dict[str, str]:
    found = sorted((root / "runbooks").glob("*.md"))
    return {path.name: path.read_text(encoding="utf-8", errors="replace") for path in found}


def _runbooks(root: Path, alerts: list[Rule], outcome: Outcome) -> None:
    texts = _pages(root)
    outcome.problems += (f"runbooks/{name}: is not UTF-8" for name, text in texts.items() if "\ufffd" in text)
    for rule in alerts:
        if rule.labels.get("severity") not in SEVERITIES:
            outcome.problems.append(
                f"alerts/herdwatch.rules.yml:{rule.line}: the severity of {rule.name} is "
                f"{rule.labels.get('severity')!r} and is routed nowhere; it is one of {', '.join(SEVERITIES)}"
            )
        if f"{rule.name}.md" not in texts:
            outcome.problems.append(f"alerts/herdwatch.rules.yml:{rule.line}: {rule.name} has no page in runbooks/")
        url = rule.annotations.get("runbook_url")
        if url is not None and urlsplit(url).path.rpartition("/")[2] != rule.name:
            outcome.problems.append(
                f"alerts/herdwatch.rules.yml:{rule.line}: runbook_url of {rule.name} leads to {url}"
            )
    links = [(name, link) for name, text in texts.items() for link in pages.links(text)]
    for name, link in links:
        outcome.problems += _link_problems(name, link, texts)
    outcome.looked_at.append(f"{len(texts)} runbook pages with {len(links)} links")


def _link_problems(name: str, link: str, texts: dict[str, str]) -> Iterator[str]:
    target = urlsplit(link)
    if target.scheme or target.netloc:
        return
    page = target.path or name
    if page not in texts:
        yield f"runbooks/{name}: the link {link} leads to no page"
    elif target.fragment and target.fragment not in pages.heading_ids(texts[page]):
        yield f"runbooks/{name}: the link {link} leads to no heading"


def _tests(root: Path, alerts: list[Rule], outcome: Outcome) -> None:
    """Rule tests are checked where they are; a bundle rendered elsewhere carries none."""
    files = sorted((root / "alerts" / "tests").glob("*.test.yml"))
    if not files:
        return
    rows: dict[str, set[bool]] = {rule.name: set() for rule in alerts}
    for path in files:
        read = testfiles.read(path)
        outcome.problems += read.problems
        tests = yaml.safe_load(path.read_text(encoding="utf-8"))["tests"] if read.expectations else []
        for test in (test for test in tests if isinstance(test, dict)):
            for expected in test.get("alert_rule_test", []):
                _note(rows, expected)
    for rule in alerts:
        for kind, word in ((False, "not yet"), (True, "fires")):
            # The watchdog has no moment at which it does not fire yet.
            if kind not in rows[rule.name] and not (rule.expr == "vector(1)" and not kind):
                outcome.problems.append(
                    f"alerts/herdwatch.rules.yml:{rule.line}: {rule.name} has no {word!r} row in alerts/tests/"
                )
    outcome.looked_at.append(f"{len(files)} rule test files")


def _note(rows: dict[str, set[bool]], expected: Any) -> None:
    name = expected.get("alertname") if isinstance(expected, dict) else None
    if name in rows:
        rows[name].add(bool(expected.get("exp_alerts")))
