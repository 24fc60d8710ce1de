"""What this bundle asks of a dashboard beyond the linter's rules: a sound grid, known series, links that lead on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from urllib.parse import SplitResult, parse_qsl, urlsplit

from herdwatch.bundle import pages, promql
from herdwatch.bundle.dashboards.description import COLUMNS
from herdwatch.bundle.dashboards.document import Dashboard, Finding, Panel, Place, Target, readable, selectors, target
from herdwatch.bundle.dashboards.legends import blank_labels
from herdwatch.bundle.dashboards.linter import is_raw_counter
from herdwatch.bundle.expressions import EXPORTED, selector_problem
from herdwatch.bundle.rules import Rule as AlertRule

PANEL_TYPES = ("row", "stat", "timeseries", "table")
VARIABLES = ("datasource", "job", "cache", "instance")
"""What every dashboard lets its reader choose, in this order, before anything of its own."""
NEWEST_SCHEMA = 42
"""The last classic schema: file provisioning refuses a bare newer one."""

_LINK_VARIABLES = ("__field", "__value", "__data", "__series", "__url_time_range", "__all_variables", "__from", "__to")
_VALUES_OF = re.compile(r"label_values\((.*),\s*\w+\s*\)", re.DOTALL)
_ANY_OF = re.compile(r'__name__=~"([\w:|]+)"')


@dataclass(frozen=True, slots=True)
class Facts:
    """What stands around the dashboards of a bundle. `pages` are the runbooks' texts by file name."""

    recorded: frozenset[str]
    alerts: tuple[AlertRule, ...]
    pages: Mapping[str, str]

    @property
    def linked(self) -> bool:
        """Whether the bundle knows where its runbooks are; without that no panel can link to one."""
        return any("runbook_url" in rule.annotations for rule in self.alerts)


Rule = Callable[[Dashboard, Facts], Iterator[tuple[str, str]]]
"""A dashboard and what stands around it -> the place and the sentence of everything that is wrong."""


def _classic_schema(dashboard: Dashboard, _: Facts) -> Iterator[tuple[str, str]]:
    version = dashboard.raw.get("schemaVersion")
    if not isinstance(version, int) or version > NEWEST_SCHEMA or "apiVersion" in dashboard.raw:
        yield "", f"its schemaVersion is {version} and should be {NEWEST_SCHEMA} at most, in the classic format"
    if dashboard.raw.get("id") is not None:
        yield "", "its id is given; it must be null, because Grafana numbers dashboards itself"
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", dashboard.uid):
        yield "", f"its uid is {dashboard.uid!r} and should be up to 40 letters, digits, hyphens and underscores"


def _variables(dashboard: Dashboard, _: Facts) -> Iterator[tuple[str, str]]:
    names = tuple(variable.name for variable in dashboard.variables)
    if names[: len(VARIABLES)] != VARIABLES:
        yield "", f"its variables are {', '.join(names) or 'none'} and should begin with {', '.join(VARIABLES)}"


def _panel_type(dashboard: Dashboard, _: Facts) -> Iterator[tuple[str, str]]:
    for panel in dashboard.panels:
        if panel.kind not in PANEL_TYPES:
            yield panel.where, f"the type {panel.kind!r} is none of {', '.join(PANEL_TYPES)}"


def _unique(dashboard: Dashboard, _: Facts) -> Iterator[tuple[str, str]]:
    ids, titles = set(), set()
    for panel in dashboard.panels:
        if panel.id < 1:
            yield panel.where, "it has no id; one is a number from 1 up"
        elif panel.id in ids:
            yield panel.where, f"another panel has its id {panel.id}"
        if panel.kind != "row" and panel.title in titles:
            yield panel.where, "another panel has its title"
        ids.add(panel.id)
        titles.add(panel.title)


def _grid(dashboard: Dashboard, _: Facts) -> Iterator[tuple[str, str]]:
    placed: list[tuple[Panel, Place]] = []
    for panel in dashboard.panels:
        if panel.place is None:
            yield panel.where, "it has no place on the grid (gridPos)"
            continue
        place = panel.place
        placed.append((panel, place))
        if min(place.x, place.y) < 0 or min(place.w, place.h) < 1 or place.x + place.w > COLUMNS:
            yield panel.where, f"it leaves the grid of {COLUMNS} columns"
    for (one, its), (other, others) in combinations(placed, 2):
        beside = its.x + its.w <= others.x or others.x + others.w <= its.x
        above = its.y + its.h <= others.y or others.y + others.h <= its.y
        if not (beside or above):
            yield other.where, f"it overlaps {one.where}"


