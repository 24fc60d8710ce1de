"""What the dashboards' own queries answer in Prometheus's engine, over the rules of the bundle: promtool evaluates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from tests.unit.rendered_dashboards import configured, file_of, panel

from herdwatch.bundle import rules
from herdwatch.bundle.render import render_bundle
from herdwatch.promtool import Promtool

CACHES = "\n".join(f"- {{name: {name}, url: 'redis://{name}:6379'}}" for name in ("warm", "cold", "down", "lost"))
BUNDLE = {str(path): text for path, text in render_bundle(configured("", CACHES)).items()}
SHARED = {
    str(path): text
    for path, text in render_bundle(
        configured(
            "databases: {main: {capacity: 100, peak: 1000}}",
            "\n".join(f"- {{name: {name}, url: 'redis://{name}:6379', database: main}}" for name in ("a", "b", "c")),
        )
    ).items()
}
"""A bundle of three caches in front of one database."""
CHOSEN_ALL = ".+"
SCRAPES = 60
"""Of a quarter of a minute each; what the tests ask is asked at the end of them."""


@pytest.fixture(scope="module")
def promtool() -> Promtool:
    return Promtool()


def query(name: str, title: str, number: int = 0, **chosen: str) -> str:
    """A panel's query as Grafana sends it with these choices, and all of what is not given."""
    expr: str = panel(json.loads(BUNDLE[file_of(name)]), title)["targets"][number]["expr"]
    for variable in ("job", "cache", "instance", "service", "group"):
        expr = expr.replace(f"${variable}", chosen.get(variable, CHOSEN_ALL))
    return expr.replace("$__rate_interval", "1m")


def of(cache: str) -> str:
    return f'job="herdwatch",cache="{cache}",instance="{cache}:6379",team="platform"'


def series(name: str, labels: str, values: str) -> dict[str, str]:
    return {"series": f"{name}{{{labels}}}", "values": values}


def primary(cache: str, keys: str, up: str = f"1x{SCRAPES}") -> list[dict[str, str]]:
    """A primary that has run since the beginning."""
    return [
        series("up", of(cache), f"1x{SCRAPES}"),
        series("cache_up", of(cache), up),
        series("cache_primary", of(cache), f"1x{SCRAPES}"),
        series("cache_loading", of(cache), f"0x{SCRAPES}"),
        series("cache_start_time_seconds", of(cache), f"0x{SCRAPES}"),
        series("cache_keys", f'{of(cache)},db="0"', keys),
    ]


def warming(cache: str, job: str, done: str, target: int, **more: str) -> list[dict[str, str]]:
    labels = f'job="{job}",cache="{cache}",instance="{more.get("instance", "pod:80")}",service="profiles"'
    return [
        series("cache_warmup_active", labels, f"1x{SCRAPES}"),
        series("cache_warmup_done_keys", labels, done),
        series("cache_warmup_target_keys", labels, f"{target}x{SCRAPES}"),
    ]


def answered(
    promtool: Promtool,
    folder: Path,
    given: list[dict[str, str]],
    *asked: tuple[str, list[tuple[str, float]]],
    bundle: dict[str, str] = BUNDLE,
) -> None:
    """Each expression has exactly these labelled values after all scrapes."""
    text = bundle["alerts/herdwatch.rules.yml"]
    (folder / "herdwatch.rules.yml").write_text(text)
    rows = [
        {
            "expr": expr,
            "eval_time": "14m45s",
            "exp_samples": [{"labels": labels, "value": value} for labels, value in samples],
        }
        for expr, samples in asked
    ]
    content = {
        "rule_files": ["herdwatch.rules.yml"],
        "evaluation_interval": "15s",
        "group_eval_order": list(dict.fromkeys(rule.group for rule in rules.load(text, "rules"))),
        "tests": [
            {
                "interval": "15s",
                "input_series": given,
                "promql_expr_test": rows,
            }
        ],
    }
    path = folder / "answers.test.yml"
    path.write_text(yaml.safe_dump(content, width=1000))
    result = promtool.test_rules(path)
    assert result.ok, "\n".join(result.problems)


