"""The arithmetic of a cold restart: against lookups simulated one by one, in its corners, and as people read it."""

from __future__ import annotations

import itertools
import json
import math
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from herdwatch.errors import UsageError
from herdwatch.operations.plan import Origin, Question, arithmetic, as_json, as_text, plan
from herdwatch.operations.plan.figures import FIGURES
from herdwatch.operations.plan.popularity import Fit, Popularity

SEED = Question(50_000, 2500, 2_000_000)
"""The incident: 50,000 lookups a second in front of a database that takes a twentieth."""
SMALL = Question(2000, 300, 3000, processes=2, max_loads=1, load_seconds=0.02)
QUESTIONS = st.builds(
    Question,
    peak_rps=st.floats(1e-3, 1e12),
    capacity=st.floats(1e-3, 1e12),
    keys=st.integers(1, 10**12),
    exponent=st.floats(0, 5),
    load_seconds=st.floats(1e-6, 1e6),
    processes=st.integers(1, 10**6),
    max_loads=st.integers(1, 10**6),
    ttl=st.floats(1e-3, 1e9),
    warm_rate=st.none() | st.floats(1e-3, 1e12),
)
PLANNED = st.builds(
    Question,
    peak_rps=st.floats(10, 1e6),
    capacity=st.floats(10, 1e5),
    keys=st.integers(10, 10**7),
    exponent=st.floats(0, 2),
    load_seconds=st.floats(1e-3, 1),
)
MORE = st.floats(1.01, 10)
SLACK = 1.001


def numbers(asked: Question) -> dict[str, float]:
    return {row.name: row.number for row in plan(asked).rows}


def arrivals(asked: Question, seconds: float, seed: int) -> list[tuple[float, int]]:
    """When which key is looked up."""
    chance = random.Random(seed)  # noqa: S311 - traffic, not secrets
    weights = list(itertools.accumulate(rank**-asked.exponent for rank in range(1, asked.keys + 1)))
    times = sorted(chance.uniform(0, seconds) for _ in range(round(asked.peak_rps * seconds)))
    return list(zip(times, chance.choices(range(asked.keys), cum_weights=weights, k=len(times)), strict=True))


def test_the_incident_of_the_seed() -> None:
    found = numbers(SEED)
    assert found["needed_hit_ratio"] == pytest.approx(0.95)
    assert found["unguarded"] == 50_000
    assert found["singleflight"] == pytest.approx(22_624, rel=1e-3)
    assert found["limiter"] == found["singleflight"]
    assert found["limiter_for_capacity"] == 5
    assert found["warm_before_admitting"] == pytest.approx(2500, rel=1e-3)
    assert found["keys_to_warm"] == pytest.approx(940_686, abs=5)
    assert found["warm_seconds_seed"] == pytest.approx(940.7, abs=0.1)
    assert found["warm_seconds_capacity"] == pytest.approx(376.3, abs=0.1)
    assert found["recovery_seconds_needed"] == pytest.approx(471.4, rel=1e-3)
    assert numbers(replace(SEED, max_loads=1))["recovery_seconds_95"] == pytest.approx(5 * 471.4, rel=1e-3)
    assert found["refresh_xfetch"] == pytest.approx(555.4, rel=1e-3)
    assert found["refresh_coin"] == 2500
    assert found["replica"] == 0
    held = replace(SEED, max_loads=5)
    assert numbers(held)["limiter"] == pytest.approx(2500)


@pytest.mark.parametrize("exponent", [0.0, 0.8, 1.0, 1.3])
def test_singleflight_is_what_a_simulation_of_single_lookups_loads(exponent: float) -> None:
    asked = replace(SMALL, exponent=exponent)
    simulated = [len({key for _, key in arrivals(asked, 1.0, seed)}) for seed in range(5)]
    assert arithmetic.coalesced_loads(asked) == pytest.approx(sum(simulated) / 5, rel=0.02)


@pytest.mark.parametrize(("exponent", "load_seconds"), [(0.8, 0.02), (1.2, 0.1), (1.0, 0.4)])
def test_without_the_lease_processes_load_what_another_one_has_not_stored_yet(
    exponent: float, load_seconds: float
) -> None:
    asked = replace(SMALL, exponent=exponent, load_seconds=load_seconds, processes=8)
    loads = 0
    for seed in range(5):
        chance = random.Random(seed)  # noqa: S311 - traffic, not secrets
        stored, loading = dict[int, float](), set[tuple[int, int]]()
        for at, key in arrivals(asked, 1.0, seed):
            process = chance.randrange(8)
            if at < stored.get(key, math.inf) and (key, process) not in loading:
                loading.add((key, process))
                stored.setdefault(key, at + load_seconds)
        loads += len(loading)
    found = arithmetic.loads_without_lease(asked)
    assert found == pytest.approx(loads / 5, rel=0.03)
    assert arithmetic.coalesced_loads(asked) < found < 8 * arithmetic.coalesced_loads(asked)
    assert arithmetic.loads_without_lease(replace(asked, processes=1)) == arithmetic.coalesced_loads(asked)


