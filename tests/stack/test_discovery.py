"""A real Prometheus finds the caches, whether the exporter is there or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from tests.waiting import until

from herdwatch import config as configuration
from herdwatch.bundle.render import render_bundle, write
from herdwatch.stack import ExporterServer, PrometheusServer, RedisServer, Supervisor, free_port, http


def bundle(supervisor: Supervisor, redis: RedisServer, listen: str) -> Path:
    file = supervisor.folder / "herdwatch.yaml"
    caches = [{"name": "users", "url": redis.url, "team": "profiles"}]
    file.write_text(yaml.safe_dump({"scrape_interval": "5s", "caches": caches, "exporter": {"listen": listen}}))
    write(render_bundle(configuration.load(file)), supervisor.folder / "bundle")
    return file


def targets(prometheus: PrometheusServer) -> list[dict[str, Any]]:
    """What the job of the caches scrapes now."""
    found = http.get_json(f"{prometheus.url}/api/v1/targets")["data"]["activeTargets"]
    return [target for target in found if target["labels"]["job"] == "herdwatch"]


def discovered(prometheus: PrometheusServer) -> int:
    """How many targets of that job it was told of, before it makes one of those that are alike."""
    lines = http.get(f"{prometheus.url}/metrics")[1].splitlines()
    (line,) = (line for line in lines if line.startswith("prometheus_sd_discovered_targets") and '"herdwatch"' in line)
    return int(line.rpartition(" ")[2])


def wait_for(prometheus: PrometheusServer, health: str) -> list[dict[str, Any]]:
    until(lambda: [target["health"] for target in targets(prometheus)] == [health], every=0.3)
    return targets(prometheus)


def test_a_prometheus_that_starts_before_the_exporter_knows_the_caches_and_then_sees_each_once(
    supervisor: Supervisor,
) -> None:
    redis, listen = RedisServer(supervisor), f"127.0.0.1:{free_port()}"
    file = bundle(supervisor, redis, listen)
    prometheus = PrometheusServer(supervisor, supervisor.folder / "bundle/alerts/prometheus.yml")
    (down,) = wait_for(prometheus, "down")
    assert down["labels"] == {"job": "herdwatch", "cache": "users", "instance": redis.address, "team": "profiles"}
    ExporterServer(supervisor, file, listen=listen)
    wait_for(prometheus, "up")
    # Found twice by then, by the file and by /sd: wait until /sd was asked, and there is still one.
    until(lambda: discovered(prometheus) == 2, every=0.3)
    assert len(targets(prometheus)) == 1
