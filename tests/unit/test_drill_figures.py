"""From logs to figures: what a window, a quantile, a hit ratio and a recovery are."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdwatch.drill.replay import figures
from herdwatch.drill.replay.frames import Outcome
from herdwatch.drill.replay.logs import Load, Noted, Query, Sample

TIMES = st.lists(st.integers(0, 5_000).map(lambda milliseconds: milliseconds / 1000), max_size=60)


def load(outcomes: list[Outcome], latencies: list[float], *, at: float = 100.0, rate: float = 10.0) -> Load:
    return Load(at, rate, 0.0, array("f", latencies), bytes(outcomes))


@given(TIMES)
def test_the_busiest_second_is_the_fullest_window_wherever_it_begins(times: list[float]) -> None:
    brute = max((sum(begin <= at < begin + 1.0 for at in times) for begin in times), default=0)
    assert figures.busiest(times) == brute


@given(st.lists(st.floats(0, 10), min_size=1), st.sampled_from([0.5, 0.99, 1.0]))
def test_a_quantile_is_a_value_that_was_there_and_that_its_share_does_not_exceed(
    values: list[float], share: float
) -> None:
    ordered = sorted(values)
    found = figures.quantile(ordered, share)
    assert found in ordered
    assert sum(value <= found for value in ordered) >= share * len(ordered)


def test_no_values_have_no_quantile() -> None:
    assert figures.quantile([], 0.5) is None


def test_users_are_those_whose_requests_were_due_whenever_they_were_answered() -> None:
    outcomes = [Outcome.SERVED, Outcome.SHED, Outcome.FAILED, Outcome.GAVE_UP, Outcome.REFUSED, Outcome.SERVED]
    told = figures.users(load(outcomes, [0.1, 0.0, 0.2, 2.0, 0.3, 0.4]), 100.1, 100.5)
    assert told == figures.Users(requests=4, failed=3, shed=1, p50=pytest.approx(0.3), p99=pytest.approx(2.0))


def test_those_turned_away_have_no_latency() -> None:
    assert figures.users(load([Outcome.SHED] * 3, [0.0] * 3), 100.0, 101.0).p99 is None


def test_a_hit_ratio_is_of_all_processes_together_and_none_without_lookups() -> None:
    one = Noted((), (Sample(0.0, 0, 0), Sample(1.0, 90, 100), Sample(2.0, 90, 100)))
    other = Noted((), (Sample(0.0, 0, 0), Sample(1.0, 0, 100), Sample(2.0, 0, 100)))
    assert figures.hit_ratios([one, other], [0.5, 1.5, 2.5]) == [0.45, None]


@pytest.mark.parametrize(
    ("ratios", "second"),
    [
        ([0.99, 1.0, 0.97], 0),
        ([0.2, 0.5, 0.95, 0.96, 0.3], 2),
        ([0.2, 0.96, 0.5, 0.96, 0.97], 3),
        ([None, None, 0.96, 0.99], 2),
        ([0.99, 0.2, 0.99], None),
        ([0.2, 0.3], None),
    ],
    ids=["never cold", "comes back", "one good second is no recovery", "shut, then warm", "too short", "stays cold"],
)
def test_a_cache_is_back_when_it_stays_warm(ratios: list[float | None], second: int | None) -> None:
    assert figures.recovered(ratios) == second


def test_curves_have_a_value_a_second_around_the_fault() -> None:
    queries = (Query(99.5, 99.6, 99.7), Query(100.2, None, 102.0), Query(100.4, 101.5, 101.6))
    noted = [Noted(queries, (Sample(99.0, 0, 0), Sample(99.9, 10, 10), Sample(100.9, 12, 20), Sample(101.9, 12, 20)))]
    requests = load([Outcome.SERVED] * 10 + [Outcome.GAVE_UP] * 10, [0.01] * 10 + [2.0] * 10, at=99.0)
    found = figures.curves(requests, noted, 100.0, before=1, after=2)
    assert found.first == -1
    assert (found.asked, found.sent) == ((1, 2, 0), (1, 0, 1))
    assert found.hit_ratio == (1.0, 0.2, None)
    assert found.failed == (0, 10, 0)
    assert found.p99 == (pytest.approx(0.01), pytest.approx(2.0), None)
