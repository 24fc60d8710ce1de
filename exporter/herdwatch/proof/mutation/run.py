"""The run: which mutants there are, which test kills each, and the controls without which no kill counts."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from herdwatch import tools
from herdwatch.errors import UsageError
from herdwatch.proof.mutation import mutants as making
from herdwatch.proof.mutation import suite
from herdwatch.proof.mutation.mutants import Mutant
from herdwatch.proof.mutation.rulefile import RuleFile, load
from herdwatch.proof.mutation.session import Result, Session
from herdwatch.proof.mutation.suite import Case
from herdwatch.proof.mutation.trials import Trials

Progress = Callable[[str, int, int], None]
"""Told what is going on, how many of it are done and how many there are."""

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Request:
    """What is mutated and tested by what.

    `names` narrows it to some alerts or records, `sample` to so many mutants, drawn with `seed`. A run of promtool may
    take `deadline` seconds. `first` tests are played against a mutant before it is asked in which others it makes a
    difference. `whole` plays every rule and every expectation of every test, also where they cannot matter.
    """

    rules: Sequence[Path]
    tests: Sequence[str]
    names: Sequence[str] = ()
    sample: int | None = None
    seed: int = 0
    jobs: int | None = None
    deadline: float = 60.0
    first: int = 3
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """All results, in the order of the rule files. `mutants` are all there are, also those that were not tried."""

    results: tuple[Result, ...]
    mutants: tuple[Mutant, ...]
    controls: int


def run(request: Request, progress: Progress = lambda *_: None) -> Run:
    """Play the tests against every mutant.

    Raises CheckFailed where rules or tests cannot be read, a test fails before any mutation or kills a rule that was
    only written anew, UsageError where a pattern or a name finds nothing, and ToolError where promtool does not work.
    """
    files, cases = _read(request)
    everything = [mutant for file in files for rule in file.rules for mutant in making.mutants(file, rule)]
    chosen = _chosen(request, everything)
    tool = tools.find("promtool")
    with (
        Trials(tool, deadline=request.deadline) as trials,
        ThreadPoolExecutor(request.jobs or os.cpu_count() or 1) as pool,
    ):
        session = Session(trials, cases, first=request.first, whole=request.whole)
        rules = list({id(mutant.rule): mutant.rule for mutant in chosen}.values())
        try:
            read = list(dict.fromkeys(file.path for file in (*files, *(file for case in cases for file in case.files))))
            _all(pool, session.takes, read, progress, "rule files, whether promtool takes them")
            _all(pool, session.passes_unmutated, session.noticing(rules), progress, "tests without a mutation")
            groups = [[mutant for mutant in chosen if mutant.rule is rule] for rule in rules]
            _all(pool, session.validate, groups, progress, "rules, whether promtool takes their mutants")
            results = _judged(pool, session, chosen, progress)
        except BaseException:
            trials.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return Run(tuple(results), tuple(everything), session.controls)


def _judged(pool: Executor, session: Session, chosen: list[Mutant], progress: Progress) -> list[Result]:
    first = _all(pool, session.try_likeliest, chosen, progress, "mutants, the likeliest tests first")
    alive = [mutant for mutant, result in zip(chosen, first, strict=True) if result is None]
    _all(pool, session.compare, session.comparisons(alive), progress, "tests, whether mutants make a difference")
    rest = {id(result.mutant): result for result in _all(pool, session.judge, alive, progress, "mutants, other tests")}
    return [result or rest[id(mutant)] for mutant, result in zip(chosen, first, strict=True)]


def _read(request: Request) -> tuple[list[RuleFile], list[Case]]:
    files: dict[Path, RuleFile] = {}

    def read(path: Path) -> RuleFile:
        absolute = path.resolve()
        if absolute not in files:
            files[absolute] = load(path)
        return files[absolute]

    mutated = [read(path) for path in request.rules]
    cases = [case for path in suite.found(request.tests) for case in suite.load(path, request.rules, read)]
    return list({id(file): file for file in mutated}.values()), cases


def _chosen(request: Request, everything: list[Mutant]) -> list[Mutant]:
    known = {mutant.rule.key[1] for mutant in everything}
    if missing := [name for name in request.names if name not in known]:
        raise UsageError(f"no rule is called {missing[0]}; there are {', '.join(sorted(known))}")
    chosen = [mutant for mutant in everything if not request.names or mutant.rule.key[1] in request.names]
    if request.sample is None or request.sample >= len(chosen):
        return chosen
    numbers = random.Random(request.seed).sample(range(len(chosen)), request.sample)  # noqa: S311 - a draw, no secret
    return [chosen[number] for number in sorted(numbers)]


def _all(
    pool: Executor, work: Callable[[_Item], _Answer], items: Iterable[_Item], progress: Progress, what: str
) -> list[_Answer]:
    """The answers in the order of the items; the first error ends it."""
    futures = [pool.submit(work, item) for item in items]
    progress(what, 0, len(futures))
    for done, future in enumerate(as_completed(futures), 1):
        future.result()
        progress(what, done, len(futures))
    return [future.result() for future in futures]
