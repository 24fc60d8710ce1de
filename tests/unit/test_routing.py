"""The model of Alertmanager: who is told of alerts, when, and which of it is a page."""

from __future__ import annotations

import pytest

from herdwatch.bundle.location import bundle_root
from herdwatch.errors import CheckFailed
from herdwatch.proof.plays import Firing
from herdwatch.proof.routing import Notification, Routing

COMMITTED = (bundle_root() / "alerts" / "alertmanager.yml").read_text()


def routing(routes: str = "", rest: str = "") -> Routing:
    """A root that groups by cache, waits 10 s, then looks every 60 s and repeats after 150 s; and more lines."""
    text = (
        "route:\n  receiver: root\n  group_by: [cache]\n  group_wait: 10s\n"
        "  group_interval: 1m\n  repeat_interval: 2m30s\n"
    )
    return Routing.of(f"{text}{routes}{rest}")


def firing(start: int, end: int | None = None, alert: str = "A", **labels: str) -> Firing:
    return Firing(alert, {"cache": "users", **labels}, start, end)


def brief(notifications: list[Notification]) -> list[tuple[float, str, str]]:
    """When, which alerts fire, which have ended."""
    return [
        (one.at, " ".join(a.alert for a in one.alerts), " ".join(a.alert for a in one.resolved))
        for one in notifications
    ]


def test_a_group_is_told_after_its_wait_and_its_end_with_the_next_interval() -> None:
    told = routing().notifications([firing(5, 40)], 200)
    assert brief(told) == [(15, "A", ""), (75, "", "A")]
    assert [(one.receiver, one.group, one.page) for one in told] == [
        ("root", {"cache": "users"}, True),
        ("root", {"cache": "users"}, False),
    ]


def test_what_joins_a_group_that_fires_is_told_with_the_next_interval_and_is_no_page() -> None:
    told = routing().notifications([firing(0), firing(20, alert="B")], 100)
    assert brief(told) == [(10, "A", ""), (70, "A B", "")]
    assert [one.page for one in told] == [True, False]


def test_an_alert_that_starts_or_ends_in_the_moment_of_a_flush_is_in_it() -> None:
    told = routing().notifications([firing(0, 70), firing(10, alert="B")], 100)
    assert brief(told) == [(10, "A B", ""), (70, "B", "A")]


def test_a_repetition_comes_with_the_first_interval_after_its_time_and_is_no_page() -> None:
    told = routing().notifications([firing(0)], 400)
    assert [(one.at, one.page) for one in told] == [(10, True), (190, False), (370, False)]


def test_the_watchdog_is_repeated_once_a_minute() -> None:
    watchdog = Firing("HerdwatchWatchdog", {"severity": "none"}, 0, None)
    told = Routing.of(COMMITTED).notifications([watchdog], 300)
    assert [(one.receiver, one.at) for one in told] == [("watchdog", at) for at in range(0, 301, 60)]


def test_a_repetition_that_falls_on_an_interval_waits_for_the_next() -> None:
    told = Routing.of("route: {receiver: a, group_wait: 0s, group_interval: 1m, repeat_interval: 1m}").notifications(
        [firing(0)], 250
    )
    assert [one.at for one in told] == [0, 120, 240]


def test_an_empty_group_keeps_its_pace_until_it_is_cleaned_up() -> None:
    again = [firing(0, 60), firing(100)]
    kept = routing().notifications(again, 300, maintenance=1000)
    cleaned = routing().notifications(again, 300, maintenance=25)
    assert [one.at for one in kept if one.page] == [10, 130]
    assert [one.at for one in cleaned if one.page] == [10, 110]
    assert [one.at for one in routing().pages(again, 300)] == [10, 110]


def test_nothing_is_told_after_the_last_second() -> None:
    assert routing().notifications([firing(0)], 9) == []
    assert routing().notifications([], 1000) == []
    assert len(routing().notifications([firing(0)], 10)) == 1


def test_a_receiver_that_is_not_told_of_ends_is_paged_again_all_the_same() -> None:
    receivers = "receivers: [{name: root, slack_configs: [{channel: a}]}]\n"
    told = routing(rest=receivers).notifications([firing(0, 20), firing(100)], 300)
    assert [(one.at, one.page, one.resolved) for one in told][:2] == [(10, True, ()), (110, True, ())]


def test_a_label_that_is_missing_or_empty_names_no_group() -> None:
    told = routing().notifications([Firing("A", {}, 0, None), firing(1, cache="")], 30)
    assert [one.group for one in told] == [{}]
    assert len(told[0].alerts) == 1  # they are one alert


def test_grouping_by_everything_tells_every_alert_alone() -> None:
    told = routing("  routes: [{group_by: ['...']}]\n").notifications([firing(0), firing(0, alert="B")], 30)
    assert [one.group for one in told] == [{"alertname": "A", "cache": "users"}, {"alertname": "B", "cache": "users"}]


