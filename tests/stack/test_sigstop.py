"""A real Prometheus, as rendered for the shortest interval, scrapes on while Redis does not answer."""

from __future__ import annotations

import signal

import pytest
import yaml
from tests.waiting import until

from herdwatch import config as configuration
from herdwatch.bundle import render as rendering
from herdwatch.metrics import PROBE, REDIS
from herdwatch.stack import ExporterServer, PrometheusServer, RedisServer, Supervisor, free_port, http

CACHES = ("resumed", "restarted", "bystander")


class Watched:
    """Three caches, their exporter, and the Prometheus that scrapes it."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.redis = {name: RedisServer(supervisor, name=name) for name in CACHES}
        listen = f"127.0.0.1:{free_port()}"
        file = supervisor.folder / "herdwatch.yaml"
        file.write_text(
            yaml.safe_dump(
                {
                    "scrape_interval": "5s",
                    "caches": [{"name": name, "url": redis.url} for name, redis in self.redis.items()],
                    "exporter": {"listen": listen},
                    "prometheus": {"alertmanagers": []},
                }
            )
        )
        bundle = supervisor.folder / "bundle"
        rendering.write(rendering.render_bundle(configuration.load(file)), bundle)
        ExporterServer(supervisor, file, listen=listen)
        self.prometheus = PrometheusServer(supervisor, bundle / "alerts" / "prometheus.yml")

    def now(self, query: str) -> dict[str, float]:
        """What a query gives for each cache; the exporter itself has no such label."""
        found = [one for one in self.prometheus.query(query) if "cache" in one["metric"]]
        return {one["metric"]["cache"]: float(one["value"][1]) for one in found}

    def firing(self) -> dict[str, str]:
        """The description of each CacheDown that fires, by cache."""
        alerts = http.get_json(f"{self.prometheus.url}/api/v1/alerts")["data"]["alerts"]
        return {
            alert["labels"]["cache"]: alert["annotations"]["description"]
            for alert in alerts
            if alert["labels"]["alertname"] == "CacheDown" and alert["state"] == "firing"
        }


@pytest.fixture
def watched(supervisor: Supervisor) -> Watched:
    return Watched(supervisor)


def test_prometheus_scrapes_through_sigstop_and_a_restart_and_cache_down_fires_and_resolves(watched: Watched) -> None:
    stopped = ["resumed", "restarted"]
    until(lambda: watched.now("cache_up") == dict.fromkeys(CACHES, 1))
    for name in stopped:
        watched.redis[name].process.send(signal.SIGSTOP)

    until(lambda: watched.firing().keys() == set(stopped))
    for description in watched.firing().values():
        assert "the reason is timeout;" in description
    assert watched.now("cache_up") == {"resumed": 0, "restarted": 0, "bystander": 1}
    assert watched.now("up") == dict.fromkeys(CACHES, 1)
    families = {one["metric"]["__name__"] for one in watched.prometheus.query('{cache="resumed",__name__=~"cache_.+"}')}
    assert families & {family.sample for family in REDIS} == set()
    assert families >= {family.sample for family in PROBE}

    watched.redis["resumed"].process.send(signal.SIGCONT)
    watched.redis["restarted"].kill()
    watched.redis["restarted"].restart()
    until(lambda: watched.now("cache_up") == dict.fromkeys(CACHES, 1))
    until(lambda: watched.firing() == {})
    # Prometheus was answered every time, whatever became of Redis, and nobody else was told to be down.
    assert watched.now("min_over_time(up[5m])") == dict.fromkeys(CACHES, 1)
    told = watched.prometheus.query('count by (cache) (count_over_time(ALERTS{alertname="CacheDown"}[5m]))')
    assert {one["metric"]["cache"] for one in told} == set(stopped)