def simulated_recovery(asked: Question, ratio: float, seed: int) -> float:
    """Lookups one by one: who misses asks for a load, of which so many begin a second, oldest first; once it ends its
    key is there. When the keys that are there carry the ratio.
    """
    whole = math.fsum(rank**-asked.exponent for rank in range(1, asked.keys + 1))
    free, gap, carried = 0.0, 1 / arithmetic.fill_rate(asked), 0.0
    waiting, known, ending = list[int](), set[int](), list[tuple[float, int]]()
    for at, key in arrivals(asked, 60.0, seed):
        while ending and ending[0][0] <= at:
            carried += (ending.pop(0)[1] + 1) ** -asked.exponent / whole
        if carried >= ratio:
            return at
        if key not in known:
            known.add(key)
            waiting.append(key)
        while waiting and free <= at:
            ending.append((max(free, at) + asked.load_seconds, waiting.pop(0)))
            free = max(free, at - gap) + gap
    raise AssertionError("it takes longer than a minute")


@pytest.mark.parametrize("exponent", [0.8, 1.0, 1.2])
@pytest.mark.parametrize(
    ("max_loads", "ratio", "early"), [(1, 0.5, 0.05), (1, 0.85, 0.05), (64, 0.85, 0.05), (64, 0.95, 0.2)]
)
def test_coming_back_takes_as_long_as_in_a_simulation(
    exponent: float, max_loads: int, ratio: float, early: float
) -> None:
    asked = replace(SMALL, exponent=exponent, max_loads=max_loads)
    simulated = sum(simulated_recovery(asked, ratio, seed) for seed in range(3)) / 3
    found = arithmetic.recovery_seconds(asked, ratio)
    assert simulated * 0.95 <= found <= simulated / (1 - early)


@given(asked=QUESTIONS)
@settings(max_examples=30, deadline=None)
def test_every_figure_is_a_number_that_can_be_meant(asked: Question) -> None:
    made = plan(asked)
    found = {row.name: row.number for row in made.rows}
    assert all(math.isfinite(value) and value >= 0 for value in found.values())
    assert found["needed_hit_ratio"] <= 1
    assert found["singleflight"] <= asked.peak_rps * SLACK
    assert found["limiter"] <= found["singleflight"] <= found["singleflight_without_lease"] * SLACK
    assert found["keys_to_warm"] <= asked.keys
    assert found["warm_before_admitting"] <= min(asked.capacity, asked.peak_rps) * SLACK + 1e-9 * asked.peak_rps
    assert ("warm_seconds_rate" in found) == (asked.warm_rate is not None)
    json.loads(as_json(made, Origin()), parse_constant=pytest.fail)
    assert not re.search(r"\b(nan|inf)\b", as_text(made, Origin()))


@given(asked=PLANNED, more=MORE)
@settings(max_examples=20, deadline=None)
def test_what_grows_with_what(asked: Question, more: float) -> None:
    now = numbers(asked)
    peak = numbers(replace(asked, peak_rps=asked.peak_rps * more))
    database = numbers(replace(asked, capacity=asked.capacity * more))
    keys = numbers(replace(asked, keys=math.ceil(asked.keys * more)))
    steeper = numbers(replace(asked, exponent=asked.exponent + more / 10))
    for name in ("needed_hit_ratio", "unguarded", "singleflight", "limiter", "keys_to_warm", "refresh_xfetch"):
        assert now[name] <= peak[name] * SLACK, name
    for name in ("needed_hit_ratio", "keys_to_warm", "recovery_seconds_needed", "recovery_seconds_95"):
        assert database[name] <= now[name] * SLACK, name
    for name in ("singleflight", "limiter", "keys_to_warm", "recovery_seconds_95", "refresh_xfetch"):
        assert now[name] <= keys[name] * SLACK, name
    for name in ("singleflight", "limiter", "keys_to_warm", "refresh_xfetch"):
        assert steeper[name] <= now[name] * SLACK, name
    assert now["limiter_for_capacity"] <= database["limiter_for_capacity"]


