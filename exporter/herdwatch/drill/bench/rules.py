"""What the rules cost a real Prometheus that watches a thousand caches: series, and seconds an evaluation by group.

The caches are modelled and scraped from one page. The half hour that the rules look back on is written beforehand, as
series at rest, since windows that are empty cost nothing.
"""

from __future__ import annotations

import re
import subprocess
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import mean

import yaml
from rich.console import Console
from rich.table import Table

from herdwatch.bundle.render import RULES, render_bundle, write
from herdwatch.config import Config, parse
from herdwatch.errors import ToolError
from herdwatch.proof import scraper
from herdwatch.proof.scraper import Sample
from herdwatch.proof.world import JOB, World
from herdwatch.stack import PrometheusServer, Supervisor, free_port, http
from herdwatch.tools import find

CACHES = 1_000
INTERVAL = 15
CRITICAL_INTERVAL = 5
PAST = 1_860
RAW_PAST = 960
WATCHED_SECONDS = 60.0
SLOWEST = 8
_IMPORT_SECONDS = 600.0
_CRITICAL = ("cache", "instance", "team")
_REMEMBERED: Mapping[str, tuple[tuple[str, ...], int]] = {
    "cache_instance:keys:current": (_CRITICAL, CRITICAL_INTERVAL),
    "cache_instance:keys:by_process": ((*_CRITICAL, "process"), CRITICAL_INTERVAL),
    "cache_instance:keys:settled": ((*_CRITICAL, "process"), CRITICAL_INTERVAL),
    "cache_instance:start:settled": ((*_CRITICAL, "process"), CRITICAL_INTERVAL),
    "cache_instance:miss_ratio": (_CRITICAL, CRITICAL_INTERVAL),
    "cache:requests:rate": (("cache", "team"), CRITICAL_INTERVAL),
    "cache:hit_ratio:long": (("cache", "team"), INTERVAL),
    "cache_instance:replicas:current": (_CRITICAL, INTERVAL),
}
"""Recorded series whose past the rules read: their labels, and how often they are recorded."""

_GROUP = re.compile(r'^prometheus_rule_group_(last_duration_seconds|rules)\{rule_group=".*;([^"]+)"\} (\S+)', re.M)


def run(*, caches: int = CACHES, watched: float = WATCHED_SECONDS) -> None:
    """Let a Prometheus watch so many caches for `watched` seconds and print what their rules took."""
    console = Console(highlight=False)
    with Supervisor() as supervisor, _Page(caches) as page:
        console.print(f"{caches:,} caches: writing {PAST // 60} minutes of past")
        _past(supervisor.folder, page)
        prometheus = PrometheusServer(supervisor, _bundle(supervisor.folder, page))
        console.print(f"evaluating for {watched:g} s")
        rules, durations = _watch(prometheus.url, watched)
        slowest = _slowest(prometheus.url)
        series = prometheus.value(f'count({{job="{JOB}"}})') or 0
        recorded = prometheus.value('count({__name__=~".+:.+"})') or 0
    console.print(_table(rules, durations))
    console.print("the slowest rules: " + ", ".join(f"{name} {took:.3f} s" for name, took in slowest), markup=False)
    console.print(f"{caches:,} caches: {series:,.0f} series scraped, {recorded:,.0f} recorded", markup=False)


class _Page:
    """All caches on one page, as one exporter would show them; counters go on with the clock."""

    def __init__(self, caches: int) -> None:
        self.began = time.time()
        self.names = [f"cache-{number}" for number in range(caches)]
        world = World("bench")
        cache = world.cache()
        world.run(lambda _: iter([30.0]))
        self._samples = list(scraper.of_cache(cache, world.now, job=JOB, watched=True))
        self._server = ThreadingHTTPServer(("127.0.0.1", free_port()), self._handler())

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    def samples(self, at: float) -> Iterator[Sample]:
        """Every sample of every cache at a Unix time."""
        since = at - self.began
        for cache in self.names:
            for name, labels, value in self._samples:
                own = {**labels, "cache": cache, "instance": f"{cache}.example:6379"}
                yield name, own, value + since * 100 + 1e6 if name.endswith("_total") else value

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        page = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                lines = (f"{_series(name, labels)} {value}\n" for name, labels, value in page.samples(time.time()))
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                self.wfile.write("".join(lines).encode())

            def log_message(self, format: str, *arguments: object) -> None:
                """Nothing: the benchmark prints what it has to say."""

        return Handler

    def __enter__(self) -> _Page:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _series(name: str, labels: Mapping[str, str]) -> str:
    pairs = ",".join(f'{label}="{value}"' for label, value in labels.items())
    return f"{name}{{{pairs}}}"


