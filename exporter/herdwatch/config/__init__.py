"""herdwatch.yaml -> a validated Config."""

from herdwatch.config.fields import Section
from herdwatch.config.loading import listening, load, parse, single
from herdwatch.config.model import Cache, Config, Overrides

__all__ = ["Cache", "Config", "Overrides", "Section", "listening", "load", "parse", "single"]
