"""Receives what Alertmanager delivers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

MAX_BYTES = 1_000_000
MAX_KEPT = 1_000


@dataclass(frozen=True, slots=True)
class Notification:
    """One delivery. `at` is time.monotonic() of its arrival, `body` is Alertmanager's JSON."""

    at: float
    path: str
    body: dict[str, Any]

    def alerts(self, name: str, status: str) -> list[dict[str, Any]]:
        """The alerts in it with that name in that status, firing or resolved."""
        return [
            alert
            for alert in self.body.get("alerts", [])
            if alert.get("labels", {}).get("alertname") == name and alert.get("status") == status
        ]


def pages(received: Iterable[Notification]) -> Iterator[Notification]:
    """Those that are a page: a group that went from nothing firing to firing. A repeat or an update of one is none."""
    firing: set[object] = set()
    for one in received:
        group = one.body.get("groupKey")
        if one.body.get("status") == "firing" and group not in firing:
            firing.add(group)
            yield one
        elif one.body.get("status") == "resolved":
            firing.discard(group)


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # the five of the standard library refuse deliveries that come together


class WebhookReceiver:
    """An HTTP server on a free port of 127.0.0.1 that remembers what was posted to it. Use as a context manager."""

    def __init__(self) -> None:
        self._received: list[Notification] = []
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    @property
    def url(self) -> str:
        """Where to post."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def received(self, path: str | None = None) -> list[Notification]:
        """What has come so far, oldest first; with `path` only what was posted there."""
        return [one for one in list(self._received) if path in (None, one.path)]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        received = self._received

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_POST(self) -> None:
                at = time.monotonic()
                length = self.headers.get("Content-Length", "")
                body = self.rfile.read(min(int(length), MAX_BYTES)) if length.isdigit() else b""
                try:
                    data = json.loads(body)
                except ValueError:
                    data = None
                accepted = isinstance(data, dict) and len(received) < MAX_KEPT
                if accepted:
                    received.append(Notification(at, self.path, data))
                # As Slack does it: a newer Alertmanager takes any other body for a refusal.
                answer = b"ok" if accepted else b"invalid_payload"
                self.send_response(200 if accepted else 400)
                self.send_header("Content-Type", "text/plain")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing: what was received is kept."""

        return Handler
