"""Prometheus's HTTP API for questions about the past: every wait has a deadline, every answer a size."""

from __future__ import annotations

import base64
import http.client
import json
import os
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

from herdwatch.config import Config, secret
from herdwatch.config.prometheus import Prometheus as Settings
from herdwatch.deadlines import opener
from herdwatch.errors import CheckFailed, UsageError

SECONDS = 60.0
"""Deadline of one answer, from the connection to its last byte."""
MAX_BYTES = 64 * 1024 * 1024
"""Size of one answer."""
_YEAR_10000 = 253_402_300_800
"""In seconds since 1970: times from then on are no dates."""
_PIECE = 64 * 1024
_PAUSE = 1.0
_SHOWN = 200
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


class Unanswered(CheckFailed):
    """No answer came, or half of one; it may come when asked again."""


class TooMuch(CheckFailed):
    """The answer is larger than Prometheus or herdwatch allows; a shorter time range may do."""


@dataclass(frozen=True, slots=True)
class Access:
    """Where a Prometheus is and how it lets one in; made by `of`. Secrets are in no repr."""

    url: str
    authorization: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls,
        url: str,
        *,
        username: str | None = None,
        password_env: str | None = None,
        password_file: Path | None = None,
        bearer_file: Path | None = None,
        ca_file: Path | None = None,
        named: Callable[[str], str] = _option,
    ) -> Access:
        """Read what the options name; raises UsageError, which calls each as it is `named`."""
        password = _password(password_env, password_file, named)
        if (username is None) != (password is None):
            raise UsageError("--username goes with --password-env or --password-file, and they with it")
        if username is not None and bearer_file is not None:
            raise UsageError("give --username or --bearer-file, not both")
        authorization = None
        if username is not None:
            authorization = f"Basic {base64.b64encode(f'{username}:{password}'.encode()).decode()}"
        elif bearer_file is not None:
            authorization = f"Bearer {_secret(named('bearer_file'), bearer_file)}"
        if authorization is not None and not authorization.isprintable():
            raise UsageError(f"{named('bearer_file')}: a token is printable text")
        base = _base(url)
        return cls(base, authorization, _tls(base, ca_file, named("ca_file")))

    @classmethod
    def configured(cls, prometheus: Settings) -> Access:
        """The one of herdwatch.yaml, which must have a url; raises UsageError, which names the key."""
        url, by = prometheus.url or "", prometheus.access
        return cls.of(
            url,
            username=by.username,
            password_env=by.password_env,
            password_file=by.password_file,
            bearer_file=by.bearer_file,
            ca_file=by.ca_file,
            named=lambda key: f"prometheus.access.{key}",
        )


def access_to(url: str | None, loaded: Config | None, **options: Any) -> Access | None:
    """What a command was told on its line, else what herdwatch.yaml says; None where neither names a Prometheus.

    The configuration's credentials go to its own url alone, and not where others are given.
    """
    own = loaded.prometheus if loaded is not None else None
    wanted = url or (own.url if own is not None else None)
    if wanted is None:
        return None
    given = any(value is not None for value in options.values())
    if own is not None and own.url is not None and wanted.rstrip("/") == own.url and not given:
        return Access.configured(own)
    return Access.of(wanted, **options)


class Api(Protocol):
    """Questions to a Prometheus; times are seconds since 1970."""

    def query(self, expr: str, at: float) -> list[dict[str, Any]]:
        """The result of an instant query, as the API gives it."""

    def query_range(self, expr: str, start: float, end: float, step: int) -> list[dict[str, Any]]:
        """The result of a range query, as the API gives it."""

    def series(self, selector: str, start: float, end: float) -> list[dict[str, str]]:
        """The labels of every series that a selector finds in a time range."""


class Prometheus:
    """A Prometheus, asked over HTTP. What fails for the moment is asked once more.

    Raises CheckFailed: one sentence with the address and what to do; TooMuch where less may be had.
    """

    def __init__(
        self,
        access: Access,
        *,
        seconds: float = SECONDS,
        pause: float | None = _PAUSE,
        stop: threading.Event | None = None,
    ) -> None:
        """`seconds` for one answer, `pause` before it is asked once more; None: it is asked once."""
        self.url = access.url
        self._headers = {"Accept": "application/json"}
        if access.authorization is not None:
            self._headers["Authorization"] = access.authorization
        self._seconds = seconds
        self._pause = pause
        self._stop = stop or threading.Event()
        direct = urlsplit(access.url).hostname in _LOOPBACK
        self._opener = opener(direct=direct, tls=access.tls)

    def query(self, expr: str, at: float) -> list[dict[str, Any]]:
        """The result of an instant query at a time, as the API gives it."""
        return _result(self.url, self._ask("query", {"query": expr, "time": f"{at:.3f}"}))

    def query_range(self, expr: str, start: float, end: float, step: int) -> list[dict[str, Any]]:
        """The result of a range query, as the API gives it; at most 11,000 steps, says Prometheus."""
        times = {"start": f"{start:.3f}", "end": f"{end:.3f}", "step": str(step)}
        return _result(self.url, self._ask("query_range", {"query": expr, **times}))

    def series(self, selector: str, start: float, end: float) -> list[dict[str, str]]:
        """The labels of every series that a selector finds in a time range."""
        data = self._ask("series", {"match[]": selector, "start": f"{start:.3f}", "end": f"{end:.3f}"})
        if not isinstance(data, list) or not all(map(_is_labels, data)):
            raise _no_prometheus(self.url)
        return data

    def _ask(self, path: str, query: Mapping[str, str]) -> Any:
        try:
            return self._once(path, query)
        except Unanswered:
            if self._pause is None or self._stop.wait(self._pause):
                raise
            return self._once(path, query)

    def _once(self, path: str, query: Mapping[str, str]) -> Any:
        full = f"{self.url}/api/v1/{path}?{urlencode(query)}"
        request = urllib.request.Request(full, headers=self._headers)  # noqa: S310 - Access lets in http and https
        try:
            with self._opener.open(request, timeout=self._seconds) as response:
                status, body = response.status, self._body(response)
        except TimeoutError:
            raise Unanswered(f"{self.url} did not answer within {self._seconds:g} s") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _unreachable(self.url, error) from None
        return _data(self.url, status, body)

    def _body(self, response: Any) -> bytes:
        """All of it; of an error, what of it comes."""
        parts: list[bytes] = []
        size = 0
        try:
            while part := response.read1(_PIECE):
                parts.append(part)
                size += len(part)
                if size > MAX_BYTES:
                    most = f"{MAX_BYTES // 1024**2} MB"
                    raise TooMuch(f"{self.url}: an answer is larger than {most}; narrow it with --cache")
                if self._stop.is_set():
                    raise Unanswered(f"{self.url}: the question was given up")
        except (OSError, http.client.HTTPException):
            if response.status == 200:
                raise
        return b"".join(parts)


