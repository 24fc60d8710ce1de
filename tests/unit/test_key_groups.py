"""Key groups by sampling: the arithmetic, and what is asked of Redis and made of its answers."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdwatch.collector.info import Sample
from herdwatch.collector.key_groups import CHUNK, KeyGroups, estimate
from herdwatch.collector.resp import Command, ProtocolError, ReplyError

GROUPS = {"users": "user:*", "admins": "user:admin:*", "sessions": "session:*"}
COUNTS = st.integers(100, 10_000).flatmap(lambda drawn: st.tuples(st.integers(0, drawn), st.just(drawn)))


class Scripted:
    """Answers each RANDOMKEY with the next of these, over and over."""

    def __init__(self, *answers: Any) -> None:
        self.answers = answers
        self.writes: list[int] = []

    async def __call__(self, commands: Sequence[Command]) -> list[Any]:
        assert set(commands) == {("RANDOMKEY",)}
        begin = sum(self.writes)
        self.writes.append(len(commands))
        return [self.answers[number % len(self.answers)] for number in range(begin, begin + len(commands))]


def values(found: list[Sample]) -> dict[tuple[str, str], float]:
    return {(name.removeprefix("cache_key_group_"), *labels): value for name, labels, value in found}


def sampled(ask: Scripted, keys: int, **options: Any) -> dict[tuple[str, str], float]:
    return values(asyncio.run(KeyGroups(GROUPS, **options).samples(ask, keys, spread=0)))


@given(counts=COUNTS, keys=st.integers(0, 10**12))
def test_an_estimate_is_never_negative_never_above_all_keys_and_never_certain(
    counts: tuple[int, int], keys: int
) -> None:
    number, error = estimate(*counts, keys)
    assert 0 <= number <= keys
    assert (error > 0) is (keys > 0)


@given(counts=COUNTS)
def test_a_group_and_all_the_other_keys_have_the_same_error(counts: tuple[int, int]) -> None:
    seen, drawn = counts
    assert estimate(seen, drawn, 1000)[1] == pytest.approx(estimate(drawn - seen, drawn, 1000)[1])


def test_the_error_of_a_large_group_is_that_of_the_textbook_and_a_little_more() -> None:
    number, error = estimate(200, 1000, 1_000_000)
    textbook = 1.96 * math.sqrt(0.2 * 0.8 / 1000) * 1_000_000
    assert number == 200_000
    assert textbook < error < 1.06 * textbook


def test_a_group_that_the_sample_has_not_seen_may_be_four_in_a_thousand() -> None:
    number, error = estimate(0, 1000, 1_000_000)
    assert (number, round(error)) == (0, 3827)


def test_keys_are_shared_out_among_all_patterns_that_match_them() -> None:
    found = sampled(Scripted(b"user:1", b"user:admin:1", b"other", b"Session:1"), 4000)
    assert (found["keys", "users"], found["keys", "admins"], found["keys", "sessions"]) == (2000, 1000, 0)
    assert {name for name, _ in found} == {"keys", "error_keys"}


@pytest.mark.parametrize("samples", [100, 101, 1000, 9999])
def test_as_many_keys_are_drawn_as_are_wanted_in_writes_that_do_not_hold_redis_up(samples: int) -> None:
    ask = Scripted(b"user:1")
    assert sampled(ask, 10, samples=samples)["keys", "users"] == 10
    assert sum(ask.writes) == samples
    assert max(ask.writes) <= CHUNK


def test_the_writes_are_spread_over_the_time_that_is_given_for_them() -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    asyncio.run(KeyGroups(GROUPS, samples=1000, sleep=sleep).samples(ask := Scripted(b"user:1"), 10, spread=0.5))
    assert len(pauses) == len(ask.writes) - 1
    assert sum(pauses) == pytest.approx(0.45)


def test_an_empty_database_has_no_keys_in_any_group_for_certain_and_is_not_asked() -> None:
    ask = Scripted()
    assert set(sampled(ask, 0).values()) == {0}
    assert ask.writes == []


def test_a_database_that_was_emptied_meanwhile_has_no_keys_in_any_group() -> None:
    found = sampled(Scripted(None), 1000, samples=1000)
    assert found["keys", "users"] == 0
    assert found["error_keys", "users"] == pytest.approx(3.827, rel=0.001)


@pytest.mark.parametrize(
    "error",
    [ReplyError("NOPERM"), ReplyError("LOADING"), ReplyError("ERR unknown")],
)
def test_an_error_of_redis_is_raised_as_it_is_even_as_the_last_answer(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)):
        sampled(Scripted(*[b"user:1"] * 799, error), 1000)


@pytest.mark.parametrize("answer", [7, "user:1", [b"user:1"], True])
def test_an_answer_that_is_no_key_is_a_protocol_error(answer: Any) -> None:
    with pytest.raises(ProtocolError, match="another kind"):
        sampled(Scripted(answer), 1000)


def test_a_connection_that_breaks_half_way_gives_no_samples() -> None:
    class Breaking(Scripted):
        async def __call__(self, commands: Sequence[Command]) -> list[Any]:
            if len(self.writes) == 3:
                raise ConnectionResetError
            return await super().__call__(commands)

    with pytest.raises(ConnectionResetError):
        sampled(Breaking(b"user:1"), 1000)


def test_without_exact_groups_there_is_nothing_to_run() -> None:
    assert KeyGroups(GROUPS).exact_pass is None
    assert KeyGroups(GROUPS, exact=("users",)).exact_pass is not None
