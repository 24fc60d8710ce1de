"""The exporter's HTTP side: /metrics /probe /sd /runbooks/<Alert> /-/healthy /-/ready and a landing page.

A scrape is always answered with 200: what went wrong is told by `cache_up` and `cache_failure`, which alerts can read.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

import herdwatch
from herdwatch.bundle.pages import to_html
from herdwatch.collector import CacheCollector, Scrape, sentence
from herdwatch.collector.families import families
from herdwatch.collector.info import Sample
from herdwatch.config import Config
from herdwatch.server import exposition
from herdwatch.server.discovery import target_groups

SCRAPE_TIMEOUT_HEADER = "x-prometheus-scrape-timeout-seconds"
SCRAPE_MARGIN_SECONDS = 0.25
"""How much earlier than Prometheus gives up a scrape ends, so that `cache_up 0` still arrives."""

_HOST = re.compile(r"^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?$")


class Exporter:
    """One exporter process: a collector per configured cache, and the HTTP application over them.

    `runbooks` is the folder of rendered pages.
    """

    def __init__(self, config: Config, *, runbooks: Path) -> None:
        self._config = config
        self._runbooks = runbooks
        self._caches = {cache.name: cache for cache in config.caches}
        self._collectors = {
            cache.name: CacheCollector(cache, timeout=config.exporter.deadline) for cache in config.caches
        }
        self._failures: dict[str, str | None] = {}
        self._self = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._self)
        PlatformCollector(registry=self._self)
        GCCollector(registry=self._self)
        self.app = Starlette(
            routes=[
                Route("/", self._landing),
                Route("/metrics", self._metrics),
                Route("/probe", self._probe),
                Route("/sd", self._discovery),
                Route("/runbooks/", self._runbook_index),
                Route("/runbooks/{alert}", self._runbook),
                Route("/-/healthy", _alive),
                Route("/-/ready", _alive),
            ]
        )

    async def aclose(self) -> None:
        """Close every connection to Redis."""
        await asyncio.gather(*(collector.aclose() for collector in self._collectors.values()))

    async def _metrics(self, request: Request) -> Response:
        metrics = [*families(self._own_samples()), *self._self.collect()]
        if len(self._collectors) == 1:
            (collector,) = self._collectors.values()
            metrics += (await self._scrape(collector, _deadline(request))).metrics()
        return exposition.answer(request, metrics)

    async def _probe(self, request: Request) -> Response:
        name = request.query_params.get("target", "")
        collector = self._collectors.get(name)
        if collector is None:
            known = ", ".join(self._collectors)
            return PlainTextResponse(f"target {name!r} is not a configured cache; there are: {known}\n", 404)
        return exposition.answer(request, (await self._scrape(collector, _deadline(request))).metrics())

    async def _scrape(self, collector: CacheCollector, deadline: float | None) -> Scrape:
        """Scrape, and tell on stderr when a cache begins to fail, fails otherwise, or answers again."""
        scrape = await collector.scrape(deadline)
        cache = collector.cache
        if scrape.failure != self._failures.get(cache.name):
            text = (
                f"cache {cache.name}: Redis answers again"
                if scrape.failure is None
                else sentence(cache, scrape.failure)
            )
            print(f"herdwatch: {text}", file=sys.stderr, flush=True)
            self._failures[cache.name] = scrape.failure
        return scrape

    def _own_samples(self) -> Iterator[Sample]:
        yield "herdwatch_build", (herdwatch.__version__,), 1
        for name, collector in self._collectors.items():
            for reason, count in sorted(collector.dropped.items()):
                yield "herdwatch_reports_dropped_total", (name, reason), count

    async def _discovery(self, request: Request) -> Response:
        host = request.headers.get("host", "")
        address = host if _HOST.match(host) else self._config.exporter.listen
        return JSONResponse(target_groups(self._config, address))

    async def _runbook_index(self, _: Request) -> Response:
        return self._page("README", "Runbooks")

    async def _runbook(self, request: Request) -> Response:
        alert = request.path_params["alert"].removesuffix(".md")
        known = sorted(path.stem for path in self._runbooks.glob("*.md") if path.stem != "README")
        if alert not in known:
            return PlainTextResponse(f"no runbook {alert!r}; there are: {', '.join(known)}\n", 404)
        return self._page(alert, alert)

    def _page(self, stem: str, title: str) -> Response:
        try:
            text = (self._runbooks / f"{stem}.md").read_text(encoding="utf-8")
        except OSError as error:
            return PlainTextResponse(f"{stem}.md cannot be read: {error.strerror}\n", 404)
        return HTMLResponse(to_html(text, title=title))

    async def _landing(self, _: Request) -> Response:
        probes = "".join(f'<li><a href="/probe?target={escape(name)}">{escape(name)}</a></li>' for name in self._caches)
        return HTMLResponse(_LANDING.format(version=escape(herdwatch.__version__), probes=probes))


async def _alive(_: Request) -> Response:
    return PlainTextResponse("ok\n")


def _deadline(request: Request) -> float | None:
    """Seconds that Prometheus leaves for this scrape, or None where it does not say."""
    try:
        seconds = float(request.headers.get(SCRAPE_TIMEOUT_HEADER, ""))
    except ValueError:
        return None
    return max(seconds - SCRAPE_MARGIN_SECONDS, seconds / 2) if 0 < seconds < 3600 else None


_LANDING = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>herdwatch exporter</title>
<meta name="viewport" content="width=device-width"><style>:root{{color-scheme:light dark}}
body{{font:16px/1.5 system-ui;max-width:40rem;margin:2rem auto;padding:0 1rem}}</style></head>
<body><h1>herdwatch exporter {version}</h1>
<ul><li><a href="/metrics">/metrics</a>: this exporter, and the cache where only one is configured</li>
<li><a href="/sd">/sd</a>: service discovery for Prometheus</li>
<li><a href="/runbooks/">/runbooks/</a>: what to do when an alert fires</li>
<li><a href="/-/healthy">/-/healthy</a>, <a href="/-/ready">/-/ready</a></li></ul>
<h2>Caches</h2><ul>{probes}</ul></body></html>
"""
