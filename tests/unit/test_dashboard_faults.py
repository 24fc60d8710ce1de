"""A good dashboard, spoilt in one place at a time: the check that is meant says so, and no other."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.rendered_dashboards import facts, panel, raw

from herdwatch.bundle.dashboards import house, linter
from herdwatch.bundle.dashboards.checks import findings
from herdwatch.bundle.dashboards.document import Finding, load

Spoil = Callable[[dict[str, Any]], None]

PANEL = "Keys against normal"
GRAPH = "Evicted and expired keys"
COLUMN = {"matcher": {"id": "byName", "options": "x"}, "properties": [{"id": "unit", "value": "seconds"}]}


def set_panel(title: str = PANEL, /, **values: Any) -> Spoil:
    """Give a panel other values; None takes a key away."""

    def spoil(document: dict[str, Any]) -> None:
        one = panel(document, title)
        one.update(values)
        for key in [key for key, value in values.items() if value is None]:
            del one[key]

    return spoil


def set_defaults(**values: Any) -> Spoil:
    return lambda document: panel(document, PANEL)["fieldConfig"]["defaults"].update(values)


def set_query(title: str = PANEL, /, **values: Any) -> Spoil:
    return lambda document: panel(document, title)["targets"][0].update(values)


def replace(old: str, new: str, title: str = GRAPH) -> Spoil:
    """Change every query of a panel."""

    def spoil(document: dict[str, Any]) -> None:
        targets = panel(document, title)["targets"]
        assert any(old in target["expr"] for target in targets)
        for target in targets:
            target["expr"] = target["expr"].replace(old, new)

    return spoil


def set_variable(variable: str, **values: Any) -> Spoil:
    def spoil(document: dict[str, Any]) -> None:
        [one] = [one for one in document["templating"]["list"] if one["name"] == variable]
        one.update(values)

    return spoil


def without_variable(variable: str) -> Spoil:
    def spoil(document: dict[str, Any]) -> None:
        templating = document["templating"]
        templating["list"] = [one for one in templating["list"] if one["name"] != variable]

    return spoil


def set_annotation(**values: Any) -> Spoil:
    return lambda document: document["annotations"]["list"][0].update(values)


def set_link(url: str, title: str = PANEL) -> Spoil:
    return lambda document: panel(document, title)["links"][0].update(url=url)


def set_document(**values: Any) -> Spoil:
    return lambda document: document.update(values)


def loki(expr: str) -> Spoil:
    return set_query(expr=expr, datasource={"type": "loki", "uid": "${datasource}"})


def steps(*values: float | None) -> Spoil:
    return set_defaults(thresholds={"steps": [{"color": "red", "value": value} for value in values]})


FAULTS: dict[str, tuple[Spoil, set[str], str]] = {
    "the data source is another's": (
        set_variable("datasource", name="prom"),
        {"template-datasource-rule", "panel-datasource-rule", "variables"},
        "a data source is called prometheus_datasource or datasource",
    ),
    "the data source has an odd label": (
        set_variable("datasource", label="Source"),
        {"template-datasource-rule"},
        "its label is 'Source'",
    ),
    "no data source can be chosen": (
        without_variable("datasource"),
        {"template-datasource-rule", "panel-datasource-rule", "variables"},
        "add a variable of type datasource",
    ),
    "no job can be chosen": (
        without_variable("job"),
        {"template-job-rule", "variables", "known-variables"},
        "there is no variable 'job'",
    ),
    "one job only": (set_variable("job", multi=False), {"template-job-rule"}, "more than one value"),
    "a job from another source": (
        set_variable("job", datasource={"type": "prometheus", "uid": "abc"}),
        {"template-job-rule"},
        "it reads abc",
    ),
    "a constant job": (set_variable("job", type="constant"), {"template-job-rule"}, "its type is constant"),
    "all instances may be none": (set_variable("instance", allValue=".*"), {"template-instance-rule"}, "'.*'"),
    "a label of an instance": (set_variable("instance", label="Node"), {"template-instance-rule"}, "'Node'"),
    "a choice that is no PromQL": (
        set_variable("cache", query="label_values(cache_up{, cache)"),
        {"template-label-promql-rule"},
        "not valid PromQL",
    ),
    "a choice by a function nobody knows": (
        set_variable("cache", query="values(cache_up, cache)"),
        {"template-label-promql-rule"},
        "is none of label_values",
    ),
    "a choice that is made once": (
        set_variable("cache", refresh=1),
        {"template-on-time-change-reload-rule"},
        "refresh is 1 and should be 2",
    ),
    "a choice from a series nobody has": (
        set_variable("cache", query="label_values(redis_up, cache)"),
        {"metrics"},
        "nobody exports or records redis_up",
    ),
    "a choice from several series, one unknown": (
        set_variable("cache", query='label_values({__name__=~"cache_up|redis_up"}, cache)'),
        {"metrics"},
        "nobody exports or records redis_up",
    ),
    "the author's own data source": (
        set_panel(datasource={"type": "prometheus", "uid": "P1809F7CD0C75ACF3"}),
        {"panel-datasource-rule"},
        "it reads P1809F7CD0C75ACF3",
    ),
    "a query of the author's own data source": (
        set_query(datasource={"type": "prometheus", "uid": "abc"}),
        {"panel-datasource-rule"},
        "it reads abc",
    ),
    "no title": (set_panel(title=""), {"panel-title-description-rule"}, "it has no title"),
    "no description": (set_panel(description=None), {"panel-title-description-rule"}, "it has no description"),
    "a unit Grafana does not know": (set_defaults(unit="seconds"), {"panel-units-rule"}, "the unit 'seconds'"),
    "no unit": (set_defaults(unit=None), {"panel-units-rule"}, "the unit ''"),
    "a column's unit": (
        lambda document: panel(document, PANEL)["fieldConfig"]["overrides"].append(COLUMN),
        {"panel-units-rule"},
        "the unit 'seconds'",
    ),
    "no query": (set_panel(targets=[]), {"panel-no-targets-rule"}, "it has no query"),
    "LogQL without a stream": (loki("rate(x[$__auto])"), {"target-logql-rule"}, "no stream selector"),
    "LogQL over a window of its own": (loki('rate({a="b"}[5m])'), {"target-logql-auto-rule"}, "looks back 5m"),
    "no PromQL": (set_query(expr="sum(cache_up"), {"target-promql-rule"}, "not valid PromQL"),
    "no expression": (set_query(expr=""), {"target-promql-rule"}, "not valid PromQL"),
    "a wrong type": (set_query(expr="rate(cache_hits_total)"), {"target-promql-rule"}, "expected type matrix"),
    "a rate over a fixed window": (
        replace("$__rate_interval", "5m"),
        {"target-rate-interval-rule"},
        "takes a rate over 300s",
    ),
    "any job": (
        replace('job=~"$job", ', ""),
        {"target-job-rule"},
        'does not ask cache_evicted_keys_total for job=~"$job"',
    ),
    "a job that must be equal": (replace('job=~"$job"', 'job="$job"'), {"target-job-rule"}, 'for job=~"$job"'),
    "a recorded series asked for a job": (
        replace("$job|", "$job", PANEL),
        {"target-job-rule"},
        'does not ask cache_instance:keys:ratio for job=~"$job|"',
    ),
    "any instance": (replace(', instance=~"$instance"', ""), {"target-instance-rule"}, 'for instance=~"$instance"'),
    "a window where none may be": (replace("rate(", "abs("), {"target-promql-rule"}, "not valid PromQL"),
    "a counter as it is": (
        set_query(GRAPH, expr='cache_hits_total{job=~"$job", cache=~"$cache", instance=~"$instance"}'),
        {"target-counter-agg-rule"},
        "cache_hits_total is a counter",
    ),
    "what anybody may edit": (set_document(editable=True), {"uneditable-dashboard"}, "set editable to false"),
    "a schema that is refused": (set_document(schemaVersion=43), {"classic-schema"}, "should be 42 at most"),
    "the new format": (set_document(apiVersion="dashboard.grafana.app/v2"), {"classic-schema"}, "classic format"),
    "a number of its own": (set_document(id=7), {"classic-schema"}, "it must be null"),
    "an address that is none": (set_document(uid="cache restart"), {"classic-schema"}, "its uid is 'cache restart'"),
    "a panel type from a plugin": (set_panel(type="piechart"), {"panel-type"}, "the type 'piechart'"),
    "two panels of one id": (set_panel(id=2), {"unique-panels"}, "another panel has its id 2"),
    "a panel without an id": (set_panel(id=0), {"unique-panels"}, "it has no id"),
    "two panels of one title": (set_panel(title="Redis answers"), {"unique-panels"}, "another panel has its title"),
    "a panel over another": (
        set_panel(gridPos={"x": 2, "y": 1, "w": 2, "h": 2}),
        {"grid"},
        "overlaps panel 'Redis answers'",
    ),
    "a panel outside": (
        set_panel("Exporter version", gridPos={"x": 20, "y": 900, "w": 8, "h": 2}),
        {"grid"},
        "it leaves the grid",
    ),
    "a panel nowhere": (set_panel(gridPos={"x": 1}), {"grid"}, "it has no place"),
    "two queries of one name": (
        lambda document: panel(document, GRAPH)["targets"][1].update(refId="A"),
        {"query-refs"},
        "need a refId each, and have A, A",
    ),
    "a legend of a label that was summed away": (
        set_query(GRAPH, legendFormat="{{cache}} {{service}}"),
        {"legends"},
        "the legend of query A shows {{service}}",
    ),
    "thresholds that fall": (steps(None, 0.9, 0.5), {"thresholds"}, "do not rise: 0.9, 0.5"),
    "thresholds without a ground": (steps(0.5), {"thresholds"}, "everything below the first number"),
    "no thresholds": (set_defaults(thresholds={}), {"thresholds"}, "everything below the first number"),
    "a hidden legend": (set_panel(GRAPH, options={"legend": {"showLegend": False}}), {"shown"}, "its legend is hidden"),
    "nothing to show": (set_panel(options={"reduceOptions": {"calcs": []}}), {"shown"}, "reduceOptions.calcs"),
    "no marks of restarts": (set_document(annotations={"list": []}), {"restart-annotation"}, "no annotation marks"),
    "marks at the time of the scrape": (
        set_annotation(useValueForTime=False),
        {"restart-annotation"},
        "takes its value for the time",
    ),
    "a query of a variable that is none": (
        replace('cache=~"$cache"', 'cache=~"$cahce"'),
        {"known-variables"},
        "there is no variable $cahce",
    ),
    "a link of a variable that is none": (
        set_link("http://127.0.0.1:9878/runbooks/CacheDown?cache=${cahce}"),
        {"known-variables"},
        "uses $cahce",
    ),
    "a metric nobody exports": (
        replace("cache_evicted_keys_total", "redis_evicted_keys_total"),
        {"metrics"},
        "nobody exports or records redis_evicted_keys_total",
    ),
    "a recorded series nobody records": (
        replace("keys:ratio", "keys:ration", PANEL),
        {"metrics"},
        "nobody exports or records cache_instance:keys:ration",
    ),
    "the rate of a gauge": (
        replace("cache_evicted_keys_total", "cache_keys"),
        {"metrics"},
        "rate() needs a counter and cache_keys is none",
    ),
    "the prefix of a histogram": (
        replace("cache_evicted_keys_total", "cache_load_duration_seconds"),
        {"metrics"},
        "nobody exports or records cache_load_duration_seconds",
    ),
    "no runbook": (set_panel("Exporter version", links=[]), {"runbook-links"}, "it links to no runbook page"),
    "a runbook that is none": (
        set_link("http://127.0.0.1:9878/runbooks/CacheAsleep"),
        {"runbook-links"},
        "CacheAsleep leads to no page",
    ),
    "a heading that is none": (
        set_link("http://127.0.0.1:9878/runbooks/CacheDown#nosuch"),
        {"runbook-links"},
        "leads to no heading of runbooks/CacheDown.md",
    ),
}


def found(document: dict[str, Any]) -> list[Finding]:
    return list(findings(load(json.dumps(document), "d.json"), facts()))


def test_the_good_dashboard_has_nothing_to_be_said_of() -> None:
    assert found(raw("cache-restart")) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_by_the_check_that_is_meant(fault: str) -> None:
    spoil, rules, words = FAULTS[fault]
    document = raw("cache-restart")
    spoil(document)
    told = found(document)
    assert {finding.rule for finding in told} == rules
    assert any(words in finding.told("d.json") for finding in told), told
    assert all("\n" not in finding.told("d.json") for finding in told)


def test_every_check_has_a_fault_that_it_alone_or_first_of_all_tells() -> None:
    meant = {rule for _, rules, _ in FAULTS.values() if len(rules) == 1 for rule in rules}
    assert meant == {*linter.RULES, *house.RULES} - {"variables"}
    assert any("variables" in rules for _, rules, _ in FAULTS.values())


def test_a_finding_names_the_file_the_panel_and_the_rule() -> None:
    document = raw("cache-restart")
    set_defaults(unit="seconds")(document)
    [finding] = found(document)
    assert finding.told("d.json").startswith(f"d.json: panel {PANEL!r}: the unit 'seconds' is none of ")
    assert finding.told("d.json").endswith(" (panel-units-rule)")


def test_a_panel_in_a_collapsed_row_is_looked_at_too() -> None:
    document = raw("cache-restart")
    hidden = document["panels"].pop()
    hidden["fieldConfig"]["defaults"]["unit"] = "seconds"
    document["panels"][0]["panels"] = [hidden]
    assert [(finding.rule, finding.where) for finding in found(document)] == [
        ("panel-units-rule", f"panel {hidden['title']!r}")
    ]


def test_the_seventeen_rules_have_the_linters_names() -> None:
    assert len(linter.RULES) == 17
    kinds = [name.partition("-")[0] for name in linter.RULES]
    assert {kind: kinds.count(kind) for kind in kinds} == {"template": 5, "panel": 4, "target": 7, "uneditable": 1}
