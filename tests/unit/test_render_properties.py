"""Whatever text stands in herdwatch.yaml: a clear error, or a bundle of the same structure with that text in it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from herdwatch.bundle import promql, rules
from herdwatch.bundle.render import RULES, render_bundle
from herdwatch.bundle.templates import DELIMITERS, promql_string, yaml_scalar
from herdwatch.config import Config, parse
from herdwatch.errors import ConfigError

Place = tuple[str | int, ...]

FIELDS: dict[str, tuple[Place, str, tuple[str, ...]]] = {
    "the name of a cache": (("caches", 0, "name"), "harmless-cache", ("", "a")),
    "a team": (("caches", 0, "team"), "harmless team", ("", "a ")),
    "an ACL user": (("caches", 0, "username"), "harmless-user", ("",)),
    "the URL of a cache": (("caches", 0, "url"), "redis://harmless", ("", "redis://", "redis://h", "unix:///")),
    "the name of a database": (("caches", 0, "database"), "harmless-database", ("", "a")),
    "the job of the caches": (("jobs", "cache"), "harmless-job-1", ("", "a")),
    "the job of the exporter": (("jobs", "exporter"), "harmless-job-2", ("", "a")),
    "the job of the applications": (("jobs", "application"), "harmless-job-3", ("", "a")),
    "the exporter's address": (("exporter", "listen"), "harmless-exporter:80", ("", "h:", "[::1]:")),
    "an Alertmanager": (("prometheus", "alertmanagers", 0), "harmless-pager:80", ("", "h:", "[::1]:")),
    "an application": (("prometheus", "applications", 0), "harmless-application:80", ("", "h:", "[::1]:")),
    "who scrapes": (("prometheus", "exporter_access", "username"), "harmless-scraper", ("", "a ")),
    "the scraper's password": (("prometheus", "exporter_access", "password_file"), "harmless/password", ("", "/a")),
    "the exporter's authority": (("prometheus", "exporter_access", "ca_file"), "harmless/authority", ("", "/a")),
    "the scraper's certificate": (("prometheus", "exporter_access", "cert_file"), "harmless/certificate", ("", "/a")),
    "the scraper's key": (("prometheus", "exporter_access", "key_file"), "harmless/key", ("", "/a")),
    "a receiver's URL": (("receivers", "critical", "webhook_url"), "http://harmless-hook", ("", "http://h/?")),
    "where runbooks are": (("links", "runbook_base_url"), "http://harmless-pages", ("", "http://h/")),
    "where dashboards are": (("links", "dashboard_base_url"), "http://harmless-boards", ("", "https://h:1/")),
}
"""Path in herdwatch.yaml, a harmless value, and beginnings that let more of the text through."""

CONTROLS = "\t\n\r\0\x07\x1b\x7f\x85\xa0\u200b\u2028\u2029\u202e\ufeff\ud800\udfff\ue000"
SIGNS = "\"'`\\{}[]()<>%#=$&*|>:;,.?!@~^-+_/ é😀٣aZ09"
WORDS = (
    "{{",
    "}}",
    "[=",
    "=]",
    "[%",
    "%]",
    "[#",
    "#]",
    "{{ $value }}",
    "${x}",
    '"} or up{a="',
    ": ",
    " #",
    "\n- ",
    "%41",
)
PLAIN = "abcXYZ0189._~!$&()*+,;=:@/-"

hostile = st.one_of(
    st.text(st.characters(), max_size=40),
    st.lists(st.sampled_from([*WORDS, *SIGNS, *CONTROLS]), max_size=12).map("".join),
    st.text(st.sampled_from(SIGNS), max_size=40),
    st.text(st.sampled_from(PLAIN), max_size=130),
    st.builds(
        lambda text, times: text * times, st.sampled_from(["a", "é", "%", "a.", "9"]), st.sampled_from([64, 9999])
    ),
)


def document() -> dict[str, Any]:
    """A configuration that gives every value that may be given, the harmless ones among them."""
    data: dict[str, Any] = {
        "caches": [
            {},
            {"name": "carts", "url": "redis://127.0.0.2:6379/0", "overrides": {"CacheRestarted": 0.25}},
        ],
        "exporter": {},
        "jobs": {},
        "prometheus": {
            "alertmanagers": [""],
            "applications": ["", "127.0.0.1:8000"],
            "exporter_access": {"scheme": "https"},
        },
        "receivers": {"critical": {}, "watchdog": {"webhook_url": "http://127.0.0.1:9099/alive"}},
        "links": {},
    }
    for path, value, _ in FIELDS.values():
        put(data, path, value)
    return data


def put(data: dict[str, Any], path: Place, value: str) -> None:
    *way, last = path
    block: Any = data
    for step in way:
        block = block[step]
    block[last] = value
    if last == "database":
        data["databases"] = {value: {"capacity": 2500, "peak": 50000}}


def understood(data: object) -> tuple[Config | None, str]:
    """The configuration in this YAML text, or in the YAML that a user would write for it; or what is wrong with it."""
    text = data if isinstance(data, str) else yaml.safe_dump(data)
    try:
        return parse(text, "herdwatch.yaml"), ""
    except ConfigError as error:
        return None, str(error)


def value_at(config: Config, path: Place) -> str:
    """The value as the configuration holds it; a base URL has lost its last slash."""
    found: Any = config
    for step in path:
        found = getattr(found, step) if hasattr(found, str(step)) else found[step]
    return str(found)


def structure(path: PurePosixPath, text: str) -> Any:
    """A rendered file as data; a page is its own text."""
    if path.suffix == ".json":
        return json.loads(text)
    return yaml.safe_load(text) if path.suffix == ".yml" else text


def exchanged(data: Any, old: str, new: str) -> Any:
    """The same structure with `new` wherever `old` stood."""
    if isinstance(data, dict):
        return {key: exchanged(value, old, new) for key, value in data.items()}
    if isinstance(data, list):
        return [exchanged(value, old, new) for value in data]
    return data.replace(old, new) if isinstance(data, str) else data


@pytest.fixture(scope="module")
def harmless() -> Mapping[PurePosixPath, Any]:
    """The bundle, as data, with a harmless value in every field."""
    config, _ = understood(document())
    assert config is not None
    return {path: structure(path, text) for path, text in render_bundle(config).items()}


@pytest.mark.parametrize("field", FIELDS)
def test_any_text_is_refused_or_stands_in_its_place_and_changes_nothing_else(
    field: str, harmless: Mapping[PurePosixPath, Any]
) -> None:
    path, usual, beginnings = FIELDS[field]

    @settings(max_examples=15, deadline=None, database=None)
    @given(st.sampled_from(beginnings), hostile)
    def holds(beginning: str, text: str) -> None:
        data = document()
        put(data, path, beginning + text)
        config, refusal = understood(data)
        if config is None:
            assert refusal.startswith("herdwatch.yaml:")
            return
        old, new = usual, value_at(config, path)
        if path[-1] == "url":  # what stands in the bundle is its address alone
            old, new = "harmless:6379", config.caches[0].instance
        bundle = render_bundle(config)
        assert {name: structure(name, text) for name, text in bundle.items()} == {
            name: exchanged(data, old, new) for name, data in harmless.items()
        }

    holds()


@pytest.mark.parametrize("field", [field for field in FIELDS if field not in ("an ACL user", "the URL of a cache")])
def test_the_harmless_value_does_reach_the_bundle(field: str, harmless: Mapping[PurePosixPath, Any]) -> None:
    usual = FIELDS[field][1]
    assert any(exchanged(data, usual, "") != data for data in harmless.values())


@settings(max_examples=150, deadline=None, database=None)
@given(
    st.one_of(
        hostile, st.lists(st.sampled_from([*WORDS, "caches", ":", "\n", "  ", "&a ", "*a", "!!", "int"])).map("".join)
    )
)
def test_any_text_as_the_whole_file_is_refused_with_its_place_or_understood(text: str) -> None:
    config, refusal = understood(text)
    assert config is not None or refusal.startswith("herdwatch.yaml:")


@settings(max_examples=150, deadline=None, database=None)
@given(st.text(st.characters(exclude_categories=["Cs"])) | hostile.filter(lambda text: text.isprintable()))
def test_the_yaml_filter_writes_any_text_on_one_line_that_reads_back_the_same(text: str) -> None:
    written = yaml_scalar(text)
    assert yaml.safe_load(f"key: {written} # comment") == {"key": text}
    assert len(written.splitlines()) == 1
    assert not any(mark in written for mark in DELIMITERS)


@settings(max_examples=150, deadline=None, database=None)
@given(st.text(st.characters(exclude_categories=["Cs"])) | hostile.filter(lambda text: text.isprintable()))
def test_the_promql_filter_writes_any_text_as_one_string_of_the_same_value(text: str) -> None:
    [selector] = promql.selectors(f"x{{a={promql_string(text)}}}")
    assert [(matcher.label, matcher.value) for matcher in selector.matchers] == [("a", text)]


ratios = st.floats(0, 1, exclude_min=True, exclude_max=True, allow_subnormal=False)
rates = st.floats(0, exclude_min=True, allow_infinity=False, allow_subnormal=False)


@settings(max_examples=15, deadline=None, database=None)
@given(st.integers(5_000, 60_000), ratios, rates, rates, rates)
def test_any_number_in_its_bounds_gives_rules_with_that_number(
    milliseconds: int, ratio: float, rate: float, capacity: float, peak: float
) -> None:
    data = document()
    data["scrape_interval"] = f"{milliseconds}ms"
    data["thresholds"] = {"CacheHitRateLow": ratio, "traffic_floor": rate}
    data["caches"][1]["overrides"] = {"CacheKeysLost": ratio, "HighCoalescingRate": rate}
    data["databases"]["harmless-database"] = {"capacity": min(capacity, peak), "peak": max(capacity, peak)}
    config, refusal = understood(data)
    if config is None:
        assert "peak must exceed capacity" in refusal
        return
    bundle = render_bundle(config)
    given_by = {
        (rule.name, rule.labels.get("alert", "")): float(rule.expr.removeprefix("vector(").removesuffix(")"))
        for rule in rules.load(bundle[RULES], str(RULES))
        if rule.name in ("herdwatch:capacity", "herdwatch:threshold")
    }
    assert given_by[("herdwatch:capacity", "")] == min(capacity, peak)
    assert given_by[("herdwatch:threshold", "CacheKeysLost")] == ratio
    assert given_by[("herdwatch:threshold", "HighCoalescingRate")] == rate
    assert math.isclose(
        given_by[("herdwatch:threshold", "CacheHitRateLow")], 1 - min(capacity, peak) / max(capacity, peak)
    )
