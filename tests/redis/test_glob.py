"""Patterns of key groups mean what they mean to Redis: both are asked about the same keys."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from redis import Redis

from herdwatch.collector.glob import compiled
from herdwatch.stack import RedisServer

ODD = b"ab*?[]^-\\.\n\xc3\xa9\xff"
"""Bytes that mean something to the one or the other, and some that are not text."""

KEYS = st.sets(st.binary(max_size=5) | st.lists(st.sampled_from(ODD), max_size=6).map(bytes), max_size=40)
PATTERNS = st.text(st.sampled_from("ab*?[]^-\\é."), min_size=1, max_size=12) | st.text(
    st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=6
)
ABC = {b"", b"a", b"b", b"A", b"ab", b"abc", b"a\nb", b"-", b"]", b"[", b"^", b"\\", b"*", b"a]", b"\xc3", b"\xc3\xa9"}


@pytest.fixture(scope="module")
def redis(shared: RedisServer) -> Iterator[Redis]:
    with shared.client(db=9) as client:
        yield client


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keys=KEYS, pattern=PATTERNS)
@example(keys=ABC, pattern="*")
@example(keys=ABC, pattern="**")
@example(keys=ABC, pattern="a*b")
@example(keys=ABC, pattern="?")
@example(keys=ABC, pattern="é")
@example(keys=ABC, pattern="[é]?")
@example(keys=ABC, pattern="[a-é]")
@example(keys=ABC, pattern="[c-a]")
@example(keys=ABC, pattern="[a-]")
@example(keys=ABC, pattern="[a-")
@example(keys=ABC, pattern="[a-]]")
@example(keys=ABC, pattern="[]a]")
@example(keys=ABC, pattern="[]")
@example(keys=ABC, pattern="[^]")
@example(keys=ABC, pattern="[^")
@example(keys=ABC, pattern="[^a-b]")
@example(keys=ABC, pattern="[ab")
@example(keys=ABC, pattern=r"[\]]")
@example(keys=ABC, pattern="[\\")
@example(keys=ABC, pattern="\\")
@example(keys=ABC, pattern=r"\*")
@example(keys=ABC, pattern=r"\a\b")
def test_a_pattern_finds_what_it_finds_in_redis(redis: Redis, keys: set[bytes], pattern: str) -> None:
    redis.flushdb()
    if keys:
        redis.mset(dict.fromkeys(keys, 1))
    expression = compiled(pattern)
    found = {key for key in keys if expression.match(key)}
    assert found == set(redis.keys(pattern))
    assert found == set(redis.scan(match=pattern, count=1000)[1])


@pytest.mark.parametrize(
    ("pattern", "found"),
    [("*a" * 100, False), ("*a?[b-c]" * 25, False), ("*a" * 99 + "*x", True), ("[^x]*" * 40, True)],
)
def test_a_pattern_of_many_stars_is_decided_at_once_even_for_a_long_key(pattern: str, found: bool) -> None:
    # Tried the plain way, the first of them would not be decided in the age of the universe.
    assert bool(compiled(pattern).match(b"a" * 50_000 + b"x")) is found
