"""herdwatch.yaml -> a validated Config, and the means to validate another YAML file in the same way."""

from herdwatch.config.fields import Section, WrongHere
from herdwatch.config.loading import listening, load, parse, read, single, validated
from herdwatch.config.model import Cache, Config, Overrides

__all__ = [
    "Cache",
    "Config",
    "Overrides",
    "Section",
    "WrongHere",
    "listening",
    "load",
    "parse",
    "read",
    "single",
    "validated",
]
