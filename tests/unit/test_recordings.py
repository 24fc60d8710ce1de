"""The recordings are what they claim to be, and their notation loses nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdwatch import metrics
from herdwatch.config import parse
from herdwatch.drill.replay import recording as drilled
from herdwatch.drill.replay import session, verdicts
from herdwatch.drill.replay.running import Run
from herdwatch.errors import CheckFailed, UsageError
from herdwatch.proof.plays import Series
from herdwatch.proof.recordings import __main__ as program
from herdwatch.proof.recordings import load, values
from herdwatch.proof.recordings.load import FOLDER, Recording, Target
from herdwatch.proof.recordings.scenarios import SCENARIOS

PATHS = sorted(FOLDER.glob("*.json"))
MOST_BYTES = 25_000
FEWEST = 14
FEWEST_DRILLED = 4
LEARNT_SECONDS = 15
"""Before the fault of a drill's first run: three scrapes, after which Prometheus knows what is normal."""
CALM_SECONDS = 30
"""After a run of a drill was watched."""
LONGEST_DRILL = 1800
"""Seconds: the servers of all runs of a drill start before the first one."""
TOLD = {
    *("CacheRestarted", "CacheKeysLost", "CacheDown", "CacheLoading", "CacheRestartLoop", "CacheStampede"),
    *("CacheExporterDown", "CacheTargetDown", "CacheHitRateLow", "SingleflightDisabled", "CacheEvicting"),
    *("CacheReplicaMissing", "CacheWarmupStalled", "CacheRefreshFailing", "HighCoalescingRate"),
}
TARGET_LABELS = {
    "herdwatch": {"job", "cache", "instance", "team"},
    "herdwatch-exporter": {"job", "instance"},
}


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


@pytest.fixture
def recording(path: Path) -> Recording:
    return load.read(path)


def run_of(recording: Recording) -> Run | None:
    """The run of a drill that was recorded; None for a recording that is none."""
    if not recording.name.startswith(drilled.PREFIX):
        return None
    scenario, _, level = recording.name.removeprefix(drilled.PREFIX).rpartition("-")
    return session.parse(f"{scenario}:{level}")


def test_every_scenario_is_recorded_and_every_recording_says_what_its_scenario_says() -> None:
    said = {one.name: (one.about, one.told, one.capacity) for one in SCENARIOS}
    assert len(said) == len(SCENARIOS) >= FEWEST
    found = [one for one in load.recordings() if run_of(one) is None]
    assert {one.name: (one.about, one.told, one.capacity) for one in found} == said


def test_drills_are_recorded_and_each_says_what_its_scenario_says_at_its_level() -> None:
    runs = [(run, one) for one in load.recordings() if (run := run_of(one)) is not None]
    assert len(runs) >= FEWEST_DRILLED
    assert {bool(one.told) for _, one in runs} == {True, False}
    for run, one in runs:
        assert (one.about, one.told) == (drilled.about(run), verdicts.expected(run.scenario, run.level))
        assert [cache.name for cache in one.caches] == [run.name]
        assert sum("cache" in target.labels for target in one.targets) == 1 + run.replicas
        assert one.capacity


def test_a_file_is_small_and_written_as_it_would_be_written_again(path: Path, tmp_path: Path) -> None:
    assert path.stat().st_size < MOST_BYTES
    assert load.write(load.read(path), tmp_path).read_bytes() == path.read_bytes()


def test_what_is_told_is_an_alert_of_ours_and_it_happens_after_minutes_and_long_before_the_end(
    recording: Recording,
) -> None:
    assert set(recording.told) <= TOLD
    run = run_of(recording)
    assert recording.zero >= (150 if run is None else LEARNT_SECONDS)
    assert recording.seconds - recording.zero >= (240 if run is None else run.scenario.watch + CALM_SECONDS)


def test_samples_are_in_order_one_scrape_apart_and_never_on_the_grid(recording: Recording) -> None:
    step = recording.scrape_interval
    for series in recording.play().series:
        times = [at for at, _ in series.points]
        assert times
        assert all(at % step for at in times)
        assert all(later > at and (later - at) % step == 0 for at, later in pairwise(times))
        assert times[-1] < recording.seconds


def test_every_target_tells_at_each_scrape_whether_it_was_up_until_the_end(recording: Recording) -> None:
    ups = [series for series in recording.play().series if series.name == "up"]
    assert [series.labels["job"] for series in ups].count("herdwatch-exporter") == 1
    assert {series.labels.get("cache") for series in ups} == {None, *(cache.name for cache in recording.caches)}
    for series in ups:
        first, last = series.points[0][0], series.points[-1][0]
        assert len(series.points) == (last - first) // recording.scrape_interval + 1
        assert recording.seconds - last <= recording.scrape_interval
        assert {value for _, value in series.points} <= {0.0, 1.0}


def test_series_and_labels_are_those_that_the_exporter_and_a_scraper_give(recording: Recording) -> None:
    for series in recording.play().series:
        of_the_target = TARGET_LABELS[series.labels["job"]]
        assert series.labels["instance"].endswith((".example:6379", ".example:9878"))
        own = series.labels.keys() - of_the_target
        if series.name != "up":
            family = metrics.BY_SAMPLE[series.name]
            assert family.kind != "histogram"
            assert own == set(family.labels) - {"cache"}
        else:
            assert own == set()


def test_a_series_that_a_scrape_does_not_show_has_a_stale_marker_there_and_only_there(recording: Recording) -> None:
    play = {(series.name, *sorted(series.labels.items())): series for series in recording.play().series}
    for target in recording.targets:
        for text, numbers in target.series.items():
            name, own = load.named(text)
            stored = dict(play[name, *sorted({**target.labels, **own}.items())].points)
            before: float | None = None
            for number, value in enumerate(numbers):
                at = target.first + number * recording.scrape_interval
                assert (at in stored) == (value is not None or before is not None)
                assert stored.get(at) == value
                before = value


