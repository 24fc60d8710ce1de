"""What a trial is worth to the people who are on call: who was told what, when, how often, and rightly or not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from herdwatch.proof.plays import Firing
from herdwatch.proof.routing import Notification, Routing
from herdwatch.proof.trials import RuleSet, Trial

PAGES = ("critical", "page", "emergency", "high")
TICKETS = ("warning", "warn", "ticket", "medium")
NOTES = ("info", "none", "informational", "low")
"""Severities of other rule sets by what our routes make of them; one that is none of these counts as a warning."""

LOUD = ("critical", "warning")
"""Receivers that a person hears."""

WORDS: Mapping[str, str] = {
    "CacheRestarted": r"restart|reboot|uptime|cold",
    "CacheRestartLoop": r"restart|reboot|uptime|loop|flap",
    "CacheKeysLost": r"key|flush|lost",
    "CacheDown": r"down|unreach|not.?answer|missing",
    "CacheTargetDown": r"target|absent|missing|down",
    "CacheExporterDown": r"exporter|scrape|target|missing|down",
    "CacheLoading": r"load",
    "CacheStampede": r"stampede|herd|overload|capacity|miss",
    "CacheHitRateLow": r"hit|miss",
    "CacheEvicting": r"evict",
    "CacheReplicaMissing": r"replica|slave",
    "CacheWarmupStalled": r"warm",
    "CacheRefreshFailing": r"refresh",
    "SingleflightDisabled": r"singleflight|coalesc",
    "HighCoalescingRate": r"coalesc",
}
"""By what an alert of another rule set names the same cause: one of these in its name is enough."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One trial, judged.

    `told`: somebody heard of it in time, at least as loudly as it deserves (a calm day: nobody did). `named`: an alert
    for its cause fired in time. `seconds` from when it could be known to the first message, None without one. `pages`
    and `messages` count what was delivered since it began, pages being the critical ones, and `deserved` those of the
    messages that somebody should have got; `wrong` are all that nobody should have got, each with its alerts.
    """

    trial: Trial
    told: bool
    named: bool
    seconds: float | None
    pages: int
    messages: int
    deserved: int
    wrong: tuple[str, ...]

    @property
    def right(self) -> bool:
        """Everything about it is as it should be."""
        return self.told and self.named and not self.wrong


def judge(trial: Trial, rules: RuleSet, routing: Routing) -> Verdict:
    """The verdict on one trial, its alerts delivered by `routing`."""
    firings = trial.firings if rules.ours else tuple(_with_our_severity(one) for one in trial.firings)
    delivered = [one for one in routing.pages(firings, trial.seconds) if one.receiver in LOUD]
    since = [one for one in delivered if one.at >= trial.zero]
    wanted = [one for one in since if _loud_enough(one, trial)]
    deadline = trial.known + trial.incident.seconds(trial.interval)
    first = min((one.at for one in wanted), default=None)
    named = _named(trial, rules, firings, deadline)
    match trial.incident.urgency:
        case "calm":
            told = named = not delivered
        case "note":
            told = named
        case _:
            told = first is not None and first <= deadline
    return Verdict(
        trial,
        told,
        named,
        None if first is None else max(first - trial.known, 0.0),
        sum(one.receiver == "critical" for one in since),
        len(since),
        sum(not _wrong(one, trial) for one in delivered),
        tuple(_sentence(one, trial) for one in delivered if _wrong(one, trial)),
    )


def _with_our_severity(firing: Firing) -> Firing:
    """What other rule sets call critical or information, in the words that our routes know."""
    given = firing.labels.get("severity", "").lower()
    severity = "warning"
    if given in PAGES:
        severity = "critical"
    elif given in NOTES:
        severity = "info"
    return replace(firing, labels={**firing.labels, "severity": severity})


def _loud_enough(message: Notification, trial: Trial) -> bool:
    return message.receiver == "critical" or trial.incident.urgency != "page"


def _wrong(message: Notification, trial: Trial) -> bool:
    if message.at < trial.zero or trial.incident.urgency in ("calm", "note"):
        return True
    return message.receiver == "critical" and trial.incident.urgency == "ticket"


def _named(trial: Trial, rules: RuleSet, firings: tuple[Firing, ...], deadline: int) -> bool:
    return any(
        _names(firing.alert, cause, exactly=rules.ours)
        for firing in firings
        for cause in trial.incident.causes
        if trial.zero <= firing.start <= deadline
    )


def _names(alert: str, cause: str, *, exactly: bool) -> bool:
    return alert == cause if exactly else re.search(WORDS[cause], alert, re.IGNORECASE) is not None


def _sentence(message: Notification, trial: Trial) -> str:
    names: Iterator[str] = iter(sorted({firing.alert for firing in message.alerts}))
    return f"{message.receiver} at {message.at - trial.known:+.0f} s: {', '.join(names)}"