def _refs(dashboard: Dashboard, _: Facts) -> Iterator[tuple[str, str]]:
    for panel in dashboard.with_queries:
        refs = [target.ref for target in panel.targets]
        if "" in refs or len(set(refs)) != len(refs):
            yield panel.where, f"its queries need a refId each, and have {', '.join(refs) or 'none'}"


def _legends(dashboard: Dashboard, _: Facts) -> Iterator[tuple[str, str]]:
    for panel in dashboard.with_queries:
        for query in panel.targets:
            for name in blank_labels(query.legend, readable(query.expr)) if query.kind != "loki" else ():
                yield (
                    panel.where,
                    f"the legend of query {query.ref} shows {{{{{name}}}}}, and its series have no such label",
                )


def _thresholds(dashboard: Dashboard, _: Facts) -> Iterator[tuple[str, str]]:
    for panel in dashboard.with_queries:
        for values in panel.steps:
            numbers = [value for value in values[1:] if isinstance(value, (int, float))]
            if not values or values[0] is not None or len(numbers) != len(values) - 1:
                yield panel.where, "its thresholds begin with a colour for everything below the first number"
            elif numbers != sorted(set(numbers)):
                yield panel.where, f"its thresholds do not rise: {', '.join(f'{number:g}' for number in numbers)}"


def _shown(dashboard: Dashboard, _: Facts) -> Iterator[tuple[str, str]]:
    """What the SDK leaves out, and Grafana then does not show."""
    for panel in dashboard.with_queries:
        options = panel.raw.get("options")
        part = {"timeseries": "legend", "stat": "reduceOptions"}.get(panel.kind, "")
        own = options.get(part) if isinstance(options, dict) else None
        if panel.kind == "timeseries" and not (isinstance(own, dict) and own.get("showLegend") is True):
            yield panel.where, "its legend is hidden, so nobody knows which line is which"
        if panel.kind == "stat" and not (isinstance(own, dict) and own.get("calcs")):
            yield panel.where, "it does not say how many values become one (reduceOptions.calcs)"


def _annotation(dashboard: Dashboard, _: Facts) -> Iterator[tuple[str, str]]:
    for annotation in dashboard.annotations:
        marks = selectors(_query(annotation).expr)
        named = any(selector.metric == "cache_start_time_seconds" for selector in marks)
        if named and annotation.get("enable") is True and annotation.get("useValueForTime") is True:
            return
    yield "", "no annotation marks restarts: one reads cache_start_time_seconds and takes its value for the time"


def _known_variables(dashboard: Dashboard, _: Facts) -> Iterator[tuple[str, str]]:
    own = {variable.name for variable in dashboard.variables}
    for where, expr in _expressions(dashboard):
        for name in sorted(promql.grafana_variables(expr) - own - promql.GRAFANA_BUILTINS):
            yield where, f"there is no variable ${name}"
    for panel in dashboard.with_queries:
        for link in panel.links:
            for name in sorted(promql.grafana_variables(link.url) - own - set(_LINK_VARIABLES)):
                yield panel.where, f"the link {link.title!r} uses ${name}, and there is no such variable"


def _metrics(dashboard: Dashboard, facts: Facts) -> Iterator[tuple[str, str]]:
    for where, expr in _expressions(dashboard):
        for selector in selectors(expr):
            # A raw counter is what target-counter-agg-rule speaks of.
            problem = None if is_raw_counter(selector) else selector_problem(selector, facts.recorded)
            if problem:
                yield where, problem
    for variable in dashboard.variables:
        for name in _any_of(variable.query):
            if name not in EXPORTED and name not in facts.recorded:
                yield variable.where, f"nobody exports or records {name}"


def _any_of(query: str) -> list[str]:
    """The series that a choice is made from where it names several."""
    return [name for names in _ANY_OF.findall(query) for name in names.split("|")]


def _runbook_links(dashboard: Dashboard, facts: Facts) -> Iterator[tuple[str, str]]:
    if not facts.linked:
        return
    alerts = {rule.name for rule in facts.alerts}
    for panel in dashboard.with_queries:
        to_pages = [link for link in panel.links if _page(link.url)]
        if not to_pages:
            yield panel.where, "it links to no runbook page"
        for link in to_pages:
            page, fragment = _page(link.url), _split(link.url).fragment
            name = f"{page}.md"
            if name not in facts.pages:
                # Where an alert has no page, that is told once, at the alert.
                if page not in alerts:
                    yield panel.where, f"its link {link.url} leads to no page in runbooks/"
            elif fragment and fragment not in pages.heading_ids(facts.pages[name]):
                yield panel.where, f"its link {link.url} leads to no heading of runbooks/{name}"


