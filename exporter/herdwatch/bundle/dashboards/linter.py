"""The seventeen rules of grafana/dashboard-linter, by its names, none left out.

They are written from what its documentation and its messages say (https://github.com/grafana/dashboard-linter). One
thing is stated more precisely here. `target-job-rule` and `target-instance-rule` ask for `job=~"$job"` in every
selector; what Prometheus records for a cache or a service, and ALERTS, has no such label, and the matcher would leave
nothing over. Such a series must be asked for with `job=~"$job|"`: the choice, or no label.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from herdwatch.bundle import promql
from herdwatch.bundle.dashboards.description import UNITS
from herdwatch.bundle.dashboards.document import Dashboard, Finding, Panel, Target, rate_windows, readable, selectors
from herdwatch.bundle.expressions import NEEDS_COUNTER
from herdwatch.errors import CheckFailed

Rule = Callable[[Dashboard], Iterator[tuple[str, str]]]
"""A dashboard -> the place and the sentence of everything that is wrong."""

_CHOSEN = ("$datasource", "${datasource}", "$prometheus_datasource", "${prometheus_datasource}")
_FUNCTION = re.compile(r"([a-z_]+)\((.+)\)", re.DOTALL)
_LABEL_VALUES = re.compile(r"(?:(.+),)?\s*([A-Za-z_]\w*)\s*", re.DOTALL)
_NONE = "none"


def _template_datasource(dashboard: Dashboard) -> Iterator[tuple[str, str]]:
    sources = [variable for variable in dashboard.variables if variable.kind == "datasource"]
    if not sources:
        yield "", "the data source cannot be chosen; add a variable of type datasource"
    for source in sources:
        own = f"{source.query}_datasource"
        label = f"{source.query.title()} data source"
        names = (own, "datasource") if len(sources) == 1 else (own,)
        labels = (label, "Data source") if len(sources) == 1 else (label,)
        if source.name not in names:
            yield source.where, f"a data source is called {' or '.join(names)}"
        elif source.label not in labels:
            yield source.where, f"its label is {source.label!r} and should be {' or '.join(labels)}"


def _template(name: str) -> Rule:
    def rule(dashboard: Dashboard) -> Iterator[tuple[str, str]]:
        found = next((variable for variable in dashboard.variables if variable.name == name), None)
        if found is None:
            yield "", f"there is no variable {name!r}"
            return
        if found.source not in _CHOSEN:
            yield found.where, f"it reads {found.source or 'no data source'} and should read $datasource"
        if found.kind != "query":
            yield found.where, f"its type is {found.kind or _NONE} and should be query"
        if found.label != name.title():
            yield found.where, f"its label is {found.label!r} and should be {name.title()!r}"
        if not found.multi:
            yield found.where, "more than one value should be possible (multi)"
        if found.all_value != ".+":
            yield found.where, f"its value for all is {found.all_value!r} and should be '.+'"

    return rule


def _template_label_promql(dashboard: Dashboard) -> Iterator[tuple[str, str]]:
    for variable in dashboard.variables:
        if variable.kind == "query":
            problem = _variable_query_problem(variable.query)
            if problem:
                yield variable.where, problem


def _variable_query_problem(query: str) -> str | None:
    call = _FUNCTION.fullmatch(query.strip())
    if call is None or call[1] not in ("label_names", "label_values", "metrics", "query_result"):
        return f"{query!r} is none of label_values(SERIES, LABEL), label_names(), metrics(), query_result()"
    series: str | None = call[2]
    if call[1] == "label_values":
        parts = _LABEL_VALUES.fullmatch(call[2])
        series = parts[1] if parts else call[2]
    try:
        promql.parse(readable(series or "up"), "")
    except CheckFailed as error:
        return str(error).removeprefix(": ")
    return None


def _template_on_time_change_reload(dashboard: Dashboard) -> Iterator[tuple[str, str]]:
    for variable in dashboard.variables:
        if variable.kind == "query" and variable.refresh != 2:
            yield variable.where, f"refresh is {variable.refresh} and should be 2, on a change of the time range"


def _panel_datasource(dashboard: Dashboard) -> Iterator[tuple[str, str]]:
    chosen = {
        f(v.name) for v in dashboard.variables if v.kind == "datasource" for f in ("${}".format, "${{{}}}".format)
    }
    for panel in dashboard.with_queries:
        for source in [panel.source, *(target.source for target in panel.targets)]:
            if source not in chosen:
                yield panel.where, f"it reads {source or 'no data source'} and not the one that is chosen"
                break


def _panel_title_description(dashboard: Dashboard) -> Iterator[tuple[str, str]]:
    for panel in dashboard.with_queries:
        missing = [word for word, text in (("title", panel.title), ("description", panel.description)) if not text]
        if missing:
            yield panel.where, f"it has no {' and no '.join(missing)}"


def _panel_units(dashboard: Dashboard) -> Iterator[tuple[str, str]]:
    for panel in dashboard.with_queries:
        for unit in panel.units:
            if unit not in UNITS:
                yield panel.where, f"the unit {unit!r} is none of {', '.join(sorted(UNITS))}"


def _panel_no_targets(dashboard: Dashboard) -> Iterator[tuple[str, str]]:
    for panel in dashboard.with_queries:
        if not panel.targets:
            yield panel.where, "it has no query"


def _target_logql(dashboard: Dashboard) -> Iterator[tuple[str, str]]:
    for panel, target in _of_loki(dashboard):
        if not re.search(r"\{[^{}]*[=~][^{}]*\}", target.expr):
            yield panel.where, f'query {target.ref} has no stream selector such as {{app="x"}}, so it is no LogQL'


def _target_logql_auto(dashboard: Dashboard) -> Iterator[tuple[str, str]]:
    for panel, target in _of_loki(dashboard):
        for window in re.findall(r"\[([^\[\]]*)\]", target.expr):
            if window not in ("$__auto", "${__auto}"):
                yield panel.where, f"query {target.ref} looks back {window} and should look back $__auto"


def _target_promql(dashboard: Dashboard) -> Iterator[tuple[str, str]]:
    for panel, target in _of_prometheus(dashboard):
        try:
            promql.parse(readable(target.expr), "")
        except CheckFailed as error:
            yield panel.where, str(error).removeprefix(": ")


def _target_rate_interval(dashboard: Dashboard) -> Iterator[tuple[str, str]]:
    for panel, target in _of_prometheus(dashboard):
        for window in rate_windows(target.expr):
            if window != "$__rate_interval":
                yield panel.where, f"query {target.ref} takes a rate over {window} and should over $__rate_interval"


def _target_matcher(label: str) -> Rule:
    def rule(dashboard: Dashboard) -> Iterator[tuple[str, str]]:
        for panel, target in _of_prometheus(dashboard):
            for selector in selectors(target.expr):
                value = f"${label}" if has_label(selector.metric, label) else f"${label}|"
                if not any((m.label, m.operator, m.value) == (label, "=~", value) for m in selector.matchers):
                    yield panel.where, f'query {target.ref} does not ask {selector.metric} for {label}=~"{value}"'

    return rule


def has_label(metric: str, label: str) -> bool:
    """Whether a series has the target label `job` or `instance`.

    What is scraped has both; of a recorded series the part before the first colon names the labels it keeps; an alert
    has those of its expression, which may be none.
    """
    level, colon, _ = metric.partition(":")
    return label in level.split("_") if colon else metric != "ALERTS"


def _target_counter_agg(dashboard: Dashboard) -> Iterator[tuple[str, str]]:
    for panel, target in _of_prometheus(dashboard):
        for selector in selectors(target.expr):
            if is_raw_counter(selector):
                yield panel.where, f"{selector.metric} is a counter; take its rate() or increase()"


def is_raw_counter(selector: promql.Selector) -> bool:
    """Whether a name that ends as a counter's is used without rate, irate or increase."""
    rated = selector.function in NEEDS_COUNTER and selector.is_range
    return selector.metric.endswith("_total") and not rated


