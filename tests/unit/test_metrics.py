"""The declarations of the metric families."""

from __future__ import annotations

import re

import pytest

from herdwatch.metrics import BY_NAME, FAMILIES, Family


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_family_is_named_and_explained_as_the_field_does(family: Family) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]*", family.name)
    assert family.name.endswith("_total") is (family.kind == "counter")
    assert family.help.endswith(".")
    assert family.source
    assert len(set(family.labels)) == len(family.labels)


def test_a_family_is_declared_once() -> None:
    assert len(BY_NAME) == len(FAMILIES)


def test_the_seed_names_are_there() -> None:
    assert {"cache_hits_total", "cache_requests_total", "singleflight_coalesced_total", "cache_keys"} <= set(BY_NAME)
