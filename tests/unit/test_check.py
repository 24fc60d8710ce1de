"""check_bundle: a rendered bundle is right; each fault sown into it is told with its place and the right sentence."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from herdwatch.bundle.check import check_bundle, expression_problems
from herdwatch.bundle.location import bundle_root
from herdwatch.bundle.render import render_bundle, write
from herdwatch.config import load
from herdwatch.errors import UsageError

RULES = "alerts/herdwatch.rules.yml"
DASHBOARD = "dashboards/cache-restart.json"
PAGE = "runbooks/CacheRestarted.md"
KEYS_TOTAL = "- record: cache_keys_total"
DOWN = "- alert: CacheDown"

ROWS = """
tests:
  - alert_rule_test:
      - {alertname: CacheDown, exp_alerts: []}
      - {alertname: CacheTargetDown, exp_alerts: [{}]}
"""


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default bundle, rendered once."""
    root = tmp_path_factory.mktemp("rendered")
    write(render_bundle(load(bundle_root() / "herdwatch.yaml")), root)
    return root


@pytest.fixture
def bundle(rendered: Path, tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    return Path(shutil.copytree(rendered, tmp_path / "bundle"))


@pytest.fixture
def replace(bundle: Path) -> Callable[[str, str, str], None]:
    """Replace the one place where a file has a text."""

    def once(name: str, old: str, new: str) -> None:
        text = (bundle / name).read_text()
        assert old in text
        (bundle / name).write_text(text.replace(old, new, 1))

    return once


def line_of(bundle: Path, name: str, text: str) -> int:
    lines = (bundle / name).read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


def test_a_rendered_bundle_is_right_and_its_summary_counts_what_was_looked_at(bundle: Path) -> None:
    outcome = check_bundle(bundle)
    assert outcome.problems == []
    counts = re.findall(r"(\d+) (alerts|recording rules|dashboard queries|runbook pages)", outcome.summary)
    assert [what for _, what in counts] == ["alerts", "recording rules", "dashboard queries", "runbook pages"]
    assert all(int(count) > 0 for count, _ in counts)


def test_a_severity_that_is_routed_nowhere_is_told(bundle: Path, replace: Callable[[str, str, str], None]) -> None:
    replace(RULES, "severity: critical", "severity: kritisch")
    (problem,) = [one for one in check_bundle(bundle).problems if "severity" in one]
    assert problem.startswith(f"{RULES}:")
    assert "is 'kritisch' and is routed nowhere; it is one of critical, warning, info, none" in problem


def test_the_committed_bundle_is_right_with_its_rule_tests() -> None:
    outcome = check_bundle(bundle_root())
    assert outcome.problems == []
    files = len(list((bundle_root() / "alerts" / "tests").glob("*.test.yml")))
    assert outcome.summary.endswith(f", {files} rule test files")


def test_a_relative_path_is_as_good(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bundle.parent)
    assert check_bundle(Path("bundle")).problems == []


def test_without_a_rendered_bundle_the_sentence_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        check_bundle(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: holds no rendered bundle (no alerts/herdwatch.rules.yml); run: herdwatch render"
    )


IN_A_RULE = {
    "an unknown metric": (
        "max by (cache, instance, team) (cache_up) == 0",
        "max by (cache, instance, team) (cache_upp) == 0",
        DOWN,
        "CacheDown: nobody exports or records cache_upp",
    ),
    "an unknown metric in one of several places": (
        'max(up{job="herdwatch-exporter"})',
        'max(herdwatch:uptime{job="herdwatch-exporter"})',
        "- alert: CacheTargetDown",
        "CacheTargetDown: nobody exports or records herdwatch:uptime",
    ),
    "the rate of a gauge": (
        "sum without (db) (cache_keys)",
        "sum without (db) (rate(cache_keys[1m]))",
        KEYS_TOTAL,
        "cache_keys_total: rate() needs a counter and cache_keys is none",
    ),
    "the increase of what a rule records": (
        "sum without (db) (cache_keys)",
        "increase(cache:requests:rate[5m])",
        KEYS_TOTAL,
        "cache_keys_total: increase() needs a counter and cache:requests:rate is none",
    ),
    "a counter without rate": (
        "sum without (db) (cache_keys)",
        "sum without (db) (cache_hits_total)",
        KEYS_TOTAL,
        "cache_keys_total: cache_hits_total is a counter; take its rate() or increase()",
    ),
    "a gauge's function on a counter": (
        "sum without (db) (cache_keys)",
        "max_over_time(cache_hits_total[5m])",
        KEYS_TOTAL,
        "cache_keys_total: cache_hits_total is a counter; take its rate() or increase()",
    ),
    "a series without a name": (
        "sum without (db) (cache_keys)",
        'sum without (db) ({cache="cache"})',
        KEYS_TOTAL,
        "cache_keys_total: nobody exports or records a series without a name",
    ),
    "an expression that does not parse": (
        "sum without (db) (cache_keys)",
        "sum without (db) (cache_keys",
        KEYS_TOTAL,
        "cache_keys_total: not valid PromQL: unclosed left parenthesis, in: sum without (db) (cache_keys",
    ),
    "a link to another page": (
        "runbooks/CacheDown?",
        "runbooks/CacheDwn?",
        DOWN,
        "runbook_url of CacheDown leads to http://127.0.0.1:9878/runbooks/CacheDwn?"
        "cache={{ $labels.cache | urlquery }}",
    ),
}


@pytest.mark.parametrize(("old", "new", "at", "sentence"), IN_A_RULE.values(), ids=IN_A_RULE)
def test_a_fault_in_a_rule_is_told_with_the_line_at_which_the_rule_begins(
    bundle: Path, replace: Callable[[str, str, str], None], old: str, new: str, at: str, sentence: str
) -> None:
    replace(RULES, old, new)
    assert f"{RULES}:{line_of(bundle, RULES, at)}: {sentence}" in check_bundle(bundle).problems


def test_one_fault_in_a_rule_that_promtool_accepts_is_one_problem(
    bundle: Path, replace: Callable[[str, str, str], None]
) -> None:
    replace(RULES, "max by (cache, instance, team) (cache_up)", "max by (cache, instance, team) (cache_upp)")
    assert len(check_bundle(bundle).problems) == 1


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("groups:", "groups: [", f"{RULES}:4: not valid YAML: "),
        ("{{ $labels.cache }}", "{{ $lables.cache }}", 'undefined variable "$lables"'),
        (
            f"{KEYS_TOTAL}\n",
            f"{KEYS_TOTAL}\n        expr: up\n      {KEYS_TOTAL}\n        expr: up\n      {KEYS_TOTAL}\n",
            "duplicate rule",
        ),
    ],
    ids=["YAML", "template", "duplicate"],
)
def test_a_rule_file_that_promtool_refuses_is_told(
    bundle: Path, replace: Callable[[str, str, str], None], old: str, new: str, sentence: str
) -> None:
    replace(RULES, old, new)
    assert any(sentence in problem for problem in check_bundle(bundle).problems)


