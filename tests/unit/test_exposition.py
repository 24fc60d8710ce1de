"""What the exporter writes is, byte for byte, what prometheus_client would have written."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder, generate_latest
from prometheus_client.registry import Collector
from starlette.requests import Request

from herdwatch.collector import Scrape
from herdwatch.collector.families import families
from herdwatch.collector.info import Sample
from herdwatch.metrics import FAMILIES, GUARD_COUNTERS, Family
from herdwatch.server import exposition

OPENMETRICS = "application/openmetrics-text"
WHAT_CLIENTS_ASK_FOR = (
    "",
    "*/*",
    "text/plain;version=0.0.4",
    "text/plain;version=1.0.0;escaping=allow-utf-8",
    f"{OPENMETRICS};version=1.0.0;escaping=underscores;q=0.5,text/plain;version=0.0.4;q=0.3",
    f"{OPENMETRICS};version=0.0.1",
    f"{OPENMETRICS};version=1.0.0;escaping=allow-utf-8",
    f"{OPENMETRICS};version=1.0.0;escaping=values",
    f"{OPENMETRICS};version=1.0.0;escaping=dots",
)
WRITTEN = [family for family in FAMILIES if family.kind != "histogram"]


class Ready(Collector):
    def __init__(self, metrics: Sequence[Metric]) -> None:
        self.metrics = metrics

    def collect(self) -> Sequence[Metric]:
        return self.metrics


def sample_of(family: Family) -> st.SearchStrategy[Sample]:
    values = st.tuples(*(st.text(max_size=20) for _ in family.labels))
    return st.tuples(st.just(family.name), values, st.floats() | st.integers(-(2**60), 2**60) | st.booleans())


SAMPLES = st.lists(st.sampled_from(WRITTEN).flatmap(sample_of), max_size=30)


@given(SAMPLES)
@example([("cache_failure", ('a\\b"c\nd',), 1), ("cache_up", (), 0), ("cache_failure", ("é",), 2)])
@example([("cache_keys", ("0",), 1e22), ("cache_hit_ratio", (), float("nan")), ("cache_memory_max_bytes", (), 2**53)])
@example([("cache", ("7.0", "standalone", ""), 1)])
def test_any_samples(samples: list[Sample]) -> None:
    theirs = Ready(families(samples))
    assert exposition.encode(samples).encode() == generate_latest(theirs)
    encoder, _ = choose_encoder(OPENMETRICS)
    assert exposition.encode(samples, openmetrics=True).encode() + b"# EOF\n" == encoder(theirs)


@pytest.mark.parametrize("family", GUARD_COUNTERS, ids=lambda family: family.name)
def test_republished_families_leave_the_cache_to_the_target(family: Family) -> None:
    values = tuple(f"of {label}" for label in family.labels if label != "cache")
    samples: list[Sample] = [(family.name, values, 3)]
    text = exposition.encode(samples, drop=("cache",))
    assert text.encode() == generate_latest(Ready(families(samples, drop=("cache",))))
    assert "cache=" not in text


@pytest.mark.parametrize("accept", WHAT_CLIENTS_ASK_FOR)
def test_the_whole_answer_in_every_format(accept: str) -> None:
    registry = CollectorRegistry()
    Gauge("process_something", "Of this process.", registry=registry).set(1.5)
    own: list[Sample] = [("herdwatch_build", ("1",), 1)]
    scrape = Scrape([("cache_up", (), 1)], [("singleflight_inflight", ("app",), 2)])
    request = Request({"type": "http", "headers": [(b"accept", accept.encode())]})
    answer = exposition.answer(request, own=own, process=list(registry.collect()), scrape=scrape)
    encoder, content_type = choose_encoder(accept)
    assert answer.headers["content-type"] == content_type
    assert answer.body == encoder(Ready([*families(own), *registry.collect(), *scrape.metrics()]))
