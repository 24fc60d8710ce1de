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

_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h)")
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_JOB = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,127}")
_HOST = r"(?:[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?|\[[0-9A-Fa-f:.]+\])"
_PORT = r"(?::[0-9]{1,5})"
_PLAIN = r"(?:[A-Za-z0-9._~:/@!$&()*+,;=-]|%[0-9A-Fa-f]{2})"
_USER = r"(?:[A-Za-z0-9._~!$&()*+,;=-]|%[0-9A-Fa-f]{2})+@"
_ADDRESS = re.compile(f"{_HOST}{_PORT}")
_HTTP_URL = re.compile(f"https?://{_HOST}{_PORT}?(?:[/?#](?:{_PLAIN}|[?#])*)?")
_REDIS_URL = re.compile(f"rediss?://(?:{_USER})?{_HOST}{_PORT}?(?:/[0-9]{{0,5}})?|unix://(?:{_USER})?/{_PLAIN}+")
_REDIS_SCHEMES = ("redis", "rediss", "unix")


def _duration(value: Any) -> float:
    """Seconds from text such as 5s, 500ms or 2m."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("a duration is a whole number with a unit, such as 15s, 500ms or 2m")
    return int(match[1]) * _UNIT_SECONDS[match[2]]


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("a name is 1 to 63 letters, digits, '_', '.' or '-', and starts with a letter or digit")
    return value


def _job(value: str) -> str:
    if not _JOB.fullmatch(value):
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
    except ValueError:  # its own words may quote a password
        raise ValueError("not a URL: its host or its port, a number up to 65535, cannot be read") from None


def _http_url(value: str) -> str:
    parts, _ = _split(value)
    if parts.username or parts.password:
        raise ValueError("a URL here carries no user or password: it would be shown to everyone who reads the bundle")
    if not _HTTP_URL.fullmatch(value):
        raise ValueError("a URL starts with http:// or https://, names a host and has no space, quote or brace")
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
    if parts.scheme == "unix" and (parts.hostname or not parts.path):
        raise ValueError("a unix:// URL names the socket's whole path, as in unix:///run/redis.sock")
    if parts.scheme != "unix" and not parts.hostname:
        raise ValueError("a Redis URL names a host, as in redis://127.0.0.1:6379/0")
    if parts.scheme != "unix" and not re.fullmatch(r"(/[0-9]{0,5})?", parts.path):
        raise ValueError("the path of a Redis URL is the number of a database, as in redis://127.0.0.1:6379/0")
    if parts.query or parts.fragment:
        raise ValueError("a Redis URL here has no '?' and no '#': options are keys of the cache")
    if not _REDIS_URL.fullmatch(value):
        raise ValueError("a Redis URL has no space, quote or brace; a host is letters, digits, '_', '.' or '-'")
    return value


def _address(value: str) -> str:
    if not _ADDRESS.fullmatch(value) or int(value.rpartition(":")[2]) > 65535:
        raise ValueError("an address is HOST:PORT, as in 127.0.0.1:9878 or [::1]:9878")
    return value.lower() if value.startswith("[") else value


class _WrongHere(ValueError):
    """What is wrong between several values; `path` leads to the one to change, from the block that noticed it."""

    def __init__(self, message: str, *path: int | str) -> None:
        super().__init__(message)
        self.path = path


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
            raise _WrongHere("peak must exceed capacity: below it the database needs no cache to live", "peak")
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
            raise _WrongHere("give password_env or password_file, not both", "password_file")
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
        for number, cache in enumerate(self.caches):
            if cache.name in seen:
                message = f"the name {cache.name!r} is given twice; a cache's name is its label"
                raise _WrongHere(message, "caches", number, "name")
            seen.add(cache.name)
            if cache.database is not None and cache.database not in self.databases:
                known = ", ".join(sorted(self.databases)) or "none"
                message = f"databases has no {cache.database!r}; there is: {known}"
                raise _WrongHere(message, "caches", number, "database")
        if "critical" in self.receivers and self.links.runbook_base_url is None:
            message = "a bundle that pages needs it, so that the page says what to do"
            raise _WrongHere(message, "links", "runbook_base_url")
        if len({self.jobs.cache, self.jobs.exporter, self.jobs.application}) != 3:
            raise _WrongHere("the three job names must differ", "jobs")
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
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == _MERGE:
                raise _not_here("a key is one word, neither a list, a mapping nor <<", key_node)
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise _not_here(f"the key {key!r} is given twice", key_node)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except _YAML_SLIPS:  # a date in month 13, a number beyond all bounds
            kind = node.tag.rpartition(":")[2]
            raise _not_here(f"{str(node.value)[:40]!r} is no {kind}", node) from None


_MERGE = "tag:yaml.org,2002:merge"
_YAML_SLIPS = (ArithmeticError, AttributeError, LookupError, ValueError)
"""What PyYAML lets through where a value is not what its tag or its look says."""


def _not_here(problem: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


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
    except (yaml.YAMLError, RecursionError, *_YAML_SLIPS) as error:
        raise ConfigError(f"{source}:{_not_yaml(error, text)}") from None
    if not isinstance(data, dict):
        found = "empty" if data is None else f"a {type(data).__name__}"
        raise ConfigError(f"{source}:1: the top level is {found}; it must be a mapping of keys such as caches:")
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise ConfigError(_explain(error, source, root)) from None


def _not_yaml(error: Exception, text: str) -> str:
    """LINE: what PyYAML found wrong with it."""
    mark = getattr(error, "problem_mark", None)
    line = mark.line if mark else text.count("\n", 0, getattr(error, "position", 0))
    problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
    return f"{line + 1}: not valid YAML: {'nested too deeply' if isinstance(error, RecursionError) else problem}"


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
        name = str(_path(first)[-1])
        given_by = option if name in ("url", "caches") else f"--{name.replace('_', '-')}"
        raise ConfigError(f"{given_by}: {_message(first)}") from None


_IN_YAML = {
    "dict_type": "must be a mapping of keys",
    "float_type": "must be a number",
    "missing": "is required",
    "model_type": "must be a mapping of keys",
    "string_type": "must be text; put it in quotes if it is",
    "too_short": "must not be empty",
    "tuple_type": "must be a list",
}
"""What pydantic says of Python's types, said of YAML."""


def _message(detail: Any) -> str:
    text: str = detail["msg"]
    return _IN_YAML.get(detail["type"]) or text.removeprefix("Value error, ")


def _path(detail: Any) -> list[int | str]:
    inner = getattr(detail.get("ctx", {}).get("error"), "path", ())
    return [part for part in (*detail["loc"], *inner) if part != "[key]"]


def _explain(error: ValidationError, source: str, root: yaml.Node | None) -> str:
    lines = []
    for detail in error.errors(include_url=False):
        if detail["type"] == "too_short" and detail["input"]:
            continue  # items that are wrong count as missing; what is wrong with them is said already
        path = _path(detail)
        message = _message(detail)
        if detail["type"] == "extra_forbidden":
            message = f"unknown key; known here: {_known_keys(path)}"
        where = _dotted(path)
        lines.append(f"{source}:{_line(root, path)}: {where + ': ' if where else ''}{message}")
    return "\n".join(lines)


def _dotted(path: list[int | str]) -> str:
    text = ""
    for part in path:
        name = part if isinstance(part, int) or part.isprintable() else repr(part)
        text += f"[{name}]" if isinstance(part, int) else f".{name}" if text else str(name)
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
