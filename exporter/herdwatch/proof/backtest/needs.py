"""What rules need of a history: the raw series behind them, and how much past; and the rules as they are played."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from herdwatch.bundle import rules
from herdwatch.bundle.promql import Matcher
from herdwatch.bundle.rules import Rule
from herdwatch.bundle.windows import duration
from herdwatch.errors import CheckFailed
from herdwatch.proof.backtest.clock import shifted
from herdwatch.proof.backtest.reach import ROUNDS, Reach, Read, reads
from herdwatch.proof.names import STATES

LONGEST = 12 * 3600
"""Seconds of past that a piece is given at most, whatever its rules would like to see."""
CONFIGURED = "herdwatch:"
"""Begins the names of series that say what a herdwatch.yaml says: rules bring them along, no history does."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A selector of raw series."""

    metric: str
    matchers: tuple[Matcher, ...] = ()

    def selector(self) -> str:
        """It in PromQL."""
        own = [f"{one.label}{one.operator}{json.dumps(one.value, ensure_ascii=False)}" for one in self.matchers]
        return f"{self.metric}{{{','.join(own)}}}"


@dataclass(frozen=True, slots=True)
class Needs:
    """What the rules of a file read. `past` is in seconds; `notes` are sentences on what that leaves out.

    `wanted` finds all of them, `narrower` are the selectors whose series others of these find as well. `alerts` are
    names and severities; `readers` the alerts that read a metric, by way of recording rules too; `places` say where it
    is first read, and `selected` where a selector is.
    """

    wanted: tuple[Wanted, ...]
    narrower: tuple[Wanted, ...]
    past: int
    notes: tuple[str, ...]
    readers: Mapping[str, tuple[str, ...]]
    places: Mapping[str, str]
    selected: Mapping[Wanted, str]
    alerts: tuple[tuple[str, str], ...]
    reads_clock: bool
    document: Mapping[str, Any]

    @classmethod
    def of(cls, text: str, source: str) -> Needs:
        """Read a rule file; raises CheckFailed with file and line where it is none or cannot be played in pieces."""
        loaded = rules.load(text, source)
        alerts = [rule for rule in loaded if rule.is_alert]
        if not alerts:
            raise CheckFailed(f"{source}: declares no alert, so nothing could be told")
        document = yaml.safe_load(text)
        places = [f"{source}:{rule.line}: {rule.name}" for rule in loaded]
        found = [reads(rule.expr, place) for rule, place in zip(loaded, places, strict=True)]
        reach = Reach(loaded, [rule for group in document["groups"] for rule in group["rules"]], found)
        raw = _raw_names(loaded, found)
        first = list(reversed([(read, place) for own, place in zip(found, places, strict=True) for read in own]))
        selected = {Wanted(read.name, read.matchers): place for read, place in first if read.name in raw}
        wanted = _widest(set(selected))
        return cls(
            wanted=wanted,
            narrower=tuple(sorted(set(selected) - set(wanted), key=Wanted.selector)),
            past=min(reach.bounded, LONGEST),
            notes=tuple(_notes(reach)),
            readers=_readers(loaded, found, raw),
            places={read.name: place for read, place in first},
            selected=selected,
            alerts=tuple(dict.fromkeys((rule.name, str(rule.labels.get("severity", ""))) for rule in alerts)),
            reads_clock=any(shifted(rule.expr, 1) != rule.expr for rule in loaded),
            document=document,
        )

    def played(self, begins: int) -> str:
        """The rules as a play reads them that begins at this second: without annotations, the clock moved."""
        groups = [
            {**group, "rules": [_played(rule, begins) for rule in group["rules"]]} for group in self.document["groups"]
        ]
        return json.dumps({"groups": groups})


def _played(rule: Mapping[str, Any], begins: int) -> dict[str, Any]:
    kept = {key: value for key, value in rule.items() if key != "annotations"}
    return {**kept, "expr": shifted(str(rule["expr"]), begins)}


def _raw_names(loaded: Iterable[Rule], found: Iterable[Iterable[Read]]) -> set[str]:
    made = {rule.name for rule in loaded if not rule.is_alert} | STATES
    names = {read.name for own in found for read in own} - made
    return {name for name in names if not name.startswith(CONFIGURED)}


def _notes(reach: Reach) -> Iterable[str]:
    if reach.endless:
        names = ", ".join(sorted(reach.endless))
        yield f"{names}: rules read here what they said before, of which a piece follows {ROUNDS} rounds"
    if reach.bounded > LONGEST:
        yield f"the rules look back {duration(reach.bounded)}, of which they are given {duration(LONGEST)}"


def _readers(loaded: Sequence[Rule], found: Sequence[Sequence[Read]], raw: set[str]) -> dict[str, tuple[str, ...]]:
    by_name: dict[str, set[str]] = {}
    for rule, own in zip(loaded, found, strict=True):
        by_name.setdefault(rule.name, set()).update(read.name for read in own)
    behind = {rule.name: _behind(rule.name, by_name) for rule in loaded if rule.is_alert}
    return {metric: tuple(alert for alert, names in behind.items() if metric in names) for metric in sorted(raw)}


def _behind(name: str, by_name: Mapping[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        new = by_name.get(waiting.pop(), set()) - seen
        seen |= new
        waiting.extend(new)
    return seen


def _widest(wanted: set[Wanted]) -> tuple[Wanted, ...]:
    """Without those whose series another one finds as well."""
    kept = [
        one
        for one in wanted
        if not any(other.metric == one.metric and set(other.matchers) < set(one.matchers) for other in wanted)
    ]
    return tuple(sorted(kept, key=Wanted.selector))
