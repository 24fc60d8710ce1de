"""The rules of other configurations: promtool accepts each, and what it says changes when an alert fires."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from herdwatch.bundle import rules
from herdwatch.bundle.render import render_bundle, write
from herdwatch.config import parse
from herdwatch.promtool import Promtool

CONFIGURATIONS = {
    "one cache": 'caches: [{name: users, url: "redis://users.example:6380"}]',
    "capacities": """
caches:
  - {name: users, url: "redis://users.example:6380", database: main}
  - {name: carts, url: "redis://carts.example", database: main}
databases: {main: {capacity: 2500, peak: 50000}}
""",
    "overrides": """
caches:
  - name: users
    url: redis://users.example
    overrides: {CacheHitRateLow: 0.9, CacheRestarted: 0.3, CacheKeysLost: 0.25, HighCoalescingRate: 100000}
thresholds: {CacheHitRateLow: 0.6, traffic_floor: 25}
""",
    "two teams and all links": """
caches:
  - {name: users, url: "rediss://users.example:6380", team: 'a "b" {{ c }} # d'}
  - {name: carts, url: "unix:///run/redis.sock", team: web}
links: {runbook_base_url: "https://example.org/runbooks", dashboard_base_url: "https://example.org/d"}
""",
    "applications and other jobs": """
caches: [{name: users, url: "redis://users.example"}]
jobs: {cache: caches, exporter: exp, application: apps/all}
prometheus: {alertmanagers: [], applications: ["app.example:8000", "[::1]:8001"]}
receivers: {critical: {webhook_url: "http://127.0.0.1:9099/page"}}
links: {runbook_base_url: "https://example.org/runbooks"}
""",
}
INTERVALS = (5, 15, 30, 60)
EXTREMES = (5, 60)
"""Everything is derived from the interval in the same way; plays at all four are for `make score`."""


@pytest.fixture(scope="module")
def promtool() -> Promtool:
    return Promtool()


def rendered(folder: Path, configuration: str) -> Path:
    """The folder with the alerts of a configuration."""
    write(render_bundle(parse(configuration, "herdwatch.yaml")), folder)
    return folder / "alerts"


@pytest.mark.parametrize("interval", INTERVALS)
@pytest.mark.parametrize("configuration", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_promtool_accepts_the_rules_and_the_scrape_configuration(
    promtool: Promtool, tmp_path: Path, configuration: str, interval: int
) -> None:
    alerts = rendered(tmp_path, f"scrape_interval: {interval}s\n{configuration}")
    declared = len(rules.load((alerts / "herdwatch.rules.yml").read_text(), "herdwatch.rules.yml"))
    of_the_rules = promtool.check_rules(alerts / "herdwatch.rules.yml")
    assert (of_the_rules.checked, of_the_rules.problems) == (declared, ())
    assert promtool.check_config(alerts / "prometheus.yml") == of_the_rules


TWO_CACHES = """
scrape_interval: {interval}s
caches:
  - {{name: users, url: "redis://users:6379", team: web, {users}}}
  - {{name: carts, url: "redis://carts:6379", team: web}}