def _page(url: str) -> str | None:
    """The page that a link leads to; None for one to another dashboard, or whose name a row gives."""
    path = _split(url).path
    page = path.rpartition("/")[2]
    return None if path.startswith("/d/") or page.startswith("${") else page or None


def _split(url: str) -> SplitResult:
    """The parts of a URL; those of an empty one where it is none."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


RULES: Mapping[str, Rule] = {
    "classic-schema": _classic_schema,
    "variables": _variables,
    "panel-type": _panel_type,
    "unique-panels": _unique,
    "grid": _grid,
    "query-refs": _refs,
    "legends": _legends,
    "thresholds": _thresholds,
    "shown": _shown,
    "restart-annotation": _annotation,
    "known-variables": _known_variables,
    "metrics": _metrics,
    "runbook-links": _runbook_links,
}


def findings(dashboard: Dashboard, facts: Facts) -> Iterator[Finding]:
    """What these rules say of one dashboard."""
    for name, rule in RULES.items():
        yield from (Finding(name, where, message) for where, message in rule(dashboard, facts))


def _expressions(dashboard: Dashboard) -> Iterator[tuple[str, str]]:
    """Every PromQL of a dashboard with the place where it stands; a choice among several series is none."""
    for panel in dashboard.with_queries:
        yield from ((panel.where, one.expr) for one in panel.targets if one.kind != "loki")
    for annotation in dashboard.annotations:
        yield f"annotation {annotation.get('name')!r}", _query(annotation).expr
    for variable in dashboard.variables:
        series = _VALUES_OF.fullmatch(variable.query)
        if series and not _any_of(series[1]):
            yield variable.where, series[1]


def _query(annotation: dict[str, object]) -> Target:
    raw = annotation.get("target")
    return target(raw if isinstance(raw, dict) else {})


def together(dashboards: Mapping[str, Dashboard], facts: Facts) -> Iterator[str]:
    """What is wrong between the dashboards of a bundle, by file, its alerts and its pages: a sentence each."""
    by_uid: dict[str, str] = {}
    for file, dashboard in dashboards.items():
        if dashboard.uid in by_uid:
            yield f"{file}: its uid {dashboard.uid!r} is that of {by_uid[dashboard.uid]} (unique-uid)"
        by_uid.setdefault(dashboard.uid, file)
    for file, dashboard in dashboards.items():
        for panel in dashboard.with_queries:
            for link in panel.links:
                yield from (f"{file}: {panel.where}: {told}" for told in _lost(link.url, dashboards, by_uid))
    yield from _alerts_on_panels(dashboards, facts)
    for rule in facts.alerts:
        url = rule.annotations.get("dashboard_url")
        if url is not None:
            place = f"alerts/herdwatch.rules.yml:{rule.line}: dashboard_url of {rule.name}"
            yield from (f"{place}: {told}" for told in _lost(url, dashboards, by_uid, anywhere=True))


def _lost(
    url: str, dashboards: Mapping[str, Dashboard], by_uid: Mapping[str, str], *, anywhere: bool = False
) -> Iterator[str]:
    """Why a link to a dashboard leads nowhere; an alert's link may be below any path."""
    parts = _split(url)
    if not anywhere and not parts.path.startswith("/d/"):
        return
    uid = parts.path.rpartition("/")[2]
    if uid not in by_uid:
        yield f"the link {url} leads to no dashboard; there is: {', '.join(sorted(by_uid))} (dashboard-links)"
        return
    chosen = {f"var-{variable.name}" for variable in dashboards[by_uid[uid]].variables}
    for key, _ in parse_qsl(parts.query, keep_blank_values=True):
        if key.startswith("var-") and key not in chosen:
            yield f"the link {url} chooses {key}, and {by_uid[uid]} has no such variable (dashboard-links)"


def _alerts_on_panels(dashboards: Mapping[str, Dashboard], facts: Facts) -> Iterator[str]:
    if not facts.linked:
        return
    panels = [panel for dashboard in dashboards.values() for panel in dashboard.with_queries]
    shown = {_page(link.url) for panel in panels for link in panel.links}
    for name in dict.fromkeys(rule.name for rule in facts.alerts):
        if name not in shown:
            line = next(rule.line for rule in facts.alerts if rule.name == name)
            yield f"alerts/herdwatch.rules.yml:{line}: {name} is on no panel of a dashboard (alerts-on-panels)"