def test_after_a_failed_scrape_of_a_cache_nothing_but_up_is_there(recording: Recording) -> None:
    for target in recording.targets:
        for number, up in enumerate(target.series["up"]):
            shown = {name for name, numbers in target.series.items() if numbers[number] is not None}
            assert (shown == {"up"}) == (up == 0 or "cache" not in target.labels)


def test_nothing_depends_on_the_day_of_the_recording(recording: Recording) -> None:
    earliest = -300 if run_of(recording) is None else -LONGEST_DRILL
    for series in recording.play().series:
        if series.name == "cache_start_time_seconds":
            assert all(value is None or earliest < value < recording.seconds for _, value in series.points)


def test_its_configuration_lists_its_caches(recording: Recording) -> None:
    config = parse(recording.configuration(), "herdwatch.yaml")
    assert [(one.name, one.team) for one in config.caches] == [(one.name, one.team) for one in recording.caches]
    instances = {target.labels["instance"] for target in recording.targets}
    assert {one.instance for one in config.caches} <= instances
    assert [one.capacity for one in config.databases.values()] == [recording.capacity] * len(config.databases)
    assert bool(config.databases) == (recording.capacity is not None)


finite = st.floats(min_value=-1e15, max_value=1e15, allow_nan=False)


@given(st.lists(st.one_of(st.none(), st.integers(-(2**53), 2**53).map(float), finite)))
def test_the_notation_loses_nothing(numbers: list[float | None]) -> None:
    assert values.decode(values.encode(numbers)) == numbers


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([], ""),
        ([1200.0, 1235.0, 1266.0, 1266.0, 35.0], "1200 +35 +31 = -1231"),
        ([1.0, 1.0, 1.0, 2.0, 3.0], "1 =x2 +1x2"),
        ([None, None, 5.0, None, 5.0], ".x2 5 . 5"),
        ([1.0, 0.37, 0.4], "1 -0.63 +0.03"),
        ([-12.0, -12.0, 40.0, None, -3.0], "-12 = +52 . -3"),
    ],
)
def test_values_are_differences_and_what_repeats_is_counted(numbers: list[float | None], text: str) -> None:
    assert values.encode(numbers) == text
    assert values.decode(text) == numbers


@pytest.mark.parametrize("text", ["1 2", "=", "+1", "1 . =", "one", "1x0", "1 =x", "1,2", "1 nan"])
def test_what_is_no_value_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"'.+' (is neither|follows)"):
        values.decode(text)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_finite_number_cannot_be_recorded(value: float) -> None:
    with pytest.raises(ValueError, match="only finite numbers can"):
        values.encode([1.0, value])


def test_a_play_has_the_labels_of_the_target_and_one_marker_where_a_series_ends(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(json.dumps(smallest()))
    [recording] = load.recordings(tmp_path)
    labels = {"job": "herdwatch", "cache": "users", "instance": "users-1.example:6379", "team": "shop"}
    assert recording.targets == (
        Target(labels, 3, {"up": [1, 1, 0, 0, 1], 'cache_keys{db="0"}': [7, 9, None, None, 2]}),
    )
    assert recording.play().series == [
        Series("up", labels, [(3, 1), (8, 1), (13, 0), (18, 0), (23, 1)]),
        Series("cache_keys", {**labels, "db": "0"}, [(3, 7), (8, 9), (13, None), (23, 2)]),
    ]


def smallest() -> dict[str, Any]:
    labels = {"job": "herdwatch", "cache": "users", "instance": "users-1.example:6379", "team": "shop"}
    series = {"up": "1 = -1 = +1", 'cache_keys{db="0"}': "7 +2 .x2 2"}
    return {
        "name": "one",
        "about": "It is small.",
        "versions": {"recording": 1, "redis": "6.2.14"},
        "scrape_interval": 5,
        "zero": 10,
        "seconds": 25,
        "caches": [{"name": "users", "team": "shop"}],
        "told": [],
        "targets": [{"labels": labels, "first": 3, "series": series}],
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data.pop("zero"), "it lacks 'zero'"),
        (lambda data: data.update(zero=25), "zero is 25, which is not inside its 25 seconds"),
        (lambda data: data["versions"].update(recording=2), "it is of version 2, this is version 1"),
        (lambda data: data["targets"][0]["series"].update(up="1 5"), r"targets\[0\], up: '5' follows a value"),
        (lambda data: data["targets"][0]["series"].update(up="1 ="), r"targets\[0\], cache_keys.*: has 5 values"),
        (lambda data: data["targets"][0]["series"].update({"a{b=c}": "1"}), "'a{b=c}' is no series"),
    ],
)
def test_a_file_that_is_no_recording_is_refused_by_its_name(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    data = smallest()
    change(data)
    (tmp_path / "one.json").write_text(json.dumps(data))
    with pytest.raises(CheckFailed, match=rf"one\.json: is no recording: .*{words}"):
        load.recordings(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "[1", "null"])
def test_a_file_that_holds_something_else_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "one.json").write_text(text)
    with pytest.raises(CheckFailed, match=r"one\.json: is no recording"):
        load.recordings(tmp_path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match=r"none\.json: cannot be read: No such file"):
        load.read(tmp_path / "none.json")


def test_a_scenario_that_nobody_knows_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match="there is no scenario 'cold'; there is: calm-deploy, "):
        program.run(["cold"])
