"""The blocks of herdwatch.yaml. Every knob is here; the commented default is at the top level."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field, model_validator

from herdwatch.config import secret
from herdwatch.config.fields import (
    Address,
    BaseUrl,
    Duration,
    FileBeside,
    Label,
    Name,
    Pattern,
    Rate,
    Ratio,
    RedisUrl,
    Section,
    WrongHere,
)
from herdwatch.config.prometheus import Jobs, Prometheus
from herdwatch.config.receivers import Receiver, Severity, TeamSeverity
from herdwatch.errors import ConfigError

MAX_GROUPS = 50
"""Key groups of one cache."""
SAMPLES = 800
"""Random keys per scrape: about 4 ms of Redis, for an error of 2.8 points on a group of a fifth of all keys."""


class Database(Section):
    """What stands behind a cache. `capacity` and `peak` are requests per second."""

    capacity: Rate
    """Requests per second that it takes."""
    peak: Rate
    """Requests per second at the busiest hour, if every one missed; more than `capacity`."""

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
    """Instead of `thresholds.CacheHitRateLow`."""
    CacheRestarted: Ratio | None = None
    """Instead of `thresholds.CacheRestarted`."""
    CacheKeysLost: Ratio | None = None
    """Instead of `thresholds.CacheKeysLost`."""
    CacheEvicting: Ratio | None = None
    """Instead of `thresholds.CacheEvicting`."""
    CacheRefreshFailing: Ratio | None = None
    """Instead of `thresholds.CacheRefreshFailing`."""
    HighCoalescingRate: Rate | None = None
    """Instead of `thresholds.HighCoalescingRate`."""


class Thresholds(Section):
    """Thresholds that hold where neither an override nor a capacity says otherwise."""

    CacheHitRateLow: Ratio = 0.8
    """Low is: fewer hits per lookup. Where a database has a capacity, 1 - capacity / peak is taken instead."""
    CacheRestarted: Ratio = 0.5
    """Cold is: fewer keys than this share of the cache's own recent count."""
    CacheKeysLost: Ratio = 0.5
    """Lost is: fewer keys than this share of the cache's own recent count."""
    CacheEvicting: Ratio = 0.9
    """Eaten is: a hit ratio under this share of the cache's own recent one, while keys are evicted."""
    CacheRefreshFailing: Ratio = 0.1
    """Failing is: more failed refreshes per refresh."""
    HighCoalescingRate: Rate = 1000.0
    """High is: more coalesced callers per second."""
    traffic_floor: Rate = 1.0
    """Lookups per second below which a cache counts as idle; the exporter's own lie below it."""


def _few_enough(groups: Mapping[str, str]) -> Mapping[str, str]:
    if len(groups) > MAX_GROUPS:
        raise ValueError(
            f"{len(groups)} groups; at most {MAX_GROUPS}, because each is a series and is matched every time"
        )
    return groups


Groups = Annotated[dict[Label, Pattern], AfterValidator(_few_enough)]


class Cache(Section):
    """One Redis to watch. The password is read where `password_env` or `password_file` says, at connection time."""

    name: Name
    """The label `cache` of everything that is measured and paged."""
    url: RedisUrl
    """redis://, rediss:// (TLS) or unix://, never with a password; a database as in /1, for unix:// as in ?db=1."""
    team: Label = "platform"
    """The label `team`; pages are grouped by cache and team."""
    username: Label | None = None
    """The ACL user."""
    password_env: Name | None = None
    """The environment variable that holds the password."""
    password_file: FileBeside | None = None
    """The file that holds the password, relative to this configuration."""
    tls_ca_file: FileBeside | None = None
    """With rediss://: who signed its certificate, where no public authority did."""
    tls_cert_file: FileBeside | None = None
    """With rediss://: what the exporter shows, where Redis asks for it."""
    tls_key_file: FileBeside | None = None
    """The key of `tls_cert_file`."""
    database: Name | None = None
    """What stands behind this cache, from `databases`."""
    groups: Groups = Field(default={})
    """Key groups: a name and a pattern as KEYS and SCAN understand it; each scrape estimates how many match."""
    exact_groups: tuple[Label, ...] = Field(default=(), strict=False)
    """Of these groups, those that are also counted exactly, in the background."""
    overrides: Overrides = Overrides()
    """Thresholds of this cache alone, by alert."""

    @model_validator(mode="after")
    def _one_password(self) -> Cache:
        if self.password_env and self.password_file:
            raise WrongHere("give password_env or password_file, not both", "password_file")
        return self

    @model_validator(mode="after")
    def _tls(self) -> Cache:
        given = [name for name in ("tls_ca_file", "tls_cert_file", "tls_key_file") if getattr(self, name) is not None]
        if given and not self.url.startswith("rediss://"):
            raise WrongHere(f"{given[0]} goes with a rediss:// url", given[0])
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise WrongHere("tls_cert_file and tls_key_file go together", given[-1])
        return self

    @model_validator(mode="after")
    def _exact_groups_are_groups(self) -> Cache:
        for number, name in enumerate(self.exact_groups):
            if name not in self.groups:
                known = ", ".join(sorted(self.groups)) or "none"
                raise WrongHere(f"groups has no {name!r}; there is: {known}", "exact_groups", number)
            if name in self.exact_groups[:number]:
                raise WrongHere(f"the group {name!r} is given twice", "exact_groups", number)
        return self

    @property
    def instance(self) -> str:
        """The configured address, without credentials: HOST:PORT or the socket's path."""
        parts = urlsplit(self.url)
        if parts.scheme == "unix":
            return parts.path
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{host}:{parts.port or 6379}"

    @property
    def user(self) -> str | None:
        """The ACL user, from `username` or the URL; None where neither names one."""
        return self.username or unquote(urlsplit(self.url).username or "") or None

    @property
    def logical_database(self) -> int:
        """The number of the database that the URL names; 0 where it names none."""
        parts = urlsplit(self.url)
        return int((parts.query.removeprefix("db=") if parts.scheme == "unix" else parts.path.strip("/")) or 0)

    def password(self) -> str | None:
        """The password from its reference, None where that is empty; raises ConfigError where it leads nowhere."""
        if self.password_env:
            if self.password_env not in os.environ:
                raise ConfigError(
                    f"cache {self.name}: password_env names {self.password_env}, which is not set in the environment"
                )
            return os.environ[self.password_env] or None
        if self.password_file:
            try:
                return secret.read(self.password_file)
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                raise ConfigError(
                    f"cache {self.name}: password_file {self.password_file} cannot be read: {reason}"
                ) from None
        return None


