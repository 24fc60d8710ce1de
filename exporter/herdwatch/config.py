"""herdwatch.yaml -> a validated Config. Every knob is here; the commented default is at the top level."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from herdwatch.errors import ConfigError

Severity = Literal["critical", "warning", "info", "watchdog"]

_DURATION = re.compile(r"^(\d+)(ms|s|m|h)$")
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")
_JOB = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_./-]{0,127}$")
_URL = re.compile(r"^[A-Za-z0-9._~:/?#\[\]@!$&()*+,;=%-]+$")
_REDIS_SCHEMES = ("redis", "rediss", "unix")


def _duration(value: Any) -> float:
    """Seconds from text such as 5s, 500ms or 2m."""
    match = _DURATION.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("a duration is a whole number with a unit, such as 15s, 500ms or 2m")
    return int(match[1]) * _UNIT_SECONDS[match[2]]


def _name(value: str) -> str:
    if not _NAME.match(value):
        raise ValueError("a name is 1 to 63 letters, digits, '_', '.' or '-', and starts with a letter or digit")
    return value


def _job(value: str) -> str:
    if not _JOB.match(value):
        raise ValueError("a job name is 1 to 128 letters, digits, '_', '.', '/' or '-'")
    return value


def _label(value: str) -> str:
    bad = [character for character in value if unicodedata.category(character)[0] in "CZ" and character != " "]
    if bad or not value.strip() or value != value.strip() or len(value) > 100:
        raise ValueError("a label is 1 to 100 printable characters on one line, without spaces at its ends")
    return value


def _split(value: str) -> Any:
    try:
        parts = urlsplit(value)
        return parts, parts.port
    except ValueError as error:
        raise ValueError(f"not a URL: {error}") from None


def _http_url(value: str) -> str:
    parts, _ = _split(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or not _URL.match(value):
        raise ValueError("a URL starts with http:// or https://, names a host and has no space, quote or brace")
    if parts.username or parts.password:
        raise ValueError("a URL here carries no user or password: it would be shown to everyone who reads the bundle")
    return value


def _base_url(value: str) -> str:
    _http_url(value)
    if "?" in value or "#" in value:
        raise ValueError("a base URL has no '?' and no '#': the page's name and the cache are appended to it")
    return value.rstrip("/")


def _redis_url(value: str) -> str:
    parts, _ = _split(value)
    if parts.scheme not in _REDIS_SCHEMES:
        raise ValueError("a Redis URL starts with redis://, rediss:// or unix://")
    if parts.password:
        raise ValueError("a password does not belong in the URL; name where it is kept: password_env or password_file")
    if parts.scheme == "unix" and not parts.path:
        raise ValueError("a unix:// URL names the socket's path")
    if parts.scheme != "unix" and not parts.hostname:
        raise ValueError("a Redis URL names a host, as in redis://127.0.0.1:6379/0")
    if parts.scheme != "unix" and not re.match(r"^(/\d{0,5})?$", parts.path):
        raise ValueError("the path of a Redis URL is the number of a database, as in redis://127.0.0.1:6379/0")
    if parts.query or parts.fragment:
        raise ValueError("a Redis URL here has no '?' and no '#': options are keys of the cache")
    return value


def _address(value: str) -> str:
    host, _, port = value.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not port.isdigit() or int(port) > 65535 or not re.match(r"^[A-Za-z0-9._-]+$|^\[[0-9a-fA-F:.]+\]$", host):
        raise ValueError("an address is HOST:PORT, as in 127.0.0.1:9878 or [::1]:9878")
    return value if not bracketed else value.lower()


Duration = Annotated[float, BeforeValidator(_duration)]
Name = Annotated[str, AfterValidator(_name)]
Job = Annotated[str, AfterValidator(_job)]
Label = Annotated[str, AfterValidator(_label)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
RedisUrl = Annotated[str, AfterValidator(_redis_url)]
Address = Annotated[str, AfterValidator(_address)]
Ratio = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Section(BaseModel):
    """Base of every block: unknown keys are refused, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Database(Section):
    """What stands behind a cache. `capacity` and `peak` are requests per second."""

    capacity: Rate
    peak: Rate

    @model_validator(mode="after")
    def _peak_exceeds_capacity(self) -> Database:
        if self.peak <= self.capacity:
            raise ValueError("peak must exceed capacity: below it the database needs no cache to live")
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
            raise ValueError("give password_env or password_file, not both")
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
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or "it is not text"
                raise ConfigError(
                    f"cache {self.name}: password_file {self.password_file} cannot be read: {reason}"
                ) from None
        return None


