"""What is a report, and what is none."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdwatch import reports
from herdwatch.reports import MalformedReport, UnknownVersion


def document(**changes: Any) -> bytes:
    whole = {"v": 1, "start": 100.0, "at": 200.0, "every": 10, "groups": {}, **changes}
    return json.dumps({key: value for key, value in whole.items() if value is not None}).encode()


def test_the_example_of_the_documentation_is_a_report() -> None:
    text = (reports.__doc__ or "").split("::", 1)[1].split("\n\n", 2)[1]
    report = reports.parse(b"profiles/1", text.encode())
    assert report.service == "profiles"
    assert report.totals["cache_lookups_total", "users", "stale"] == 7
    assert report.totals["singleflight_executions_total", "users", "refresh"] == 5
    assert report.totals["singleflight_requests_total", "users", ""] == 90
    assert (report.enabled, report.warmup) == (True, reports.Warmup(target=10000, done=2500, active=True))


def test_the_documented_example_keeps_the_counting_rule() -> None:
    text = (reports.__doc__ or "").split("::", 1)[1].split("\n\n", 2)[1]
    users = json.loads(text)["groups"]["users"]
    parts = users["executions"]["miss"], *users["coalesced"].values(), users["stale"], users["shed"]
    assert users["requests"] == sum(parts)


def test_only_five_keys_are_needed() -> None:
    report = reports.parse(b"a/b", document())
    assert (report.inflight, report.waiters, report.enabled, report.warmup, report.totals) == (0, 0, None, None, {})


def test_unknown_keys_are_left_alone() -> None:
    report = reports.parse(b"a/b", document(colour="red", groups={"g": {"requests": 1, "wishes": 3}}))
    assert report.totals == {("singleflight_requests_total", "g", ""): 1}


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        (b"no-slash", document(), "<service>/<incarnation>"),
        (b"service/", document(), "<service>/<incarnation>"),
        (b"/incarnation", document(), "printable"),
        (b"\xff/1", document(), "UTF-8"),
        (b"new\nline/1", document(), "printable"),
        (b"x" * 101 + b"/1", document(), "100"),
        (b"a/1", b"{", "not JSON"),
        (b"a/1", b"[]", "not an object"),
        (b"a/1", b"[" * 50_000, "not JSON"),
        (b"a/1", b" " * 70_000, "bytes"),
        (b"a/1", document(start=None), "start"),
        (b"a/1", document(at="now"), "at"),
        (b"a/1", document(every=True), "every"),
        (b"a/1", document(at=float("nan")), "at"),
        (b"a/1", document(at=float("inf")), "at"),
        (b"a/1", document(inflight=-1), "inflight"),
        (b"a/1", document(enabled=2), "enabled"),
        (b"a/1", document(enabled="yes"), "enabled"),
        (b"a/1", document(warmup=[]), "warmup"),
        (b"a/1", document(groups=None), "groups"),
        (b"a/1", document(groups={"g": 3}), "group g"),
        (b"a/1", document(groups={"g": {"requests": 1.5}}), "requests"),
        (b"a/1", document(groups={"g": {"lookups": {"hit": -1}}}), "lookups.hit"),
        (b"a/1", document(groups={"g\x00": {}}), "printable"),
    ],
)
def test_what_is_no_report_says_why(field: bytes, value: bytes, says: str) -> None:
    with pytest.raises(MalformedReport, match=says):
        reports.parse(field, value)


def test_a_later_version_is_told_from_garbage() -> None:
    with pytest.raises(UnknownVersion):
        reports.parse(b"a/1", document(v=2))


@pytest.mark.parametrize(("every", "age", "stale"), [(10, 60, False), (10, 61, True), (30, 90, False), (30, 91, True)])
def test_a_report_is_stale_after_three_missed_writings_and_at_least_a_minute(
    every: float, age: float, stale: bool
) -> None:
    assert reports.parse(b"a/1", document(at=1000, every=every)).stale(1000 + age) is stale


@given(st.binary(max_size=40), st.binary(max_size=300))
def test_any_bytes_are_a_report_or_malformed(field: bytes, value: bytes) -> None:
    with contextlib.suppress(MalformedReport):
        assert reports.parse(field, value).service


@pytest.mark.parametrize("name", ["a b", "é", "日本", "a\u00a0b", "a\u2028b", '"', "x" * 100])
def test_a_name_may_hold_whatever_is_no_control_character(name: str) -> None:
    assert reports.check_name(name) == name


@pytest.mark.parametrize("name", ["", "\x00", "a\nb", "\u200b", "\ud800", "\ue000", "x" * 101])
def test_control_characters_and_what_has_no_character_are_in_no_name(name: str) -> None:
    with pytest.raises(MalformedReport, match="is no name"):
        reports.check_name(name)
