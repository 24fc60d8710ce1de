"""The dashboard "Cache restart": what its template promises, and how a broken description is explained."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import combinations, pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from herdwatch import metrics
from herdwatch.bundle import rules, templates
from herdwatch.bundle.dashboards import UNITS, build
from herdwatch.bundle.location import bundle_root
from herdwatch.bundle.promql import Selector, selectors, without_grafana_variables
from herdwatch.config import Config, load, parse
from herdwatch.errors import CheckFailed, HerdwatchError, UsageError

TEMPLATES = bundle_root() / "dashboards" / "templates"
SOURCE = "dashboards/templates/cache-restart.yml.j2"
RUNBOOKS = "http://127.0.0.1:9878/runbooks"
WINDOWS = SimpleNamespace(scrape="15s", rate="1m", short="5m", long="15m", restart="10m", baseline="1h")
RULES = rules.load((bundle_root() / "alerts/herdwatch.rules.yml").read_text(), "rules")
ALERTS = [rule.name for rule in RULES if rule.is_alert]
RECORDED = {rule.name for rule in RULES if not rule.is_alert} | {"herdwatch:threshold", "herdwatch:capacity"}
PROMETHEUS_OWN = {"ALERTS", "up"}
COUNTERS = {family.name for family in metrics.FAMILIES if family.kind == "counter"}
OF_ONE_REDIS = {family.sample for family in metrics.PROBE + metrics.REDIS} | {"up"}


def render(name: str, config: Config) -> str:
    return templates.render(templates.environment(TEMPLATES), name, config=config, windows=WINDOWS)


DEFAULT = load(bundle_root() / "herdwatch.yaml")
TEXT = render("cache-restart.yml.j2", DEFAULT)
BUILT = build(TEXT, SOURCE, runbook_base_url=RUNBOOKS)
DASHBOARD: dict[str, Any] = json.loads(BUILT)
ROWS = [panel for panel in DASHBOARD["panels"] if panel["type"] == "row"]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
ANNOTATIONS = DASHBOARD["annotations"]["list"]

each_panel = pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])


def expressions() -> Iterator[tuple[str, str]]:
    """Every PromQL of the dashboard with the place where it stands."""
    for panel in PANELS:
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["expr"]
    for annotation in ANNOTATIONS:
        yield f"annotation {annotation['name']}", annotation["target"]["expr"]
    for variable in VARIABLES.values():
        if match := re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]):
            yield f"variable {variable['name']}", match[1]


def found_in(expr: str) -> list[Selector]:
    return selectors(without_grafana_variables(expr))


each_expr = pytest.mark.parametrize("expr", [pytest.param(expr, id=where) for where, expr in expressions()])


def test_rows_stand_in_the_order_of_an_incident() -> None:
    titles = [row["title"] for row in ROWS]
    assert titles == ["Verdict", "Symptoms", "Herd", "Recovery", "Redis", "Exporter"]
    assert [row["gridPos"]["y"] for row in ROWS] == sorted(row["gridPos"]["y"] for row in ROWS)


def test_the_verdict_is_told_by_stat_panels_alone() -> None:
    top, below = ROWS[0]["gridPos"]["y"], ROWS[1]["gridPos"]["y"]
    verdict = [panel for panel in PANELS if top < panel["gridPos"]["y"] < below]
    assert len(verdict) == 6
    assert {panel["type"] for panel in verdict} == {"stat"}


def test_ids_are_unique_and_none_is_zero() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    assert min(ids) > 0


def test_nothing_overlaps_and_everything_is_inside_the_grid() -> None:
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)


def test_panels_stand_between_their_row_and_the_next() -> None:
    for one, other in pairwise(DASHBOARD["panels"]):
        assert one["gridPos"]["y"] < other["gridPos"]["y"] or one["gridPos"]["x"] < other["gridPos"]["x"]


@each_panel
def test_every_panel_says_what_it_is_and_where_help_is(panel: dict[str, Any]) -> None:
    assert len(panel["description"]) > 20
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    [link] = panel["links"]
    alert = re.fullmatch(re.escape(RUNBOOKS) + r"/(\w+)\?cache=\$\{cache\}", link["url"])
    assert alert is not None
    assert alert[1] in ALERTS


@each_panel
def test_every_panel_reads_the_chosen_data_source_with_lettered_queries(panel: dict[str, Any]) -> None:
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    assert panel["datasource"] == chosen
    assert all(target["datasource"] == chosen for target in panel["targets"])
    assert "".join(target["refId"] for target in panel["targets"]) == "ABCDEFGH"[: len(panel["targets"])]


@each_panel
def test_what_the_sdk_leaves_out_is_set(panel: dict[str, Any]) -> None:
    if panel["type"] == "timeseries":
        assert panel["options"]["legend"]["showLegend"] is True
    if panel["type"] == "stat":
        assert panel["options"]["reduceOptions"]["calcs"] == ["lastNotNull"]
    assert all("placement" not in link for link in panel["links"])


@each_panel
def test_a_stat_or_a_table_asks_for_this_moment_and_a_graph_for_a_range(panel: dict[str, Any]) -> None:
    instant = panel["type"] in ("stat", "table")
    assert all(target.get("instant", False) is instant for target in panel["targets"])


def test_no_two_panels_have_one_title() -> None:
    titles = [panel["title"] for panel in PANELS]
    assert len(set(titles)) == len(titles)


@each_expr
def test_every_metric_exists(expr: str) -> None:
    known = set(metrics.BY_SAMPLE) | RECORDED | PROMETHEUS_OWN
    assert {found.metric for found in found_in(expr)} <= known


@each_expr
def test_counters_are_read_by_rate_and_gauges_never(expr: str) -> None:
    for found in found_in(expr):
        rated = found.function in ("rate", "increase") and found.is_range
        assert rated is (found.metric in COUNTERS), found


@each_expr
def test_every_range_is_the_rate_interval(expr: str) -> None:
    assert set(re.findall(r"\[([^\]]*)\]", expr)) <= {"$__rate_interval"}


@each_expr
def test_every_query_keeps_to_the_chosen_caches(expr: str) -> None:
    for found in found_in(expr.replace("$cache", "CHOSEN")):
        if any(matcher.value == DEFAULT.jobs.exporter for matcher in found.matchers):
            continue
        chosen = found.matcher("cache")
        assert chosen is not None, found
        assert (chosen.operator, chosen.value) in {("=~", "CHOSEN"), ("=~", "CHOSEN|"), ("!=", "")}, found


@each_panel
def test_what_one_redis_says_is_filtered_by_job_and_instance_too(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        for found in found_in(target["expr"]):
            exporters = any(matcher.value == DEFAULT.jobs.exporter for matcher in found.matchers)
            if found.metric in OF_ONE_REDIS and not exporters:
                assert {"job", "cache", "instance"} <= {matcher.label for matcher in found.matchers}, found


def test_alerts_are_shown_even_where_they_have_no_cache_label() -> None:
    shown = [found for _, expr in expressions() for found in found_in(expr) if found.metric == "ALERTS"]
    assert len(shown) == 2
    for found in shown:
        matcher = found.matcher("cache")
        assert matcher is not None
        assert re.fullmatch(matcher.value, "") is not None


@pytest.mark.parametrize("name", ["job", "cache", "instance"])
def test_choices_can_be_many_or_all_and_follow_the_time_range(name: str) -> None:
    variable = VARIABLES[name]
    assert variable["type"] == "query"
    assert variable["datasource"]["uid"] == "${datasource}"
    assert (variable["multi"], variable["includeAll"], variable["allValue"]) == (True, True, ".+")
    assert variable["refresh"] == 2
    assert variable["label"] == name.title()
    assert variable["current"]["value"] == ["$__all"]


def test_the_data_source_is_chosen_first() -> None:
    assert list(VARIABLES) == ["datasource", "job", "cache", "instance"]
    assert VARIABLES["datasource"]["type"] == "datasource"
    assert VARIABLES["datasource"]["query"] == "prometheus"
    assert VARIABLES["datasource"]["label"] == "Data source"


def test_a_restart_is_marked_at_the_start_of_the_process() -> None:
    [annotation] = ANNOTATIONS
    [found] = found_in(annotation["target"]["expr"])
    assert found.metric == "cache_start_time_seconds"
    assert annotation["target"]["refId"] == "Anno"
    assert annotation["useValueForTime"] is True
    assert "expr" not in annotation
    assert "placement" not in annotation
    assert annotation["datasource"]["uid"] == "${datasource}"


def test_the_json_is_the_classic_kind_that_file_provisioning_takes() -> None:
    assert DASHBOARD["schemaVersion"] <= 42
    assert DASHBOARD["id"] is None
    assert DASHBOARD["uid"] == "herdwatch-cache-restart"
    assert DASHBOARD["editable"] is False
    assert "version" not in DASHBOARD
    assert "apiVersion" not in DASHBOARD
    assert json.dumps(DASHBOARD, indent=2, sort_keys=True, ensure_ascii=False) + "\n" == BUILT


def test_two_builds_are_equal_byte_for_byte() -> None:
    assert build(render("cache-restart.yml.j2", DEFAULT), SOURCE, runbook_base_url=RUNBOOKS) == BUILT


def test_without_a_runbook_url_no_panel_has_a_link() -> None:
    document = json.loads(build(TEXT, SOURCE, runbook_base_url=None))
    assert all("links" not in panel for panel in document["panels"])


def steps(config: Config, title: str) -> list[tuple[float | None, str]]:
    document = json.loads(build(render("cache-restart.yml.j2", config), SOURCE, runbook_base_url=None))
    [panel] = [panel for panel in document["panels"] if panel["title"] == title]
    return [(step["value"], step["color"]) for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]]


def configured(extra: str, caches: str = "- {name: a, url: 'redis://h'}") -> Config:
    return parse(f"caches:\n{caches}\n{extra}", "herdwatch.yaml")


def test_colours_change_where_the_alerts_do() -> None:
    config = configured("thresholds: {CacheHitRateLow: 0.7, CacheRestarted: 0.3}")
    assert steps(config, "Hit ratio now") == [(None, "red"), (0.7, "green")]
    assert steps(config, "Keys against normal") == [(None, "red"), (0.3, "green")]


def test_between_the_laxest_and_the_strictest_cache_the_colour_is_yellow() -> None:
    caches = "- {name: a, url: 'redis://h', database: main}\n- {name: b, url: 'redis://i'}"
    config = configured("databases: {main: {capacity: 2500, peak: 50000}}", caches)
    assert steps(config, "Hit ratio now") == [(None, "red"), (0.8, "yellow"), (0.95, "green")]


def test_a_fresh_start_is_orange_for_the_restart_window() -> None:
    assert steps(DEFAULT, "Time since the start") == [(None, "orange"), (600, "green")]


def test_a_number_that_yaml_takes_for_text_is_still_a_threshold() -> None:
    assert steps(configured("thresholds: {CacheHitRateLow: 0.00001}"), "Hit ratio now")[1] == (0.00001, "green")


@pytest.mark.parametrize("name", ["provisioning-dashboards.yml.j2", "provisioning-datasources.yml.j2"])
def test_provisioning_is_the_first_version_of_grafanas_format(name: str) -> None:
    text = render(name, DEFAULT)
    assert text.startswith("# Tells Grafana where ")
    assert yaml.safe_load(text)["apiVersion"] == 1


def test_grafana_is_told_the_folder_the_data_source_and_the_scrape_interval() -> None:
    [provider] = yaml.safe_load(render("provisioning-dashboards.yml.j2", DEFAULT))["providers"]
    assert (provider["type"], provider["options"]["path"]) == ("file", "/etc/herdwatch/dashboards")
    [source] = yaml.safe_load(render("provisioning-datasources.yml.j2", DEFAULT))["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://127.0.0.1:9090")
    assert source["jsonData"]["timeInterval"] == "15s"


PANEL = {
    "title": "P",
    "kind": "stat",
    "description": "d",
    "unit": "s",
    "runbook": "CacheDown",
    "size": {"width": 4, "height": 4},
    "queries": [{"expr": "x", "legend": "l"}],
}


def description(**change: Any) -> str:
    """A dashboard of one panel, with that panel's keys changed; None takes a key away."""
    panel = {key: value for key, value in {**PANEL, **change}.items() if value is not None}
    whole = {"title": "T", "uid": "u", "description": "d", "tags": [], "refresh": "10s", "since": "now-1h"}
    return yaml.safe_dump(whole | {"variables": [], "annotations": [], "rows": [{"title": "R", "panels": [panel]}]})


