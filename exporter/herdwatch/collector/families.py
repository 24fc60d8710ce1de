"""Samples -> metric families of prometheus_client, by the declarations in herdwatch.metrics."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from prometheus_client.core import Metric
from prometheus_client.samples import Sample as Exposed

from herdwatch.collector.info import Sample
from herdwatch.metrics import BY_NAME


@cache
def _shape(name: str, dropped: tuple[str, ...]) -> tuple[str, str, str, str, tuple[str, ...]]:
    family = BY_NAME[name]
    labels = tuple(label for label in family.labels if label not in dropped)
    # prometheus_client names a counter's family without the suffix that its samples carry.
    return name.removesuffix("_total"), family.help, family.kind, family.sample, labels


def families(samples: Iterable[Sample], *, drop: tuple[str, ...] = ()) -> list[Metric]:
    """Group samples into families in order of first appearance; `drop` names labels that the scrape supplies."""
    found: dict[str, Metric] = {}
    for name, values, value in samples:
        base, help, kind, sample_name, labels = _shape(name, drop)
        metric = found.get(name)
        if metric is None:
            metric = found[name] = Metric(base, help, kind)
        metric.samples.append(Exposed(sample_name, dict(zip(labels, values, strict=True)), float(value)))
    return list(found.values())
