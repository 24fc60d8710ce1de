"""The accumulation rule of reports: whatever reporters do, the exporter's counters never exceed the truth."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from herdwatch import reports
from herdwatch.collector.accumulator import STEP_REPORTS, ReportAccumulator
from herdwatch.collector.families import families

NOW = 10_000.0
Fields = dict[bytes, bytes]


def told(misses: int, *, start: float = NOW - 500, at: float = NOW, group: str = "users", **more: Any) -> bytes:
    groups = {group: {"requests": misses}}
    return json.dumps({"v": 1, "start": start, "at": at, "every": 10, "groups": groups, **more}).encode()


def requests(accumulator: ReportAccumulator) -> float:
    return sum(value for family, _, value in accumulator.samples() if family == "singleflight_requests_total")


def gauge(accumulator: ReportAccumulator, family: str) -> dict[str, float]:
    return {labels[0]: value for name, labels, value in accumulator.samples() if name == family}


def test_what_was_counted_before_the_first_read_adds_nothing() -> None:
    accumulator = ReportAccumulator()
    accumulator.update({b"app/1": told(1_000)}, NOW)
    assert requests(accumulator) == 0


def test_differences_between_reads_are_added() -> None:
    accumulator = ReportAccumulator()
    for misses in (1_000, 1_200, 1_250):
        accumulator.update({b"app/1": told(misses)}, NOW)
    assert requests(accumulator) == 250


def test_a_reporter_that_leaves_takes_nothing_away_and_its_return_adds_only_what_is_new() -> None:
    accumulator = ReportAccumulator()
    both = {b"app/1": told(1_000), b"app/2": told(5_000)}
    accumulator.update(both, NOW)
    accumulator.update({b"app/1": told(1_010)}, NOW)
    assert requests(accumulator) == 10
    accumulator.update({b"app/1": told(1_010), b"app/2": told(5_007)}, NOW)
    assert requests(accumulator) == 17


def test_a_redis_restart_that_wipes_the_hash_adds_only_what_happened_meanwhile() -> None:
    accumulator = ReportAccumulator()
    accumulator.update({b"app/1": told(1_000)}, NOW)
    accumulator.update({}, NOW + 1)
    accumulator.update({b"app/1": told(1_005, at=NOW + 10)}, NOW + 10)
    assert requests(accumulator) == 5


def test_a_reporter_that_started_after_the_exporter_counts_whole() -> None:
    accumulator = ReportAccumulator()
    accumulator.update({}, NOW)
    accumulator.update({b"app/1": told(40, start=NOW + 5, at=NOW + 9)}, NOW + 10)
    assert requests(accumulator) == 40


def test_a_reporter_seen_late_that_started_before_the_exporter_is_a_baseline() -> None:
    accumulator = ReportAccumulator()
    accumulator.update({}, NOW)
    accumulator.update({b"app/1": told(1_000, start=NOW - 5)}, NOW + 10)
    assert requests(accumulator) == 0


def test_a_start_in_the_future_is_a_clock_that_nobody_can_trust() -> None:
    accumulator = ReportAccumulator()
    accumulator.update({}, NOW)
    accumulator.update({b"app/1": told(1_000, start=NOW + 900, at=NOW + 900)}, NOW + 10)
    assert requests(accumulator) == 0


def test_totals_that_fall_take_nothing_away() -> None:
    accumulator = ReportAccumulator()
    for misses in (100, 150, 20, 30):
        accumulator.update({b"app/1": told(misses)}, NOW)
    assert requests(accumulator) == 60


def test_an_incarnation_that_had_to_be_forgotten_is_a_baseline_when_it_returns() -> None:
    accumulator = ReportAccumulator(max_incarnations=1)
    accumulator.update({}, NOW)
    one, two = told(40, start=NOW + 1), told(60, start=NOW + 2)
    accumulator.update({b"app/1": one}, NOW + 10)
    accumulator.update({b"app/2": two}, NOW + 10)
    accumulator.update({b"app/1": one}, NOW + 10)
    assert requests(accumulator) == 100


def test_groups_beyond_the_cap_are_dropped_and_counted() -> None:
    accumulator = ReportAccumulator(max_groups=2)
    fields = {b"app/%d" % number: told(1, group=f"group{number}") for number in range(5)}
    accumulator.update(fields, NOW)
    assert len({labels[1] for family, labels, _ in accumulator.samples() if family.endswith("requests_total")}) == 2
    assert accumulator.dropped["too_many"] == 3


def test_services_beyond_the_cap_are_dropped_and_counted_with_all_that_they_tell() -> None:
    accumulator = ReportAccumulator(max_services=2)
    warming = {"target": 9, "done": 1, "active": 1}
    fields = {b"app%d/1" % number: told(1, enabled=1, warmup=warming) for number in range(5)}
    accumulator.update(fields, NOW)
    assert {labels[0] for _, labels, _ in accumulator.samples()} == {"app0", "app1"}
    assert accumulator.dropped == {"malformed": 0, "version": 0, "stale": 0, "too_many": 3}


def test_a_stale_report_takes_no_place_from_a_service_that_lives() -> None:
    accumulator = ReportAccumulator(max_services=1)
    accumulator.update({b"gone/1": told(1, at=NOW - 500), b"app/1": told(1)}, NOW)
    assert gauge(accumulator, "singleflight_inflight") == {"app": 0}


def test_a_report_of_which_not_a_byte_has_changed_is_not_parsed_again_and_counts_as_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    accumulator = ReportAccumulator(max_groups=1)
    fields = {b"app/1": told(1_000, inflight=3), b"app/2": told(5, group="carts")}
    accumulator.update(fields, NOW)
    monkeypatch.setattr(reports, "parse", lambda *_: pytest.fail("parsed again"))
    accumulator.update(fields, NOW + 10)
    assert (requests(accumulator), gauge(accumulator, "singleflight_inflight")) == (0, {"app": 3})
    assert accumulator.dropped["too_many"] == 2
    accumulator.update(fields, NOW + 500)
    assert (gauge(accumulator, "singleflight_inflight"), accumulator.dropped["stale"]) == ({}, 2)


@pytest.mark.parametrize("pauses", [0, 1, 2])
def test_a_read_that_is_left_halfway_counts_nothing_twice_and_the_next_one_all(pauses: int) -> None:
    accumulator = ReportAccumulator()
    whole = 3 * STEP_REPORTS

    def read(misses: int) -> Fields:
        return {b"app/%d" % number: told(misses) for number in range(whole)}

    accumulator.update(read(100), NOW)
    for _ in zip(range(pauses), accumulator.steps(read(110), NOW), strict=False):
        assert requests(accumulator) <= 10 * whole
    accumulator.update(read(110), NOW)
    assert requests(accumulator) == 10 * whole


def test_malformed_stale_and_foreign_reports_are_dropped_and_counted_by_reason() -> None:
    accumulator = ReportAccumulator()
    later = json.dumps({"v": 9}).encode()
    accumulator.update({b"app/1": b"{", b"app/2": later, b"app/3": told(9, at=NOW - 500)}, NOW)
    assert accumulator.dropped == {"malformed": 1, "version": 1, "stale": 1, "too_many": 0}
    assert list(accumulator.samples()) == []


def test_gauges_are_sums_over_live_reporters_and_one_switch_off_is_off() -> None:
    accumulator = ReportAccumulator()
    reports = {
        b"app/1": told(0, inflight=2, waiters=5, enabled=1),
        b"app/2": told(0, inflight=1, waiters=0, enabled=0),
        b"other/1": told(0, enabled=1),
    }
    accumulator.update(reports, NOW)
    assert gauge(accumulator, "singleflight_inflight") == {"app": 3, "other": 0}
    assert gauge(accumulator, "singleflight_waiters") == {"app": 5, "other": 0}
    assert gauge(accumulator, "singleflight_enabled") == {"app": 0, "other": 1}


def test_a_warmer_that_died_shows_its_frozen_progress() -> None:
    accumulator = ReportAccumulator()
    dead = told(0, at=NOW - 500, warmup={"target": 100, "done": 40, "active": 1})
    accumulator.update({b"warmer/1": dead}, NOW)
    assert gauge(accumulator, "cache_warmup_active") == {"warmer": 1}
    assert gauge(accumulator, "cache_warmup_done_keys") == {"warmer": 40}
    ended = told(0, at=NOW - 500, warmup={"target": 100, "done": 100, "active": 0})
    accumulator.update({b"warmer/1": ended}, NOW)
    assert gauge(accumulator, "cache_warmup_active") == {}


def test_republished_families_leave_the_cache_label_to_the_target() -> None:
    accumulator = ReportAccumulator()
    accumulator.update({b"app/1": told(3, enabled=1)}, NOW)
    made = families(accumulator.samples(), drop=("cache",))
    labels = {frozenset(sample.labels) for metric in made for sample in metric.samples}
    assert labels == {frozenset({"service", "group"}), frozenset({"service"})}


class Fleet(RuleBasedStateMachine):
    """Reporters come, work, report, vanish and return; Redis loses the hash; the exporter restarts."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.work: dict[int, int] = {}
        self.started: dict[int, float] = {}
        self.hash: Fields = {}
        self.true_since_exporter = 0
        self.exporter = ReportAccumulator(max_incarnations=3)
        self.exported = 0.0

    @rule()
    def a_process_starts(self) -> None:
        self.now += 1
        number = len(self.work)
        self.work[number], self.started[number] = 0, self.now

    @rule(data=st.data(), misses=st.integers(0, 50))
    def a_process_works(self, data: st.DataObject, misses: int) -> None:
        if self.work:
            number = data.draw(st.sampled_from(sorted(self.work)))
            self.work[number] += misses
            self.true_since_exporter += misses

    @rule(data=st.data())
    def a_process_reports(self, data: st.DataObject) -> None:
        if self.work:
            number = data.draw(st.sampled_from(sorted(self.work)))
            self.hash[b"app/%d" % number] = told(self.work[number], start=self.started[number], at=self.now)

    @rule()
    def redis_restarts(self) -> None:
        self.hash.clear()

    @rule(data=st.data())
    def a_dead_field_is_deleted(self, data: st.DataObject) -> None:
        if self.hash:
            del self.hash[data.draw(st.sampled_from(sorted(self.hash)))]

    @rule(seconds=st.integers(0, 30))
    def prometheus_scrapes(self, seconds: int) -> None:
        self.now += seconds
        before = requests(self.exporter)
        self.exporter.update(dict(self.hash), self.now)
        assert requests(self.exporter) >= before, "a counter fell"

    @rule()
    def the_exporter_restarts(self) -> None:
        self.exporter = ReportAccumulator(max_incarnations=3)
        # What a process known to the next exporter has done but not yet told was seen by nobody so far.
        self.true_since_exporter = sum(
            self.work[int(field.rpartition(b"/")[2])] - json.loads(value)["groups"]["users"]["requests"]
            for field, value in self.hash.items()
        )

    @invariant()
    def the_counter_never_exceeds_the_truth(self) -> None:
        assert requests(self.exporter) <= self.true_since_exporter


TestFleet = Fleet.TestCase
TestFleet.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
