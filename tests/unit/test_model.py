"""The model of a cache: what must hold of it whatever happens, and what a scraper sees."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest

from herdwatch.metrics import BY_SAMPLE
from herdwatch.proof.catalogue import INCIDENTS
from herdwatch.proof.catalogue.restarts import restart
from herdwatch.proof.incident import Incident
from herdwatch.proof.plays import Play, Point
from herdwatch.proof.world import Script, World


@cache
def happened(incident: Incident) -> tuple[World, Play]:
    world = incident.happen(interval=15, phase=7)
    return world, world.play(incident.name)


def play(script: Script, *, interval: int = 15, phase: int = 7) -> tuple[World, Play]:
    world = World("test", interval=interval, phase=phase)
    world.run(script)
    return world, world.play("test")


def points(made: Play, name: str, **labels: str) -> list[Point]:
    """All samples of the series with this name and at least these labels, of all together in the order of time."""
    found = [one for one in made.series if one.name == name and labels.items() <= one.labels.items()]
    assert found, name
    return sorted(point for one in found for point in one.points if point[1] is not None)


def values(made: Play, name: str, **labels: str) -> list[float]:
    return [value for _, value in points(made, name, **labels) if value is not None]


@pytest.mark.parametrize(
    ("guard", "seen"),
    [(False, 0.95), (True, 950 / (950 + 2 * 49))],
    ids=["without a guard", "with one, whose loads are two misses for Redis, and which shares one in fifty"],
)
def test_a_cache_that_is_left_alone_stays_as_it_is(guard: bool, seen: float) -> None:
    def script(world: World) -> Iterator[float]:
        world.cache(lookups=1_000, keys=200_000, hit_ratio=0.95, guard=guard)
        yield 3_600

    _, made = play(script)
    assert all(abs(count - 200_000) < 20 for count in values(made, "cache_keys", db="0"))
    hits, requests = values(made, "cache_hits_total"), values(made, "cache_requests_total")
    ratio = (hits[-1] - hits[0]) / (requests[-1] - requests[0])
    assert ratio == pytest.approx(seen, abs=0.001)


def test_a_cold_cache_refills_with_its_popular_keys_first() -> None:
    def script(world: World) -> Iterator[float]:
        users = world.cache(guard=False)
        yield 101
        yield from restart(world, users.nodes[0])
        yield 1_800

    _, made = play(script)
    keys = values(made, "cache_keys", db="0")[7:]
    assert keys == sorted(keys)
    assert keys[0] < 10_000 < 100_000 < keys[-1] < 200_000
    ratios = values(made, "cache_hit_ratio")[7:]
    assert ratios == sorted(ratios)
    assert 0.3 < ratios[0] < ratios[-1] < 0.95


def test_without_a_guard_every_miss_is_a_load_and_with_one_most_of_the_cold_ones_are_shared() -> None:
    def script(guard: bool) -> Script:
        def run(world: World) -> Iterator[float]:
            users = world.cache()
            users.services[0].enabled = guard
            yield 61
            yield from restart(world, users.nodes[0])
            yield 60

        return run

    loads = {}
    for guard in (True, False):
        _, made = play(script(guard))
        total = values(made, "singleflight_executions_total")
        loads[guard] = total[-1] - total[3]
    assert loads[True] < 0.7 * loads[False]


@pytest.mark.parametrize("incident", INCIDENTS, ids=lambda one: one.name)
def test_what_an_incident_yields_is_what_a_scraper_could_have_seen(incident: Incident) -> None:
    world, made = happened(incident)
    assert 0 < world.zero <= world.known <= world.now == made.seconds
    for one in made.series:
        times = [at for at, _ in one.points]
        assert times == sorted(set(times))
        assert all(at % 15 == 7 for at in times)
        if one.name != "up":
            assert one.name in BY_SAMPLE
            assert {*BY_SAMPLE[one.name].labels} <= {*one.labels, "cache"}
        if one.name.endswith(("_total", "_keys")):
            assert all(value is None or value >= 0 for _, value in one.points)
    exporters = [one for one in made.series if one.labels["job"] == "herdwatch-exporter"]
    assert len(exporters) == len(world.exporters)


@pytest.mark.parametrize("incident", INCIDENTS, ids=lambda one: one.name)
def test_counts_of_an_incident_add_up(incident: Incident) -> None:
    _, made = happened(incident)
    by_target: dict[str, dict[str, dict[int, float]]] = {}
    for one in made.series:
        target = by_target.setdefault(one.labels["instance"], {})
        samples = {at: value for at, value in one.points if value is not None}
        target.setdefault(one.name, {}).update(samples)
    for families in by_target.values():
        for at, requests in families.get("cache_requests_total", {}).items():
            assert requests == families["cache_hits_total"][at] + families["cache_misses_total"][at]


def test_a_series_that_is_not_in_a_scrape_ends_there() -> None:
    def script(world: World) -> Iterator[float]:
        users = world.cache()
        yield 61
        users.nodes[0].crash()
        yield 60

    _, made = play(script)
    [keys] = [one for one in made.series if one.name == "cache_keys"]
    assert [(at, value) for at, value in keys.points if at > 50] == [(52, 200_000.0), (67, None)]
    assert points(made, "cache_up")[-1] == (112, 0.0)
    assert points(made, "cache_failure", reason="refused")[0] == (67, 1.0)


def test_while_prometheus_is_away_nothing_is_scraped_and_nothing_ends() -> None:
    def script(world: World) -> Iterator[float]:
        world.cache()
        yield 61
        world.scraping = False
        yield 60
        world.scraping = True
        yield 60

    world, made = play(script)
    assert world.gaps == [(62, 121)]
    [keys] = [one for one in made.series if one.name == "cache_keys"]
    assert [at for at, _ in keys.points] == [7, 22, 37, 52, 127, 142, 157, 172]
    assert None not in [value for _, value in keys.points]


def test_every_alert_is_the_cause_of_an_incident() -> None:
    causes = {cause for incident in INCIDENTS for cause in incident.causes}
    assert causes == {
        "CacheRestarted",
        "CacheKeysLost",
        "CacheDown",
        "CacheLoading",
        "CacheRestartLoop",
        "CacheStampede",
        "CacheExporterDown",
        "CacheTargetDown",
        "CacheHitRateLow",
        "SingleflightDisabled",
        "CacheEvicting",
        "CacheReplicaMissing",
        "CacheWarmupStalled",
        "CacheRefreshFailing",
        "HighCoalescingRate",
    }


def test_incidents_have_a_name_of_their_own_and_a_sentence() -> None:
    assert len({incident.name for incident in INCIDENTS}) == len(INCIDENTS) >= 60
    assert len([incident for incident in INCIDENTS if incident.urgency == "calm"]) >= 25
    for incident in INCIDENTS:
        assert incident.about.endswith("."), incident.name
        assert bool(incident.causes) == bool(incident.scrapes) == (incident.urgency != "calm")