def test_a_rule_file_without_rules_is_told(bundle: Path) -> None:
    (bundle / RULES).write_text("groups: []\n")
    assert any(f"{RULES}: holds no rule" in problem for problem in check_bundle(bundle).problems)


@pytest.mark.parametrize(
    ("name", "old", "new", "telling"),
    [
        ("prometheus.yml", "scrape_interval: 15s", "scrape_intervall: 15s", "line 3: field scrape_intervall not found"),
        ("prometheus.yml", "- herdwatch.rules.yml", "- nosuch.rules.yml", "nosuch.rules.yml"),
        ("alertmanager.yml", "receiver: critical", "receiver: nosuch", 'undefined receiver "nosuch" used in route'),
        ("alertmanager.yml", "receiver: critical", "receiver: [", "yaml: line "),
    ],
)
def test_a_configuration_that_its_own_tool_refuses_is_told(
    bundle: Path, replace: Callable[[str, str, str], None], name: str, old: str, new: str, telling: str
) -> None:
    replace(f"alerts/{name}", old, new)
    told = "\n".join(check_bundle(bundle).problems)
    assert f"alerts/{name if 'nosuch.rules' not in new else 'nosuch.rules.yml'}" in told
    assert telling in told


ROUTING = {
    "a severity without its route": (
        'matchers: [severity="critical"]',
        'matchers: [severity="crit"]',
        "no route takes the severity critical: CacheRestarted, ",
    ),
    "a watchdog without its route": (
        'matchers: [alertname="HerdwatchWatchdog"]',
        'matchers: [alertname="Watchdog"]',
        "no route takes the severity none: HerdwatchWatchdog would reach nobody",
    ),
    "an inhibition by an alert that there is not": (
        'source_matchers: [alertname="CacheStampede"',
        'source_matchers: [alertname="CacheStampedo"',
        "inhibition 6 names CacheStampedo, and no alert of the rules is called so",
    ),
    "an inhibition of an alert that there is not": (
        'alertname=~"CacheHitRateLow|HighCoalescingRate"',
        'alertname=~"CacheHitRateLow|HighCoalescing"',
        "inhibition 6 names HighCoalescing, and",
    ),
    "an inhibition across caches": (
        'HighCoalescingRate"]\n    equal: [cache, team]\n  - source_matchers: [alertname="CacheEvicting"',
        'HighCoalescingRate"]\n    equal: [team]\n  - source_matchers: [alertname="CacheEvicting"',
        "inhibition 6 has no cache under equal: CacheStampede of one would hide what is said of all",
    ),
}


