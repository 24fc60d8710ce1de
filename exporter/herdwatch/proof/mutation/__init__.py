"""What the tests of alert rules are worth: rules are changed one place at a time, and a test should fail for each."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from herdwatch.bundle.location import bundle_root
from herdwatch.errors import CheckFailed, UsageError
from herdwatch.proof.mutation import equivalents
from herdwatch.proof.mutation.report import Report
from herdwatch.proof.mutation.run import Progress, Request, run

__all__ = ["Report", "Request", "mutate", "request", "run"]

LEAST = 0.95
"""The score that the command asks for."""


def request(
    rules: Sequence[Path],
    tests: Sequence[str],
    *,
    names: Sequence[str] = (),
    sample: int | None = None,
    seed: int = 0,
    jobs: int | None = None,
    deadline: float = 60.0,
) -> Request:
    """A request; without rules and tests, for the bundle's own. Raises UsageError where one of both is missing."""
    if bool(rules) is not bool(tests):
        raise UsageError("--rules and --tests go together: the rules, and the promtool tests that play them")
    if not rules:
        alerts = bundle_root() / "alerts"
        rules, tests = [alerts / "herdwatch.rules.yml"], [str(alerts / "tests" / "*.test.yml")]
    return Request([_shown(path) for path in rules], tests, names, sample, seed, jobs, deadline)


def mutate(asked: Request, *, equivalent: Path | None = None, least: float = LEAST, as_json: bool = False) -> None:
    """Run and print the report; raises CheckFailed for a score under `least` and for a wrong list of equivalents.

    `equivalent` is that list, by default the file of its name beside the tests, if there is one.
    """
    path = equivalent or _beside(asked.tests)
    entries = [] if path is None else equivalents.load(path)
    began = time.monotonic()
    with _bars() as progress:
        ran = run(asked, progress)
    reasons = {entry.id: entry.reason for entry in entries}
    report = Report(ran.results, reasons, len(ran.mutants), ran.controls, time.monotonic() - began)
    print(json.dumps(report.data(), indent=2, ensure_ascii=False) if as_json else "\n".join(report.lines()))
    wrong = list(equivalents.problems(entries, ran.mutants, ran.results))
    score = report.tally.score
    if score is None:
        wrong.append("no mutant could be killed or survive, so there is no score")
    elif score < least:
        wrong.append(f"{score * 100:.1f} % of the mutants are killed, at least {least * 100:g} % should be")
    if wrong:
        raise CheckFailed("\n".join(wrong))


def _beside(tests: Sequence[str]) -> Path | None:
    found = [Path(pattern).parent / equivalents.FILE_NAME for pattern in tests]
    return next((path for path in found if path.is_file()), None)


def _shown(path: Path) -> Path:
    """The path as short as it can be written from here."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


@contextmanager
def _bars() -> Iterator[Progress]:
    """Progress on standard error, if that is a terminal."""
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    console = Console(stderr=True)
    with Bars(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as bars:
        tasks: dict[str, TaskID] = {}

        def told(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done)

        yield told
