"""The recorder on real servers, in a small session: what happened is in what it wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from herdwatch.proof.recordings import load, record, scenarios
from herdwatch.proof.recordings.load import Recording, Target
from herdwatch.proof.recordings.record import Session, Timing
from herdwatch.stack import Supervisor

NAMES = ("cold-restart", "failover", "exporter-down")
# Applications report every ten seconds; one of these may fall into the restart, and a later one must still be seen.
TIMING = Timing(interval=2, lead=6, after=26, stagger=0.1)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recording]:
    """What was recorded, as it is read again from its files."""
    folder: Path = tmp_path_factory.mktemp("recordings")
    chosen = [scenario for scenario in scenarios.SCENARIOS if scenario.name in NAMES]
    with pytest.MonkeyPatch.context() as patch, Supervisor() as supervisor:
        patch.setattr(scenarios, "OUTAGE_SECONDS", 5.0)
        patch.setattr(record, "LATEST", 60.0)  # when a scrape came matters to nobody here
        for recording in Session(supervisor, chosen, timing=TIMING).run():
            assert load.read(load.write(recording, folder)) == recording
    return {recording.name: recording for recording in load.recordings(folder)}


def caches(recording: Recording) -> list[Target]:
    return [target for target in recording.targets if "cache" in target.labels]


def shown(target: Target, name: str) -> list[float]:
    return [value for value in target.series[name] if value is not None]


def test_each_scenario_is_recorded(recorded: dict[str, Recording]) -> None:
    assert recorded.keys() == set(NAMES)


def test_a_cold_restart_is_one_new_start_time_and_fewer_keys_under_traffic(recorded: dict[str, Recording]) -> None:
    [target] = caches(recorded["cold-restart"])
    starts, keys = shown(target, "cache_start_time_seconds"), shown(target, 'cache_keys{db="0"}')
    assert len(set(starts)) == 2
    restart = starts.index(starts[-1])
    assert starts[0] < starts[-1] < recorded["cold-restart"].seconds
    assert keys[restart] < keys[restart - 1] / 2
    hits = shown(target, 'cache_lookups_total{group="users",result="hit",service="shop"}')
    assert hits == sorted(hits)
    assert hits[-1] > hits[0]


def test_a_failover_has_two_instances_of_one_cache_that_change_their_roles(recorded: dict[str, Recording]) -> None:
    old, new = caches(recorded["failover"])
    assert {old.labels["cache"], new.labels["cache"]} == {"failover"}
    assert [target.labels["instance"] for target in (old, new)] == [
        "failover-1.example:6379",
        "failover-2.example:6379",
    ]
    assert [shown(target, "cache_primary")[0] for target in (old, new)] == [1, 0]
    assert [shown(target, "cache_primary")[-1] for target in (old, new)] == [0, 1]


def test_while_the_exporter_is_down_up_is_0_and_every_other_series_is_gone(recorded: dict[str, Recording]) -> None:
    recording = recorded["exporter-down"]
    for target in recording.targets:
        assert {0.0, 1.0} == set(target.series["up"])
        assert target.series["up"][0] == target.series["up"][-1] == 1
    [target] = caches(recording)
    down = [number for number, up in enumerate(target.series["up"]) if up == 0]
    assert len(target.series) > 30
    assert all(numbers[number] is None for name, numbers in target.series.items() if name != "up" for number in down)
    [keys] = [series for series in recording.play().series if series.name == "cache_keys"]
    assert [value for _, value in keys.points].count(None) == 1


def test_what_does_not_happen_to_a_cache_is_not_in_its_recording(recorded: dict[str, Recording]) -> None:
    for name in ("cold-restart", "failover"):
        for target in recorded[name].targets:
            assert set(target.series["up"]) == {1.0}
    for name in ("failover", "exporter-down"):
        for target in caches(recorded[name]):
            assert len(set(shown(target, "cache_start_time_seconds"))) == 1
