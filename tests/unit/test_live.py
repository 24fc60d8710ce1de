"""What a runbook page shows of this moment: escaped, with its age, and never a page that fails because Redis did."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.redis.fakes import answering as redis_answering
from tests.redis.fakes import serving
from tests.unit.a_prometheus import answering, found

from herdwatch.bundle import pages
from herdwatch.bundle.location import bundle_root
from herdwatch.config import parse
from herdwatch.operations.verify import Answer, Sight
from herdwatch.server import Exporter, live
from herdwatch.stack import RedisServer, free_port

EVIL = '<script>alert("x")</script>'


class Page(HTMLParser):
    """The tags of a page, the cells of its first table, and its links."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.rows: list[list[str]] = []
        self.links: list[str] = []
        self._in_cell = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "a":
            self.links += [value or "" for name, value in attrs if name == "href"]
        if tag == "tr":
            self.rows.append([])
        self._in_cell = tag in ("td", "th")
        if self._in_cell:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.rows[-1][-1] += data

    def row(self, question: str) -> list[str]:
        return next(row for row in self.rows if row and row[0] == question)


def exporter(*urls: str, more: str = "") -> TestClient:
    caches = ", ".join(f"{{name: cache{number}, url: '{url}'}}" for number, url in enumerate(urls))
    return TestClient(Exporter(parse(f"caches: [{caches}]\n{more}", "x"), runbooks=bundle_root() / "runbooks").app)


@pytest.fixture
def nowhere() -> str:
    return f"redis://127.0.0.1:{free_port()}"


@pytest.fixture
def client(shared: RedisServer, nowhere: str) -> Iterator[TestClient]:
    with exporter(shared.url, nowhere) as entered:
        yield entered


def test_a_page_says_what_is_so_now_of_the_cache_that_is_asked_for(client: TestClient, shared: RedisServer) -> None:
    with shared.client() as redis:
        redis.mset({f"user:{number}": number for number in range(50)})
    answer = client.get("/runbooks/CacheRestarted?cache=cache0")
    with shared.client() as redis:
        redis.flushall()
    page = Page(answer.text)
    assert answer.status_code == 200
    assert page.row("how cold")[2].startswith("50 keys; what is normal is not known: no Prometheus is named")
    assert page.row("redis")[3] == "now"
    assert page.row("singleflight")[1:] == [
        "not known",
        "— no process reports; those that are scraped are not known: no Prometheus is named",
        "—",
    ]
    assert "export CACHE=cache0\n" in answer.text.replace("  # label cache", "")
    assert f"export INSTANCE={shared.address}" in answer.text


def test_a_redis_that_is_down_is_told_and_the_page_is_there(client: TestClient) -> None:
    answer = client.get("/runbooks/CacheDown?cache=cache1")
    page = Page(answer.text)
    assert answer.status_code == 200
    assert page.row("redis")[1] == "see to it"
    assert "does not answer (refused)" in page.row("redis")[2]
    assert page.row("replica")[2:] == ["—", "—"]
    assert "Mitigation" in answer.text


@pytest.mark.parametrize("odd", [b":1\r\n", b"*2\r\n:1\r\n:2\r\n", b"$-1\r\n"])
@pytest.mark.parametrize("command", [b"INFO", b"HGETALL HERDWATCH:REPORTS", b"HGETALL HERDWATCH:SWITCHES"])
def test_a_redis_that_answers_something_else_costs_no_page(odd: bytes, command: bytes) -> None:
    with serving(redis_answering({command: odd})) as port, exporter(f"redis://127.0.0.1:{port}") as client:
        answer = client.get("/runbooks/CacheRestarted")
    assert answer.status_code == 200
    assert ("does not answer (protocol)" in answer.text) == (command == b"INFO")
    assert ("could not be read" in answer.text) == (command != b"INFO")


def test_a_prometheus_that_is_down_costs_the_page_nothing_but_its_values(shared: RedisServer) -> None:
    with exporter(shared.url, more=f"prometheus: {{url: 'http://127.0.0.1:{free_port()}'}}") as client:
        answer = client.get("/runbooks/CacheHitRateLow")
    assert answer.status_code == 200
    assert "cannot be reached" in answer.text
    assert Page(answer.text).row("redis")[2].startswith("Redis ")


