"""Verdicts: who was told, in time, once, and rightly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from herdwatch.bundle.location import bundle_root
from herdwatch.proof.incident import Incident, Urgency
from herdwatch.proof.known import KNOWN
from herdwatch.proof.plays import Firing
from herdwatch.proof.routing import Routing
from herdwatch.proof.score import Score
from herdwatch.proof.trials import RuleSet, Trial
from herdwatch.proof.verdicts import Verdict, judge
from herdwatch.proof.world import World

OURS = RuleSet("ours")
THEIRS = RuleSet("theirs", (Path("theirs.yml"),))
ZERO, END = 1_000, 3_000


def _nothing(world: World) -> list[float]:
    return [float(world.now)]


def incident(urgency: Urgency, *causes: str) -> Incident:
    return Incident("it", "room", lambda world: iter(_nothing(world)), urgency, causes, 2 if causes else 0, False)


def firing(alert: str, severity: str, after: int, lasts: int | None = None, **labels: str) -> Firing:
    start = ZERO + after
    given = {"cache": "it.users", "team": "platform", "severity": severity, **labels}
    return Firing(alert, given, start, None if lasts is None else start + lasts)


def judged(urgency: Urgency, causes: tuple[str, ...], *firings: Firing, rules: RuleSet = OURS) -> Verdict:
    trial = Trial(incident(urgency, *causes), 15, 7, ZERO, ZERO, END, firings)
    routing = Routing.of((bundle_root() / "alerts" / "alertmanager.yml").read_text())
    return judge(trial, rules, routing)


COLD = ("CacheRestarted",)


def test_a_page_in_time_with_the_right_name_is_right() -> None:
    verdict = judged("page", COLD, firing("CacheRestarted", "critical", 20))
    assert verdict.right
    assert (verdict.seconds, verdict.pages, verdict.messages) == (25, 1, 1)


def test_a_page_that_comes_late_was_not_told() -> None:
    verdict = judged("page", COLD, firing("CacheRestarted", "critical", 50))
    assert (verdict.told, verdict.named, verdict.seconds) == (False, True, 55)


def test_a_ticket_does_not_do_for_a_page() -> None:
    verdict = judged("page", COLD, firing("CacheRestarted", "warning", 10))
    assert (verdict.told, verdict.seconds, verdict.messages) == (False, None, 1)


def test_another_name_was_told_but_not_named() -> None:
    verdict = judged("page", COLD, firing("CacheDown", "critical", 10))
    assert (verdict.told, verdict.named, verdict.right) == (True, False, False)


def test_a_page_for_a_ticket_is_heard_and_wrong() -> None:
    verdict = judged("ticket", ("CacheHitRateLow",), firing("CacheHitRateLow", "critical", 10))
    assert (verdict.told, verdict.named) == (True, True)
    assert verdict.wrong == ("critical at +15 s: CacheHitRateLow",)


def test_what_comes_before_the_incident_is_wrong() -> None:
    early = firing("CacheRestarted", "critical", -300, 100)
    verdict = judged("page", COLD, early, firing("CacheRestarted", "critical", 20))
    assert verdict.told
    assert verdict.wrong == ("critical at -295 s: CacheRestarted",)
    assert (verdict.pages, verdict.messages) == (1, 1)


def test_a_calm_day_is_right_when_nobody_heard_anything() -> None:
    note = firing("HighCoalescingRate", "info", 10)
    watchdog = Firing("HerdwatchWatchdog", {"severity": "none"}, 0, None)
    assert judged("calm", (), note, watchdog).right
    loud = judged("calm", (), firing("CacheHitRateLow", "warning", 10))
    assert (loud.told, loud.wrong) == (False, ("warning at +40 s: CacheHitRateLow",))


def test_what_is_inhibited_is_no_message() -> None:
    both = (firing("CacheRestarted", "critical", 20), firing("CacheHitRateLow", "warning", 90))
    assert judged("page", COLD, *both).messages == 1


def test_a_page_that_ends_and_comes_again_is_two() -> None:
    both = (firing("CacheRestarted", "critical", 20, 60), firing("CacheRestarted", "critical", 700))
    assert judged("page", COLD, *both).pages == 2


def test_a_note_is_told_without_a_message() -> None:
    verdict = judged("note", ("HighCoalescingRate",), firing("HighCoalescingRate", "info", 10))
    assert verdict.right
    assert verdict.messages == 0


@pytest.mark.parametrize(
    ("alert", "severity", "named"), [("RedisRestarted", "page", True), ("RedisMissingMaster", "critical", False)]
)
def test_other_rule_sets_have_their_own_words(alert: str, severity: str, named: bool) -> None:
    theirs = replace(firing(alert, severity, 10), labels={"instance": "redis-1:6379", "severity": severity})
    verdict = judged("page", COLD, theirs, rules=THEIRS)
    assert (verdict.told, verdict.named, verdict.pages) == (True, named, 1)


def test_a_score_counts_what_it_should() -> None:
    restarted = firing("CacheRestarted", "critical", 20)
    score = Score(
        "ours",
        15,
        (
            judged("page", COLD, restarted),
            judged("page", COLD, firing("CacheDown", "critical", 40)),
            judged("page", COLD),
            judged("ticket", ("CacheHitRateLow",), firing("CacheHitRateLow", "warning", 10)),
            judged("calm", ()),
            judged("calm", (), restarted),
        ),
    )
    assert (score.recall, score.named, score.quiet) == (3 / 4, 2 / 4, 1 / 2)
    assert score.precision == 3 / 4
    assert (score.pages_each, score.median_seconds) == (1.0, 35)
    assert score.slowest is score.verdicts[1]
    assert score.failures == [score.verdicts[1], score.verdicts[2], score.verdicts[5]]
    assert score.as_json()["seconds_to_page"] == {"median": 35, "worst": 45, "worst_incident": "it"}


def test_a_false_message_takes_nothing_from_one_that_was_right() -> None:
    """Precision is right messages of all messages, also where the false one came before the incident."""
    early = firing("CacheRestarted", "critical", -300, 100)
    right = firing("CacheHitRateLow", "warning", 10)
    loud = firing("CacheHitRateLow", "critical", 10)
    for told, precision in (((early,), 0.0), ((early, right), 1 / 2), ((right,), 1.0), ((loud,), 0.0), ((), None)):
        assert Score("ours", 15, (judged("ticket", ("CacheHitRateLow",), *told),)).precision == precision


def test_what_is_known_to_go_wrong_is_said_in_a_sentence() -> None:
    assert all(known.reason.endswith(".") for known in KNOWN.values())
