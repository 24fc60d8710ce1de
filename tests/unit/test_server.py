"""The exporter's HTTP side, without a Redis behind it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

import pytest
import yaml
from starlette.testclient import TestClient

from herdwatch import config as configuration
from herdwatch.bundle.location import bundle_root
from herdwatch.bundle.render import render_bundle
from herdwatch.errors import UsageError
from herdwatch.server import Exporter, bind

TWO_CACHES = """
caches:
- {name: users, url: 'redis://127.0.0.1:1/0', team: profiles}
- {name: carts, url: 'rediss://[::1]:7000/1', team: 'shop "north"'}
"""


@pytest.fixture
def client() -> Iterator[TestClient]:
    config = configuration.parse(TWO_CACHES, "two.yaml")
    with TestClient(Exporter(config, runbooks=bundle_root() / "runbooks").app) as entered:
        yield entered


def test_service_discovery_needs_no_relabelling(client: TestClient) -> None:
    answer = client.get("/sd", headers={"host": "exporter.example:9878"})
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == [
        {
            "targets": ["exporter.example:9878"],
            "labels": {
                "__metrics_path__": "/probe",
                "__param_target": "users",
                "cache": "users",
                "instance": "127.0.0.1:1",
                "team": "profiles",
            },
        },
        {
            "targets": ["exporter.example:9878"],
            "labels": {
                "__metrics_path__": "/probe",
                "__param_target": "carts",
                "cache": "carts",
                "instance": "[::1]:7000",
                "team": 'shop "north"',
            },
        },
    ]


def test_a_host_header_that_is_no_address_is_not_repeated(client: TestClient) -> None:
    groups = client.get("/sd", headers={"host": "x/../evil?"}).json()
    assert {target for group in groups for target in group["targets"]} == {"127.0.0.1:9878"}


@pytest.mark.parametrize("target", ["", "unknown", "127.0.0.1:6379", "redis://127.0.0.1:6379", "users/../carts"])
def test_a_probe_of_what_is_no_configured_name_is_not_found(client: TestClient, target: str) -> None:
    answer = client.get("/probe", params={"target": target})
    assert answer.status_code == 404
    assert "users, carts" in answer.text


def test_a_probe_of_a_dead_cache_is_a_scrape_that_worked(client: TestClient) -> None:
    answer = client.get("/probe?target=users", headers={"X-Prometheus-Scrape-Timeout-Seconds": "2"})
    assert answer.status_code == 200
    assert "cache_up 0.0" in answer.text
    assert 'cache_failure{reason="refused"} 1.0' in answer.text


@pytest.mark.parametrize("header", ["", "soon", "nan", "-1", "0", "1e999"])
def test_a_senseless_scrape_timeout_is_no_reason_to_fail(client: TestClient, header: str) -> None:
    answer = client.get("/probe?target=users", headers={"X-Prometheus-Scrape-Timeout-Seconds": header})
    assert answer.status_code == 200


def test_with_several_caches_the_own_page_shows_the_exporter_alone(client: TestClient) -> None:
    text = client.get("/metrics").text
    assert "herdwatch_build_info" in text
    assert "cache_up" not in text


@pytest.mark.parametrize("path", ["/-/healthy", "/-/ready"])
def test_liveness_does_not_depend_on_redis(client: TestClient, path: str) -> None:
    assert (client.get(path).status_code, client.get(path).text) == (200, "ok\n")


def test_the_landing_page_names_the_caches_and_no_address(client: TestClient) -> None:
    text = client.get("/").text
    assert 'href="/probe?target=users"' in text
    assert "127.0.0.1" not in text


def test_a_runbook_is_a_page_with_the_alert_as_its_title(client: TestClient) -> None:
    answer = client.get("/runbooks/CacheRestarted?cache=users")
    assert answer.status_code == 200
    assert "<title>CacheRestarted" in answer.text


def test_the_links_of_the_index_lead_to_pages(client: TestClient) -> None:
    index = client.get("/runbooks")
    assert index.status_code == 200
    assert 'href="CacheDown"' in index.text
    assert str(index.url).endswith("/runbooks/")
    assert client.get("/runbooks/CacheDown").status_code == 200


@pytest.mark.parametrize("alert", ["Unknown", "README", "..%2f..%2fherdwatch.yaml", "templates", "%00", "x" * 500])
def test_an_unknown_runbook_is_not_found_and_the_answer_says_which_there_are(client: TestClient, alert: str) -> None:
    answer = client.get(f"/runbooks/{alert}")
    assert answer.status_code == 404
    assert "CacheRestarted" in answer.text or answer.text == "Not Found"


@pytest.mark.parametrize("path", ["/metrics", "/probe?target=users", "/sd", "/runbooks/CacheDown", "/-/healthy"])
def test_nothing_can_be_posted(client: TestClient, path: str) -> None:
    assert client.post(path).status_code == 405


def test_an_address_that_is_taken_is_one_clear_sentence() -> None:
    with bind("127.0.0.1:0") as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(UsageError, match=rf"cannot listen on {address}: .*in use.*--listen"):
            bind(address)


def test_an_answer_is_not_held_back_by_nagle() -> None:
    with bind("127.0.0.1:0") as listener:
        # Event loops set TCP_NODELAY on connections only where the socket names its protocol.
        assert listener.proto != 0


def test_the_rendered_targets_are_those_of_discovery(client: TestClient) -> None:
    config = configuration.parse(TWO_CACHES, "two.yaml")
    rendered = render_bundle(config)[PurePosixPath("alerts/targets.yml")]
    assert yaml.safe_load(rendered) == client.get("/sd", headers={"host": config.exporter.listen}).json()
