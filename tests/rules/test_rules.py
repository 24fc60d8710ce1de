"""What ties the rule tests in alerts/tests/, which pytest runs itself, to the alerts and to the metrics."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from herdwatch.bundle import rules
from herdwatch.bundle.location import bundle_root
from herdwatch.bundle.promql import selectors
from herdwatch.metrics import BY_SAMPLE

ALERTS = bundle_root() / "alerts"
RULES = rules.load((ALERTS / "herdwatch.rules.yml").read_text(), "herdwatch.rules.yml")
BY_ALERT = {rule.name: rule for rule in RULES if rule.is_alert}
ALWAYS_FIRING = {name for name, rule in BY_ALERT.items() if rule.expr == "vector(1)"}
FILES = {path.name.removesuffix(".test.yml"): path for path in sorted((ALERTS / "tests").glob("*.test.yml"))}
READ = {name: yaml.safe_load(path.read_text()) for name, path in FILES.items()}
TESTS = {f"{name}: {test['name']}": test for name, content in READ.items() for test in content["tests"]}
GIVEN = {
    "up": {"instance", "job"},
    "herdwatch:cache": {"cache", "team"},
    "herdwatch:capacity": {"cache", "database"},
    "herdwatch:threshold": {"alert", "cache"},
}
"""What no exporter gives a test but Prometheus, or the rules of a configuration that says more, with its labels."""

UNLABELLED = 'cache_up{job="herdwatch",instance="q:6379"}'
"""A target to which the scrape configuration gives no label `cache`; an alert tells of such ones."""

KNOWN = {*BY_SAMPLE, *(rule.name for rule in RULES), *GIVEN, "ALERTS"}


def test_pytest_collects_every_rule_test_file_and_lets_only_the_watchdog_fire_unmentioned(
    pytestconfig: pytest.Config,
) -> None:
    patterns = pytestconfig.getini("promtool_paths")
    found = {path for pattern in patterns for path in pytestconfig.rootpath.glob(pattern)}
    assert found == set(FILES.values())
    assert set(pytestconfig.getini("promtool_always_firing")) == ALWAYS_FIRING


@pytest.mark.parametrize("alert", BY_ALERT)
def test_an_alert_has_a_file_of_its_name(alert: str) -> None:
    assert alert in FILES


@pytest.mark.parametrize("alert", sorted(BY_ALERT.keys() - ALWAYS_FIRING))
def test_an_alert_has_a_row_in_which_it_does_not_fire_yet_and_a_later_one_in_which_it_does(alert: str) -> None:
    timelines = [[bool(row["exp_alerts"]) for row in _rows(test, alert)] for test in TESTS.values()]
    assert any(False in fires[: fires.index(True)] for fires in timelines if True in fires)


@pytest.mark.parametrize("alert", sorted(BY_ALERT.keys() - ALWAYS_FIRING))
def test_an_alert_has_a_row_in_which_it_has_resolved(alert: str) -> None:
    assert any(
        False in fires[fires.index(True) :]
        for test in TESTS.values()
        if True in (fires := [bool(row["exp_alerts"]) for row in _rows(test, alert)])
    )


@pytest.mark.parametrize("alert", BY_ALERT)
def test_an_alert_has_a_row_in_which_it_fires_with_all_its_labels_and_annotations(alert: str) -> None:
    firing = [found for test in TESTS.values() for row in _rows(test, alert) for found in row["exp_alerts"]]
    for rule in (rule for rule in RULES if rule.name == alert):
        its_own = [found for found in firing if rule.labels.items() <= found["exp_labels"].items()]
        assert its_own
        assert all(found["exp_annotations"].keys() == rule.annotations.keys() for found in its_own)
        firing = [found for found in firing if found not in its_own]
    assert not firing


@pytest.mark.parametrize("name", READ)
def test_groups_run_in_the_order_of_the_rule_file(name: str) -> None:
    assert READ[name]["group_eval_order"] == list(dict.fromkeys(rule.group for rule in RULES))


@pytest.mark.parametrize("name", TESTS)
def test_the_series_of_a_test_are_exported_with_these_labels(name: str) -> None:
    for given in TESTS[name].get("input_series", []):
        [selector] = selectors(given["series"])
        labels = {matcher.label for matcher in selector.matchers}
        if selector.metric in GIVEN:
            assert GIVEN[selector.metric] <= labels
        elif given["series"] != UNLABELLED:
            assert selector.metric in BY_SAMPLE
            assert {*BY_SAMPLE[selector.metric].labels, "cache", "instance", "job"} <= labels


@pytest.mark.parametrize("name", TESTS)
def test_the_queries_of_a_test_ask_for_series_and_alerts_that_exist(name: str) -> None:
    for query in TESTS[name].get("promql_expr_test", []):
        for selector in selectors(query["expr"]):
            alert = selector.matcher("alertname")
            assert selector.metric in KNOWN
            assert alert is None or alert.value in BY_ALERT


@pytest.mark.parametrize("name", TESTS)
def test_no_sample_lies_on_the_grid_of_the_evaluations(name: str) -> None:
    """Closed range windows (Prometheus 2) and left-open ones (3) differ for a sample on the edge of a window."""
    for given in TESTS[name].get("input_series", []):
        assert given["values"].startswith("_")
        assert re.fullmatch(r"\d+s1ms", TESTS[name]["interval"])


def test_no_two_tests_have_one_name() -> None:
    assert len(TESTS) == sum(len(content["tests"]) for content in READ.values())


def _rows(test: Mapping[str, Any], alert: str) -> list[Mapping[str, Any]]:
    return [row for row in test.get("alert_rule_test", []) if row["alertname"] == alert]
