"""One scrape of every cache on the terminal, for whoever sets it up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from prometheus_client.core import Metric

from herdwatch.collector import Scrape, part_sentence, sentence
from herdwatch.config import Cache, Config
from herdwatch.errors import CheckFailed
from herdwatch.server import exposition
from herdwatch.server.fleet import collector_of
from herdwatch.server.log import say


def once(config: Config) -> None:
    """Print one scrape of every cache, in text format; raises CheckFailed with a sentence per cache that fails.

    Samples of several caches carry the labels that their targets have in Prometheus.
    """
    scrapes = asyncio.run(_once(config))
    print(_text(config.caches, scrapes), end="")
    problems = []
    for cache, scrape in zip(config.caches, scrapes, strict=True):
        for part, why in scrape.parts.items():
            say(part_sentence(cache, part, why))
        if scrape.failure is not None:
            problems.append(sentence(cache, scrape.failure, scrape.detail))
    if problems:
        raise CheckFailed("\n".join(problems))


def _text(caches: Sequence[Cache], scrapes: Sequence[Scrape]) -> str:
    if len(scrapes) == 1:
        return exposition.text_of(scrapes[0])
    found: dict[str, Metric] = {}
    for cache, scrape in zip(caches, scrapes, strict=True):
        target = {"cache": cache.name, "instance": cache.instance, "team": cache.team}
        for one in scrape.metrics():
            family = found.setdefault(one.name, Metric(one.name, one.documentation, one.type))
            family.samples += [sample._replace(labels={**sample.labels, **target}) for sample in one.samples]
    return exposition.text_of_metrics(list(found.values()))


async def _once(config: Config) -> list[Scrape]:
    collectors = [collector_of(cache, config) for cache in config.caches]
    scrapes = await asyncio.gather(*(collector.scrape() for collector in collectors))
    await asyncio.gather(*(collector.aclose() for collector in collectors))
    return scrapes
