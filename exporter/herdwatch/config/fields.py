"""The values that herdwatch.yaml may hold, each with what is said of one that it may not."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Annotated, Any, ClassVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, WithJsonSchema

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
_BASE_URL = f"https?://{_HOST}{_PORT}?(?:/{_PLAIN}*)?"
_SOCKET = rf"unix://(?:{_USER})?/{_PLAIN}+(?:\?db=[0-9]{{1,5}})?"
_REDIS_URL = re.compile(f"rediss?://(?:{_USER})?{_HOST}{_PORT}?(?:/[0-9]{{0,5}})?|{_SOCKET}")
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


def _pattern(value: str) -> str:
    if not 0 < len(value) <= 200 or any(unicodedata.category(one)[0] in "CZ" and one != " " for one in value):
        raise ValueError("a pattern is 1 to 200 printable characters on one line, as in user:*")
    return value


def _file(value: Any) -> Any:
    if isinstance(value, str):
        if not value or any(unicodedata.category(character)[0] == "C" for character in value):
            raise ValueError("a file is its path: printable characters, at least one")
        return Path(value)
    return value


def _beside(value: Any, info: ValidationInfo) -> Any:
    """Relative to the folder of the file that is validated, where that is known."""
    found = _file(value)
    return (info.context or {}).get("folder", Path()) / found if isinstance(found, Path) else found


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
    if parts.scheme == "unix" and parts.query and not re.fullmatch("db=[0-9]{1,5}", parts.query):
        raise ValueError("after '?' a unix:// URL names a database and no more, as in unix:///run/redis.sock?db=1")
    if parts.fragment or (parts.query and parts.scheme != "unix"):
        raise ValueError(
            "a Redis URL here has no '?' and no '#': options are keys of the cache, a database is its path"
        )
    if not _REDIS_URL.fullmatch(value):
        raise ValueError("a Redis URL has no space, quote or brace; a host is letters, digits, '_', '.' or '-'")
    return value


def _address(value: str) -> str:
    if not _ADDRESS.fullmatch(value) or int(value.rpartition(":")[2]) > 65535:
        raise ValueError("an address is HOST:PORT, as in 127.0.0.1:9878 or [::1]:9878")
    return value.lower() if value.startswith("[") else value


class WrongHere(ValueError):
    """What is wrong between several values; `path` leads to the one to change, from the block that noticed it."""

    def __init__(self, message: str, *path: int | str) -> None:
        super().__init__(message)
        self.path = path


def _text(pattern: str) -> WithJsonSchema:
    """What editors are told of a text; what else must hold of it is said when it is validated."""
    return WithJsonSchema({"type": "string", "pattern": f"^(?:{pattern})$"})


DURATION = WithJsonSchema({"type": "string", "pattern": f"^{_DURATION.pattern}$", "examples": ["15s", "500ms", "2m"]})
Duration = Annotated[float, BeforeValidator(_duration), DURATION]
Name = Annotated[str, AfterValidator(_name), _text(_NAME.pattern)]
Job = Annotated[str, AfterValidator(_job), _text(_JOB.pattern)]
Label = Annotated[str, AfterValidator(_label), _text(r"\S(?:.{0,98}\S)?")]
File = Annotated[Path, BeforeValidator(_file), _text(".+")]
FileBeside = Annotated[Path, BeforeValidator(_beside), _text(".+")]
Pattern = Annotated[str, AfterValidator(_pattern), _text(".{1,200}")]
HttpUrl = Annotated[str, AfterValidator(_http_url), _text(_HTTP_URL.pattern)]
BaseUrl = Annotated[str, AfterValidator(_base_url), _text(_BASE_URL)]
RedisUrl = Annotated[str, AfterValidator(_redis_url), _text(_REDIS_URL.pattern)]
Address = Annotated[str, AfterValidator(_address), _text(_ADDRESS.pattern)]
Ratio = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Section(BaseModel):
    """Base of every block: unknown keys are refused, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    unsupported: ClassVar[frozenset[str]] = frozenset()
    """Keys that are right elsewhere in a file of this format and not supported by herdwatch."""
