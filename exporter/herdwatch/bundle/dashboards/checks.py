"""All checks of the rendered dashboards of a bundle, without Grafana."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from herdwatch.bundle.dashboards import house, linter
from herdwatch.bundle.dashboards.document import Dashboard, Finding, load
from herdwatch.bundle.dashboards.house import Facts
from herdwatch.errors import CheckFailed


def findings(dashboard: Dashboard, facts: Facts) -> Iterator[Finding]:
    """Everything that is wrong with one dashboard by itself."""
    yield from linter.findings(dashboard)
    yield from house.findings(dashboard, facts)


def check(root: Path, facts: Facts) -> tuple[list[str], int]:
    """The problems of the dashboards below `root`, a sentence each, and how many queries were looked at."""
    problems: list[str] = []
    dashboards: dict[str, Dashboard] = {}
    for path in sorted((root / "dashboards").glob("*.json")):
        file = path.relative_to(root).as_posix()
        try:
            dashboards[file] = load(path.read_text(encoding="utf-8", errors="replace"), file)
        except CheckFailed as error:
            problems.append(str(error))
    for file, dashboard in dashboards.items():
        problems += (finding.told(file) for finding in findings(dashboard, facts))
    count = sum(len(panel.targets) for dashboard in dashboards.values() for panel in dashboard.with_queries)
    if not count:
        return [*problems, "dashboards/: no dashboard with a query; run: herdwatch render"], count
    return [*problems, *house.together(dashboards, facts)], count
