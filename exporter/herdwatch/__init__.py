"""herdwatch: sees a Redis cache restart at the next scrape, pages one person once, and says what to do."""

__version__ = "0.1.0"
