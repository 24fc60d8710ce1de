"""The caches that one exporter watches: scrapes that overlap are one, and a new configuration replaces the old."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Iterator

from herdwatch.collector import CacheCollector, Scrape, part_sentence, sentence
from herdwatch.collector.info import Sample
from herdwatch.config import Cache, Config
from herdwatch.errors import LoadTimeout
from herdwatch.guard import Flight
from herdwatch.server.log import say

_SLACK_SECONDS = 1.0
"""A scrape ends by itself; its flight ends it only if it should not."""


class Fleet:
    """A collector per configured cache. Belongs to one event loop."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._collectors = {cache.name: collector_of(cache, config) for cache in config.caches}
        self._troubles: dict[str, set[str]] = {}
        self._flight = _flight(config)

    @property
    def config(self) -> Config:
        """What it was told last."""
        return self._config

    @property
    def names(self) -> tuple[str, ...]:
        """The caches that can be scraped, in the order of the configuration."""
        return tuple(self._collectors)

    async def scrape(self, name: str, deadline: float | None = None) -> Scrape:
        """Scrape one cache, or share the scrape that is in the air; raises KeyError for a name that is none.

        Returns within `deadline` seconds, or the configured deadline if that is less. What is shared was begun by a
        scrape that waits for it still: whoever began it and has no more time ends it, and who has begins anew.
        """
        collector = self._collectors[name]
        until = time.monotonic() + collector.bound(deadline)
        while (left := until - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(left):
                    scrape, led = await self._flight.do(collector, functools.partial(collector.scrape, left))
            except (TimeoutError, LoadTimeout):
                break
            if led or scrape.failure != "timeout":
                return self._told(collector, scrape)
        return self._told(collector, collector.failed("timeout", collector.bound(deadline)))

    async def adopt(self, config: Config) -> None:
        """Watch what this configuration names; a cache that did not change keeps its connection and its counters."""
        old, self._collectors = self._collectors, {}
        # Where it listens has nothing to do with how it scrapes.
        same = config.exporter == self._config.exporter.model_copy(update={"listen": config.exporter.listen})
        for cache in config.caches:
            kept = old.get(cache.name)
            if kept is not None and same and kept.cache == cache:
                self._collectors[cache.name] = old.pop(cache.name)
            else:
                self._collectors[cache.name] = collector_of(cache, config)
        if not same:
            self._flight = _flight(config)  # what is in the air in the old one lands there
        self._config = config
        self._troubles = {name: told for name, told in self._troubles.items() if name in self._collectors}
        await asyncio.gather(*(collector.aclose() for collector in old.values()))

    def dropped(self) -> Iterator[Sample]:
        """Reports of applications that were not used, by cache and reason."""
        for name, collector in self._collectors.items():
            for reason, count in sorted(collector.dropped.items()):
                yield "herdwatch_reports_dropped_total", (name, reason), count

    async def aclose(self) -> None:
        """End what is in the air and close every connection to Redis."""
        await self._flight.aclose()
        await asyncio.gather(*(collector.aclose() for collector in self._collectors.values()))

    def _told(self, collector: CacheCollector, scrape: Scrape) -> Scrape:
        """Tell on stderr when a cache or a part of it begins to fail, fails otherwise, or answers again."""
        cache = collector.cache
        before, now = self._troubles.get(cache.name, set()), _troubles(collector.cache, scrape)
        for text in sorted(now - before):
            say(text)
        if before and not now:
            say(f"cache {cache.name}: Redis answers again, all of it")
        self._troubles[cache.name] = now
        return scrape


def _troubles(cache: Cache, scrape: Scrape) -> set[str]:
    if scrape.failure is not None:
        return {sentence(cache, scrape.failure, scrape.detail)}
    return {part_sentence(cache, part, why) for part, why in scrape.parts.items()}


def _flight(config: Config) -> Flight:
    return Flight(load_timeout=config.exporter.deadline + _SLACK_SECONDS)


def collector_of(cache: Cache, config: Config) -> CacheCollector:
    """The collector of one cache, as the configuration wants it."""
    exporter = config.exporter
    return CacheCollector(cache, timeout=exporter.deadline, samples=exporter.samples, scan_budget=exporter.scan_budget)