databases: {{main: {{capacity: 2500, peak: 50000}}}}
"""
"""The second one has the defaults throughout."""

WARM = 45
"""Scrapes before anything happens."""

BOTH = {"users", "carts"}


@dataclass
class Incident:
    """The same series for two caches, and the question for which of them an alert fires."""

    promtool: Promtool
    folder: Path
    interval: int = 15
    warm: int = WARM
    series: list[dict[str, str]] = field(default_factory=list)

    def gauge(self, name: str, before: int, after: int, **labels: str) -> None:
        self._add(name, f"_ {before}x{self.warm - 1} {after}x99", labels)

    def counter(self, name: str, before: int, after: int, *, caches: Iterable[str] = BOTH, **labels: str) -> None:
        """So much more at every scrape, also at the first that shows the change."""
        base = 1_000_000
        values = f"_ {base}+{before}x{self.warm - 1} {base + before * (self.warm - 1) + after}+{after}x99"
        self._add(name, values, labels, caches)

    def lookups(self, before: tuple[int, int], after: tuple[int, int]) -> None:
        """Hits and misses a second."""
        for name, first, then in zip(("hits", "misses"), before, after, strict=True):
            self.counter(f"cache_{name}_total", first * self.interval, then * self.interval)
        self.counter("cache_requests_total", sum(before) * self.interval, sum(after) * self.interval)

    def keys(self, before: int, after: int, *, restarted: bool) -> None:
        self.gauge("cache_primary", 1, 1)
        self.gauge("cache_keys", before, after, db="0")
        self.gauge("cache_start_time_seconds", 0, self.warm * self.interval if restarted else 0)

    def told(self, configuration: str, *timeline: tuple[str, int, set[str]]) -> None:
        """Assert for which caches an alert fires, so many seconds after the first scrape that shows the change."""
        alerts = rendered(self.folder, configuration)
        groups = [rule.group for rule in rules.load((alerts / "herdwatch.rules.yml").read_text(), "rules")]
        content = {
            "rule_files": ["herdwatch.rules.yml"],
            "evaluation_interval": "5s",
            "group_eval_order": list(dict.fromkeys(groups)),
            "tests": [
                {
                    # A millisecond more, so that no sample lies on the grid of the evaluations.
                    "interval": f"{self.interval}s1ms",
                    "input_series": self.series,
                    "promql_expr_test": [self._firing(*row) for row in timeline],
                }
            ],
        }
        path = alerts / "incident.test.yml"
        path.write_text(yaml.safe_dump(content, width=1000))
        result = self.promtool.test_rules(path)
        assert result.ok, "\n".join(result.problems)

    def _firing(self, alert: str, after: int, caches: set[str]) -> dict[str, object]:
        seen = (self.warm + 1) * self.interval + 5  # the evaluation that is the first to see the change
        return {
            "expr": f'count by (cache) (ALERTS{{alertname="{alert}",alertstate="firing"}})',
            "eval_time": f"{seen + after}s",
            "exp_samples": [{"labels": f'{{cache="{cache}"}}', "value": 1} for cache in sorted(caches)],
        }

    def _add(self, name: str, values: str, labels: dict[str, str], caches: Iterable[str] = BOTH) -> None:
        more = "".join(f',{label}="{value}"' for label, value in labels.items())
        for cache in sorted(caches):
            target = f'job="herdwatch",cache="{cache}",instance="{cache}:6379",team="web"'
            self.series.append({"series": f"{name}{{{target}{more}}}", "values": values})


@pytest.fixture
def incident(promtool: Promtool, tmp_path: Path) -> Incident:
    return Incident(promtool, tmp_path)


@pytest.fixture
def brief(promtool: Promtool, tmp_path: Path) -> Incident:
    """One with less of a past, for alerts that ask for no more."""
    return Incident(promtool, tmp_path, warm=12)


@pytest.mark.parametrize(
    ("override", "left", "caches"),
    [(0.3, 40, {"carts"}), (0.3, 20, BOTH), (0.7, 60, {"users"}), (0.7, 80, set())],
)
def test_an_override_of_cache_restarted_changes_when_it_is_told(
    brief: Incident, override: float, left: int, caches: set[str]
) -> None:
    brief.keys(100, left, restarted=True)
    brief.lookups((950, 50), (500, 500))
    users = f"overrides: {{CacheRestarted: {override}}}"
    brief.told(
        TWO_CACHES.format(interval=15, users=users), ("CacheRestarted", -5, set()), ("CacheRestarted", 0, caches)
    )


@pytest.mark.parametrize(("override", "left", "caches"), [(0.3, 40, {"carts"}), (0.3, 20, BOTH), (0.7, 60, {"users"})])
def test_an_override_of_cache_keys_lost_changes_when_it_is_told(
    brief: Incident, override: float, left: int, caches: set[str]
) -> None:
    brief.keys(100, left, restarted=False)
    brief.lookups((950, 50), (500, 500))
    users = f"overrides: {{CacheKeysLost: {override}}}"
    brief.told(TWO_CACHES.format(interval=15, users=users), ("CacheKeysLost", 60, caches))


@pytest.mark.parametrize(
    ("override", "rate", "caches"), [(2000, 1500, {"carts"}), (2000, 2500, BOTH), (500, 800, {"users"})]
)
def test_an_override_of_high_coalescing_rate_changes_when_it_is_told(
    brief: Incident, override: int, rate: int, caches: set[str]
) -> None:
    brief.counter("singleflight_coalesced_total", 0, rate * 15, service="s", group="g", scope="process")
    users = f"overrides: {{HighCoalescingRate: {override}}}"
    brief.told(TWO_CACHES.format(interval=15, users=users), ("HighCoalescingRate", 300, caches))


@pytest.mark.parametrize(
    ("override", "hits", "caches"), [(0.95, 830, {"users"}), (0.8, 780, {"carts"}), (0.8, 700, BOTH)]
)
def test_an_override_of_cache_evicting_changes_when_it_is_told(
    promtool: Promtool, tmp_path: Path, override: float, hits: int, caches: set[str]
) -> None:
    incident = Incident(promtool, tmp_path, warm=26)
    incident.lookups((900, 100), (hits, 1000 - hits))
    incident.counter("cache_evicted_keys_total", 0, 40 * 15)
    users = f"overrides: {{CacheEvicting: {override}}}"
    configuration = TWO_CACHES.format(interval=15, users=users)
    incident.told(configuration, ("CacheEvicting", 120, set()), ("CacheEvicting", 270, caches))


@pytest.mark.parametrize(
    ("override", "failed", "caches"), [(0.05, 8, {"users"}), (0.3, 16, {"carts"}), (0.3, 40, BOTH)]
)
def test_an_override_of_cache_refresh_failing_changes_when_it_is_told(
    promtool: Promtool, tmp_path: Path, override: float, failed: int, caches: set[str]
) -> None:
    incident = Incident(promtool, tmp_path, warm=10)
    for result, before, after in (("ok", 100, 100 - failed), ("error", 0, failed)):
        incident.counter("cache_refreshes_total", before, after, service="s", group="g", result=result)
    users = f"overrides: {{CacheRefreshFailing: {override}}}"
    configuration = TWO_CACHES.format(interval=15, users=users)
    incident.told(configuration, ("CacheRefreshFailing", 120, set()), ("CacheRefreshFailing", 270, caches))


ONE_DATABASE = """
scrape_interval: {interval}s
caches:
  - {{name: users, url: "redis://users:6379", team: web, database: main}}
  - {{name: carts, url: "redis://carts:6379", team: web, database: main}}