@pytest.mark.parametrize("fault", ROUTING)
def test_what_amtool_accepts_and_nobody_would_be_told_of_is_told(
    bundle: Path, replace: Callable[[str, str, str], None], fault: str
) -> None:
    old, new, telling = ROUTING[fault]
    replace("alerts/alertmanager.yml", old, new)
    (problem,) = check_bundle(bundle).problems
    assert problem.startswith(f"alerts/alertmanager.yml: {telling}")


def test_receivers_that_deliver_nothing_are_said(bundle: Path, replace: Callable[[str, str, str], None]) -> None:
    told = "(nobody is told by the receivers critical, warning, info, watchdog: herdwatch.yaml has none)"
    assert told in check_bundle(bundle).summary
    for name in ("critical", "warning", "info", "watchdog"):
        replace(
            "alerts/alertmanager.yml",
            f"\n  - name: {name}",
            f"\n  - name: {name}\n    webhook_configs: [{{url: 'http://h'}}]",
        )
    assert "nobody is told" not in check_bundle(bundle).summary


@pytest.mark.parametrize("name", ["prometheus.yml", "alertmanager.yml"])
def test_a_configuration_that_is_missing_is_told(bundle: Path, name: str) -> None:
    (bundle / "alerts" / name).unlink()
    assert any(f"alerts/{name}' does not exist" in problem for problem in check_bundle(bundle).problems)


def test_a_deleted_runbook_page_is_told_at_its_alert_and_wherever_a_page_links_to_it(bundle: Path) -> None:
    (bundle / "runbooks/CacheDown.md").unlink()
    problems = check_bundle(bundle).problems
    assert problems[0] == f"{RULES}:{line_of(bundle, RULES, DOWN)}: CacheDown has no page in runbooks/"
    assert len(problems) > 1
    assert all(
        re.match(r"runbooks/\w+\.md(:\d+)?: the link CacheDown\.md\S* leads to no page$", p) for p in problems[1:]
    )


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("(CacheKeysLost.md)", "(CacheKeysLots.md)", "the link CacheKeysLots.md leads to no page"),
        ("(#protect-the-database)", "(#protect-the-databse)", "the link #protect-the-databse leads to no heading"),
        ("(CacheKeysLost.md)", "(CacheKeysLost.md#nosuch)", "the link CacheKeysLost.md#nosuch leads to no heading"),
    ],
)
def test_a_dead_link_is_told_with_its_page(
    bundle: Path, replace: Callable[[str, str, str], None], old: str, new: str, sentence: str
) -> None:
    replace(PAGE, old, new)
    [problem] = check_bundle(bundle).problems
    assert re.fullmatch(rf"{re.escape(PAGE)}(:\d+)?: {re.escape(sentence)}", problem)


