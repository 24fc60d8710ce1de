"""A silence for one cache while somebody works on it; it ends by itself, whatever becomes of the work."""

from __future__ import annotations

import http.client
import json
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from herdwatch.deadlines import opener
from herdwatch.errors import OperationError

SECONDS = 5.0
"""Deadline of one Alertmanager."""
LONGEST_SECONDS = 4 * 3600.0
"""A silence that outlives its work hides the next incident."""
_MAX_BYTES = 64 * 1024
_SHOWN = 200
# A proxy from the environment has no business between us and the Alertmanagers of the configuration.
_OPENER = opener(direct=True)


@dataclass(frozen=True, slots=True)
class Silence:
    """What was created: an id for each Alertmanager that took it, and a sentence for each that did not."""

    cache: str
    until: datetime
    ids: tuple[tuple[str, str], ...]
    failures: tuple[str, ...]

    def as_text(self) -> str:
        """Until when nobody is paged, and how to end it before, in each Alertmanager."""
        told = [
            f"alerts on cache {self.cache} are silenced until {self.until:%H:%M:%S} UTC; to end that before: "
            f"{self.ending()}"
        ]
        return "\n".join([*told, *(f"not silenced everywhere: {failure}" for failure in self.failures)])

    def ending(self) -> str:
        """The commands that end it, for a shell."""
        return "; ".join(
            f"amtool silence expire --alertmanager.url=http://{address} {identity}" for address, identity in self.ids
        )

    def end(self) -> str:
        """End it now; a sentence on what became of it, which names what is left to do."""
        left = []
        for address, identity in self.ids:
            try:
                _delete(address, identity)
            except OperationError:
                left.append((address, identity))
        if left:
            return replace(self, ids=tuple(left)).still()
        return f"alerts on cache {self.cache} are no longer silenced"

    def still(self) -> str:
        """What must be known when the work has ended and the silence has not."""
        until = f"{self.until:%H:%M:%S} UTC"
        return f"alerts on cache {self.cache} stay silenced until {until}; end that with: {self.ending()}"


def silence(alertmanagers: Sequence[str], cache: str, *, seconds: float, why: str) -> Silence:
    """Silence every alert with this `cache` label for `seconds` from now, in each of the Alertmanagers (HOST:PORT).

    Raises OperationError when none of them takes it: the work should not begin then. Source: Alertmanager's API v2,
    POST /silences.
    """
    now = datetime.now(UTC)
    until = now + timedelta(seconds=seconds)
    wanted = {
        "matchers": [{"name": "cache", "value": cache, "isRegex": False, "isEqual": True}],
        "startsAt": now.isoformat(),
        "endsAt": until.isoformat(),
        "createdBy": "herdwatch",
        "comment": why,
    }
    ids, failures = [], []
    for address in alertmanagers:
        try:
            ids.append((address, _post(address, wanted)))
        except OperationError as error:
            failures.append(str(error))
    if not ids:
        raise OperationError(f"no silence could be created, so nothing was begun: {'; '.join(failures)}")
    return Silence(cache, until, tuple(ids), tuple(failures))


def _post(address: str, wanted: dict[str, Any]) -> str:
    body = _asked(address, "silences", "POST", json.dumps(wanted).encode())
    try:
        return str(json.loads(body)["silenceID"])
    except (ValueError, KeyError, TypeError):
        raise OperationError(f"{address} answers as no Alertmanager does") from None


def _delete(address: str, identity: str) -> None:
    _asked(address, f"silence/{quote(identity, safe='')}", "DELETE")


def _asked(address: str, path: str, method: str, body: bytes | None = None) -> bytes:
    """One request to the API, its answer's first bytes; raises OperationError."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://{address}/api/v2/{path}", body, headers, method=method)
    try:
        with _OPENER.open(request, timeout=SECONDS) as response:
            status, answer = response.status, response.read(_MAX_BYTES)
    except OSError as error:
        reason = getattr(error, "reason", None) or error
        raise OperationError(f"Alertmanager {address} does not answer: {reason}") from None
    except (ValueError, http.client.HTTPException):
        raise OperationError(f"{address} answers as no Alertmanager does") from None
    if not 200 <= status < 300:
        said = " ".join(answer[:_SHOWN].decode("utf-8", "replace").split())
        raise OperationError(f"Alertmanager {address} answers {status}: {said}")
    return bytes(answer)