class Exporter(Section):
    """Where the exporter listens and how long a scrape may take."""

    listen: Address = "127.0.0.1:9878"
    deadline: Duration = 4.0


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
    databases: dict[Name, Database] = {}
    thresholds: Thresholds = Thresholds()
    exporter: Exporter = Exporter()
    jobs: Jobs = Jobs()
    prometheus: Prometheus = Prometheus()
    receivers: dict[Severity, Receiver] = {}
    links: Links = Links()

    @model_validator(mode="after")
    def _references(self) -> Config:
        seen: set[str] = set()
        for cache in self.caches:
            if cache.name in seen:
                raise ValueError(f"caches: the name {cache.name!r} is given twice; a cache's name is its label")
            seen.add(cache.name)
            if cache.database is not None and cache.database not in self.databases:
                known = ", ".join(sorted(self.databases)) or "none"
                raise ValueError(f"caches: {cache.name} names the database {cache.database!r}; there is: {known}")
        if "critical" in self.receivers and self.links.runbook_base_url is None:
            raise ValueError("links.runbook_base_url: a bundle that pages needs it, so that the page says what to do")
        if len({self.jobs.cache, self.jobs.exporter, self.jobs.application}) != 3:
            raise ValueError("jobs: the three job names must differ")
        return self

    def threshold(self, cache: Cache, alert: str) -> float | None:
        """The threshold of one alert for one cache where it is not the default: its override, else from capacity."""
        override: float | None = getattr(cache.overrides, alert)
        if override is None and alert == "CacheHitRateLow" and cache.database is not None:
            return self.databases[cache.database].needed_hit_ratio
        return override


class _Loader(yaml.SafeLoader):
    """YAML 1.1 safe loading that refuses a key given twice, which plain YAML silently resolves to the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, (list, dict)) or key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def load(path: Path) -> Config:
    """Read and validate herdwatch.yaml; raises ConfigError naming file, line, path and what would be right."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file; give one with --config, or start from the commented default"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    return parse(text, str(path))


def parse(text: str, source: str) -> Config:
    """Validate the text of a herdwatch.yaml; `source` is what errors call it."""
    try:
        data = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
        root = yaml.compose(text, yaml.SafeLoader)
    except (yaml.MarkedYAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        raise ConfigError(
            f"{source}:{line}: not valid YAML: {getattr(error, 'problem', None) or 'nested too deeply'}"
        ) from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{source}: not valid YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{source}:1: the top level is a mapping of keys such as caches:, not {type(data).__name__}")
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise ConfigError(_explain(error, source, root)) from None


def single(url: str, **credentials: Any) -> Config:
    """The configuration of one Redis given on the command line; it is called `cache`."""
    given = {key: value for key, value in credentials.items() if value is not None}
    return _from_command_line({"caches": [{"name": "cache", "url": url, **given}]}, "--redis-url")


def listening(config: Config, address: str) -> Config:
    """The same configuration with the exporter at another address, HOST:PORT."""
    try:
        exporter = Exporter.model_validate({**config.exporter.model_dump(exclude={"deadline"}), "listen": address})
    except ValidationError as error:
        raise ConfigError(f"--listen: {_message(error.errors()[0])}") from None
    return config.model_copy(update={"exporter": exporter.model_copy(update={"deadline": config.exporter.deadline})})


def _from_command_line(data: dict[str, Any], option: str) -> Config:
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][-1])
        given_by = option if name in ("url", "caches") else f"--{name.replace('_', '-')}"
        raise ConfigError(f"{given_by}: {_message(first)}") from None


def _message(detail: Any) -> str:
    text: str = detail["msg"]
    return text.removeprefix("Value error, ")


def _explain(error: ValidationError, source: str, root: yaml.Node | None) -> str:
    lines = []
    for detail in error.errors(include_url=False):
        path = [part for part in detail["loc"] if part != "[key]"]
        message = _message(detail)
        if detail["type"] == "extra_forbidden":
            message = f"unknown key; known here: {_known_keys(path)}"
        where = _dotted(path)
        lines.append(f"{source}:{_line(root, path)}: {where + ': ' if where else ''}{message}")
    return "\n".join(lines)


def _dotted(path: list[int | str]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _known_keys(path: list[int | str]) -> str:
    model: Any = Config
    for part in path[:-1]:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part)
        if field is None:  # a name chosen by the user, as under databases: or receivers:
            continue
        nested = _models_in(field.annotation)
        model = nested[0] if nested else model
    return ", ".join(model.model_fields)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in getattr(annotation, "__args__", ()) for model in _models_in(inner)]


def _line(node: yaml.Node | None, path: list[int | str]) -> int:
    """The line of the value at `path`, or of the deepest part of the path that the file has."""
    line = 1
    for part in path:
        found: yaml.Node | None = None
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    line, found = key.start_mark.line + 1, value
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            found = node.value[part]
            line = found.start_mark.line + 1 if found else line
        if found is None:
            return line
        node = found
    return line
