"""The user's three rules, word for word, find their series in a Prometheus that scrapes the exporter."""

from __future__ import annotations

import json
import time

import yaml

from herdwatch import config as configuration
from herdwatch import reports
from herdwatch.bundle import promql
from herdwatch.bundle.render import RULES, render_bundle
from herdwatch.bundle.rules import load
from herdwatch.stack import ExporterServer, PrometheusServer, RedisServer, Supervisor, free_port, http

SEED_RULES = """\
# Cache hit rate
- alert: CacheHitRateLow
  expr: |
    rate(cache_hits_total[5m]) / rate(cache_requests_total[5m]) < 0.8
  for: 2m
  labels:
    severity: warning

# Singleflight coalescing rate
- alert: HighCoalescingRate
  expr: |
    rate(singleflight_coalesced_total[5m]) > 1000
  labels:
    severity: info  # Actually good, but track it

# Cache restart detected
- alert: CacheRestarted
  expr: |
    cache_keys_total < 1000
  for: 1m
  labels:
    severity: critical
"""
SECONDS = 60


def started(supervisor: Supervisor, redis: RedisServer) -> PrometheusServer:
    listen = f"127.0.0.1:{free_port()}"
    folder = supervisor.folder
    config_file = folder / "herdwatch.yaml"
    caches = [{"name": "users", "url": redis.url}]
    config_file.write_text(yaml.safe_dump({"scrape_interval": "5s", "caches": caches, "exporter": {"listen": listen}}))
    (folder / "herdwatch.rules.yml").write_text(render_bundle(configuration.load(config_file))[RULES])
    indented = "".join(f"  {line}" for line in SEED_RULES.splitlines(keepends=True))
    (folder / "seed.rules.yml").write_text(f"groups:\n- name: seed\n  interval: 1s\n  rules:\n{indented}")
    prometheus_file = folder / "prometheus.yml"
    prometheus_file.write_text(
        yaml.safe_dump(
            {
                "global": {"scrape_interval": "1s"},
                "rule_files": ["*.rules.yml"],
                "scrape_configs": [{"job_name": "herdwatch", "http_sd_configs": [{"url": f"http://{listen}/sd"}]}],
            }
        )
    )
    ExporterServer(supervisor, config_file, listen=listen)
    return PrometheusServer(supervisor, prometheus_file)


def report(redis: RedisServer, coalesced: int) -> None:
    with redis.client() as client:
        now = float(client.time()[0])
        groups = {"users": {"coalesced": {"process": coalesced}}}
        document = {"v": 1, "start": now - 100, "at": now, "every": 10, "groups": groups}
        client.hset(reports.KEY, "app/1", json.dumps(document))


def test_the_three_rules_of_the_seed_load_and_find_all_their_series(supervisor: Supervisor) -> None:
    redis = RedisServer(supervisor)
    report(redis, 10)
    prometheus = started(supervisor, redis)
    rules = load((supervisor.folder / "seed.rules.yml").read_text(), "seed")
    names = {selector.metric for rule in rules for selector in promql.selectors(rule.expr)}
    assert names == {"cache_hits_total", "cache_requests_total", "singleflight_coalesced_total", "cache_keys_total"}

    deadline = time.monotonic() + SECONDS
    while missing := {name for name in names if prometheus.value(f'{name}{{cache="users"}}') is None}:
        assert time.monotonic() < deadline, f"nobody exports or records {missing}"
        time.sleep(0.5)

    # An empty cache is what the seed's third rule is about: it has its series, so it waits out its minute.
    deadline = time.monotonic() + SECONDS
    while not prometheus.query('ALERTS{alertname="CacheRestarted",alertstate="pending"}'):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    states = http.get_json(f"{prometheus.url}/api/v1/rules")["data"]["groups"]
    health = {rule["name"]: rule["health"] for group in states for rule in group["rules"] if group["name"] == "seed"}
    assert health == {"CacheHitRateLow": "ok", "HighCoalescingRate": "ok", "CacheRestarted": "ok"}
