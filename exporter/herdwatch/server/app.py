"""The exporter's HTTP side: /metrics /probe /sd /runbooks/<Alert> /-/healthy /-/ready and a landing page.

A scrape is always answered with 200: what went wrong is told by `cache_up` and `cache_failure`, which alerts can read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

import herdwatch
from herdwatch.bundle.pages import to_html
from herdwatch.bundle.targets import target_groups
from herdwatch.collector.info import Sample
from herdwatch.config import Config
from herdwatch.errors import ConfigError
from herdwatch.server import exposition, live
from herdwatch.server.fleet import Fleet
from herdwatch.server.reload import Reloads
from herdwatch.server.stats import HttpStats
from herdwatch.server.web import Web

SCRAPE_TIMEOUT_HEADER = "x-prometheus-scrape-timeout-seconds"
SCRAPE_MARGIN_SECONDS = 0.25
"""How much earlier than Prometheus gives up a scrape ends, so that `cache_up 0` still arrives."""

_HOST = re.compile(r"^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?$")


class Exporter:
    """One exporter process: the fleet it watches, and the HTTP application over it.

    `runbooks` is the folder of rendered pages. `read` gives the configuration anew when it is told to reload, and the
    files of `web` are read again with it. `stats` is what the HTTP side counts about itself.
    """

    def __init__(
        self,
        config: Config,
        *,
        runbooks: Path,
        read: Callable[[], Config] | None = None,
        web: Web | None = None,
        stats: HttpStats | None = None,
    ) -> None:
        self._runbooks = runbooks
        self._stats = stats or HttpStats()
        self._fleet, self._live = Fleet(config), live.Live()
        self.reloads = Reloads(self._fleet, web or Web(), read=read or (lambda: config))
        self._self = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._self)
        PlatformCollector(registry=self._self)
        GCCollector(registry=self._self)
        self.app = Starlette(
            routes=[
                Route("/probe", self._probe),  # first: what is asked for most is found at once
                Route("/metrics", self._metrics),
                Route("/", self._landing),
                Route("/sd", self._discovery),
                Route("/runbooks/", self._runbook_index),
                Route("/runbooks/{alert}", self._runbook),
                Route("/-/healthy", _alive),
                Route("/-/ready", _alive),
                Route("/-/reload", self._reload, methods=["POST"]),
            ]
        )

    async def aclose(self) -> None:
        """Close every connection to Redis."""
        await self._fleet.aclose()

    async def _metrics(self, request: Request) -> Response:
        names = self._fleet.names
        scrape = await self._fleet.scrape(names[0], _deadline(request)) if len(names) == 1 else None
        process = list(self._self.collect())
        return exposition.answer(request, own=self._own_samples(), process=process, scrape=scrape)

    async def _probe(self, request: Request) -> Response:
        name = request.query_params.get("target", "")
        if name not in self._fleet.names:
            known = ", ".join(self._fleet.names)
            return PlainTextResponse(f"?target= is {name!r}, which is no configured cache; there are: {known}\n", 404)
        return exposition.answer(request, scrape=await self._fleet.scrape(name, _deadline(request)))

    async def _reload(self, _: Request) -> Response:
        try:
            notes = await self.reloads.reload()
        except ConfigError as error:
            return PlainTextResponse(f"{error}\n", 500)
        return PlainTextResponse("".join(f"{note}\n" for note in notes))

    def _own_samples(self) -> Iterator[Sample]:
        yield "herdwatch_build", (herdwatch.__version__,), 1
        yield from self.reloads.samples()
        yield from self._stats.samples()
        yield from self._fleet.dropped()

    async def _discovery(self, request: Request) -> Response:
        host = request.headers.get("host", "")
        config = self._fleet.config
        address = host if _HOST.match(host) else config.exporter_address
        return JSONResponse(target_groups(config, address))

    async def _runbook_index(self, _: Request) -> Response:
        text = self._text("README")
        return text if isinstance(text, Response) else HTMLResponse(to_html(text, title="Runbooks"))

    async def _runbook(self, request: Request) -> Response:
        """The page as it is rendered, and under its title what is so now of the cache that is asked for."""
        alert = request.path_params["alert"].removesuffix(".md")
        known = sorted(path.stem for path in self._runbooks.glob("*.md") if path.stem != "README")
        if alert not in known:
            return PlainTextResponse(f"no runbook {alert!r}; there are: {', '.join(known)}\n", 404)
        config, names = self._fleet.config, self._fleet.names
        name = request.query_params.get("cache", names[0] if len(names) == 1 else "")
        caches = {cache.name: cache for cache in config.caches}
        if name and name not in caches:
            return PlainTextResponse(f"no cache {name!r}; there are: {', '.join(caches)}\n", 404)
        text = self._text(alert)
        if isinstance(text, Response) or not live.is_of_a_cache(text):
            return text if isinstance(text, Response) else HTMLResponse(to_html(text, title=alert))
        if not name:
            return HTMLResponse(to_html(text, title=alert, live=live.choice(names)))
        now = await self._live.section(config, caches[name])
        return HTMLResponse(to_html(live.about(text, caches[name], config), title=alert, live=now))

    def _text(self, stem: str) -> str | Response:
        try:
            return (self._runbooks / f"{stem}.md").read_text(encoding="utf-8")
        except OSError as error:
            return PlainTextResponse(f"{stem}.md cannot be read: {error.strerror}\n", 404)

    async def _landing(self, _: Request) -> Response:
        probes = "".join(
            f'<li><a href="/probe?target={escape(name)}">{escape(name)}</a></li>' for name in self._fleet.names
        )
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
