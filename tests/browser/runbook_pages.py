"""From the delivered page to the runbook to the dashboard, in a real Chromium: `make test-browser`."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Browser, Page, sync_playwright
from tests.waiting import until

from herdwatch import config as configuration
from herdwatch.bundle import render as rendering
from herdwatch.guard import Reporter, SyncGuard
from herdwatch.stack import (
    AlertmanagerServer,
    ExporterServer,
    PrometheusServer,
    RedisServer,
    Supervisor,
    WebhookReceiver,
    free_port,
)

SCREENSHOT = os.environ.get("HERDWATCH_SCREENSHOT")
"""Where a picture of the page goes, for the README."""
NAMES = ("chromium", "chromium-browser", "google-chrome")


class Dashboards(BaseHTTPRequestHandler):
    """Stands for a Grafana: it says which dashboard it was asked for."""

    def do_GET(self) -> None:
        body = f"<!doctype html><title>Grafana</title><p id=path>{self.path}</p>".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Not on stderr."""


@pytest.fixture(scope="module")
def dashboards() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Dashboards)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/d"
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.fixture(scope="module")
def redis(supervisor: Supervisor) -> RedisServer:
    return RedisServer(supervisor)


@pytest.fixture(scope="module")
def delivered(supervisor: Supervisor, dashboards: str, redis: RedisServer) -> Iterator[str]:
    """The link of a page that a real Alertmanager delivered because a real Redis died."""
    listen, pager = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    with redis.client() as client:
        client.mset({f"user:{number}": number for number in range(1000)})
    with WebhookReceiver() as webhook:
        file = supervisor.folder / "herdwatch.yaml"
        file.write_text(
            yaml.safe_dump(
                {
                    "scrape_interval": "5s",
                    "caches": [{"name": "users", "url": redis.url}, {"name": "carts", "url": redis.url}],
                    "exporter": {"listen": listen},
                    "prometheus": {"alertmanagers": [pager]},
                    "receivers": {"critical": {"webhook_url": f"{webhook.url}/page"}},
                    "links": {
                        "runbook_base_url": f"http://{listen}/runbooks",
                        "dashboard_base_url": dashboards,
                    },
                }
            )
        )
        bundle = supervisor.folder / "bundle"
        rendering.write(rendering.render_bundle(configuration.load(file)), bundle)
        prometheus = PrometheusServer(supervisor, bundle / "alerts" / "prometheus.yml")
        file.write_text(file.read_text().replace("prometheus:\n", f"prometheus:\n  url: {prometheus.url}\n"))
        ExporterServer(supervisor, file, listen=listen, runbooks=bundle / "runbooks")
        AlertmanagerServer(supervisor, bundle / "alerts" / "alertmanager.yml", listen=pager)
        until(lambda: prometheus.value('cache_up{cache="users"}') == 1)
        redis.kill()
        until(lambda: links(webhook), "a page")
        yield links(webhook)[0]


def links(webhook: WebhookReceiver) -> list[str]:
    alerts = [alert for one in webhook.received() for alert in one.alerts("CacheDown", "firing")]
    return [alert["annotations"]["runbook_url"] for alert in alerts if alert["labels"]["cache"] == "users"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.fail("no Chromium is installed; on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page in which every request that leaves for another host than this one is a failure."""
    opened = browser.new_page()
    opened.set_default_timeout(20_000)
    asked: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    yield opened
    opened.close()
    assert [url for url in asked if not url.startswith(("http://127.0.0.1:", "data:"))] == []


def test_from_the_delivered_page_to_the_runbook_to_the_dashboard(page: Page, delivered: str) -> None:
    page.goto(delivered)
    assert page.title() == "CacheDown · herdwatch runbook"
    row = page.locator("section.now tr", has_text="redis").first
    assert "see to it" in row.inner_text()
    assert "does not answer (refused)" in row.inner_text()
    page.get_by_role("link", name="Dashboard of this cache").click()
    assert page.locator("#path").inner_text() == "/d/herdwatch-cache-restart?var-cache=users"
    page.go_back()
    page.get_by_role("link", name="Mitigation", exact=True).click()
    assert page.url.endswith("#mitigation")


def test_the_whole_page_is_there_without_scripts_and_loads_nothing_else(browser: Browser, delivered: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    opened = context.new_page()
    asked: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(delivered)
    assert opened.locator("h2").count() >= 6
    assert asked == [delivered]
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground_in_light_and_dark(browser: Browser, delivered: str, scheme: str) -> None:
    context = browser.new_context(color_scheme=scheme)  # type: ignore[arg-type]
    opened = context.new_page()
    opened.goto(delivered)
    for place in ("body", "section.now p", "section.now .bad", "main a", "pre code"):
        ratio = opened.locator(place).first.evaluate(CONTRAST)
        assert ratio >= 4.5, (scheme, place, ratio)  # WCAG 2.2, level AA
    context.close()


def test_on_a_telephone_nothing_is_wider_than_the_screen(browser: Browser, delivered: str) -> None:
    opened = browser.new_page(viewport={"width": 360, "height": 740})
    opened.goto(delivered)
    wide = opened.evaluate("document.documentElement.scrollWidth")
    assert wide <= 360
    ages = opened.locator("section.now td:nth-child(4)")
    assert ages.count() > 3
    for number in range(ages.count()):
        box = ages.nth(number).bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= 360
    opened.close()


def test_the_keyboard_alone_gets_to_the_text_and_into_every_box(page: Page, delivered: str) -> None:
    page.goto(delivered)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    boxes = page.locator("pre, .table")
    assert boxes.count() > 5
    assert all(boxes.nth(number).get_attribute("tabindex") == "0" for number in range(boxes.count()))


def test_after_a_restart_the_page_says_how_cold_the_cache_is(page: Page, delivered: str, redis: RedisServer) -> None:
    redis.restart()
    client = redis.client()
    with SyncGuard(client, cache="users", service="profiles", registry=None) as guard, Reporter(guard, every=1):
        for number in range(40):
            guard.get(f"user:{number}", load=str, ttl=60)

        def row(question: str) -> str:
            page.goto(delivered.replace("CacheDown", "CacheRestarted"))
            return page.locator("section.now tr", has_text=question).first.inner_text()

        until(lambda: "(1,0" in row("how cold"), every=1.0)
        until(lambda: "on in 1 of 1 processes (profiles 1 of 1)" in row("singleflight"), every=1.0)
        assert "see to it" in row("how cold")
        if SCREENSHOT:
            page.set_viewport_size({"width": 900, "height": 780})
            page.screenshot(path=str(Path(SCREENSHOT)))
    client.close()


CONTRAST = """
element => {
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const linear = value => { value /= 255; return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4; };
  const light = ([red, green, blue]) => 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);
  let ground = element, colour = [0, 0, 0, 0];
  while (ground && (colour = parse(getComputedStyle(ground).backgroundColor))[3] === 0) ground = ground.parentElement;
  const [one, other] = [light(parse(getComputedStyle(element).color)), light(colour)].sort((a, b) => b - a);
  return (one + 0.05) / (other + 0.05);
}
"""
