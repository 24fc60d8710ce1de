"""Families that are collected already -> the text that Prometheus reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder, generate_latest
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response


class _Ready(Collector):
    """Families that are already collected, in the form that prometheus_client's encoders read."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def answer(request: Request, metrics: Sequence[Metric]) -> Response:
    encoder, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encoder(_Ready(metrics)), headers={"content-type": content_type})


def text(metrics: Sequence[Metric]) -> str:
    """The families in Prometheus's text format."""
    return generate_latest(_Ready(metrics)).decode()
