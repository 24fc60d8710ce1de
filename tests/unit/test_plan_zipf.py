"""Zipf's law against sums over every single key, and its exponent found again in what was drawn from it."""

from __future__ import annotations

import math
import random
from collections import Counter
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from herdwatch import journals
from herdwatch.errors import UsageError
from herdwatch.guard import SyncGuard
from herdwatch.guard.journal import JournalFile
from herdwatch.guard.testing import SyncMemoryStore
from herdwatch.operations.plan import popularity
from herdwatch.operations.plan.zipf import EXACT, RELATIVE_ERROR, Zipf, between

EXPONENTS = st.floats(0, 3)
LOOKUPS = 300_000


def probabilities(keys: int, exponent: float) -> list[float]:
    """By the definition, one by one."""
    weights = [rank**-exponent for rank in range(1, keys + 1)]
    whole = math.fsum(weights)
    return [one / whole for one in weights]


def drawn(keys: int, exponent: float, lookups: int = LOOKUPS) -> list[str]:
    """Lookups by Zipf's law, the same ones every time."""
    weights = list(accumulate(rank**-exponent for rank in range(1, keys + 1)))
    chance = random.Random(keys)  # noqa: S311 - traffic, not secrets
    numbers = chance.choices(range(keys), cum_weights=weights, k=lookups)
    return [f"user:{number}" for number in numbers]