HALF = f"1000x39 300x{SCRAPES}"
FLEET = [
    *primary("warm", f"1000x{SCRAPES}"),
    *primary("cold", HALF),
    *primary("down", "1000x39 stale", up=f"1x39 0x{SCRAPES}"),
]


def test_the_fleet_has_every_cache_and_what_does_not_answer_or_is_not_watched_counts_as_empty(
    promtool: Promtool, tmp_path: Path
) -> None:
    rows = [("warm", 1.0), ("cold", 0.3), ("down", 0.0), ("lost", 0.0)]
    samples = [(f'{{cache="{cache}",team="platform"}}', value) for cache, value in rows]
    answered(promtool, tmp_path, FLEET, (query("fleet", "Caches"), samples))


def test_the_verdict_on_the_fleet_counts(promtool: Promtool, tmp_path: Path) -> None:
    titles = ("Cold caches", "Caches that do not answer", "Caches not watched")
    answered(promtool, tmp_path, FLEET, *((query("fleet", title), [("{}", 1.0)]) for title in titles))


def test_the_verdict_on_a_sound_fleet_is_a_zero_and_not_nothing(promtool: Promtool, tmp_path: Path) -> None:
    titles = ("Cold caches", "Caches that do not answer", "Caches not watched")
    given = primary("warm", f"1000x{SCRAPES}")
    answered(promtool, tmp_path, given, *((query("fleet", title, cache="warm"), [("{}", 0.0)]) for title in titles))


def test_what_is_recorded_for_a_cache_stays_when_a_job_and_an_instance_are_chosen(
    promtool: Promtool, tmp_path: Path
) -> None:
    chosen = query("cache-restart", "Keys against normal", job="herdwatch", instance="cold:6379")
    labels = 'cache_instance:keys:ratio{cache="cold",instance="cold:6379",team="platform"}'
    line = query("cache-restart", "Hit ratio", 3, job="herdwatch", instance="cold:6379", cache="cold")
    answered(promtool, tmp_path, FLEET, (chosen, [(labels, 0.3)]), (line, [('{cache="cold"}', 0.8)]))


def test_a_warm_up_by_two_processes_ends_when_both_have_come_through_at_their_pace(
    promtool: Promtool, tmp_path: Path
) -> None:
    given = [
        *primary("warm", f"1000x{SCRAPES}"),
        *warming("warm", "herdwatch-applications", f"0+15x{SCRAPES}", 2000, instance="pod1:80"),
        *warming("warm", "herdwatch-applications", f"0+30x{SCRAPES}", 3000, instance="pod2:80"),
    ]
    labels = '{cache="warm",service="profiles"}'
    # After 59 scrapes 2,655 of 5,000 keys are done, 3 a second.
    answered(
        promtool,
        tmp_path,
        given,
        (query("cache-restart", "Warm-up progress"), [(labels, 2655 / 5000)]),
        (query("cache-restart", "Warm-up ends in"), [(labels, 2345 / 3)]),
    )


def test_a_warm_up_that_hangs_has_no_end(promtool: Promtool, tmp_path: Path) -> None:
    given = [*primary("warm", f"1000x{SCRAPES}"), *warming("warm", "herdwatch-applications", f"50x{SCRAPES}", 100)]
    answered(promtool, tmp_path, given, (query("cache-restart", "Warm-up ends in"), []))


def test_reports_that_two_exporters_republish_and_a_replica_repeats_count_once(
    promtool: Promtool, tmp_path: Path
) -> None:
    replica = 'job="herdwatch",cache="warm",instance="replica:6379",team="platform"'
    lookups = f"0+150x{SCRAPES}"
    given = primary("warm", f"1000x{SCRAPES}")
    given.append(series("cache_primary", replica, f"0x{SCRAPES}"))
    for labels in (f'{of("warm")},replica="1"', f'{of("warm")},replica="2"', replica):
        given.append(series("cache_lookups_total", f'{labels},service="s",group="g",result="hit"', lookups))
    labels = '{cache="warm",group="g",service="s"}'
    answered(promtool, tmp_path, given, (query("guard", "Services and groups", 1), [(labels, 10.0)]))


