"""What Prometheus scrapes: one target group per cache, the same at /sd and in alerts/targets.yml."""

from __future__ import annotations

from herdwatch.config import Config


def target_groups(config: Config, address: str) -> list[dict[str, object]]:
    """Prometheus HTTP service discovery: one group per cache, scraped through the exporter at `address`."""
    return [
        {
            "targets": [address],
            "labels": {
                "__metrics_path__": "/probe",
                "__param_target": cache.name,
                "cache": cache.name,
                "instance": cache.instance,
                "team": cache.team,
            },
        }
        for cache in config.caches
    ]