@given(keys=st.integers(1, 20_000), exponent=EXPONENTS, lookups=st.floats(1, 1e9), part=st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_bands_of_ranks_agree_with_the_sum_over_every_key(
    keys: int, exponent: float, lookups: float, part: float
) -> None:
    law, single = Zipf(keys, exponent, exact=0), probabilities(keys, exponent)
    touched = math.fsum(1.0 if p >= 1 else -math.expm1(lookups * math.log1p(-p)) for p in single)
    assert law.distinct(lookups) == pytest.approx(touched, rel=RELATIVE_ERROR)
    assert Zipf(keys, exponent).distinct(lookups) == pytest.approx(touched, rel=1e-9)
    assert law.mass(round(part * keys)) == pytest.approx(math.fsum(single[: round(part * keys)]), rel=1e-9)
    assert sum(band.keys for band in law.bands) == keys


def test_a_million_keys_are_as_right_as_a_thousand() -> None:
    law, single = Zipf(1_000_000, 0.9), probabilities(1_000_000, 0.9)
    assert law.mass(300_000) == pytest.approx(math.fsum(single[:300_000]), rel=1e-9)
    touched = math.fsum(-math.expm1(50_000 * math.log1p(-p)) for p in single)
    assert law.distinct(50_000) == pytest.approx(touched, rel=RELATIVE_ERROR)


@given(keys=st.integers(1, 10**12), exponent=st.floats(0, 5), ratio=st.floats(0, 1 - 1e-9))
@settings(max_examples=40, deadline=None)
def test_as_few_keys_as_carry_a_ratio_and_one_less_does_not(keys: int, exponent: float, ratio: float) -> None:
    law = Zipf(keys, exponent)
    found = law.keys_for(ratio)
    assert 0 <= found <= keys
    assert law.mass(found) >= ratio - 1e-12
    assert found == 0 or law.mass(found - 1) < ratio
    assert len(law.bands) < 1500


@given(keys=st.integers(1, 10**9), exponent=st.floats(0, 3), lookups=st.floats(0, 1e9), more=st.floats(1.01, 100))
@settings(max_examples=30, deadline=None)
def test_more_lookups_and_more_keys_touch_more_and_a_steeper_law_fewer(
    keys: int, exponent: float, lookups: float, more: float
) -> None:
    touched, slack = Zipf(keys, exponent).distinct(lookups), 1 + 3 * RELATIVE_ERROR
    assert 0 <= touched <= min(keys, lookups) * (1 + 1e-9)
    assert Zipf(keys, exponent).distinct(lookups * more) * slack >= touched
    assert Zipf(math.ceil(keys * more), exponent).distinct(lookups) * slack >= touched
    assert Zipf(keys, exponent + more / 100).distinct(lookups) <= touched * slack


def test_known_values() -> None:
    assert Zipf(1, 0.7).distinct(5) == 1
    assert [Zipf(1, 0.7).distinct(lookups) for lookups in (-1, 0, 0.25)] == [0, 0, 0.25]
    assert Zipf(4, 0).distinct(2) == pytest.approx(4 * (1 - 0.75**2))
    assert Zipf(10, 0).keys_for(0.75) == 8
    assert Zipf(3, 1).mass(1) == pytest.approx(6 / 11)
    assert Zipf(3, 1).mass(7) == 1
    assert [Zipf(3, 1).keys_for(ratio) for ratio in (-1, 0, 1, 2)] == [0, 0, 3, 3]
    assert between(10, 10, 2.5) == pytest.approx(10**-2.5, rel=1e-3)


@pytest.mark.parametrize(
    ("keys", "exponent"), [(0, 1), (-1, 1), (10**13, 1), (True, 1), (1.5, 1), (1, -0.1), (1, 6), (1, math.nan)]
)
def test_what_is_no_law_is_refused(keys: int, exponent: float) -> None:
    with pytest.raises(UsageError, match="it must be"):
        Zipf(keys, exponent)


@pytest.mark.parametrize("exponent", [0.7, 0.85, 1.0, 1.2, 1.4])
@pytest.mark.parametrize("keys", [20_000, EXACT * 2])
def test_the_exponent_is_found_again_in_exact_counts_and_through_a_journal(
    keys: int, exponent: float, tmp_path: Path
) -> None:
    lookups = drawn(keys, exponent)
    counts = [count for _, count in Counter(lookups).most_common(4000)]
    fit = popularity.exponent(counts, len(lookups), keys)
    assert fit.exponent == pytest.approx(exponent, abs=0.02)
    assert fit.good
    found = popularity.from_journal(journal(tmp_path, {"default": lookups}), keys)
    assert found.fit.exponent == pytest.approx(exponent, abs=0.05)
    assert found.fit.good
    assert (found.cache, found.group, found.fit.lookups) == ("users", "default", LOOKUPS)


def journal(folder: Path, groups: dict[str, list[str]], *, hot_keys: int = 1000, cache: str = "users") -> Path:
    """Written by the guard's own writer, with so few counters that counts are too low."""
    with SyncGuard(SyncMemoryStore(), cache=cache, service="profiles", registry=None, hot_keys=hot_keys) as guard:
        for group, lookups in groups.items():
            hot = guard.core.counts[group].hot
            assert hot is not None
            for begin in range(0, len(lookups), 1000):
                hot.look(lookups[begin : begin + 1000])
        JournalFile(folder, cache, "profiles", [guard.core]).write()
    return folder


def test_counts_that_are_too_low_would_lead_astray_without_their_error(tmp_path: Path) -> None:
    lookups = drawn(20_000, 0.85)
    [read] = [journals.read(journal(tmp_path, {"g": lookups}, hot_keys=150))]
    counts = [one.lookups for one in read.keys]
    assert read.errors["g"] > 300
    blind = popularity.exponent(counts, read.total, 20_000)
    seeing = popularity.exponent(counts, read.total, 20_000, error=read.errors["g"])
    assert abs(seeing.exponent - 0.85) < 0.05 < abs(blind.exponent - 0.85)


def test_a_count_that_is_too_low_by_its_error_counts_in_full_and_a_small_one_not_at_all() -> None:
    counts = [round(1e6 * p) for p in probabilities(1000, 1.0)]
    low = [count - 2000 for count in counts if count > 2000]
    assert popularity.exponent(low, 1_000_000, 1000, error=2000).exponent == pytest.approx(1.0, abs=0.005)
    crumbs = [*low, *[25] * (1000 - len(low))]
    fit = popularity.exponent(crumbs, 1_000_000, 1000, error=2000)
    assert fit.exponent == pytest.approx(1.0, abs=0.005)
    assert fit.ranks == sum(count >= 4000 for count in low)


def test_traffic_of_another_shape_fits_badly_and_says_so() -> None:
    fit = popularity.exponent([1000] * 100 + [30] * 400, 112_000, 10_000)
    assert not fit.good
    assert "it fits badly" in fit.as_text()


def test_of_several_groups_one_has_to_be_named(tmp_path: Path) -> None:
    folder = journal(tmp_path, {"a": drawn(1000, 1.0, 20_000), "b": drawn(1000, 1.3, 20_000), "c": []})
    with pytest.raises(UsageError, match="2 groups; name one of them with --group: a, b"):
        popularity.from_journal(folder, 1000)
    with pytest.raises(UsageError, match="no group 'c' with lookups; there is: a, b"):
        popularity.from_journal(folder, 1000, group="c")
    found = [popularity.from_journal(folder, 1000, group=group).fit.exponent for group in "ab"]
    assert found == pytest.approx([1.0, 1.3], abs=0.05)


def test_a_journal_that_says_too_little_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"group default: only 0 keys were looked up 20 times or more.*give --zipf"):
        popularity.from_journal(journal(tmp_path / "short", {"default": drawn(1000, 0.5, 100)}), 1000)
    with pytest.raises(UsageError, match=r"keys were looked up, and --keys is 3; give how many there are"):
        popularity.from_journal(journal(tmp_path / "few", {"default": drawn(1000, 1.0, 5000)}), 3)
    with pytest.raises(UsageError, match="no journal there"):
        popularity.from_journal(tmp_path, 1000)


def test_keys_of_herdwatch_itself_are_no_traffic(tmp_path: Path) -> None:
    lookups = drawn(1000, 1.0, 50_000) + ["herdwatch:reports"] * 50_000
    random.Random(1).shuffle(lookups)  # noqa: S311 - traffic, not secrets
    assert popularity.from_journal(journal(tmp_path, {"default": lookups}), 1000).fit.exponent < 1.1
