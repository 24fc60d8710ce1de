"""Recordings of a drill, from hand-made answers of a Prometheus: what is kept, where it is put, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from herdwatch.config import parse
from herdwatch.drill.replay import recording, session
from herdwatch.drill.replay.recording import LEAD, stored
from herdwatch.drill.replay.results import Drill
from herdwatch.drill.replay.running import Run
from herdwatch.drill.replay.signals import Fault
from herdwatch.errors import CheckFailed, UsageError
from herdwatch.proof.recordings import load
from herdwatch.proof.recordings.load import RecordedCache, Recording, Target

BEGAN = 1_800_000_000.0
"""Seconds since 1970 at which the Prometheus of these tests made its first scrape."""
FAULT = BEGAN + 61.4
UNTIL = BEGAN + 136.0
SCRAPES = 27
CACHE = {"job": "herdwatch", "cache": "restart-none", "instance": "127.0.0.1:40123", "team": "on-call"}
SECOND = {**CACHE, "cache": "restart-none-2", "instance": "127.0.0.1:40124"}
EXPORTER = {"job": "herdwatch-exporter", "instance": "127.0.0.1:40125"}
JITTER = (0.0, 0.002, 0.0, 0.13, 0.001, 0.31, 0.0)

Sample = tuple[float, float | str]


def times(phase: float, count: int = SCRAPES, interval: int = 5) -> list[float]:
    """Scrape times as Prometheus has them: not on whole seconds, and some of them a little late."""
    return [round(BEGAN + phase + n * interval + JITTER[n % len(JITTER)], 3) for n in range(count)]


@dataclass
class Fake:
    """A Prometheus that knows these series, and answers range selectors by name, job and cache."""

    series: list[tuple[Mapping[str, str], Sequence[Sample]]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def query(self, expr: str, at: float) -> list[dict[str, Any]]:
        self.asked.append(expr)
        found = re.fullmatch(r"(up)?\{(.*)\}\[(\d+)s\]", expr)
        assert found
        name, inside, seconds = found.groups()
        wanted = {label: json.loads(text) for label, text in re.findall(r'(\w+)=~?("(?:[^"\\]|\\.)*")', inside)}
        if name:
            wanted["__name__"] = name
        result = []
        for metric, samples in self.series:
            values = [[time, str(value)] for time, value in samples if at - int(seconds) <= time <= at]
            if values and all(re.fullmatch(text, metric.get(label, "")) for label, text in wanted.items()):
                result.append({"metric": dict(metric), "values": values})
        return result

    def series_of(self, target: Mapping[str, str], name: str, samples: Sequence[Sample], **own: str) -> None:
        self.series.append(({**target, "__name__": name, **own}, samples))


class Answers(Fake):
    """With what every run has: an exporter, and one cache that answers."""

    def __init__(self, *, exporter: Sequence[float] = (), cache: Sequence[float] = ()) -> None:
        super().__init__()
        self.cache = list(cache) or times(2.217)
        self.series_of(EXPORTER, "up", [(at, 1) for at in exporter or times(0.608)])
        self.series_of(CACHE, "up", [(at, 1) for at in self.cache])
        self.series_of(CACHE, "cache_up", [(at, 1) for at in self.cache])


def drill(interval: int = 5) -> Drill:
    versions = {"redis-server": "6.2.14", "prometheus": "2.53.3", "alertmanager": "0.28.1", "PostgreSQL": "18.0"}
    return Drill(1, 97.44, 20.0, 20.0, interval, {}, versions)


def made(api: Fake, *, fault: float = FAULT, until: float = UNTIL, run: str = "restart:none", **more: Any) -> Recording:
    caches = ("restart-none", *(["restart-none-2"] if more.pop("replica", False) else []))
    return stored(api, session.parse(run), caches, fault, drill(**more), until=until)  # type: ignore[arg-type]


def of_cache(recorded: Recording) -> Target:
    return next(target for target in recorded.targets if "cache" in target.labels)


def test_a_recording_says_what_its_run_was_and_which_alerts_it_should_fire() -> None:
    recorded = made(Answers())
    assert (recorded.name, recorded.told, recorded.scrape_interval) == ("drill-restart-none", ("CacheRestarted",), 5)
    assert recorded.about == "Redis is killed and comes back empty; without a guard."
    assert recorded.versions == {"recording": 1, "redis": "6.2.14", "prometheus": "2.53.3"}
    assert recorded.capacity == 97.4
    assert recorded.caches == (RecordedCache("restart-none", "on-call", "restart-none"),)
    config = parse(recorded.configuration(), "herdwatch.yaml")
    assert [(one.name, one.instance) for one in config.caches] == [("restart-none", "restart-none-1.example:6379")]


def test_what_should_fire_depends_on_the_level() -> None:
    told = {level: made(Answers(), run=f"mass-expiry:{level}").told for level in ("none", "limiter")}
    assert told == {"none": ("CacheKeysLost",), "limiter": ()}


def test_scrapes_are_put_an_interval_apart_within_a_second_of_where_they_were_and_never_on_the_grid() -> None:
    recorded = made(Answers())
    begin = FAULT - recorded.zero - 0.4
    for series, real in zip(recorded.play().series[:2], (times(0.608), times(2.217)), strict=True):
        seconds = [second for second, _ in series.points]
        assert len(seconds) == recorded.seconds // 5
        assert all(second % 5 for second in seconds)
        assert {later - earlier for earlier, later in pairwise(seconds)} == {5}
        assert all(min(abs(begin + second - at) for at in real) < 1 for second in seconds)
    assert recorded.seconds - 5 <= max(second for series in recorded.play().series for second, _ in series.points)


@pytest.mark.parametrize("phase", [n / 4 for n in range(20)])
def test_wherever_scrapes_fall_none_is_on_the_grid_and_none_changes_sides_of_the_fault(phase: float) -> None:
    api = Answers(exporter=times(0.608 + phase), cache=times(phase))
    api.series_of(CACHE, "cache_keys", [(at, at) for at in api.cache], db="0")
    recorded = made(api)
    [shown] = [series.points for series in recorded.play().series if series.name == "cache_keys"]
    assert all(second % 5 for second, _ in shown)
    for second, at in shown:
        assert at is not None
        assert second >= recorded.zero if at >= FAULT else second <= recorded.zero


def test_a_fault_is_long_after_the_begin_and_second_0_is_when_scraping_began_if_that_was_later() -> None:
    assert 57 <= made(Answers()).zero <= 66
    late = 4 * LEAD * 5
    long = made(Answers(exporter=times(0.6, 400), cache=times(2.2, 400)), fault=BEGAN + late, until=BEGAN + 1900)
    assert LEAD * 5 - 5 <= long.zero <= LEAD * 5
    assert 265 <= long.seconds - long.zero <= 275


def test_targets_that_were_scraped_from_different_times_on_begin_in_the_same_interval() -> None:
    recorded = made(Answers(exporter=times(0.608), cache=times(2.217)[2:]))
    assert all(0 < target.first < 5 for target in recorded.targets)
    assert 45 <= recorded.zero <= 55


def test_a_restart_is_one_new_start_time_from_the_begin_on() -> None:
    api = Answers()
    started = [(at, BEGAN - 30 if at < FAULT else BEGAN + 61) for at in api.cache]
    api.series_of(CACHE, "cache_start_time_seconds", started)
    recorded = made(api)
    begin = int(FAULT) - recorded.zero
    shown = of_cache(recorded).series["cache_start_time_seconds"]
    assert set(shown) == {BEGAN - 30 - begin, BEGAN + 61 - begin}
    assert recorded.zero <= BEGAN + 61 - begin < recorded.seconds
    assert min(value for value in shown if value is not None) < 0


def test_a_scrape_without_a_series_is_a_hole_and_one_that_failed_shows_up_alone() -> None:
    api = Answers()
    down, without = api.cache[14:17], api.cache[5]
    api.series[1] = (api.series[1][0], [(at, float(at not in down)) for at in api.cache])
    api.series[2] = (api.series[2][0], [(at, 1) for at in api.cache if at not in down])
    api.series_of(CACHE, "cache_keys", [(at, 7) for at in api.cache if at not in (*down, without)], db="0")
    recorded = made(api)
    series, skipped = of_cache(recorded).series, SCRAPES - len(of_cache(recorded).series["up"])
    first = next(n for n, up in enumerate(series["up"]) if not up)
    assert skipped in (0, 1)
    assert series["up"][first : first + 4] == [0, 0, 0, 1]
    for name, place in (("cache_up", -1), ('cache_keys{db="0"}', first - 9)):
        missing = {n for n, value in enumerate(series[name]) if value is None}
        assert missing == {first, first + 1, first + 2, *([place] if place >= 0 else [])}
    [points] = [one.points for one in recorded.play().series if one.name == "cache_keys"]
    assert [value for _, value in points].count(None) == 2


def test_a_replica_is_a_second_target_of_the_same_cache() -> None:
    api = Answers()
    api.series_of(SECOND, "up", [(at, 1) for at in times(4.9)])
    api.series_of(SECOND, "cache_primary", [(at, 0) for at in times(4.9)])
    recorded = made(api, replica=True)
    assert [target.labels for target in recorded.targets] == [
        {"job": "herdwatch-exporter", "instance": "exporter.example:9878"},
        {**CACHE, "instance": "restart-none-1.example:6379"},
        {**CACHE, "instance": "restart-none-2.example:6379"},
    ]
    assert [one.name for one in recorded.caches] == ["restart-none"]
    assert "cache_primary" in recorded.targets[2].series
    assert all(0 < target.first < 5 for target in recorded.targets)


def test_only_what_rules_read_is_kept_and_no_address_of_the_machine(tmp_path: Path) -> None:
    api = Answers()
    names = ("cache_keys", "cache_hit_ratio", "cache_collector_duration_seconds", "cache_load_duration_seconds_bucket")
    for name in (*names, "herdwatch_scrapes_total", "cache:requests:rate", "scrape_samples_scraped", "ALERTS"):
        api.series_of(CACHE, name, [(at, 0.5) for at in api.cache], le="1")
    api.series_of(EXPORTER, "python_info", [(at, 1) for at in api.cache])
    path = load.write(made(api), tmp_path)
    assert set(of_cache(load.read(path)).series) == {"up", "cache_up", 'cache_keys{le="1"}'}
    assert not re.search(r"127\.0\.0\.1|4012\d|18000", path.read_text())


def test_what_was_written_is_read_again_as_it_was(tmp_path: Path) -> None:
    api = Answers()
    for name in ("profil, {a=b}", "ключи", "a'b#%"):
        samples = [(at, round(3.7 * n, 1)) for n, at in enumerate(api.cache) if n % 7]
        api.series_of(CACHE, "cache_lookups_total", samples, group=name, result="hit", service="shop")
    recorded = made(api)
    assert len(of_cache(recorded).series) == 5
    path = load.write(recorded, tmp_path)
    assert path.name == "drill-restart-none.json"
    assert load.read(path) == recorded


@pytest.mark.parametrize("value", ['a"b', "a\\b", "a\nb", 'x",service="y', '"', "\\"])
def test_a_label_that_the_notation_cannot_hold_is_refused_and_not_changed(value: str) -> None:
    api = Answers()
    api.series_of(CACHE, "cache_lookups_total", [(at, 1) for at in api.cache], group=value)
    with pytest.raises(
        CheckFailed, match=r"^'cache_lookups_total\{group=.*cannot be recorded: a label's value"
    ) as told:
        made(api)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf"])
def test_a_value_that_is_no_number_is_refused(value: str) -> None:
    api = Answers()
    api.series_of(CACHE, "cache_keys", [(at, value) for at in api.cache], db="0")
    with pytest.raises(CheckFailed, match=r"^cache_keys cannot be recorded: a value is no finite number"):
        made(api)


def moved(change: Callable[[list[float]], object]) -> Answers:
    scrapes = times(2.217)
    change(scrapes)
    return Answers(cache=scrapes)


def test_a_missing_scrape_is_refused_with_its_second() -> None:
    with pytest.raises(CheckFailed, match=r"^restart-none-1\.example:6379 was not scraped at second (\d+), ") as told:
        made(moved(lambda scrapes: scrapes.pop(12)))
    second = int(re.search(r"second (\d+)", str(told.value))[1])  # type: ignore[index]
    assert second in range(60, 65)


@pytest.mark.parametrize(("by", "words"), [(1.9, "1.9 s too late"), (-2.1, "2.1 s too early")])
def test_a_scrape_more_than_a_second_off_is_refused(by: float, words: str) -> None:
    def move(scrapes: list[float]) -> None:
        scrapes[12] = round(BEGAN + 2 + 12 * 5 + by, 3)

    with pytest.raises(CheckFailed, match=rf"^restart-none-1.* was scraped {words} at second \d+, .* allows 1 s"):
        made(moved(move))


def test_a_scrape_half_a_second_late_is_where_it_was_due() -> None:
    def move(scrapes: list[float]) -> None:
        scrapes[14] += 0.5

    assert of_cache(made(moved(move))).series == of_cache(made(Answers())).series


@pytest.mark.parametrize("cut", [slice(0, 14), slice(14, None)], ids=["until the fault", "after the fault"])
def test_a_target_that_was_not_scraped_on_both_sides_of_the_fault_is_refused(cut: slice) -> None:
    with pytest.raises(CheckFailed, match=r"^it was scraped for \d+ s with the fault at second -?\d+, and a recording"):
        made(Answers(cache=times(2.217)[cut]))


def test_a_target_that_is_not_there_or_there_twice_is_refused() -> None:
    with pytest.raises(CheckFailed, match=r"^Prometheus scraped 0 targets of restart-none-2 in the time of the run"):
        made(Answers(), replica=True)
    with pytest.raises(CheckFailed, match=r"^Prometheus scraped 0 targets of the exporter in"):
        made(Fake(Answers().series[1:]))
    twice = Answers()
    twice.series_of({**CACHE, "instance": "127.0.0.1:1"}, "up", [(at, 1) for at in twice.cache])
    with pytest.raises(CheckFailed, match=r"^Prometheus scraped 2 targets of restart-none in"):
        made(twice)


def test_prometheus_is_asked_for_a_bounded_time_and_for_these_caches_alone() -> None:
    api = Answers()
    made(api)
    exporter, cache = api.asked
    assert exporter.startswith('up{job="herdwatch-exporter"}[')
    assert 'cache=~"restart\\\\-none"' in cache
    assert all(int(re.search(r"\[(\d+)s\]$", one)[1]) <= (LEAD + 1) * 5 + 80 for one in api.asked)  # type: ignore[index]


def test_what_could_not_be_recorded_is_told_before_the_drill(tmp_path: Path) -> None:
    recording.check(tmp_path)
    with pytest.raises(UsageError, match=r"^--record .*nowhere: is no folder"):
        recording.check(tmp_path / "nowhere")


def test_at_a_longer_interval_scrapes_stay_off_the_grid_of_evaluations() -> None:
    longer = Answers(exporter=times(0.6, 40, 15), cache=times(9.9, 40, 15))
    recorded = made(longer, fault=BEGAN + 300.2, until=BEGAN + 580, interval=15)
    for series in recorded.play().series:
        assert all(second % 5 for second, _ in series.points)
        assert {later - earlier for (earlier, _), (later, _) in pairwise(series.points)} == {15}


def test_what_cannot_be_recorded_is_told_and_the_other_runs_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = session.parse("hang"), session.parse("restart:none")

    def answer(run: Run, *_: object) -> Recording:
        if run == bad:
            raise CheckFailed("a scrape is missing")
        return made(Answers())

    monkeypatch.setattr(recording, "recording", answer)
    said: list[str] = []
    faults = dict.fromkeys((bad, good), Fault(-1e9, FAULT))
    casts: Any = {bad: None, good: None}
    watchers: Any = None
    recording.record(tmp_path, faults, casts, watchers, drill(), said.append)
    path = tmp_path / "drill-restart-none.json"
    assert list(tmp_path.iterdir()) == [path]
    assert said == [
        "There is no recording of hang-limiter: a scrape is missing",
        f"Recorded: {path}, {path.stat().st_size:,} bytes.",
    ]
    with pytest.raises(UsageError, match=r"^--record .*gone: cannot be written to: No such file"):
        recording.record(tmp_path / "gone", faults, casts, watchers, drill(), said.append)