def test_a_database_that_takes_the_whole_peak_needs_no_cache() -> None:
    made = plan(Question(500, 500, 5, exponent=0))
    found = {row.name: row.number for row in made.rows}
    assert [found[name] for name in ("needed_hit_ratio", "keys_to_warm", "recovery_seconds_needed")] == [0, 0, 0]
    assert found["singleflight"] == pytest.approx(5)
    assert "the database takes its peak without a cache" in made["needed_hit_ratio"].formula
    assert "# nothing: the database takes its peak" in as_text(made, Origin())
    assert "herdwatch warm" not in as_text(made, Origin()).partition("next:")[2]


@pytest.mark.parametrize(
    ("field", "value"),
    [("peak_rps", 0.0), ("peak_rps", -1.0), ("capacity", math.nan), ("capacity", math.inf), ("keys", 0),
     ("processes", 0), ("max_loads", 0), ("load_seconds", 0.0), ("ttl", -1.0), ("warm_rate", 0.0),
     ("exponent", math.nan)],
)  # fmt: skip
def test_a_value_that_is_none_is_named(field: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"{field} is .*it must be"):
        replace(SEED, **{field: value})
    with pytest.raises(UsageError, match="which no traffic reaches"):
        arithmetic.recovery_seconds(SEED, 1.0)


def test_a_plan_shows_the_formula_and_the_source_of_every_figure() -> None:
    made = plan(replace(SEED, warm_rate=5000))
    shown = as_text(made, Origin(), width=140)
    squeezed = "".join(shown.split())
    places = {source: place for place, source in re.findall(r"(?m)^(\[\d+\]) (.+)$", shown)}
    assert [row.name for row in made.rows] == [figure.name for figure in FIGURES]
    for row in made.rows:
        assert row.what in shown
        assert f"{row.formula} {''.join(places[source] for source in row.sources)}".replace(" ", "") in squeezed
    flat = " ".join(shown.split())
    assert "1 - C / R = 1 - 2,500 / 50,000" in flat
    assert "seed (Thundering Herd: Cache Restart Resilience), Solution 3" in flat
    assert "over the capacity" in made["warm_seconds_rate"].formula
    assert "the tightest" in made["warm_seconds_capacity"].formula
    assert max(map(len, as_text(made, Origin(), width=90).partition("next:")[0].splitlines())) <= 120
    assert "longer than the ttl of 60 s" in plan(replace(SEED, ttl=60))["warm_seconds_seed"].formula


def test_without_a_journal_the_exponent_is_called_an_assumption() -> None:
    made = plan(SEED)
    flat = " ".join(as_text(made, Origin()).split())
    assert "s = 1, Zipf's exponent, assumed, since nothing says better: let the application write a journal" in flat
    assert json.loads(as_json(made, Origin()))["exponent"]["from"] == "assumed"
    assert "given with --zipf" in as_text(made, Origin(given=True))
    assert "--keys 2000000 --zipf 1 --write" in as_text(made, Origin(given=True))


@pytest.mark.parametrize(
    ("asked", "tells"),
    [
        (SEED, "--until-hit-ratio capacity --ttl 3600"),
        (replace(SEED, capacity=400), "--ttl 3600 --max-rate 400"),
        (replace(SEED, warm_rate=2000), "--ttl 3600 --max-rate 2000"),
        (replace(SEED, warm_rate=20_000), "--ttl 3600 --max-rate 2500"),
    ],
)
def test_the_warm_up_that_comes_next_keeps_to_what_the_database_takes(asked: Question, tells: str) -> None:
    [line] = [
        line for line in as_text(plan(asked), Origin(journal=Path("a b"))).splitlines() if "herdwatch warm --" in line
    ]
    assert line.endswith(tells)
    assert "--cache NAME --journal 'a b' --loader MODULE:FUNCTION" in line


def test_the_keys_of_each_service_in_a_journal_are_warmed_by_themselves() -> None:
    def warm(*services: str) -> list[str]:
        popularity = Popularity(Fit(1.1, 100, 10_000, 0.5, 0.01), "users", "default", services, ())
        made = as_json(plan(SEED), Origin(popularity, journal=Path("journals")))
        return [line for line in json.loads(made)["next"] if line.startswith("herdwatch warm")]

    assert ["--service" in line for line in warm("profiles")] == [False]
    orders, profiles = warm("orders", "the profiles")
    assert "--journal journals --service orders --group default --loader" in orders
    assert "--service 'the profiles' " in profiles
