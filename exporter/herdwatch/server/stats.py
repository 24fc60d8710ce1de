"""What the HTTP side counts about itself."""

from __future__ import annotations

from collections.abc import Iterator

from herdwatch.collector.info import Sample
from herdwatch.metrics import HTTP_REJECTIONS


class HttpStats:
    """Open connections, and who was turned away, by reason. A plain object that one event loop writes."""

    def __init__(self) -> None:
        self.connections = 0
        self.rejected = dict.fromkeys(HTTP_REJECTIONS, 0)

    def samples(self) -> Iterator[Sample]:
        """Every family of the HTTP side; each reason is there from the start."""
        yield "herdwatch_http_connections", (), self.connections
        for reason, count in self.rejected.items():
            yield "herdwatch_http_rejected_total", (reason,), count
