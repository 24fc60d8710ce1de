"""The command `herdwatch score`: plays, shows progress, prints the table."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from herdwatch.errors import CheckFailed, UsageError
from herdwatch.proof.catalogue import INCIDENTS
from herdwatch.proof.foreign import Foreign
from herdwatch.proof.incident import Incident
from herdwatch.proof.names import NAMES
from herdwatch.proof.recordings.load import recordings
from herdwatch.proof.score import PHASES, Score, reason, score, score_recordings
from herdwatch.proof.trials import RuleSet, evaluation
from herdwatch.proof.verdicts import Verdict

LEAST = 0.9
"""Of our own rules, the share of incidents that must be told."""


def run(
    rules: Sequence[Path],
    *,
    names: str,
    intervals: Sequence[int],
    only: Sequence[str],
    recorded: bool,
    json: bool,
    least: float | None,
) -> None:
    """Score our rules, and those given, at each scrape interval.

    Raises CheckFailed when ours tell somebody what nobody should be told, or fewer incidents than the share `least`
    (LEAST where it is None), which holds for the rules given too where it is given.
    """
    _check(rules, names, intervals)
    foreign = Foreign.load(rules, names) if rules else None
    incidents = _selected(only, least)
    scores = [_scored(RuleSet("herdwatch"), interval, incidents) for interval in intervals]
    if foreign is not None:
        theirs = RuleSet(", ".join(map(str, rules)), tuple(rules), names)
        scores += [_scored(theirs, interval, incidents, foreign) for interval in intervals]
    if recorded:
        with _progress("recordings", len(recordings())) as progress:
            scores.append(score_recordings(done=progress))
    if json:
        print(jsonlib.dumps([one.as_json() for one in scores], indent=2))
    else:
        _print(scores, incidents)
    faults = [fault for one in scores for fault in _faults(one, least)]
    if faults:
        raise CheckFailed("; ".join(faults))


def _selected(only: Sequence[str], least: float | None) -> list[Incident]:
    incidents = [one for one in INCIDENTS if not only or any(text in one.name for text in only)]
    if not incidents:
        raise UsageError(f"--only {' '.join(only)}: no incident has that in its name; all: {_all_names()}")
    if least is not None and all(one.urgency == "calm" for one in incidents):
        raise UsageError(f"--least {least:g}: --only {' '.join(only)} leaves calm days, and no incident to be told")
    return incidents


def _faults(one: Score, least: float | None) -> Iterator[str]:
    """Why a score is no pass; the rules of others have to reach `least` only, where it is given."""
    wanted = (LEAST if one.ours else 0.0) if least is None else least
    which = f"{one.rules} at a scrape interval of {one.interval} s"
    if one.recall is not None and one.recall < wanted:
        yield f"recall of {which} is {one.recall:.3f}, below {wanted:g}"
    for verdict in one.false_alarms if one.ours else ():
        yield f"{verdict.trial.incident.name}: {which} tells what nobody should be told: {', '.join(verdict.wrong)}"


def _check(rules: Sequence[Path], names: str, intervals: Sequence[int]) -> None:
    for path in rules:
        if not path.is_file():
            raise UsageError(f"--rules {path}: is no file")
    if names not in NAMES:
        raise UsageError(f"--names {names}: is none of {', '.join(NAMES)}")
    for interval in intervals:
        if interval not in PHASES:
            raise UsageError(f"--interval {interval}: is none of {', '.join(map(str, PHASES))} (seconds)")


def _all_names() -> str:
    return ", ".join(one.name for one in INCIDENTS)


def _scored(rules: RuleSet, interval: int, incidents: Sequence[Incident], foreign: Foreign | None = None) -> Score:
    step = evaluation(interval) if foreign is None else foreign.step(evaluation(interval))
    with _progress(f"{rules.name} at {interval} s", len(incidents)) as progress:
        found = score(rules, interval, incidents=incidents, step=step, done=progress)
    if foreign is None:
        return found
    played = [labels for one in found.verdicts for labels in one.trial.series]
    return replace(found, notes=(*foreign.unanswered(played), *foreign.severities(), *foreign.slower(step)))


class _Advance:
    def __init__(self, progress: Progress, text: str, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task(text, total=total)

    def __call__(self, more: int) -> None:
        self._progress.advance(self._task, more)


@contextmanager
def _progress(text: str, total: int) -> Iterator[_Advance]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield _Advance(progress, text, total)


def _print(scores: Sequence[Score], incidents: Sequence[Incident]) -> None:
    console = Console(width=None if Console().is_terminal else 140, highlight=False)
    calm = sum(one.urgency == "calm" for one in incidents)
    console.print(f"{len(incidents)} plays: {len(incidents) - calm} incidents, {calm} calm days")
    console.print(_table(scores))
    for sentence in dict.fromkeys(note for one in scores for note in one.notes):
        console.print(sentence, markup=False, soft_wrap=True)
    for one in scores:
        failures = one.failures
        if failures:
            console.print(f"\n{one.rules}, {one.interval} s: {len(failures)} not as they should be")
        for verdict in failures:
            console.print(f"  {verdict.trial.incident.name}: {_why(verdict, one.ours)}", markup=False, soft_wrap=True)


def _table(scores: Sequence[Score]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="", padding=(0, 2, 0, 0))
    for heading in ("rules", "scrape", "told", "cause named", "quiet", "precision", "pages each", "median", "worst"):
        table.add_column(heading, justify="left" if heading in ("rules", "worst") else "right")
    for one in scores:
        incidents, slowest = one.incidents, one.slowest
        table.add_row(
            one.rules,
            f"{one.interval} s",
            _counted(each.told for each in incidents),
            _counted(each.told and each.named for each in incidents),
            _counted(each.told for each in one.calm),
            "-" if one.precision is None else f"{one.precision:.3f}",
            "-" if one.pages_each is None else f"{one.pages_each:.2f}",
            "-" if one.median_seconds is None else f"{one.median_seconds:.0f} s",
            "-" if slowest is None else f"{slowest.seconds:.0f} s ({slowest.trial.incident.name})",
        )
    return table


def _counted(right: Iterable[bool]) -> str:
    counted = list(right)
    return f"{sum(counted)}/{len(counted)}" if counted else "-"


def _why(verdict: Verdict, ours: bool) -> str:
    incident = verdict.trial.incident
    what = []
    if not verdict.told and incident.urgency != "calm":
        late = "" if verdict.seconds is None else f", but after {verdict.seconds:.0f} s"
        what.append(f"a {incident.urgency} was not delivered within {incident.seconds(verdict.trial.interval)} s{late}")
    elif not verdict.named and incident.causes:
        what.append(f"told, but not as {' or '.join(incident.causes)}")
    what += [f"wrong: {message}" for message in verdict.wrong]
    known = reason(verdict) if ours else ""
    return "; ".join(what) + (f" - {known}" if known else "")