def test_links_that_leave_the_runbooks_are_not_followed(bundle: Path, replace: Callable[[str, str, str], None]) -> None:
    replace(PAGE, "(CacheKeysLost.md)", "(https://example.org/nosuch#nosuch)")
    assert check_bundle(bundle).problems == []


def test_a_dashboard_that_is_no_json_is_told_with_its_line(
    bundle: Path, replace: Callable[[str, str, str], None]
) -> None:
    replace(DASHBOARD, '"panels": [', '"panels": [,')
    line = line_of(bundle, DASHBOARD, '"panels": [,')
    assert any(p.startswith(f"{DASHBOARD}:{line}: not valid JSON: ") for p in check_bundle(bundle).problems)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("(cache_up", "(cache_upp", "nobody exports or records cache_upp"),
        ("rate(cache_evicted_keys_total", "rate(cache_keys", "rate() needs a counter and cache_keys is none"),
        ("(cache_up", "((cache_up", "not valid PromQL: "),
    ],
)
def test_a_wrong_query_of_a_dashboard_is_told_with_its_panel(
    bundle: Path, replace: Callable[[str, str, str], None], old: str, new: str, sentence: str
) -> None:
    replace(DASHBOARD, old, new)
    [problem] = check_bundle(bundle).problems
    assert re.match(rf"{re.escape(DASHBOARD)}(:\d+)?: panel '[^']+': {re.escape(sentence)}", problem)


def test_a_bundle_without_a_dashboard_is_told(bundle: Path) -> None:
    shutil.rmtree(bundle / "dashboards")
    assert check_bundle(bundle).problems == ["dashboards/: no dashboard with a query; run: herdwatch render"]


def test_an_alert_without_a_row_in_the_rule_tests_is_told_with_its_line(bundle: Path) -> None:
    (bundle / "alerts/tests").mkdir()
    (bundle / "alerts/tests/x.test.yml").write_text(ROWS)
    problems = check_bundle(bundle).problems
    down, target = line_of(bundle, RULES, DOWN), line_of(bundle, RULES, "- alert: CacheTargetDown")
    assert f"{RULES}:{down}: CacheDown has no 'fires' row in alerts/tests/" in problems
    assert f"{RULES}:{target}: CacheTargetDown has no 'not yet' row in alerts/tests/" in problems
    assert not any("CacheDown has no 'not yet'" in problem for problem in problems)
    assert sum("CacheRestarted has no" in problem for problem in problems) == 2


def test_the_watchdog_needs_no_row_in_which_it_does_not_fire(bundle: Path) -> None:
    (bundle / "alerts/tests").mkdir()
    (bundle / "alerts/tests/x.test.yml").write_text(ROWS)
    told = [problem for problem in check_bundle(bundle).problems if "HerdwatchWatchdog" in problem]
    assert [problem.partition(": ")[2] for problem in told] == ["HerdwatchWatchdog has no 'fires' row in alerts/tests/"]


@pytest.mark.parametrize(
    ("expr", "problems"),
    [
        ("sum(rate(cache_hits_total[5m]))", []),
        ("changes(cache_start_time_seconds[15m]) >= 3", []),
        ("resets(cache_hits_total[1h])", []),
        ("absent(cache_hits_total)", []),
        ("cache_info", []),
        ('ALERTS{alertname="x"} or up', []),
        ("mine:own", []),
        ("irate(cache_up[1m])", ["here: irate() needs a counter and cache_up is none"]),
        (
            "cache_hits_total / cache_requests_total",
            [
                "here: cache_hits_total is a counter; take its rate() or increase()",
                "here: cache_requests_total is a counter; take its rate() or increase()",
            ],
        ),
        ("cache", ["here: nobody exports or records cache"]),
    ],
)
def test_each_selector_of_an_expression_is_held_against_what_is_exported(expr: str, problems: list[str]) -> None:
    assert list(expression_problems(expr, "here", {"mine:own"})) == problems
