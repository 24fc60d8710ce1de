"""The blocks of herdwatch.yaml. Every knob is here; the commented default is at the top level."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from herdwatch.config.fields import (
    Address,
    BaseUrl,
    Duration,
    HttpUrl,
    Job,
    Label,
    Name,
    Rate,
    Ratio,
    RedisUrl,
    Section,
    WrongHere,
)
from herdwatch.errors import ConfigError

Severity = Literal["critical", "warning", "info", "watchdog"]


class Database(Section):
    """What stands behind a cache. `capacity` and `peak` are requests per second."""

    capacity: Rate
    peak: Rate

    @model_validator(mode="after")
    def _peak_exceeds_capacity(self) -> Database:
        if self.peak <= self.capacity:
            raise WrongHere("peak must exceed capacity: below it the database needs no cache to live", "peak")
        return self

    @property
    def needed_hit_ratio(self) -> float:
        """The hit ratio below which the database is overloaded at peak: 1 - capacity / peak."""
        return 1 - self.capacity / self.peak


class Overrides(Section):
    """Thresholds, by alert; None means: take the default of `thresholds`."""

    CacheHitRateLow: Ratio | None = None
    CacheRestarted: Ratio | None = None
    CacheKeysLost: Ratio | None = None
    HighCoalescingRate: Rate | None = None


class Thresholds(Section):
    """Thresholds that hold where neither an override nor a capacity says otherwise."""

    CacheHitRateLow: Ratio = 0.8
    CacheRestarted: Ratio = 0.5
    CacheKeysLost: Ratio = 0.5
    HighCoalescingRate: Rate = 1000.0
    traffic_floor: Rate = 1.0


class Cache(Section):
    """One Redis to watch. The password is read where `password_env` or `password_file` says, at connection time."""

    name: Name
    url: RedisUrl
    team: Label = "platform"
    username: Label | None = None
    password_env: Name | None = None
    password_file: Path | None = Field(default=None, strict=False)
    database: Name | None = None
    overrides: Overrides = Overrides()

    @model_validator(mode="after")
    def _one_password(self) -> Cache:
        if self.password_env and self.password_file:
            raise WrongHere("give password_env or password_file, not both", "password_file")
        return self

    @property
    def instance(self) -> str:
        """The configured address, without credentials: HOST:PORT or the socket's path."""
        parts = urlsplit(self.url)
        if parts.scheme == "unix":
            return parts.path
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{host}:{parts.port or 6379}"

    def password(self) -> str | None:
        """The password from its reference, or None; raises ConfigError where the reference leads nowhere."""
        if self.password_env:
            if self.password_env not in os.environ:
                raise ConfigError(
                    f"cache {self.name}: password_env names {self.password_env}, which is not set in the environment"
                )
            return os.environ[self.password_env]
        if self.password_file:
            try:
                return self.password_file.read_text().strip()
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or "it is not text"
                raise ConfigError(
                    f"cache {self.name}: password_file {self.password_file} cannot be read: {reason}"
                ) from None
        return None


class Exporter(Section):
    """Where the exporter listens and how long a scrape may take."""

    listen: Address = "127.0.0.1:9878"
    deadline: Annotated[Duration, Field(gt=0)] = 4.0


class Jobs(Section):
    """Names of the scrape jobs in Prometheus."""

    cache: Job = "herdwatch"
    exporter: Job = "herdwatch-exporter"
    application: Job = "herdwatch-applications"


class Prometheus(Section):
    """What the rendered prometheus.yml talks to."""

    alertmanagers: tuple[Address, ...] = Field(default=("127.0.0.1:9093",), strict=False)
    applications: tuple[Address, ...] = Field(default=(), strict=False)


class Receiver(Section):
    """Where Alertmanager delivers one severity."""

    webhook_url: HttpUrl


class Links(Section):
    """Where the links of a page lead."""

    runbook_base_url: BaseUrl | None = None
    dashboard_base_url: BaseUrl | None = None


class Config(Section):
    """The whole of herdwatch.yaml."""

    scrape_interval: Annotated[Duration, Field(ge=5, le=60)] = 15.0
    caches: tuple[Cache, ...] = Field(min_length=1, strict=False)
    databases: dict[Name, Database] = Field(default={})
    thresholds: Thresholds = Thresholds()
    exporter: Exporter = Exporter()
    jobs: Jobs = Jobs()
    prometheus: Prometheus = Prometheus()
    receivers: dict[Severity, Receiver] = Field(default={})
    links: Links = Links()

    @model_validator(mode="after")
    def _references(self) -> Config:
        seen: set[str] = set()
        for number, cache in enumerate(self.caches):
            if cache.name in seen:
                message = f"the name {cache.name!r} is given twice; a cache's name is its label"
                raise WrongHere(message, "caches", number, "name")
            seen.add(cache.name)
            if cache.database is not None and cache.database not in self.databases:
                known = ", ".join(sorted(self.databases)) or "none"
                message = f"databases has no {cache.database!r}; there is: {known}"
                raise WrongHere(message, "caches", number, "database")
        if "critical" in self.receivers and self.links.runbook_base_url is None:
            message = "a bundle that pages needs it, so that the page says what to do"
            raise WrongHere(message, "links", "runbook_base_url")
        if len({self.jobs.cache, self.jobs.exporter, self.jobs.application}) != 3:
            raise WrongHere("the three job names must differ", "jobs")
        return self

    def threshold(self, cache: Cache, alert: str) -> float | None:
        """The threshold of one alert for one cache where it is not the default: its override, else from capacity."""
        override: float | None = getattr(cache.overrides, alert)
        if override is None and alert == "CacheHitRateLow" and cache.database is not None:
            return self.databases[cache.database].needed_hit_ratio
        return override
