"""What has to be played to see whether a case notices a change of one rule, and what cannot make a difference.

promtool spends its time on rules. Played are the mutated one, those that depend on it, and those that any of them or an
expectation kept reads. An expectation that depends on none of the changed rules keeps its outcome and is left out; of
one that lists alerts, the samples of alerts that are not played. The verdict is that of the whole case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from yaml import MappingNode, SequenceNode

from herdwatch.errors import CheckFailed
from herdwatch.proof.mutation import reads, tree
from herdwatch.proof.mutation.reads import ALERT_SERIES, Key, Keys
from herdwatch.proof.mutation.rulefile import Rule, items, mapping, number, scalar, sequence, text, value, with_field
from herdwatch.proof.mutation.suite import ALERTS, SAMPLES, Case, Expectation

Nodes = dict[tuple[int, ...], MappingNode]
"""Rules of one file by their index."""

Changes = Mapping[int, MappingNode | None]
"""By the id of a rule what stands in its place; None if nothing does."""


@dataclass(frozen=True)
class Rulebook:
    """All rules that a case plays, and what each reads."""

    rules: tuple[Rule, ...]
    reads: Mapping[Key, Keys]

    @classmethod
    def of(cls, case: Case) -> Rulebook:
        """Of the rule files of a case."""
        rules = tuple(rule for file in case.files for rule in file.rules)
        known = {rule.key for rule in rules}
        read: dict[Key, Keys] = {}
        for rule in rules:
            read[rule.key] = read.get(rule.key, frozenset()) | reads.of_rule(rule, known)
        return cls(rules, read)

    @cached_property
    def keys(self) -> Keys:
        """The keys of all rules."""
        return frozenset(self.reads)

    def dependent(self, key: Key) -> Keys:
        """The rule itself and all that read it, directly or not."""
        return _closure([key], lambda one: [other for other, read in self.reads.items() if one in read])

    def needed(self, keys: Iterable[Key]) -> Keys:
        """The rules themselves and all that they read, directly or not."""
        return _closure(keys, lambda one: self.reads.get(one, ()))


@dataclass(frozen=True, slots=True)
class Plan:
    """The rules to play, by key, and what is expected of them.

    An expectation of a `direct` one names the mutated rule. `cost` compares plans. If `is_whole`, nothing is left out.
    """

    keys: Keys
    expectations: tuple[Expectation, ...]
    direct: bool
    cost: int
    is_whole: bool = False

    def rules(self, case: Case, changes: Changes) -> list[Nodes]:
        """The rules to play for each rule file of the case, with some changed.

        Annotations take time while an alert fires. They are left out where nothing looks at them.
        """
        shown = {one.alert for one in self.expectations if one.field == ALERTS}
        return [
            {
                rule.index: node if self.is_whole or rule.key[1] in shown else with_field(node, "annotations", None)
                for rule in file.rules
                if rule.key in self.keys and (node := changes.get(id(rule), rule.node)) is not None
            }
            for file in case.files
        ]


def plan(case: Case, book: Rulebook, rule: Rule, extra: Keys = frozenset(), *, whole: bool = False) -> Plan | None:
    """How a case is played against a change of a rule; None if none of its expectations depends on the rule.

    `extra` are the rules that it reads when changed and did not read before, as with a mutated matcher on ALERTS. With
    `whole` all rules and expectations are played.
    """
    if not any(one is rule for one in book.rules):
        return None
    changed = book.dependent(rule.key)
    relevant = [(one, read) for one in case.expectations if (read := _reads(one, book)) & changed]
    if not relevant:
        return None
    direct = any(_names(one, rule) for one, _ in relevant)
    if whole:
        return replace(whole_plan(case, book), direct=direct)
    listing = {id(one) for one, _ in relevant if _lists_alerts(case, one)}
    read_by_others = frozenset(key for one, read in relevant if id(one) not in listing for key in read)
    keys = book.needed(changed | read_by_others | (extra & book.keys))
    kept = [_restricted(one, keys) if id(one) in listing else one for one, _ in relevant]
    return Plan(keys, (*kept, *_to_the_end(case, kept)), direct, _cost(case, book, keys))


def whole_plan(case: Case, book: Rulebook) -> Plan:
    """The case as it is."""
    return Plan(book.keys, case.expectations, False, _cost(case, book, book.keys), is_whole=True)


def _closure(keys: Iterable[Key], following: Callable[[Key], Iterable[Key]]) -> Keys:
    found: set[Key] = set()
    ahead = list(keys)
    while ahead:
        key = ahead.pop()
        if key not in found:
            found.add(key)
            ahead.extend(following(key))
    return frozenset(found)


def _cost(case: Case, book: Rulebook, keys: Keys) -> int:
    return (case.end // case.interval + 1) * sum(rule.key in keys for rule in book.rules)


def _reads(expected: Expectation, book: Rulebook) -> Keys:
    if expected.field == ALERTS:
        return frozenset({("alert", expected.alert)} & book.keys)
    return reads.of_text(expected.expr, book.keys)


def _names(expected: Expectation, rule: Rule) -> bool:
    """Whether an expectation is about this very rule: it names the alert, or the record."""
    return expected.alert == rule.key[1] or rule.key[1] in expected.expr


def _lists_alerts(case: Case, expected: Expectation) -> bool:
    """Whether the expectation's samples can be told apart by alert."""
    series = [scalar(node, "series") for node in items(value(case.node, "input_series"))]
    if expected.field != SAMPLES or any(map(_may_be_alerts, series)):
        return False
    try:
        expr = tree.parse(expected.expr)
    except CheckFailed:
        return False
    rows = items(value(expected.node, "exp_samples"))
    return reads.is_per_alert(expr) and all(reads.alertname(scalar(row, "labels")) is not None for row in rows)


def _may_be_alerts(series: str) -> bool:
    return series.startswith("{") or any(name in series for name in ALERT_SERIES)


def _restricted(expected: Expectation, keys: Keys) -> Expectation:
    rows = value(expected.node, "exp_samples")
    if not isinstance(rows, SequenceNode):
        return expected
    kept = [row for row in items(rows) if ("alert", reads.alertname(scalar(row, "labels"))) in keys]
    return replace(expected, node=with_field(expected.node, "exp_samples", sequence(kept)))


def _to_the_end(case: Case, kept: Iterable[Expectation]) -> Iterable[Expectation]:
    """promtool evaluates up to the last expectation, and an error at any time fails the case: that stays so."""
    if max(one.at for one in kept) >= case.end:
        return
    last = max(case.expectations, key=lambda one: one.at)
    due = value(last.node, "eval_time") or text("0s")
    sample = mapping({"labels": text("{}"), "value": number("0")})
    node = mapping({"expr": text("vector(0)"), "eval_time": due, "exp_samples": sequence([sample])})
    yield Expectation(node, SAMPLES, last.at, "", "vector(0)")