databases: {{main: {{capacity: 2500, peak: 50000}}}}
"""


@pytest.mark.parametrize("interval", INTERVALS)
@pytest.mark.parametrize(
    ("users", "carts", "caches"),
    [
        pytest.param(1300, 1300, BOTH, id="2600 loads a second are too much, and each sends more than half of 2500"),
        pytest.param(2000, 600, {"users"}, id="one of them sends more than half"),
        pytest.param(1800, 600, set[str](), id="2400 are not too much"),
    ],
)
def test_at_every_scrape_interval_a_stampede_is_told_of_the_caches_that_make_it(
    promtool: Promtool, tmp_path: Path, interval: int, users: int, carts: int, caches: set[str]
) -> None:
    incident = Incident(promtool, tmp_path, interval, warm=6)
    for cache, misses in (("users", users), ("carts", carts)):
        incident.counter("cache_misses_total", interval, misses * interval, caches={cache})
    # Two scrapes until the rate is known to be that high, and two of patience.
    incident.told(
        ONE_DATABASE.format(interval=interval),
        ("CacheStampede", interval, set()),
        ("CacheStampede", 6 * interval, caches),
    )


@pytest.mark.parametrize("alone", [2400, 2600])
def test_a_stampede_is_told_of_a_cache_with_a_database_and_never_of_one_without(brief: Incident, alone: int) -> None:
    brief.counter("cache_misses_total", 15, alone * 15)
    configuration = TWO_CACHES.format(interval=15, users="database: main")
    brief.told(configuration, ("CacheStampede", 120, {"users"} if alone > 2500 else set()))


@pytest.mark.parametrize(
    ("users", "lookups", "caches"),
    [
        pytest.param(
            "database: main", (4500, 500), {"users"}, id="capacity 2500 of 50000 needs 95 %, and 90 % is too little"
        ),
        pytest.param("database: main", (4850, 150), set[str](), id="97 % is enough"),
        pytest.param("database: main", (1000, 1000), {"carts"}, id="2000 a second are less than the capacity"),
        pytest.param(
            "database: main, overrides: {CacheHitRateLow: 0.85}",
            (4500, 500),
            set[str](),
            id="an override counts before the capacity",
        ),
        pytest.param("overrides: {CacheHitRateLow: 0.6}", (700, 300), {"carts"}, id="an override below the default"),
        pytest.param("overrides: {CacheHitRateLow: 0.9}", (850, 150), {"users"}, id="an override above the default"),
    ],
)
def test_capacity_and_override_of_cache_hit_rate_low_change_when_it_is_told(
    incident: Incident, users: str, lookups: tuple[int, int], caches: set[str]
) -> None:
    incident.lookups((sum(lookups), 0), lookups)
    configuration = TWO_CACHES.format(interval=15, users=users)
    incident.told(configuration, ("CacheHitRateLow", 0, set()), ("CacheHitRateLow", 600, caches))


def test_the_traffic_floor_of_the_configuration_is_that_of_the_rules(incident: Incident) -> None:
    incident.keys(100, 0, restarted=True)
    incident.lookups((20, 0), (10, 10))
    one = TWO_CACHES.format(interval=15, users="overrides: {}")
    incident.told(one, ("CacheRestarted", 60, BOTH), ("CacheHitRateLow", 900, BOTH))
    incident.told(
        f"{one}thresholds: {{traffic_floor: 25}}", ("CacheRestarted", 60, set()), ("CacheHitRateLow", 900, set())
    )


@pytest.mark.parametrize("interval", EXTREMES)
def test_at_every_scrape_interval_a_cold_restart_is_told_at_the_next_scrape(
    promtool: Promtool, tmp_path: Path, interval: int
) -> None:
    incident = Incident(promtool, tmp_path, interval, warm=12)
    incident.keys(200000, 100, restarted=True)
    incident.lookups((950, 50), (500, 500))
    configuration = TWO_CACHES.format(interval=interval, users="overrides: {}")
    incident.told(
        configuration, ("CacheRestarted", -5, set()), ("CacheRestarted", 0, BOTH), ("CacheKeysLost", 300, set())
    )


@pytest.mark.parametrize("interval", EXTREMES)
def test_at_every_scrape_interval_a_flush_is_told_at_the_next_scrape(
    promtool: Promtool, tmp_path: Path, interval: int
) -> None:
    incident = Incident(promtool, tmp_path, interval, warm=12)
    incident.keys(200000, 100, restarted=False)
    incident.lookups((950, 50), (500, 500))
    configuration = TWO_CACHES.format(interval=interval, users="overrides: {}")
    incident.told(configuration, ("CacheKeysLost", -5, set()), ("CacheKeysLost", 0, BOTH))


@pytest.mark.parametrize(("floor", "caches"), [(1, set[str]()), (0.001, BOTH)])
def test_the_own_reads_of_three_exporters_are_below_the_traffic_floor(
    promtool: Promtool, tmp_path: Path, floor: float, caches: set[str]
) -> None:
    """Nobody uses the cache, its keys run out, and what the exporters ask for is among them."""
    interval = 5
    incident = Incident(promtool, tmp_path, interval)
    incident.keys(100, 10, restarted=False)
    for counter, before, after in (("hits", 2, 0), ("misses", 1, 3), ("requests", 3, 3)):
        incident.counter(f"cache_{counter}_total", before, after)
    one = TWO_CACHES.format(interval=interval, users="overrides: {}")
    incident.told(
        f"{one}thresholds: {{traffic_floor: {floor}}}",
        ("CacheHitRateLow", 20 * interval, caches),
        ("CacheKeysLost", 4 * interval, caches),
    )


@pytest.mark.parametrize("interval", EXTREMES)
def test_at_every_scrape_interval_a_redis_that_is_down_is_told_at_the_third_scrape(
    promtool: Promtool, tmp_path: Path, interval: int
) -> None:
    incident = Incident(promtool, tmp_path, interval, warm=4)
    incident.gauge("cache_up", 1, 0)
    configuration = TWO_CACHES.format(interval=interval, users="overrides: {}")
    incident.told(configuration, ("CacheDown", 2 * interval - 5, set()), ("CacheDown", 2 * interval, BOTH))
