"""Judges mutants: the likeliest killers go first, and no kill counts that the unmutated rule would not survive."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from herdwatch.errors import CheckFailed
from herdwatch.proof.mutation import reads
from herdwatch.proof.mutation.differences import same_in
from herdwatch.proof.mutation.mutants import Mutant, identity
from herdwatch.proof.mutation.plan import Changes, Plan, Rulebook, plan, whole_plan
from herdwatch.proof.mutation.rulefile import Rule
from herdwatch.proof.mutation.suite import Case
from herdwatch.proof.mutation.trials import Outcome, Trials

_SAID = 200


class Verdict(StrEnum):
    """What became of a mutant. One that promtool does not take for a rule is invalid and proves nothing."""

    KILLED = "killed"
    TIMED_OUT = "timed out"
    SURVIVED = "survived"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class Result:
    """A mutant, its verdict, and the test that killed it."""

    mutant: Mutant
    verdict: Verdict
    killer: str = ""

    @property
    def is_killed(self) -> bool:
        """Killed, in whatever way."""
        return self.verdict in (Verdict.KILLED, Verdict.TIMED_OUT)


class Session:
    """The cases, what is known of them, and what has been tried. Its methods may be called from many threads."""

    def __init__(self, trials: Trials, cases: Sequence[Case], *, first: int, whole: bool = False) -> None:
        self._trials = trials
        self._cases = cases
        self._first = first
        self._whole = whole
        books: dict[tuple[int, ...], Rulebook] = {}
        for case in cases:
            files = tuple(map(id, case.files))
            books[files] = books.get(files) or Rulebook.of(case)
        self._books = [books[tuple(map(id, case.files))] for case in cases]
        self._keys = frozenset(key for book in books.values() for key in book.keys)
        self._tried: dict[int, frozenset[int]] = {}
        self._plans: dict[tuple[int, reads.Keys], list[tuple[int, Plan]]] = {}
        self._kills: defaultdict[int, Counter[int]] = defaultdict(Counter)
        self._controlled: set[tuple[int, int, reads.Keys]] = set()
        self._invalid: set[int] = set()
        self._lock = threading.Lock()

    @property
    def controls(self) -> int:
        """How many times a rule was played that was only written anew."""
        return len(self._controlled)

    def noticing(self, rules: Iterable[Rule]) -> list[int]:
        """The numbers of the cases that could kill a mutant of one of the rules."""
        return sorted({number for rule in rules for number, _ in self._plans_of(rule, frozenset())})

    def takes(self, path: Path) -> None:
        """Check a rule file as it is; raises CheckFailed where promtool does not take it."""
        if said := self._trials.refused(path):
            raise CheckFailed(_told(said))

    def passes_unmutated(self, number: int) -> None:
        """Play a case with its rules as they are; raises CheckFailed where it fails."""
        case = self._cases[number]
        outcome, said = self._play(number, whole_plan(case, self._books[number]), {})
        if outcome is not Outcome.PASSED:
            raise CheckFailed(f"{case.where} fails before any mutation: {_told(said)}")

    def validate(self, mutants: Sequence[Mutant]) -> None:
        """Find out which mutants promtool takes for rules."""
        nodes = [mutant.node for mutant in mutants if mutant.node is not None]
        if not nodes or self._trials.accepts(nodes):
            return
        invalid = {id(one) for one in mutants if one.node is not None and not self._trials.accepts([one.node])}
        with self._lock:
            self._invalid |= invalid

    def try_likeliest(self, mutant: Mutant) -> Result | None:
        """Play the cases that are likely to kill a mutant; None if it lives and there are others."""
        if id(mutant) in self._invalid:
            return Result(mutant, Verdict.INVALID)
        plans = self._likeliest_first(mutant)
        first = plans[: self._first]
        if killed := self._killed(mutant, first):
            return killed
        self._tried[id(mutant)] = frozenset(number for number, _ in first)
        return None if len(plans) > len(first) else Result(mutant, Verdict.SURVIVED)

    def comparisons(self, mutants: Iterable[Mutant]) -> list[tuple[int, tuple[Mutant, ...]]]:
        """Cases not yet tried, each with those mutants of one rule's expression that are to be compared in it."""
        found: defaultdict[tuple[int, int], list[Mutant]] = defaultdict(list)
        for mutant in mutants:
            if mutant.expr is not mutant.rule.expr and not self._whole:
                for number, _ in self._plans_of(mutant.rule, self._extra(mutant)):
                    if number not in self._tried[id(mutant)]:
                        found[id(mutant.rule), number].append(mutant)
        return [(number, tuple(some)) for (_, number), some in found.items()]

    def compare(self, number_and_mutants: tuple[int, tuple[Mutant, ...]]) -> None:
        """Find out which of these mutants give anything in a case that their rule does not give."""
        number, mutants = number_and_mutants
        same = same_in(self._trials, self._cases[number], self._books[number], mutants)
        with self._lock:
            for mutant in same:
                self._tried[id(mutant)] |= {number}

    def judge(self, mutant: Mutant) -> Result:
        """Play the cases that are left until one fails."""
        plans = [one for one in self._likeliest_first(mutant) if one[0] not in self._tried[id(mutant)]]
        return self._killed(mutant, plans) or Result(mutant, Verdict.SURVIVED)

    def _killed(self, mutant: Mutant, plans: Iterable[tuple[int, Plan]]) -> Result | None:
        for number, planned in plans:
            outcome, _ = self._play(number, planned, {id(mutant.rule): mutant.node})
            if outcome is not Outcome.PASSED:
                self._control(mutant.rule, number, planned)
                with self._lock:
                    self._kills[id(mutant.rule)][number] += 1
                verdict = Verdict.TIMED_OUT if outcome is Outcome.TIMED_OUT else Verdict.KILLED
                return Result(mutant, verdict, self._cases[number].where)
        return None

    def _play(self, number: int, planned: Plan, changes: Changes) -> tuple[Outcome, str]:
        case = self._cases[number]
        return self._trials.play(case, planned.rules(case, changes), planned.expectations)

    def _control(self, rule: Rule, number: int, planned: Plan) -> None:
        """The identity mutant must survive where another is killed."""
        key = (id(rule), number, planned.keys)
        if key in self._controlled:
            return
        case = self._cases[number]
        outcome, said = self._play(number, planned, {id(rule): identity(rule)})
        if outcome is not Outcome.PASSED:
            raise CheckFailed(
                f"{rule.path}:{rule.line}: {rule.name} fails {case.where} although it was only written anew; no "
                f"kill there means anything: {_told(said)}"
            )
        with self._lock:
            self._controlled.add(key)

    def _likeliest_first(self, mutant: Mutant) -> list[tuple[int, Plan]]:
        rule = mutant.rule
        plans = self._plans_of(rule, self._extra(mutant))
        with self._lock:
            kills = Counter(self._kills[id(rule)])
        return sorted(plans, key=lambda one: (-kills[one[0]], -self._fits(rule, *one), one[1].cost))

    def _extra(self, mutant: Mutant) -> reads.Keys:
        """What a mutant reads and its rule does not."""
        if mutant.expr is mutant.rule.expr:
            return frozenset()
        return reads.of_tree(mutant.expr, self._keys) - reads.of_tree(mutant.rule.expr, self._keys)

    def _plans_of(self, rule: Rule, extra: reads.Keys) -> list[tuple[int, Plan]]:
        """Every case that could notice a change of the rule, which may make it read some more."""
        key = (id(rule), extra)
        if key not in self._plans:
            made = [
                (number, plan(case, book, rule, extra, whole=self._whole))
                for number, (case, book) in enumerate(zip(self._cases, self._books, strict=True))
            ]
            self._plans[key] = [(number, planned) for number, planned in made if planned is not None]
        return self._plans[key]

    def _fits(self, rule: Rule, number: int, planned: Plan) -> int:
        """How near a case is to the rule: it names the rule; its file is called after an alert that depends on it."""
        alerts = {name for kind, name in self._books[number].dependent(rule.key) if kind == "alert"}
        return planned.direct + (self._cases[number].path.name.partition(".")[0] in alerts)


def _told(output: str) -> str:
    """What promtool said, on one line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    told = " ".join(line for line in lines if not line.startswith("Unit Testing") and line != "FAILED:")
    return told if len(told) <= _SAID else f"{told[:_SAID]}…"
