"""The demo: a Redis is killed and comes back empty, and the page about it is followed to its end."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from herdwatch import config as configuration
from herdwatch.bundle import render as rendering
from herdwatch.config import Config
from herdwatch.drill import traffic
from herdwatch.drill.timeline import Timeline
from herdwatch.errors import CheckFailed, HerdwatchError, StackError
from herdwatch.operations import report as telling
from herdwatch.prometheus import Access, Prometheus
from herdwatch.stack import (
    AlertmanagerServer,
    ExporterServer,
    Notification,
    PrometheusServer,
    RedisServer,
    Supervisor,
    WebhookReceiver,
    free_port,
    http,
    pages,
)

KEYS = 200_000
READS_PER_SECOND = 2_000
SCRAPE_SECONDS = 5
RECOVERED_HIT_RATIO = 0.95
ALERT = "CacheRestarted"
CACHE = "demo"
REPORT = Path("incident.html")
"""Where the report of the incident is written, in the folder that the demo is run in."""


@dataclass(frozen=True, slots=True)
class Stack:
    """What the demo runs on."""

    supervisor: Supervisor
    redis: RedisServer
    exporter: ExporterServer
    alertmanager: AlertmanagerServer
    prometheus: PrometheusServer
    webhook: WebhookReceiver


@dataclass(frozen=True, slots=True)
class Outcome:
    """Seconds from the kill to each step of the signal path, and how many pages were delivered."""

    scraped: float
    fired: float
    paged: float
    recovered: float
    resolved: float
    pages: int


def run(*, keep: bool = False) -> None:
    """Run the demo on the terminal; raises CheckFailed naming the step that did not happen."""
    timeline, began = Timeline(), int(time.time())
    with Supervisor() as supervisor, WebhookReceiver() as webhook:
        stack = start(supervisor, webhook, timeline)
        outcome = replay(stack, timeline)
        timeline.say()
        timeline.say(
            f"Verdict: Redis restarted cold; {outcome.pages} page was delivered {outcome.paged:.1f} s after the kill, "
            f"and resolved {outcome.resolved:.1f} s after it."
        )
        report(stack, timeline, began)
        if keep:
            _wait_for_interrupt(stack, timeline)


def start(supervisor: Supervisor, webhook: WebhookReceiver, timeline: Timeline, *, keys: int = KEYS) -> Stack:
    """Start every server and wait until Prometheus knows what is normal."""
    timeline.say("Starting real servers, all on 127.0.0.1:")
    redis = RedisServer(supervisor)
    with timeline.working(f"filling Redis with {keys:,} keys"), redis.client() as client:
        traffic.fill(client, range(keys), batch=5_000, pause=0)
    # The application must use the process group of the stack, so that nothing reads on after the end.
    command = [sys.executable, "-m", "herdwatch.drill.traffic", "--port", str(redis.port)]
    supervisor.start("application", [*command, "--keys", str(keys), "--rate", str(READS_PER_SECOND)])
    listen, alertmanager_address = (f"127.0.0.1:{free_port()}" for _ in range(2))
    file = supervisor.folder / "herdwatch.yaml"
    file.write_text(yaml.safe_dump(_configuration(redis, listen, alertmanager_address, webhook.url)))
    bundle = supervisor.folder / "bundle"
    config = configuration.load(file)
    rendering.write(rendering.render_bundle(config), bundle)
    stack = _servers(supervisor, redis, webhook, file, bundle, config)
    timeline.say(f"  redis-server  {redis.address}, {keys:,} keys, {READS_PER_SECOND:,} reads a second")
    for name, url in _addresses(stack).items():
        timeline.say(f"  {name:<13} {url}")
    _learn_what_is_normal(stack, timeline, keys)
    return stack


def _servers(
    supervisor: Supervisor, redis: RedisServer, webhook: WebhookReceiver, file: Path, bundle: Path, config: Config
) -> Stack:
    exporter = ExporterServer(supervisor, file, listen=config.exporter.listen, runbooks=bundle / "runbooks")
    alertmanager = AlertmanagerServer(
        supervisor, bundle / "alerts" / "alertmanager.yml", listen=config.prometheus.alertmanagers[0]
    )
    prometheus = PrometheusServer(supervisor, bundle / "alerts" / "prometheus.yml")
    return Stack(supervisor, redis, exporter, alertmanager, prometheus, webhook)


def _configuration(redis: RedisServer, listen: str, alertmanager: str, webhook: str) -> dict[str, object]:
    severities = ("critical", "warning", "info", "watchdog")
    return {
        "scrape_interval": f"{SCRAPE_SECONDS}s",
        "caches": [{"name": CACHE, "url": redis.url, "team": "on-call"}],
        "exporter": {"listen": listen},
        "prometheus": {"alertmanagers": [alertmanager]},
        "receivers": {severity: {"webhook_url": f"{webhook}/{severity}"} for severity in severities},
        "links": {"runbook_base_url": f"http://{listen}/runbooks"},
    }


def _addresses(stack: Stack) -> dict[str, str]:
    return {
        "exporter": f"{stack.exporter.url}/",
        "Prometheus": f"{stack.prometheus.url}/ (its alerts: /api/v1/alerts)",
        "Alertmanager": f"{stack.alertmanager.url}/ (its alerts: /api/v2/alerts)",
        "runbooks": f"{stack.exporter.url}/runbooks/",
    }


def _learn_what_is_normal(stack: Stack, timeline: Timeline, keys: int) -> None:
    prometheus = stack.prometheus

    def normal() -> float | None:
        baseline = prometheus.value(f'cache_instance:keys:baseline{{cache="{CACHE}"}}')
        ratio = prometheus.value(f'cache:hits:rate{{cache="{CACHE}"}} / cache:requests:rate')
        return ratio if baseline is not None and baseline >= keys * 0.99 and ratio is not None else None

    ratio = timeline.step("Prometheus knows the normal key count and hit ratio", normal, seconds=60)
    timeline.say(f"Prometheus has learnt what is normal: {keys:,} keys, hit ratio {ratio:.2f}.")


def replay(stack: Stack, timeline: Timeline, *, keys: int = KEYS) -> Outcome:
    """Kill Redis and follow the signal; raises CheckFailed naming the step that did not happen."""
    timeline.say()
    timeline.fault("Redis is killed (SIGKILL) and comes back empty")
    killed = time.monotonic()
    before = stack.prometheus.value("max(cache_start_time_seconds)") or 0.0
    stack.redis.kill()
    stack.redis.restart()

    newer = f"max(cache_start_time_seconds) > {before}"
    timeline.step("a scrape that shows the restart", lambda: stack.prometheus.value(newer), seconds=30)
    scraped = timeline.elapsed()
    counted = stack.prometheus.value("sum(cache_keys)")
    timeline.tell(f"first scrape that shows it: {counted or 0:,.0f} keys of {keys:,}")

    firing = f'ALERTS{{alertname="{ALERT}",alertstate="firing"}}'
    timeline.step(f"{ALERT} fires", lambda: stack.prometheus.value(firing), seconds=30)
    fired = timeline.elapsed()
    timeline.tell(f"{ALERT} fires in Prometheus")

    page = timeline.step("the page is delivered", _delivery(stack, "firing"), seconds=30)
    paged = page.at - killed
    timeline.tell("page delivered to the webhook", at=paged)
    _follow_runbook(page, timeline)
    recovered = _recover(stack, timeline, keys)

    resolved = timeline.step("the page is resolved", _delivery(stack, "resolved"), seconds=150)
    timeline.tell("resolve message delivered to the webhook", at=resolved.at - killed)
    delivered = sum(1 for _ in pages(stack.webhook.received("/critical")))
    return Outcome(scraped, fired, paged, recovered, resolved.at - killed, delivered)


def _delivery(stack: Stack, status: str) -> Callable[[], Notification | None]:
    def found() -> Notification | None:
        _all_alive(stack)
        return next((one for one in stack.webhook.received("/critical") if one.alerts(ALERT, status)), None)

    return found


def _all_alive(stack: Stack) -> None:
    for process in stack.supervisor.dead():
        raise CheckFailed(f"{process.name} has ended: {process.last_words()}")


def _follow_runbook(page: Notification, timeline: Timeline) -> None:
    url = page.alerts(ALERT, "firing")[0].get("annotations", {}).get("runbook_url", "")
    if not url:
        raise CheckFailed("this step did not happen: the page carries a runbook link")
    try:
        status, text = http.get(url)
    except StackError as error:
        raise CheckFailed(f"this step did not happen: the runbook link answers: {error}") from None
    title = re.search(r"<title>([^<]*)</title>", text)
    if status != 200 or title is None or ALERT not in title[1]:
        raise CheckFailed(f"this step did not happen: the runbook link leads to the page of {ALERT}: {status} at {url}")
    timeline.tell(f"runbook link answers {status}, titled {title[1]!r}")


def _recover(stack: Stack, timeline: Timeline, keys: int) -> float:
    with timeline.working("warming up gradually, as the runbook says"), stack.redis.client() as client:
        traffic.fill(client, range(keys), batch=2_000, pause=0.05)
    timeline.tell("gradual warm-up done, in batches of 2,000")
    ratio = f'cache:hits:rate{{cache="{CACHE}"}} / cache:requests:rate'
    recovery = f"{ratio} >= {RECOVERED_HIT_RATIO}"
    value = timeline.step("the hit ratio recovers", lambda: stack.prometheus.value(recovery), seconds=60)
    recovered = timeline.elapsed()
    lowest = stack.prometheus.value(f"min_over_time(({ratio})[2m:5s])")
    timeline.tell(f"hit ratio is back at {value:.2f}; over 20 s it was {lowest or 0:.2f} at its lowest")
    return recovered


def report(stack: Stack, timeline: Timeline, began: int, path: Path = REPORT) -> None:
    """Write the report of what happened since `began`, in seconds since 1970; a failure is told and no more."""
    asked = telling.Asked(began, int(time.time()), interval=SCRAPE_SECONDS)
    url = stack.prometheus.url
    try:
        page = telling.as_html(telling.tell(Prometheus(Access.of(url), seconds=10, pause=None), url, asked))
        telling.write(path, page)
    except HerdwatchError as error:
        timeline.say(f"No report of it: {str(error).removeprefix('--out: ')}")
    else:
        timeline.say(f"Report of the incident, for the post-mortem: {path.resolve()}")


def _wait_for_interrupt(stack: Stack, timeline: Timeline) -> None:
    timeline.say()
    timeline.say("Everything stays up until Ctrl-C:")
    for name, url in _addresses(stack).items():
        timeline.say(f"  {name:<13} {url}")
    try:
        while True:
            _all_alive(stack)
            time.sleep(0.5)
    except KeyboardInterrupt:
        timeline.say("Stopping.")