def _bundle(folder: Path, page: _Page) -> Path:
    write(render_bundle(_configuration(page)), folder / "bundle")
    alerts = folder / "bundle" / RULES.parent
    every = f"{INTERVAL}s"
    job = {"job_name": "all", "honor_labels": True, "static_configs": [{"targets": [page.address]}]}
    content = {
        "global": {"scrape_interval": every, "evaluation_interval": every},
        "rule_files": [RULES.name],
        "scrape_configs": [job],
    }
    (alerts / "bench.yml").write_text(yaml.safe_dump(content))
    return alerts / "bench.yml"


def _configuration(page: _Page) -> Config:
    caches = [{"name": name, "url": f"redis://{name}.example"} for name in page.names]
    return parse(yaml.safe_dump({"scrape_interval": f"{INTERVAL}s", "caches": caches}), "the benchmark's configuration")


def _past(folder: Path, page: _Page) -> None:
    """Write the past as blocks of Prometheus, where its data will be."""
    text, tool = folder / "past.txt", find("promtool")
    with text.open("w", encoding="utf-8") as file:
        file.writelines(_past_lines(page))
        file.write("# EOF\n")
    command = tool.command("tsdb", "create-blocks-from", "openmetrics", text, folder / "prometheus")
    done = subprocess.run(command, capture_output=True, text=True, timeout=_IMPORT_SECONDS, check=False)
    text.unlink()
    if done.returncode != 0:
        raise ToolError(f"promtool could not write the past: {done.stderr.strip()[-300:]}")


def _past_lines(page: _Page) -> Iterator[str]:
    now = int(page.began)
    for at in range(now - RAW_PAST, now, INTERVAL):
        for name, labels, value in page.samples(at):
            yield f"{_series(name, labels)} {value} {at}\n"
    for name, (given, every) in _REMEMBERED.items():
        for cache in page.names:
            values = {"cache": cache, "instance": f"{cache}.example:6379", "team": "platform", "process": "-86400"}
            series = _series(name, {label: values[label] for label in given})
            yield from (f"{series} 0.95 {at}\n" for at in range(now - PAST, now, every))


def _watch(url: str, seconds: float) -> tuple[dict[str, int], dict[str, list[float]]]:
    rules: dict[str, int] = {}
    durations: dict[str, list[float]] = defaultdict(list)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(CRITICAL_INTERVAL)
        with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:  # noqa: S310 - our own server
            text = answer.read().decode()
        for kind, group, value in _GROUP.findall(text):
            if kind == "rules":
                rules[group] = int(float(value))
            elif float(value) > 0:
                durations[group].append(float(value))
    return rules, durations


def _slowest(url: str) -> list[tuple[str, float]]:
    groups = http.get_json(f"{url}/api/v1/rules")["data"]["groups"]
    took = [(rule["name"], float(rule["evaluationTime"])) for group in groups for rule in group["rules"]]
    return sorted(took, key=lambda pair: -pair[1])[:SLOWEST]


def _table(rules: Mapping[str, int], durations: Mapping[str, list[float]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="", padding=(0, 2, 0, 0))
    for heading in ("rule group", "rules", "mean", "worst"):
        table.add_column(heading, justify="left" if heading == "rule group" else "right")
    for group, taken in durations.items():
        table.add_row(group, str(rules.get(group, 0)), f"{mean(taken):.3f} s", f"{max(taken):.3f} s")
    return table
