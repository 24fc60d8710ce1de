"""Redis -> samples. One collector per cache; nothing here knows of HTTP."""

from herdwatch.collector.cache import CacheCollector, Scrape
from herdwatch.collector.failures import part_sentence, sentence

__all__ = ["CacheCollector", "Scrape", "part_sentence", "sentence"]