ROUTES = """  routes:
    - {receiver: one, matchers: ['a="1"'], continue: true}
    - receiver: two
      matchers: [a=~"1|2", b!=""]
      routes:
        - {receiver: two and a half, matchers: ['{b!~"x.*", c="say \\"no\\", or"}']}
    - {receiver: three, matchers: [a=2]}
"""


@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        ({"a": "1"}, ["one"]),
        ({"a": "1", "b": "y"}, ["one", "two"]),
        ({"a": "2", "b": "y"}, ["two"]),
        ({"a": "2", "b": "y", "c": 'say "no", or'}, ["two and a half"]),
        ({"a": "2", "b": "xyz", "c": 'say "no", or'}, ["two"]),
        ({"a": "2"}, ["three"]),
        ({"a": "12"}, ["root"]),
        ({}, ["root"]),
    ],
)
def test_the_first_branch_that_matches_takes_an_alert_unless_it_lets_it_go_on(
    labels: dict[str, str], receivers: list[str]
) -> None:
    assert routing(ROUTES).receivers(labels) == receivers


INHIBITION = """inhibit_rules:
  - {source_matchers: [alertname="A"], target_matchers: [alertname=~"A|B"], equal: [cache]}
"""


def test_what_is_hidden_is_told_as_soon_as_nothing_hides_it() -> None:
    alerts = [firing(0, 100), firing(0, alert="B")]
    assert brief(routing(rest=INHIBITION).notifications(alerts, 200)) == [(10, "A", ""), (130, "B", "A")]


def test_what_begins_to_be_hidden_is_not_told_and_no_page_when_it_is_hidden_no_longer() -> None:
    alerts = [firing(0, alert="B"), firing(0, alert="C"), firing(30, 100)]
    told = routing("  routes: [{receiver: others, matchers: ['alertname!=A']}]\n", INHIBITION).notifications(
        alerts, 300
    )
    assert [(one.at, one.page) for one in told if one.receiver == "others"] == [(10, True), (190, False)]
    assert brief(told)[0] == (10, "B C", "")


def test_what_ends_while_it_is_hidden_is_forgotten_and_comes_back_only_as_a_repetition() -> None:
    """As Alertmanager does: whoever was told that it fires has never been told that it ended."""
    text = routing("  routes: [{receiver: hidden, matchers: [alertname=B]}]\n", INHIBITION)
    alerts = [firing(0, 60, alert="B"), firing(30, 200), firing(210, alert="B")]
    told = [one for one in text.notifications(alerts, 400, maintenance=1000) if one.receiver == "hidden"]
    assert [(one.at, one.page) for one in told] == [(10, True), (250, False)]


def test_alerts_that_match_both_sides_do_not_hide_each_other_and_missing_labels_are_equal() -> None:
    model = routing(rest=INHIBITION)
    a, b = ({"alertname": name} for name in "AB")
    assert model.inhibited(b, [a])
    assert model.inhibited({**b, "cache": "x"}, [{**a, "cache": "x"}])
    assert not model.inhibited({**b, "cache": "x"}, [a])
    assert not model.inhibited(b, [{**a, "cache": "x"}])
    assert not model.inhibited(a, [a, {**a, "other": "1"}])
    assert not model.inhibited(b, [])


WRONG = {
    "no YAML": ("route: [", "alertmanager.yml:1: not valid YAML"),
    "no route": ("receivers: []", "alertmanager.yml:1: an Alertmanager configuration has a route"),
    "a root without a receiver": ("route: {group_wait: 1s}", "alertmanager.yml: route: has no receiver"),
    "routes that are none": ("route: {receiver: a, routes: 1}", "alertmanager.yml: route.routes: must be a list"),
    "a route that is none": ("route: {receiver: a, routes: [1]}", "route.routes[0]: must be a mapping of keys"),
    "a key that could change the verdict": (
        "route: {receiver: a, routes: [{mute_time_intervals: [b]}]}",
        "route.routes[0]: mute_time_intervals is not modelled here; known are continue,",
    ),
    "a matcher that is none": ("route: {receiver: a, matchers: [b]}", "route.matchers[0]: 'b' is no matcher"),
    "a duration that is none": ("route: {receiver: a, group_wait: 5}", "route.group_wait: '5' is no duration"),
    "an expression that is none": (
        "route: {receiver: a}\ninhibit_rules: [{source_matchers: ['a=~\"(\"']}]",
        "inhibit_rules[0].source_matchers[0]: '(' is no regular expression",
    ),
    "a rule of the old kind": (
        "route: {receiver: a}\ninhibit_rules: [{source_match: {a: b}}]",
        "inhibit_rules[0]: source_match is not modelled here; known are equal,",
    ),
    "a receiver that is none": ("route: {receiver: a}\nreceivers: [a]", "receivers[0]: must be a mapping of keys"),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_a_configuration_that_cannot_be_modelled_is_told_with_its_place(sentence: str) -> None:
    text, told = WRONG[sentence]
    with pytest.raises(CheckFailed) as caught:
        Routing.of(text)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