def test_caches_that_share_a_database_show_what_all_of_them_send_to_it(promtool: Promtool, tmp_path: Path) -> None:
    given = []
    for cache in ("a", "b", "c"):
        labels = f'job="applications",instance="pod:80",cache="{cache}",service="s",group="g",trigger="miss"'
        given += primary(cache, f"1000x{SCRAPES}")
        given.append(series("singleflight_executions_total", labels, f"0+750x{SCRAPES}"))
    share, total = '{cache="a"}', '{database="main"}'
    answered(
        promtool,
        tmp_path,
        given,
        (query("cache-restart", "Loads against capacity", 0, cache="a"), [(share, 50.0)]),
        (query("cache-restart", "Loads against capacity", 1, cache="a"), [(total, 150.0)]),
        (query("cache-restart", "Loads against capacity", 2, cache="a"), [(total, 100.0)]),
        (query("fleet", "Caches", 6, cache="a"), [(share, 1.5)]),
        (query("fleet", "Databases against their capacity", cache="a"), [(total, 1.5)]),
        (query("fleet", "Caches", 6), [(f'{{cache="{cache}"}}', 1.5) for cache in ("a", "b", "c")]),
        bundle=SHARED,
    )


def test_refreshes_of_which_there_were_none_have_no_share_that_failed(promtool: Promtool, tmp_path: Path) -> None:
    labels = 'job="applications",instance="pod:80",cache="warm",service="s",group="g"'
    given = primary("warm", f"1000x{SCRAPES}")
    given += [
        series("cache_refreshes_total", f'{labels},result="{result}"', f"5x{SCRAPES}") for result in ("ok", "error")
    ]
    answered(
        promtool,
        tmp_path,
        given,
        (query("guard", "Refreshes that fail"), []),
        (query("guard", "Share of refreshes that fail"), []),
    )


def test_expiring_and_persistent_keys_are_those_of_primaries(promtool: Promtool, tmp_path: Path) -> None:
    replica = 'job="herdwatch",cache="warm",instance="replica:6379",team="platform"'
    given = [*primary("warm", f"1000x{SCRAPES}"), series("cache_primary", replica, f"0x{SCRAPES}")]
    given.append(series("cache_keys", f'{replica},db="0"', f"1000x{SCRAPES}"))
    given += [series("cache_expiring_keys", f'{one},db="0"', f"400x{SCRAPES}") for one in (of("warm"), replica)]
    labels = '{cache="warm",instance="warm:6379"}'
    title = "Expiring against persistent keys"
    assert (
        panel(json.loads(BUNDLE[file_of("cache-restart")]), title)["fieldConfig"]["defaults"]["custom"].get("stacking")
        is None
    )
    answered(
        promtool,
        tmp_path,
        given,
        (query("cache-restart", title, 0), [(labels, 400.0)]),
        (query("cache-restart", title, 1), [(labels, 600.0)]),
    )


@pytest.mark.parametrize("name", ["cache-restart", "fleet"])
def test_what_is_grave_in_the_table_of_alerts_is_red(name: str) -> None:
    overrides = panel(json.loads(BUNDLE[file_of(name)]), "Alerts")["fieldConfig"]["overrides"]
    found = {one["matcher"]["options"]: one["properties"] for one in overrides}
    for column, value in (("severity", "critical"), ("alertstate", "firing")):
        [mapping] = next(one["value"] for one in found[column] if one["id"] == "mappings")
        assert mapping["options"][value]["color"] == "red"


def test_the_pace_of_a_warm_up_does_not_depend_on_the_chosen_time_range() -> None:
    found = panel(json.loads(BUNDLE[file_of("cache-restart")]), "Warm-up ends in")
    assert "[2m]" in found["targets"][0]["expr"]