class Exporter(Section):
    """Where the exporter listens, how long a scrape may take, and what it may cost to count key groups.

    `samples` are random keys per scrape and cache, `scan_budget` seconds of Redis's time per second.
    """

    listen: Address = "127.0.0.1:9878"
    """Its address, HOST:PORT."""
    deadline: Annotated[Duration, Field(gt=0)] = 4.0
    """A scrape ends by then, whatever Redis does."""
    samples: Annotated[int, Field(ge=100, le=10_000)] = SAMPLES
    """Random keys per scrape of a cache that has groups; the error falls with their square root."""
    scan_budget: Annotated[Duration, Field(ge=0.001, le=0.5)] = 0.01
    """Of Redis's time per second, what the exact count of a cache's groups may take; 1ms to 500ms."""


class Links(Section):
    """Where the links of a page lead."""

    runbook_base_url: BaseUrl | None = None
    """Where the runbooks are served; an alert's name is appended. Required as soon as `critical` has a receiver."""
    dashboard_base_url: BaseUrl | None = None
    """Where Grafana serves dashboards, as in http://127.0.0.1:3000/d."""


class Config(Section):
    """The whole of herdwatch.yaml."""

    scrape_interval: Annotated[Duration, Field(ge=5, le=60)] = 15.0
    """How often Prometheus scrapes, 5s to 60s. Windows and `for` of the alerts derive from it."""
    caches: tuple[Cache, ...] = Field(min_length=1, strict=False)
    """One entry per cache."""
    databases: dict[Name, Database] = Field(default={})
    """What stands behind the caches, by name."""
    thresholds: Thresholds = Thresholds()
    """What holds where neither an override nor a capacity says otherwise."""
    exporter: Exporter = Exporter()
    jobs: Jobs = Jobs()
    prometheus: Prometheus = Prometheus()
    receivers: dict[Severity, Receiver] = Field(default={})
    """Where Alertmanager delivers, by severity; one without a receiver is delivered nowhere."""
    teams: dict[Label, dict[TeamSeverity, Receiver]] = Field(default={})
    """The same for the caches of one team, instead of `receivers`."""
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
        self._receivers()
        if self._pages and self.links.runbook_base_url is None:
            message = "a bundle that pages needs it, so that the page says what to do"
            raise WrongHere(message, "links", "runbook_base_url")
        self._pages_can_be_opened()
        if len({self.jobs.cache, self.jobs.exporter, self.jobs.application}) != 3:
            raise WrongHere("the three job names must differ", "jobs")
        return self

    def _receivers(self) -> None:
        teams = sorted({cache.team for cache in self.caches})
        for team in self.teams:
            if team not in teams:
                raise WrongHere(f"no cache has the team {team!r}; there is: {', '.join(teams)}", "teams", team)
        watchdog = self.receivers.get("watchdog")
        if watchdog is not None and watchdog.people is not None:
            message = "the watchdog always fires: it goes to a dead man's switch by webhook, never to people"
            raise WrongHere(message, "receivers", "watchdog", watchdog.people)

    @property
    def _pages(self) -> bool:
        return "critical" in self.receivers or any("critical" in receivers for receivers in self.teams.values())

    def _pages_can_be_opened(self) -> None:
        scheme = self.prometheus.exporter_access.scheme
        other = {"http": "https", "https": "http"}[scheme]
        if f"{self.links.runbook_base_url}/".startswith(f"{other}://{self.exporter_address}/"):
            message = f"the exporter is reached by {scheme} there, says prometheus.exporter_access"
            raise WrongHere(message, "links", "runbook_base_url")

    @property
    def exporter_address(self) -> str:
        """HOST:PORT under which others reach the exporter."""
        return self.prometheus.exporter_access.address or self.exporter.listen

    @property
    def exporter_url(self) -> str:
        """The same as a URL, without a slash at its end."""
        return f"{self.prometheus.exporter_access.scheme}://{self.exporter_address}"

    def threshold(self, cache: Cache, alert: str) -> float | None:
        """The threshold of one alert for one cache where it is not the default: its override, else from capacity."""
        override: float | None = getattr(cache.overrides, alert)
        if override is None and alert == "CacheHitRateLow" and cache.database is not None:
            return self.databases[cache.database].needed_hit_ratio
        return override
