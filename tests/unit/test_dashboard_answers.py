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
    promtool: Promtool, folder: Path, given: list[dict[str, str]], *asked: tuple[str, list[tuple[str, float]]]
) -> None:
    """Each expression has exactly these labelled values after all scrapes."""
    text = BUNDLE["alerts/herdwatch.rules.yml"]
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