def _uneditable(dashboard: Dashboard) -> Iterator[tuple[str, str]]:
    if dashboard.raw.get("editable") is not False:
        yield "", "it can be edited in Grafana, where the next render would undo it; set editable to false"


def _of_prometheus(dashboard: Dashboard) -> Iterator[tuple[Panel, Target]]:
    return ((panel, target) for panel, target in _queries(dashboard) if target.kind != "loki")


def _of_loki(dashboard: Dashboard) -> Iterator[tuple[Panel, Target]]:
    return (
        (panel, target)
        for panel, target in _queries(dashboard)
        if target.kind == "loki" or dashboard.kind_of_source == "loki"
    )


def _queries(dashboard: Dashboard) -> Iterator[tuple[Panel, Target]]:
    return ((panel, target) for panel in dashboard.with_queries for target in panel.targets)


RULES: Mapping[str, Rule] = {
    "template-datasource-rule": _template_datasource,
    "template-job-rule": _template("job"),
    "template-instance-rule": _template("instance"),
    "template-label-promql-rule": _template_label_promql,
    "template-on-time-change-reload-rule": _template_on_time_change_reload,
    "panel-datasource-rule": _panel_datasource,
    "panel-title-description-rule": _panel_title_description,
    "panel-units-rule": _panel_units,
    "panel-no-targets-rule": _panel_no_targets,
    "target-logql-rule": _target_logql,
    "target-logql-auto-rule": _target_logql_auto,
    "target-promql-rule": _target_promql,
    "target-rate-interval-rule": _target_rate_interval,
    "target-job-rule": _target_matcher("job"),
    "target-instance-rule": _target_matcher("instance"),
    "target-counter-agg-rule": _target_counter_agg,
    "uneditable-dashboard": _uneditable,
}


def findings(dashboard: Dashboard) -> Iterator[Finding]:
    """What the seventeen rules say of one dashboard."""
    for name, rule in RULES.items():
        yield from (Finding(name, where, message) for where, message in rule(dashboard))
