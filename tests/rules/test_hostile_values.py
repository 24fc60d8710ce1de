"""Values that the configuration allows and that mean something elsewhere: promtool and amtool read what is rendered."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from herdwatch.bundle import rules
from herdwatch.bundle.check import check_bundle
from herdwatch.bundle.render import RULES, render_bundle, write
from herdwatch.config import Config, parse
from herdwatch.promtool import Promtool

SIGNS = "~!$&()*+,;=:@-._%41"
HARMLESS = {
    "team": "platform",
    "name": "users",
    "job": "caches",
    "address": "127.0.0.1:9093",
    "url": "http://127.0.0.1:9878/runbooks",
    "interval": "15s",
    "number": 0.5,
}
HOSTILE: dict[str, dict[str, object]] = {
    "a team of quotes": {"team": "\"a\" 'b' `c` \\d\\"},
    "a team that is a Prometheus template": {"team": "{{ $value }} {{ range }} {{"},
    "a team that is one of our templates": {"team": "[= x =] [% if %] [# # #] =] %] #]"},
    "a team that is a YAML comment": {"team": "a: b # c"},
    "a team that is a YAML list": {"team": "- [a, {b: c}]"},
    "a team that is a YAML anchor, alias, tag or directive": {"team": "&a *a !!int %YAML"},
    "a team that is a YAML block": {"team": "|"},
    "a team that is a YAML boolean": {"team": "no"},
    "a team that is a YAML number": {"team": "1_000"},
    "a team that is a YAML null": {"team": "~"},
    "a team that is PromQL": {"team": '"} or vector(1) or up{a="'},
    "a team that is a regular expression": {"team": ".*|(?P<a>[^"},
    "a team in other alphabets": {"team": "équipe 平台 😀 ٣"},
    "names as long as they may be": {"name": "n" * 63, "team": "é" * 100, "job": "j" * 120},
    "names of signs": {"name": "0_.-", "job": "_./-"},
    "names that are YAML numbers": {"name": "1.0", "job": "0x1F"},
    "names that are YAML booleans": {"name": "yes", "job": "off"},
    "addresses of version 6": {"address": "[::1]:9093", "url": "http://[::1]:9878/runbooks"},
    "a host of many labels": {"address": f"{'a.' * 30}{'b' * 63}:65535"},
    "URLs of every sign they may have": {"url": f"https://h:1/{SIGNS}/{SIGNS}"},
    "an interval of odd milliseconds": {"interval": "5001ms"},
    "a number close to nothing": {"number": 1e-300},
    "a number close to one": {"number": 0.9999999999999999},
}


def configured(values: Mapping[str, object]) -> Config:
    """Every place at once where a value of this kind may stand."""
    data = {
        "scrape_interval": values["interval"],
        "caches": [
            {"name": values["name"], "url": "redis://127.0.0.1", "team": values["team"], "database": values["name"]},
            {"name": "other", "url": "redis://127.0.0.2", "overrides": {"CacheRestarted": values["number"]}},
        ],
        "databases": {values["name"]: {"capacity": values["number"], "peak": 50000}},
        "thresholds": {"CacheHitRateLow": values["number"], "traffic_floor": values["number"]},
        "exporter": {"listen": values["address"]},
        "jobs": {"cache": values["job"], "exporter": f"{values['job']}-e", "application": f"{values['job']}-a"},
        "prometheus": {"alertmanagers": [values["address"]], "applications": [values["address"]]},
        "receivers": {severity: {"webhook_url": values["url"]} for severity in ("critical", "watchdog")},
        "links": {"runbook_base_url": values["url"], "dashboard_base_url": values["url"]},
    }
    return parse(yaml.safe_dump(data), "herdwatch.yaml")


@pytest.mark.parametrize("sentence", HOSTILE)
def test_a_bundle_with_hostile_values_passes_every_check(sentence: str, tmp_path: Path) -> None:
    write(render_bundle(configured(HARMLESS | HOSTILE[sentence])), tmp_path)
    assert check_bundle(tmp_path).problems == []


@pytest.mark.parametrize("sentence", HOSTILE)
def test_promtool_finds_as_many_rules_as_with_harmless_values(sentence: str, tmp_path: Path) -> None:
    usual, hostile = (render_bundle(configured(HARMLESS | values))[RULES] for values in ({}, HOSTILE[sentence]))
    path = tmp_path / "herdwatch.rules.yml"
    path.write_text(hostile, encoding="utf-8")
    names = [rule.name for rule in rules.load(hostile, str(RULES))]
    assert names == [rule.name for rule in rules.load(usual, str(RULES))]
    assert Promtool().check_rules(path).checked == len(names)


def test_a_thousand_caches_are_one_bundle_that_promtool_accepts(tmp_path: Path) -> None:
    caches = [{"name": f"cache-{number}", "url": f"redis://redis-{number}"} for number in range(1000)]
    write(render_bundle(parse(yaml.safe_dump({"caches": caches}), "herdwatch.yaml")), tmp_path)
    assert check_bundle(tmp_path).problems == []
