"""The first command of an alert reaches its Redis: over TLS, at a socket, and at an address of version 6."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from herdwatch.bundle import rules
from herdwatch.bundle.render import RULES, render_bundle
from herdwatch.config import parse
from herdwatch.promtool import Promtool

CONFIG = parse(
    """
caches:
  - {name: plain, url: "redis://plain.example"}
  - {name: tls, url: "rediss://tls.example:6380"}
  - {name: other-tls, url: "rediss://[2001:db8::1]"}
  - {name: socket, url: "unix:///run/redis.sock"}
""",
    "herdwatch.yaml",
)
WAYS = {
    "plain": "-u redis://plain.example:6379",
    "tls": "-u rediss://tls.example:6380",
    "other-tls": "-u rediss://[2001:db8::1]:6379",
    "socket": "-s /run/redis.sock",
}
COMMANDS = {
    "CacheRestarted": "INFO keyspace",
    "CacheKeysLost": "INFO commandstats",
    "CacheDown": "PING",
    "CacheLoading": "INFO persistence",
    "SingleflightDisabled": "HGETALL herdwatch:reports",
    "CacheEvicting": "INFO memory",
    "CacheReplicaMissing": "INFO replication",
}
FIRST = {
    rule.name: found[0]
    for rule in rules.load(render_bundle(CONFIG)[RULES], str(RULES))
    if (found := re.search(r"(\{\{ \$at := .*)?First: redis-cli .*", rule.annotations.get("description", "")))
}
"""By alert, from where its description looks for the address."""


def test_every_alert_that_begins_with_redis_cli_is_tried_here() -> None:
    assert FIRST.keys() == COMMANDS.keys()


@pytest.mark.parametrize("alert", COMMANDS)
def test_the_first_command_of_an_alert_goes_to_its_redis(alert: str, tmp_path: Path) -> None:
    """The alert's own words, told of every cache: what its expression asks for has tests of its own."""
    rule = {"alert": alert, "expr": "cache_primary == 1", "annotations": {"first": FIRST[alert]}}
    (tmp_path / "first.rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "first", "rules": [rule]}]}))
    labels = {cache.name: {"cache": cache.name, "instance": cache.instance} for cache in CONFIG.caches}
    named = [f'{{cache="{cache}",instance="{one["instance"]}"}}' for cache, one in labels.items()]
    told = [
        {"exp_labels": labels[cache], "exp_annotations": {"first": f"First: redis-cli {way} {COMMANDS[alert]}"}}
        for cache, way in WAYS.items()
    ]
    series = [{"series": f"cache_primary{one}", "values": "_ 1x9"} for one in named]
    if "evicted" in FIRST[alert]:  # promtool's wrapper refuses series that nothing reads
        series += [{"series": f"cache_evicted_keys_total{one}", "values": "_ 0+5x9"} for one in named]
    content = {
        "rule_files": ["first.rules.yml"],
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s1ms",
                "input_series": series,
                "alert_rule_test": [{"eval_time": "1m", "alertname": alert, "exp_alerts": told}],
            }
        ],
    }
    path = tmp_path / "first.test.yml"
    path.write_text(yaml.safe_dump(content, width=1000))
    result = Promtool().test_rules(path)
    assert result.ok, "\n".join(result.problems)
