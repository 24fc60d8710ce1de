"""Which mutants of an expression give, at every evaluation of a case, exactly what the expression gives.

Whatever depends on the rule is then the same too, and the case need not be played against them. Many mutants are
compared in one run, with the rule's own inputs alone, which is a fraction of what the case takes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from herdwatch.proof.mutation import reads
from herdwatch.proof.mutation.mutants import Mutant
from herdwatch.proof.mutation.plan import Plan, Rulebook
from herdwatch.proof.mutation.rulefile import mapping, text, value
from herdwatch.proof.mutation.suite import SAMPLES, Case, Expectation
from herdwatch.proof.mutation.text import render, span
from herdwatch.proof.mutation.trials import Outcome, Trials

_ORIGINAL = "herdwatch:original"
_MUTANT = "herdwatch:mutant:"
_NAMED = re.compile(rf"{_MUTANT}(\d+)")


def same_in(trials: Trials, case: Case, book: Rulebook, mutants: Sequence[Mutant]) -> list[Mutant]:
    """Those of the mutants, all of one rule, that make no difference in the case.

    One whose evaluation fails, or takes too long, makes one.
    """
    if value(case.node, "start_timestamp") is not None:
        return []  # Evaluations may then lie anywhere, and the comparison looks at multiples of their interval.
    left = list(mutants)
    while left:
        outcome, said = _compared(trials, case, book, left)
        if outcome is Outcome.PASSED:
            break
        # promtool names what differs; or what fails, and then says nothing of the rest, which is why that goes again.
        named = {int(number) for number in _NAMED.findall(said)}
        if not named:
            return _halved(trials, case, book, left)
        left = [mutant for number, mutant in enumerate(left) if number not in named]
    return left


def _halved(trials: Trials, case: Case, book: Rulebook, mutants: Sequence[Mutant]) -> list[Mutant]:
    half = len(mutants) // 2
    parts = (mutants[:half], mutants[half:]) if half else ()
    return [one for part in parts for one in same_in(trials, case, book, part)]


def _compared(trials: Trials, case: Case, book: Rulebook, mutants: Sequence[Mutant]) -> tuple[Outcome, str]:
    rule = mutants[0].rule
    exprs = [rule.expr, *(mutant.expr for mutant in mutants)]
    names = [_ORIGINAL, *(f"{_MUTANT}{number}" for number in range(len(mutants)))]
    inputs = book.needed(key for expr in exprs for key in reads.of_tree(expr, book.keys))
    rules = Plan(inputs, (), direct=False, cost=0).rules(case, {})
    [place] = [number for number, file in enumerate(case.files) if any(one is rule for one in file.rules)]
    for number, (name, expr) in enumerate(zip(names, exprs, strict=True)):
        rules[place][*rule.index, number] = mapping({"record": text(name), "expr": text(render(expr))})
    return trials.play(case, rules, list(_no_difference(case, names[1:])))


def _no_difference(case: Case, names: Sequence[str]) -> Iterator[Expectation]:
    """At the end of the case, over all its evaluations: no sample of one is missing in the other, or is another."""
    window = f"[{span(case.end + case.interval)}:{span(case.interval)}]"
    for name in names:
        different = f"{name} unless {_ORIGINAL} or {_ORIGINAL} unless {name} or {name} != {_ORIGINAL}"
        row = {"expr": text(f"count_over_time(({different}){window})"), "eval_time": text(span(case.end))}
        yield Expectation(mapping(row), SAMPLES, case.end, "", "")
