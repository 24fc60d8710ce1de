"""Redis -> samples. One collector per cache; nothing here knows of HTTP."""

from herdwatch.collector.cache import CacheCollector, Scrape

__all__ = ["CacheCollector", "Scrape"]
