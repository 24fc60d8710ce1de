"""What a run is told as: scores per rule and operator, the survivors, and all of it as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from herdwatch.proof.mutation.mutants import OPERATORS
from herdwatch.proof.mutation.session import Result, Verdict


@dataclass(frozen=True, slots=True)
class Tally:
    """How many mutants died, lived, live for a reason that is listed, and are none."""

    killed: int
    survived: int
    equivalent: int
    invalid: int

    @property
    def score(self) -> float | None:
        """Killed of all that could be killed; None where there are none."""
        could = self.killed + self.survived
        return self.killed / could if could else None


@dataclass(frozen=True, slots=True)
class Report:
    """The results of a run and, by mutant id, the reasons of those that are equivalent."""

    results: Sequence[Result]
    reasons: Mapping[str, str]
    total: int
    controls: int
    seconds: float

    @property
    def tally(self) -> Tally:
        """Over all results."""
        return self._tally(self.results)

    @property
    def survivors(self) -> list[Result]:
        """What no test killed, in the order of the rule files, without those that are equivalent."""
        return [one for one in self.results if one.verdict is Verdict.SURVIVED and one.mutant.id not in self.reasons]

    def lines(self) -> Iterator[str]:
        """The report as text."""
        rules = dict.fromkeys(result.mutant.rule.name for result in self.results)
        yield from self._table("rule", rules, lambda result: result.mutant.rule.name)
        yield ""
        yield from self._table("operator", OPERATORS, lambda result: result.mutant.operator)
        yield from self._listed("survived: no test notices", self.survivors)
        equivalent = [one for one in self.results if one.verdict is Verdict.SURVIVED and one.mutant.id in self.reasons]
        yield from self._listed("equivalent: no test could notice", equivalent)
        yield ""
        yield self.summary

    @property
    def summary(self) -> str:
        """One line: the score, and what it is made of."""
        tally = self.tally
        late = sum(result.verdict is Verdict.TIMED_OUT for result in self.results)
        parts = [
            f"{tally.killed} killed" + (f" ({late} by running over the deadline)" if late else ""),
            f"{tally.survived} survived",
            f"{tally.equivalent} equivalent",
            f"{tally.invalid} invalid",
        ]
        tried = len(self.results)
        mutants = f"{tried} mutants" if tried == self.total else f"{tried} mutants (there are {self.total})"
        return (
            f"{_percent(tally)} of {mutants} killed: {', '.join(parts)}; "
            f"{self.controls} controls with unmutated rules passed; {self.seconds:.0f} s"
        )

    def data(self) -> dict[str, object]:
        """The report as JSON takes it; `change` and `id` are what a list of equivalent mutants names."""
        tally = self.tally
        return {
            "score": tally.score,
            "killed": tally.killed,
            "survived": tally.survived,
            "equivalent": tally.equivalent,
            "invalid": tally.invalid,
            "total": self.total,
            "controls": self.controls,
            "seconds": round(self.seconds, 1),
            "mutants": [self._row(result) for result in self.results],
        }

    def _row(self, result: Result) -> dict[str, object]:
        mutant = result.mutant
        return {
            "id": mutant.id,
            "rule": mutant.rule.name,
            "operator": mutant.operator,
            "file": str(mutant.rule.path),
            "line": mutant.line,
            "before": mutant.before,
            "after": mutant.after,
            "change": mutant.change,
            "verdict": str(result.verdict),
            "killer": result.killer or None,
            "equivalent": self.reasons.get(mutant.id),
        }

    def _tally(self, results: Sequence[Result]) -> Tally:
        lived = [one.mutant.id in self.reasons for one in results if one.verdict is Verdict.SURVIVED]
        return Tally(
            killed=sum(one.is_killed for one in results),
            survived=lived.count(False),
            equivalent=lived.count(True),
            invalid=sum(one.verdict is Verdict.INVALID for one in results),
        )

    def _table(self, title: str, names: Sequence[str] | dict[str, None], of: Callable[[Result], str]) -> Iterator[str]:
        groups = {name: [result for result in self.results if of(result) == name] for name in names}
        groups = {name: results for name, results in groups.items() if results}
        width = max(map(len, (title, *groups)))
        yield f"{title:<{width}}  killed  survived  equivalent  invalid    score"
        for name, results in groups.items():
            one = self._tally(results)
            counts = f"{one.killed:>6}  {one.survived:>8}  {one.equivalent:>10}  {one.invalid:>7}"
            yield f"{name:<{width}}  {counts}  {_percent(one):>7}"

    def _listed(self, title: str, results: Sequence[Result]) -> Iterator[str]:
        if not results:
            return
        yield ""
        yield title
        for result in results:
            mutant = result.mutant
            yield f"{mutant.rule.path}:{mutant.line}: {mutant.id}"
            yield f"    - {mutant.before}"
            yield f"    + {mutant.after}"
            if reason := self.reasons.get(mutant.id):
                yield f"    {reason}"


def _percent(tally: Tally) -> str:
    return "none" if tally.score is None else f"{tally.score * 100:.1f} %"