def test_the_small_description_itself_is_right() -> None:
    assert build(description(), "f.yml", runbook_base_url=None)


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("a: [", UsageError, "f.yml: line 1 once rendered: not valid YAML"),
        ("\0", UsageError, "f.yml: not valid YAML"),
        ("- 1", UsageError, "f.yml: a dashboard is a mapping .*, not list"),
        ("title: T", UsageError, "f.yml: uid: Field required"),
        (description(unit="seconds"), UsageError, "f.yml: row 'R', panel 'P', unit: .*'dtdurations'"),
        (description(unit=None), UsageError, "f.yml: row 'R', panel 'P', unit: Field required"),
        (description(description=None), UsageError, "panel 'P', description: Field required"),
        (description(kind="pie"), UsageError, "panel 'P', kind: .*'timeseries'"),
        (description(colour="red"), UsageError, "panel 'P', colour: Extra inputs"),
        (description(queries=[]), UsageError, "panel 'P', queries: .* at least 1"),
        (description(queries=[{"expr": "x"}]), UsageError, r"panel 'P', queries\[0\], legend: Field required"),
        (description(size={"width": 25, "height": 4}), UsageError, "panel 'P', size, width: .* 24"),
        (description(runbook="Cache Down"), UsageError, "panel 'P', runbook: "),
        (description(thresholds=[{"color": "green", "at": "soon"}]), UsageError, r"thresholds\[0\], at: 'soon' is nei"),
        (description(thresholds=[{"color": "mauve"}]), UsageError, r"thresholds\[0\], color: "),
        (description(title=None), UsageError, r"row 'R', panels\[0\], title: Field required"),
        (
            description(queries=[{"expr": "rate(x)", "legend": "l"}]),
            CheckFailed,
            "f.yml: row 'R', panel 'P': not valid PromQL: expected type matrix",
        ),
        (
            description(queries=[{"expr": 'x{cache=~"$cahce"}', "legend": "l"}]),
            CheckFailed,
            r"f.yml: row 'R', panel 'P': there is no variable \$cahce",
        ),
    ],
)
def test_a_broken_description_is_explained_with_its_file_and_panel(
    text: str, kind: type[HerdwatchError], message: str
) -> None:
    with pytest.raises(kind, match=message) as caught:
        build(text, "f.yml", runbook_base_url=None)
    assert str(caught.value).startswith("f.yml: ")
    assert "\n" not in str(caught.value)