def test_a_prometheus_that_never_answers_is_not_waited_for(shared: RedisServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with exporter(shared.url, more=f"prometheus: {{url: '{url}'}}") as client:
            answer = client.get("/runbooks/CacheHitRateLow")
    assert answer.status_code == 200
    assert re.search(r"What is normal is not known: .* did not answer within 0\.7 s", answer.text)
    assert Page(answer.text).row("redis")[2].startswith("Redis ")


def test_a_prometheus_that_wants_credentials_gets_them_and_a_secret_that_is_gone_costs_no_page(
    shared: RedisServer, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("hunter2\n")
    with (
        answering(lambda _: found()) as (url, requests),
        exporter(shared.url, more=f"prometheus: {{url: '{url}', access: {{bearer_file: {token}}}}}") as client,
    ):
        assert "What is normal is not known" not in client.get("/runbooks/CacheHitRateLow").text
        asked = len(requests)
        token.unlink()
        answer = client.get("/runbooks/CacheHitRateLow")
    assert asked > 0
    assert all("Authorization: Bearer hunter2\r\n" in request for request in requests)
    assert (answer.status_code, len(requests)) == (200, asked)
    assert "What is normal is not known: prometheus.access.bearer_file: " in answer.text
    assert Page(answer.text).row("redis")[2].startswith("Redis ")


def test_without_a_cache_a_page_offers_those_that_there_are(client: TestClient) -> None:
    page = Page(client.get("/runbooks/CacheEvicting").text)
    assert [link for link in page.links if link.startswith("?")] == ["?cache=cache0", "?cache=cache1"]


def test_a_cache_that_is_none_is_not_found_and_the_answer_says_which_there_are(client: TestClient) -> None:
    answer = client.get("/runbooks/CacheDown", params={"cache": EVIL})
    assert (answer.status_code, answer.headers["content-type"]) == (404, "text/plain; charset=utf-8")
    assert "there are: cache0, cache1" in answer.text


def test_a_page_about_no_cache_stays_as_it_is(client: TestClient) -> None:
    answer = client.get("/runbooks/HerdwatchWatchdog?cache=cache0")
    assert answer.status_code == 200
    assert 'class="now"' not in answer.text


@pytest.mark.parametrize("path", sorted(path.stem for path in (bundle_root() / "runbooks").glob("*.md")))
def test_every_page_is_served_with_and_without_a_cache(client: TestClient, path: str) -> None:
    if path == "README":
        path = ""
    assert client.get(f"/runbooks/{path}").status_code == 200
    answer = client.get(f"/runbooks/{path}?cache=cache1")
    assert answer.status_code == 200
    assert "script" not in Page(answer.text).tags


def test_nothing_that_a_server_says_becomes_markup() -> None:
    sight = Sight("users", EVIL, 1_700_000_000.0, no_past=EVIL)
    html = live.section(sight, [Answer(EVIL, "bad", EVIL, 61.0), Answer("x", "unknown", "—")])
    assert "script" not in Page(html).tags
    assert Page(html).row(EVIL)[1:] == ["see to it", EVIL, "1 min 1 s"]
    assert Page(html).row("x")[3] == "—"


def test_the_commands_and_queries_of_a_page_are_those_of_the_cache() -> None:
    markdown = (bundle_root() / "runbooks" / "CacheRestarted.md").read_text()
    first = parse((bundle_root() / "herdwatch.yaml").read_text(), "x").caches[0].name
    config = parse(
        "caches: [{name: carts, url: 'redis://carts.example:7000'}]\nexporter: {listen: '10.0.0.1:7'}\n"
        "prometheus: {url: 'http://prom:1', alertmanagers: ['alerts:2']}",
        "x",
    )
    found = live.about(markdown, config.caches[0], config)
    assert "export EXPORTER=http://10.0.0.1:7\n" in found
    assert "export PROM=http://prom:1 " in found
    assert "export ALERTS=http://alerts:2 " in found
    assert "export CACHE=carts " in found
    assert "export INSTANCE=carts.example:7000 " in found
    assert 'cache="carts"' in found
    assert f'cache="{first}"' not in found
    assert "The queries name the cache `carts`." in found


def test_the_page_of_a_stampede_names_the_database_of_the_cache() -> None:
    markdown = (bundle_root() / "runbooks" / "CacheStampede.md").read_text()
    config = parse(
        "caches: [{name: carts, url: 'redis://h', database: orders}, {name: users, url: 'redis://h'}]\n"
        "databases: {orders: {capacity: 10, peak: 100}}",
        "x",
    )
    found = live.about(markdown, config.caches[0], config)
    assert "export DATABASE=orders " in found
    assert 'cache_database:loads:rate{database="orders"}' in found
    assert '{database="main"} 2.604' in found
    assert "export DATABASE=main " in live.about(markdown, config.caches[1], config)


@pytest.mark.parametrize("page", sorted(path.name for path in (bundle_root() / "runbooks").glob("*.md")))
def test_the_commands_of_a_page_reach_a_redis_on_a_socket(page: str) -> None:
    markdown = (bundle_root() / "runbooks" / page).read_text()
    config = parse("caches: [{name: carts, url: 'unix:///run/redis/redis.sock'}]", "x")
    found = live.about(markdown, config.caches[0], config)
    assert 'redis-cli -h "$REDIS_HOST"' not in found
    assert found.count('redis-cli -s "$INSTANCE"') == markdown.count('redis-cli -h "$REDIS_HOST"')


def test_an_address_of_ipv6_loses_its_brackets_on_the_way_to_redis_cli() -> None:
    markdown = (bundle_root() / "runbooks" / "CacheRestarted.md").read_text()
    config = parse("caches: [{name: carts, url: 'redis://[::1]:7000'}]", "x")
    exports = [line for line in live.about(markdown, config.caches[0], config).splitlines() if line[:7] == "export "]
    wanted = [line for line in exports if "INSTANCE" in line]
    script = "\n".join([*wanted, 'echo "$REDIS_HOST $REDIS_PORT"'])
    done = subprocess.run(["/bin/bash", "-c", script], capture_output=True, text=True, timeout=10, check=True)
    assert done.stdout == "::1 7000\n"


def test_a_page_is_made_once_for_all_who_read_it_and_what_is_live_each_time(client: TestClient) -> None:
    pages._around.cache_clear()
    for _ in range(3):
        assert "export CACHE=cache1 " in client.get("/runbooks/CacheDown?cache=cache1").text
    made = pages._around.cache_info()
    assert (made.misses, made.hits) == (1, 2)
    assert pages.to_html("# A\n\n## B\n", title="A", live="<p>1</p>") != pages.to_html("# A\n\n## B\n", title="A")


def test_a_page_that_cannot_be_read_is_told(tmp_path: Path, nowhere: str) -> None:
    (tmp_path / "CacheDown.md").mkdir()
    config = parse(f"caches: [{{name: users, url: '{nowhere}'}}]", "x")
    with TestClient(Exporter(config, runbooks=tmp_path).app) as client:
        answer = client.get("/runbooks/CacheDown")
    assert (answer.status_code, answer.text) == (404, "CacheDown.md cannot be read: Is a directory\n")
