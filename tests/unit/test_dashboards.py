"""The three dashboards: what each promises its reader, and that its colours and links follow the configuration."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
import yaml
from tests.unit.rendered_dashboards import (
    DEFAULT,
    NAMES,
    configured,
    default_bundle,
    facts,
    file_of,
    panel,
    raw,
    rows,
    viewed,
)

from herdwatch.bundle.dashboards import document, house, linter
from herdwatch.bundle.dashboards.checks import findings
from herdwatch.bundle.dashboards.document import Panel, selectors
from herdwatch.bundle.dashboards.grafana import build
from herdwatch.bundle.location import bundle_root
from herdwatch.bundle.promql import Selector
from herdwatch.bundle.render import render_bundle
from herdwatch.bundle.templates import environment, render
from herdwatch.bundle.windows import Windows
from herdwatch.config import Config

RUNBOOKS = "http://127.0.0.1:9878/runbooks"
PANELS = [(name, one) for name in NAMES for one in viewed(name).with_queries]

TEMPLATES = environment(bundle_root() / "dashboards" / "templates")

each_dashboard = pytest.mark.parametrize("name", NAMES)
each_panel = pytest.mark.parametrize(
    ("name", "one"), [pytest.param(name, one, id=f"{name}: {one.title}") for name, one in PANELS]
)


def built(config: Config, name: str) -> str:
    """The JSON of one dashboard for a configuration, without rendering all else."""
    text = render(TEMPLATES, f"{name}.yml.j2", config=config, windows=Windows.of(config.scrape_interval))
    return build(text, name, runbook_base_url=config.links.runbook_base_url)


def found_in(name: str) -> Iterator[tuple[str, Selector]]:
    for one in viewed(name).with_queries:
        for target in one.targets:
            yield from ((one.title, selector) for selector in selectors(target.expr))


def test_there_are_these_three() -> None:
    assert [path for path in default_bundle() if path.startswith("dashboards/") and path.endswith(".json")] == [
        file_of(name) for name in NAMES
    ]


@each_dashboard
@pytest.mark.parametrize("rule", linter.RULES)
def test_a_rule_of_the_linter_finds_nothing(name: str, rule: str) -> None:
    assert list(linter.RULES[rule](viewed(name))) == []


@each_dashboard
@pytest.mark.parametrize("rule", house.RULES)
def test_a_rule_of_our_own_finds_nothing(name: str, rule: str) -> None:
    assert list(house.RULES[rule](viewed(name), facts())) == []


def test_between_dashboards_alerts_and_pages_nothing_is_lost() -> None:
    assert list(house.together({file_of(name): viewed(name) for name in NAMES}, facts())) == []


@pytest.mark.parametrize(
    ("name", "titles"),
    [
        ("cache-restart", ["Verdict", "User symptoms", "Herd", "Recovery", "Redis", "Exporter"]),
        ("fleet", ["Verdict", "Every cache, coldest first", "The worst of them over time"]),
        ("guard", ["Verdict", "What the guard saves", "By service and group", "Refresh and warm-up"]),
    ],
)
def test_rows_stand_in_the_order_in_which_they_are_read(name: str, titles: list[str]) -> None:
    assert rows(raw(name)) == titles
    tops = [item["gridPos"]["y"] for item in raw(name)["panels"]]
    assert tops == sorted(tops)


@each_dashboard
def test_the_verdict_is_told_by_six_stat_panels_in_one_line(name: str) -> None:
    first, second = [item["gridPos"]["y"] for item in raw(name)["panels"] if item["type"] == "row"][:2]
    verdict = [item for item in raw(name)["panels"] if first < item["gridPos"]["y"] < second]
    assert [item["type"] for item in verdict] == ["stat"] * 6
    assert len({item["gridPos"]["y"] for item in verdict}) == 1


@each_dashboard
def test_who_reads_it_chooses_data_source_job_cache_and_instance(name: str) -> None:
    names = [variable.name for variable in viewed(name).variables]
    own = {"guard": ["service", "group"]}.get(name, [])
    assert names == ["datasource", "job", "cache", "instance", *own]


@each_dashboard
def test_the_exporter_an_application_and_a_cache_can_each_be_chosen(name: str) -> None:
    for choice in ("job", "instance"):
        query = next(variable.query for variable in viewed(name).variables if variable.name == choice)
        assert "cache_up|singleflight_enabled|herdwatch_build_info" in query


@each_panel
def test_a_panel_says_in_words_what_it_is(name: str, one: Panel) -> None:
    assert name
    assert len(one.description) > 20
    assert one.description[-1] == "."


@each_panel
def test_a_panel_leads_to_the_runbook_and_a_series_to_that_of_its_cache(name: str, one: Panel) -> None:
    page = re.escape(RUNBOOKS) + r"/(\w+)"
    of_rows = f"{RUNBOOKS}/${{__data.fields.alertname}}?cache=${{__data.fields.cache}}"
    to_runbooks = [link.url for link in one.links if not link.url.startswith("/d/") and link.url != of_rows]
    assert (of_rows in [link.url for link in one.links]) is (one.title == "Alerts")
    first = re.fullmatch(page, to_runbooks[0])
    assert first is not None
    of_caches = all("{{cache}}" in target["legendFormat"] for target in panel(raw(name), one.title)["targets"])
    with_cache = [f"{RUNBOOKS}/{first[1]}?cache=${{__field.labels.cache}}"]
    assert to_runbooks[1:] == (with_cache if of_caches and one.kind != "table" else [])


@each_panel
def test_a_stat_or_a_table_asks_for_this_moment_and_a_graph_for_a_range(name: str, one: Panel) -> None:
    instant = one.kind in ("stat", "table")
    assert all(target["instant"] is instant for target in panel(raw(name), one.title)["targets"])


@each_dashboard
def test_every_query_keeps_to_the_chosen_caches(name: str) -> None:
    for title, found in found_in(name):
        if any(matcher.value == DEFAULT.jobs.exporter for matcher in found.matchers):
            continue
        chosen = found.matcher("cache")
        if found.metric == "cache_database:loads:rate" and chosen is None:
            continue  # a database gets the loads of all its caches, whichever are chosen
        assert chosen is not None, (title, found)
        assert (chosen.operator, chosen.value) in {("=~", "$cache"), ("=~", "$cache|")}, (title, found)


def test_alerts_are_shown_even_where_they_have_no_cache_label() -> None:
    shown = [found for name in NAMES for _, found in found_in(name) if found.metric == "ALERTS"]
    assert len(shown) == 6
    for found in shown:
        matcher = found.matcher("cache")
        assert matcher is not None
        assert matcher.value == "$cache|"


def test_a_warm_up_is_drawn_from_what_several_warmers_have_done_together() -> None:
    metrics = {found.metric for name in NAMES for _, found in found_in(name)}
    assert {"cache_service:warmup_done:sum", "cache_service:warmup_target:sum"} <= metrics
    assert not {"cache_warmup_done_keys", "cache_warmup_target_keys"} & metrics


def test_the_fleet_is_sorted_by_its_keys_the_coldest_first_and_a_name_opens_that_cache() -> None:
    table = panel(raw("fleet"), "Caches")
    done = {one["id"]: one["options"] for one in table["transformations"]}
    assert list(done) == ["merge", "organize", "sortBy"]
    assert done["sortBy"]["sort"] == [{"field": "Keys of normal", "desc": False}]
    assert done["organize"]["renameByName"]["Value #A"] == "Keys of normal"
    [opens] = [
        own["value"][0]["url"]
        for override in table["fieldConfig"]["overrides"]
        for own in override["properties"]
        if (override["matcher"]["options"], own["id"]) == ("Cache", "links")
    ]
    assert opens.startswith(f"/d/{viewed('cache-restart').uid}?")
    assert "var-cache=${__value.raw}" in opens


@each_dashboard
def test_a_restart_is_marked_at_the_start_of_the_process(name: str) -> None:
    [annotation] = raw(name)["annotations"]["list"]
    assert "cache_start_time_seconds" in annotation["target"]["expr"]
    assert annotation["target"]["refId"] == "Anno"
    assert annotation["useValueForTime"] is True
    assert "expr" not in annotation
    assert "placement" not in annotation


@each_dashboard
def test_nothing_hides_in_the_menu(name: str) -> None:
    found = raw(name)
    fields = [item["fieldConfig"]["defaults"].get("links", []) for item in found["panels"] if "fieldConfig" in item]
    links = [link for item in found["panels"] for link in item.get("links", [])] + sum(fields, found["links"])
    assert len(links) > 10
    assert all("placement" not in link for link in links)


@each_dashboard
def test_two_builds_are_equal_byte_for_byte(name: str) -> None:
    assert built(DEFAULT, name) == built(DEFAULT, name) == default_bundle()[file_of(name)]


@each_dashboard
def test_the_json_is_the_classic_kind_that_file_provisioning_takes(name: str) -> None:
    found = raw(name)
    assert found["uid"] == f"herdwatch-{name}"
    assert "version" not in found
    text = json.dumps(found, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    assert text == default_bundle()[file_of(name)]


@each_dashboard
def test_without_a_runbook_url_no_panel_has_a_link_to_one_and_nothing_is_amiss(name: str) -> None:
    text = built(configured(""), name)
    assert "Runbook" not in text
    unlinked = house.Facts(recorded=facts().recorded, alerts=(), pages={})
    assert list(findings(document.load(text, name), unlinked)) == []


def test_alerts_lead_to_a_dashboard_that_exists_with_a_choice_that_it_has() -> None:
    config = configured("links: {dashboard_base_url: 'https://grafana/d', runbook_base_url: 'https://wiki'}")
    bundle = {str(path): text for path, text in render_bundle(config).items()}
    urls = set(re.findall(r'dashboard_url: "([^"]*)"', bundle["alerts/herdwatch.rules.yml"]))
    assert urls == {"https://grafana/d/herdwatch-cache-restart?var-cache={{ $labels.cache | urlquery }}"}


def steps(config: Config, name: str, title: str) -> list[tuple[float | None, str]]:
    defaults = panel(json.loads(built(config, name)), title)["fieldConfig"]["defaults"]
    return [(step["value"], step["color"]) for step in defaults["thresholds"]["steps"]]


def test_colours_change_where_the_alerts_do() -> None:
    config = configured("thresholds: {CacheHitRateLow: 0.7, CacheRestarted: 0.3}")
    assert steps(config, "cache-restart", "Hit ratio now") == [(None, "red"), (0.7, "green")]
    assert steps(config, "cache-restart", "Keys against normal") == [(None, "red"), (0.3, "green")]


def test_what_must_not_rise_turns_where_the_alerts_do() -> None:
    config = configured("thresholds: {CacheRefreshFailing: 0.2, HighCoalescingRate: 50}")
    assert steps(config, "guard", "Refreshes that fail") == [(None, "green"), (0.2, "red")]
    assert steps(config, "guard", "Coalesced") == [(None, "green"), (50, "orange")]


TWO = "- {name: a, url: 'redis://h', database: main, overrides: {HighCoalescingRate: 5}}\n- {name: b, url: 'redis://i'}"
MAIN = "databases: {main: {capacity: 2500, peak: 50000}}"


def test_between_the_laxest_and_the_strictest_cache_the_colour_is_yellow() -> None:
    config = configured(MAIN, TWO)
    assert steps(config, "cache-restart", "Hit ratio now") == [(None, "red"), (0.8, "yellow"), (0.95, "green")]
    assert steps(config, "guard", "Coalesced") == [(None, "green"), (5, "yellow"), (1000, "orange")]


@each_dashboard
def test_a_bundle_of_several_caches_is_as_sound(name: str) -> None:
    unlinked = house.Facts(recorded=facts().recorded, alerts=(), pages={})
    assert list(findings(document.load(built(configured(MAIN, TWO), name), name), unlinked)) == []


def test_a_fresh_start_is_orange_for_the_restart_window() -> None:
    assert steps(DEFAULT, "cache-restart", "Time since the start") == [(None, "orange"), (300, "green")]


def test_a_number_that_yaml_takes_for_text_is_still_a_threshold() -> None:
    config = configured("thresholds: {CacheHitRateLow: 0.00001}")
    assert steps(config, "cache-restart", "Hit ratio now")[1] == (0.00001, "green")


def provisioning(name: str) -> str:
    return render(TEMPLATES, name, config=DEFAULT, windows=Windows.of(DEFAULT.scrape_interval))


@pytest.mark.parametrize("name", ["provisioning-dashboards.yml.j2", "provisioning-datasources.yml.j2"])
def test_provisioning_is_the_first_version_of_grafanas_format(name: str) -> None:
    text = provisioning(name)
    assert text.startswith("# Tells Grafana where ")
    assert yaml.safe_load(text)["apiVersion"] == 1


def test_grafana_is_told_the_folder_the_data_source_and_the_scrape_interval() -> None:
    [provider] = yaml.safe_load(provisioning("provisioning-dashboards.yml.j2"))["providers"]
    assert (provider["type"], provider["options"]["path"]) == ("file", "/etc/herdwatch/dashboards")
    [source] = yaml.safe_load(provisioning("provisioning-datasources.yml.j2"))["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://127.0.0.1:9090")
    assert source["jsonData"]["timeInterval"] == "15s"
