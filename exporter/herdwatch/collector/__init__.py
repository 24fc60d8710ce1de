"""Redis -> samples. One collector per cache; nothing here knows of HTTP."""

from herdwatch.collector.cache import CacheCollector, Scrape
from herdwatch.collector.failures import sentence

__all__ = ["CacheCollector", "Scrape", "sentence"]
