"""Small HTTP requests to servers on this machine, each with a deadline."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlencode

from herdwatch.errors import StackError

SECONDS = 5.0
# A proxy from the environment has no business between us and 127.0.0.1.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def get(url: str, *, seconds: float = SECONDS, headers: dict[str, str] | None = None) -> tuple[int, str]:
    """Status and text of a GET; an error status is no error. Raises StackError when nobody answers in time."""
    request = urllib.request.Request(url, headers=headers or {})  # noqa: S310 - the callers write http://
    try:
        with _opened(request, seconds) as response:
            return response.status, response.read().decode("utf-8", "replace")
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise StackError(f"{url} does not answer: {error}") from None


def _opened(request: urllib.request.Request, seconds: float) -> Any:
    try:
        return _OPENER.open(request, timeout=seconds)
    except urllib.error.HTTPError as error:
        return error


def answers(url: str) -> bool:
    """True when a GET is answered with 200."""
    try:
        return get(url, seconds=1.0)[0] == 200
    except StackError:
        return False


def get_json(url: str, **query: str) -> Any:
    """The JSON of a GET; raises StackError when it is none or the status is not 200."""
    full = f"{url}?{urlencode(query)}" if query else url
    status, text = get(full)
    try:
        data = json.loads(text)
    except ValueError:
        data = None
    if status != 200 or data is None:
        raise StackError(f"{full} answered {status}: {text[:200]}")
    return data
