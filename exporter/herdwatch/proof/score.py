"""The score of a rule set on the catalogue, as numbers, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from herdwatch.bundle.render import render_bundle
from herdwatch.promtool import Promtool
from herdwatch.proof import trials
from herdwatch.proof.catalogue import INCIDENTS
from herdwatch.proof.incident import Incident
from herdwatch.proof.known import KNOWN
from herdwatch.proof.routing import Routing
from herdwatch.proof.trials import RuleSet
from herdwatch.proof.verdicts import Verdict, judge

PHASES = {5: (1, 2, 3, 4), 15: (1, 7, 13, 4, 11), 30: (1, 7, 13, 24, 28), 60: (1, 17, 33, 44, 58)}
"""Seconds after each interval at which scrapes come, by scrape interval: never on an evaluation's own second."""

PLAY_TIMEOUT = 600.0
"""Seconds that promtool may take for one play, on a machine that has other things to do."""


@dataclass(frozen=True, slots=True)
class Score:
    """One rule set at one scrape interval; `ours` are the bundle's own rules.

    `notes` are sentences on what the score leaves out of the rules of others. Shares are between 0 and 1, times are
    seconds, and None says that there was nothing to count.
    """

    rules: str
    interval: int
    verdicts: tuple[Verdict, ...]
    ours: bool = True
    notes: tuple[str, ...] = ()

    @property
    def incidents(self) -> list[Verdict]:
        """Those that somebody should hear of."""
        return [one for one in self.verdicts if one.trial.incident.urgency != "calm"]

    @property
    def calm(self) -> list[Verdict]:
        """Those that nobody should hear of."""
        return [one for one in self.verdicts if one.trial.incident.urgency == "calm"]

    @property
    def pages_due(self) -> list[Verdict]:
        """Those that should wake somebody, and did."""
        return [one for one in self.verdicts if one.trial.incident.urgency == "page" and one.told]

    @property
    def recall(self) -> float | None:
        """Of the incidents, the share that was told in time."""
        return _share(one.told for one in self.incidents)

    @property
    def named(self) -> float | None:
        """Of the incidents, the share of which the right cause was named in time."""
        return _share(one.told and one.named for one in self.incidents)

    @property
    def quiet(self) -> float | None:
        """Of the calm days, the share on which nobody was told anything."""
        return _share(one.told for one in self.calm)

    @property
    def precision(self) -> float | None:
        """Of the messages delivered, the share that somebody should have got; None without any."""
        right = sum(one.deserved for one in self.verdicts)
        told = right + sum(len(one.wrong) for one in self.verdicts)
        return right / told if told else None

    @property
    def pages_each(self) -> float | None:
        """Pages for an incident that deserves one and got it: one is right."""
        counts = [one.pages for one in self.pages_due]
        return sum(counts) / len(counts) if counts else None

    @property
    def median_seconds(self) -> float | None:
        """Half of the pages came sooner."""
        return median(times) if (times := [one.seconds or 0.0 for one in self.pages_due]) else None

    @property
    def slowest(self) -> Verdict | None:
        """The page that came last after its incident."""
        return max(self.pages_due, key=lambda one: one.seconds or 0.0, default=None)

    @property
    def false_alarms(self) -> list[Verdict]:
        """Those of which somebody was told what nobody should have been, for no reason that is known."""
        return [one for one in self.verdicts if one.wrong and not reason(one)]

    @property
    def failures(self) -> list[Verdict]:
        """What is not as it should be."""
        return [one for one in self.verdicts if not one.right]

    def as_json(self) -> dict[str, Any]:
        """Everything, with each verdict, and for ours why it failed as far as that is known."""
        return {
            "rules": self.rules,
            "scrape_interval": self.interval,
            "notes": list(self.notes),
            "recall": self.recall,
            "precision": self.precision,
            "cause_named": self.named,
            "quiet": self.quiet,
            "pages_per_incident": self.pages_each,
            "seconds_to_page": {
                "median": self.median_seconds,
                "worst": self.slowest.seconds if self.slowest else None,
                "worst_incident": self.slowest.trial.incident.name if self.slowest else None,
            },
            "incidents": [_as_json(one, self.ours) for one in self.verdicts],
        }


def score(
    rules: RuleSet,
    interval: int,
    *,
    incidents: Sequence[Incident] = INCIDENTS,
    promtool: Promtool | None = None,
    step: int | None = None,
    done: Callable[[int], None] = lambda _: None,
) -> Score:
    """Play the incidents under a rule set, evaluated every `step` seconds; `done` hears how many more are through."""
    tried = trials.run(
        rules,
        incidents,
        promtool=promtool or Promtool(timeout=PLAY_TIMEOUT),
        interval=interval,
        phases=PHASES[interval],
        step=step,
        done=done,
    )
    routing = _routing(interval)
    return Score(rules.name, interval, tuple(judge(one, rules, routing) for one in tried), rules.ours)


def score_recordings(*, promtool: Promtool | None = None, done: Callable[[int], None] = lambda _: None) -> Score:
    """Our rules on what was recorded from real servers."""
    tried = trials.run_recordings(promtool=promtool or Promtool(timeout=PLAY_TIMEOUT), done=done)
    interval = tried[0].interval
    routing, ours = _routing(interval), RuleSet("herdwatch, on recordings")
    return Score(ours.name, interval, tuple(judge(one, ours, routing) for one in tried))


def _routing(interval: int) -> Routing:
    bundle = render_bundle(trials.configuration([], interval))
    return Routing.of(next(text for path, text in bundle.items() if path.name == "alertmanager.yml"))


def reason(verdict: Verdict) -> str:
    """Why it failed, as far as that is known beforehand; empty where it is not."""
    known = KNOWN.get(verdict.trial.incident.name)
    return known.reason if known and verdict.trial.interval >= known.interval else ""


def _share(values: Iterable[bool]) -> float | None:
    known = list(values)
    return sum(known) / len(known) if known else None


def _as_json(verdict: Verdict, ours: bool) -> dict[str, Any]:
    incident = verdict.trial.incident
    return {
        "name": incident.name,
        "about": incident.about,
        "urgency": incident.urgency,
        "causes": list(incident.causes),
        "within_seconds": incident.seconds(verdict.trial.interval),
        "phase": verdict.trial.phase,
        "told": verdict.told,
        "cause_named": verdict.named,
        "seconds": verdict.seconds,
        "pages": verdict.pages,
        "messages": verdict.messages,
        "deserved": verdict.deserved,
        "wrong": list(verdict.wrong),
        "reason": reason(verdict) if ours and not verdict.right else "",
        "fired": [
            {"alert": one.alert, "after": one.start - verdict.trial.known, "severity": one.labels.get("severity", "")}
            for one in verdict.trial.firings
            if one.labels.get("severity") != "none"
        ],
    }
