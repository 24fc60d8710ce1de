"""One scrape of every cache on the terminal, for whoever sets it up."""

from __future__ import annotations

import asyncio
import sys

from herdwatch.collector import Scrape, part_sentence, sentence
from herdwatch.config import Config
from herdwatch.errors import CheckFailed
from herdwatch.server import exposition
from herdwatch.server.fleet import collector_of
from herdwatch.server.log import say


def once(config: Config) -> None:
    """Print one scrape of every cache, in text format; raises CheckFailed with a sentence per cache that fails."""
    scrapes = asyncio.run(_once(config))
    for scrape in scrapes:
        sys.stdout.write(exposition.text_of(scrape))
    failed = zip(config.caches, scrapes, strict=True)
    problems = []
    for cache, scrape in failed:
        for part, why in scrape.parts.items():
            say(part_sentence(cache, part, why))
        if scrape.failure is not None:
            problems.append(sentence(cache, scrape.failure, scrape.detail))
    if problems:
        raise CheckFailed("\n".join(problems))


async def _once(config: Config) -> list[Scrape]:
    collectors = [collector_of(cache, config) for cache in config.caches]
    scrapes = await asyncio.gather(*(collector.scrape() for collector in collectors))
    await asyncio.gather(*(collector.aclose() for collector in collectors))
    return scrapes
