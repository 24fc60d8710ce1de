"""Rules of others: what they ask that no play answers, so that their score is taken for no more than it is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from herdwatch.bundle.promql import selectors
from herdwatch.bundle.rules import Rule
from herdwatch.errors import CheckFailed, UsageError
from herdwatch.promtool import Promtool, reading
from herdwatch.promtool.reading import Matcher, Selector
from herdwatch.proof.names import STATES, known_names
from herdwatch.proof.player import load_rules
from herdwatch.proof.routes import seconds
from herdwatch.proof.verdicts import NOTES, PAGES, TICKETS

BUNDLE = "herdwatch:cache"
"""A rendered bundle records the caches of its configuration under this name."""

_NAME = "__name__"
_SHOWN = 3
"""Values of a label that a sentence names."""

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Foreign:
    """Rule files that can be scored: the rules, each with file and line, and the groups, each with its own interval."""

    rules: tuple[tuple[str, Rule], ...]
    intervals: tuple[tuple[str, int | None], ...]

    @classmethod
    def load(cls, files: Sequence[Path], names: str) -> Foreign:
        """Read them.

        Raises UsageError for a rendered bundle, and CheckFailed for what promtool refuses or for rules that know none
        of the catalogue's metrics: no score could say anything about them.
        """
        rules = tuple((f"{path}:{rule.line}", rule) for path in files for rule in load_rules(path))
        promtool = Promtool()
        for path in files:
            result = promtool.check_rules(path)
            if not result.ok:
                raise CheckFailed("\n".join(result.problems))
        for where, rule in rules:
            if rule.name == BUNDLE:
                raise UsageError(
                    f"--rules {where}: records {BUNDLE}, as a rendered bundle of herdwatch does, which knows only the "
                    "caches of its herdwatch.yaml; without --rules its alerts are scored, rendered anew for each play"
                )
        _must_know_metrics(files, rules, names)
        return cls(rules, tuple(interval for path in files for interval in _intervals(path)))

    def step(self, default: int) -> int:
        """Seconds between two evaluations: `default`, or more where every group says so."""
        return max(default, min(every or default for _, every in self.intervals))

    def slower(self, step: int) -> list[str]:
        """A sentence for each group that Prometheus evaluates less often than a play does, every `step` seconds."""
        return [
            f"{where} is evaluated every {step} s here, and every {every} s by Prometheus: "
            f"it would tell up to {every - step} s later"
            for where, every in self.intervals
            if every is not None and every > step
        ]

    def severities(self) -> list[str]:
        """A sentence for each severity that no other rule set is known to use; one from a template may be anything."""
        first: dict[str, str] = {}
        for where, rule in self.rules:
            severity = str(rule.labels.get("severity") or "")
            if rule.is_alert and "{{" not in severity and severity.lower() not in (*PAGES, *TICKETS, *NOTES):
                first.setdefault(severity, where)
        pages = f"what counts as a page is {', '.join(PAGES)}"
        return [
            f"{where}: {f'the severity {severity!r}' if severity else 'no severity'} counts as a warning; {pages}"
            for severity, where in first.items()
        ]

    def unanswered(self, series: Sequence[Labels]) -> list[str]:
        """A sentence for each selector that selects none of the series that were played, each with its name."""
        recorded = {rule.name for _, rule in self.rules if not rule.is_alert}
        alerts = [{_NAME: name, "alertname": rule.name} for _, rule in self.rules if rule.is_alert for name in STATES]
        there = [*series, *alerts, *({_NAME: name} for name in recorded)]
        made = STATES | recorded
        first: dict[str, str] = {}
        for where, rule in self.rules:
            for selector in reading.expression(rule.expr).selectors:
                found = _found(selector, there, made)
                if found:
                    first.setdefault(found, where)
        return [f"{where}: {sentence}" for sentence, where in first.items()]


def _found(selector: Selector, there: Sequence[Labels], made: frozenset[str]) -> str:
    """What is missing for a selector to find a series, empty where it finds one.

    Of series that are `made` by the rules and not played, only the labels are held against it that are known.
    """
    if any(selector.accepts(labels, known_only=labels[_NAME] in made) for labels in there):
        return ""
    named = Selector(tuple(one for one in selector.matchers if one.label == _NAME))
    others = [one for one in selector.matchers if one.label != _NAME]
    candidates = [labels for labels in there if named.accepts(labels)]
    name = " and ".join(map(_shown, named.matchers)) or "such a series"
    if not candidates:
        return f"no incident that was played has {name}"
    blamed = [one for one in others if not any(one.accepts(labels.get(one.label, "")) for labels in candidates)]
    wanted = ", ".join(map(_shown, blamed or others))
    if {labels[_NAME] for labels in candidates} <= STATES:
        return f"no alert of these rules has {wanted}"
    values = "".join(f"; there {one.label} is {_values(one.label, candidates)}" for one in blamed)
    return f"no incident that was played has {name} with {wanted}{values}"


def _values(label: str, series: Sequence[Labels]) -> str:
    values = sorted({labels.get(label, "") for labels in series})
    shown = [json.dumps(value, ensure_ascii=False) if value else "missing" for value in values[:_SHOWN]]
    return " or ".join([*shown, *(["another"] if len(values) > _SHOWN else [])])


def _shown(matcher: Matcher) -> str:
    pattern = matcher.pattern
    if matcher.label == _NAME and isinstance(pattern, str) and not matcher.negative:
        return pattern
    text = pattern if isinstance(pattern, str) else pattern.pattern if pattern else ""
    operator = ("!" if matcher.negative else "=") + ("=" if isinstance(pattern, str) else "~")
    # PromQL writes equality with one sign.
    return f"{matcher.label}{operator.replace('==', '=')}{json.dumps(text, ensure_ascii=False)}"


def _must_know_metrics(files: Sequence[Path], rules: Sequence[tuple[str, Rule]], names: str) -> None:
    recorded = {rule.name for _, rule in rules if not rule.is_alert}
    asked = {one.metric for where, rule in rules for one in selectors(rule.expr, f"{where}: {rule.name}")}
    known = known_names(names)
    if not known & asked:
        unknown = sorted(name for name in asked - recorded - STATES if name)
        raise CheckFailed(
            f"{', '.join(map(str, files))}: knows none of the catalogue's metrics under --names {names}; "
            f"they ask for {', '.join(unknown[:5])}"
        )


def _intervals(path: Path) -> Iterator[tuple[str, int | None]]:
    """Each group as a sentence begins, and its own interval in seconds; None: what Prometheus is told for all."""
    for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
        where, given = f"{path}: the group {group.get('name')}", group.get("interval")
        yield where, None if given is None else round(seconds(given, f"{where}: interval"))