def _base(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, credentials, _ = parts.hostname, parts.username or parts.password, parts.port
    except ValueError:
        raise UsageError("--prometheus: not a URL; it is http://HOST:PORT, as in http://127.0.0.1:9090") from None
    if credentials:
        raise UsageError("--prometheus: credentials do not belong in the URL; give --username and --password-file")
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment or not url.isprintable():
        raise UsageError("--prometheus: it is http://HOST:PORT or https://HOST:PORT, as in http://127.0.0.1:9090")
    return f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/")


def _password(env: str | None, file: Path | None, named: Callable[[str], str]) -> str | None:
    if env is not None and file is not None:
        raise UsageError("give --password-env or --password-file, not both")
    if env is not None:
        if not os.environ.get(env):
            raise UsageError(f"{named('password_env')}: {env} is not set in the environment, or empty")
        return os.environ[env]
    return None if file is None else _secret(named("password_file"), file)


def _secret(option: str, path: Path) -> str:
    try:
        text = secret.read(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"{option}: {path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if text is None:
        raise UsageError(f"{option}: {path} is empty")
    return text


def _tls(url: str, ca_file: Path | None, option: str) -> ssl.SSLContext | None:
    if ca_file is None:
        return None
    if not url.startswith("https://"):
        raise UsageError(f"{option} goes with an https:// URL")
    try:
        return ssl.create_default_context(cafile=str(ca_file))
    except ssl.SSLError:
        raise UsageError(f"{option}: {ca_file} holds no certificate in PEM format") from None
    except OSError as error:
        raise UsageError(f"{option}: {ca_file} cannot be read: {error.strerror}") from None


def _unreachable(url: str, error: Exception) -> CheckFailed:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return CheckFailed(
            f"{url}: its certificate is not trusted: {reason.verify_message}; name who signed it: ca_file"
        )
    if isinstance(reason, TimeoutError):
        return Unanswered(f"{url} did not answer in time")
    text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    return Unanswered(f"{url} cannot be reached, or hangs up: {_short(text)}")


def _data(url: str, status: int, body: bytes) -> Any:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if status == 200 and isinstance(answer, dict) and answer.get("status") == "success" and "data" in answer:
        return answer["data"]
    said = answer.get("error") if isinstance(answer, dict) else None
    raise _refused(url, status, _short(said) if isinstance(said, str) else "", body)


def _refused(url: str, status: int, said: str, body: bytes) -> CheckFailed:
    if status in (401, 403):
        return CheckFailed(f"{url} answers {status}: it wants other credentials: a user's or a token")
    if "too many samples" in said or "exceeded maximum resolution" in said:
        return TooMuch(f"{url} answers {status}: {said}; narrow it with --cache")
    if status in (429, 502, 503, 504) or (status == 200 and body.lstrip()[:1] == b"{"):
        return Unanswered(f"{url} answers {status}: {said or 'no whole answer'}")
    if said:
        return CheckFailed(f"{url} answers {status}: {said}")
    if 300 <= status < 400:
        return CheckFailed(f"{url} answers {status}: it leads elsewhere; give the address of Prometheus itself")
    return _no_prometheus(url, status)


def _no_prometheus(url: str, status: int = 200) -> CheckFailed:
    return CheckFailed(f"{url} answers {status}, but not as Prometheus's API does; is a path missing behind the host?")


def _result(url: str, data: Any) -> list[dict[str, Any]]:
    result = data.get("result") if isinstance(data, dict) else None
    if not isinstance(result, list) or not all(map(_is_series, result)):
        raise _no_prometheus(url)
    return result


def _is_series(one: Any) -> bool:
    """Whether it is one of a vector or of a matrix; a series of histograms alone has neither value nor values."""
    if not isinstance(one, dict) or not _is_labels(one.get("metric")):
        return False
    values = one.get("values", [])
    return isinstance(values, list) and all(map(_is_sample, values)) and _is_sample(one.get("value", [0, "0"]))


def _is_labels(labels: Any) -> bool:
    return isinstance(labels, dict) and all(isinstance(text, str) for text in labels.values())


def _is_sample(pair: Any) -> bool:
    try:
        at, value = pair
        return 0 <= at < _YEAR_10000 and isinstance(value, str) and float(value) is not None
    except (TypeError, ValueError):
        return False


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"
