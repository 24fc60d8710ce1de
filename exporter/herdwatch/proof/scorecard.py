"""The command `herdwatch score`: plays, shows progress, prints the table."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from herdwatch.bundle.promql import selectors
from herdwatch.errors import CheckFailed, UsageError
from herdwatch.promtool import Promtool
from herdwatch.proof.catalogue import INCIDENTS
from herdwatch.proof.incident import Incident
from herdwatch.proof.names import NAMES, known_names
from herdwatch.proof.player import load_rules
from herdwatch.proof.recordings.load import recordings
from herdwatch.proof.score import PHASES, Score, reason, score, score_recordings
from herdwatch.proof.trials import RuleSet
from herdwatch.proof.verdicts import Verdict


def run(
    rules: Sequence[Path],
    *,
    names: str,
    intervals: Sequence[int],
    only: Sequence[str],
    recorded: bool,
    json: bool,
    least: float,
) -> None:
    """Score our rules, and those given, at each scrape interval; raises CheckFailed when ours fall below `least`."""
    sets = [RuleSet("herdwatch"), *([RuleSet(", ".join(map(str, rules)), tuple(rules), names)] if rules else [])]
    _check(rules, names, intervals)
    unknown = unknown_metrics(rules, names) if rules else []
    incidents = [one for one in INCIDENTS if not only or any(text in one.name for text in only)]
    if not incidents:
        raise UsageError(f"--only {' '.join(only)}: no incident has that in its name; all: {_all_names()}")
    scores = [_scored(one, interval, incidents) for one in sets for interval in intervals]
    if recorded:
        with _progress("recordings", len(recordings())) as progress:
            scores.append(score_recordings(done=progress))
    if json:
        print(jsonlib.dumps([one.as_json() for one in scores], indent=2))
    else:
        _print(scores, incidents, unknown)
    low = [one for one in scores if one.ours and one.recall < least]
    if low:
        raise CheckFailed(f"recall is {low[0].recall:.3f} at a scrape interval of {low[0].interval} s, below {least:g}")


def _check(rules: Sequence[Path], names: str, intervals: Sequence[int]) -> None:
    for path in rules:
        if not path.is_file():
            raise UsageError(f"--rules {path}: is no file")
    if names not in NAMES:
        raise UsageError(f"--names {names}: is none of {', '.join(NAMES)}")
    for interval in intervals:
        if interval not in PHASES:
            raise UsageError(f"--interval {interval}: is none of {', '.join(map(str, PHASES))} (seconds)")


def unknown_metrics(rules: Sequence[Path], names: str) -> list[str]:
    """Metrics that rules ask for and no incident has, each with its first place.

    Raises CheckFailed for rules that cannot be read, and for rules that know none of the catalogue's metrics: no score
    could say anything about them.
    """
    checked = Promtool()
    loaded = [(path, rule) for path in rules for rule in load_rules(path)]
    for path in rules:
        result = checked.check_rules(path)
        if not result.ok:
            raise CheckFailed("\n".join(result.problems))
    recorded = {rule.name for _, rule in loaded if not rule.is_alert}
    asked: dict[str, str] = {}
    for path, rule in loaded:
        where = f"{path}:{rule.line}"
        for selector in selectors(rule.expr, f"{where}: {rule.name}"):
            asked.setdefault(selector.metric, where)
    known = known_names(names)
    unknown = {name: where for name, where in asked.items() if name and name not in known | recorded}
    if not known & asked.keys():
        raise CheckFailed(
            f"{', '.join(map(str, rules))}: knows none of the catalogue's metrics under --names {names}; "
            f"they ask for {', '.join(sorted(unknown)[:5])}"
        )
    return [f"{where}: no incident has {name}" for name, where in unknown.items()]


def _all_names() -> str:
    return ", ".join(one.name for one in INCIDENTS)


def _scored(rules: RuleSet, interval: int, incidents: Sequence[Incident]) -> Score:
    with _progress(f"{rules.name} at {interval} s", len(incidents)) as progress:
        return score(rules, interval, incidents=incidents, done=progress)


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


def _print(scores: Sequence[Score], incidents: Sequence[Incident], unknown: Sequence[str]) -> None:
    console = Console(width=None if Console().is_terminal else 140, highlight=False)
    calm = sum(one.urgency == "calm" for one in incidents)
    console.print(f"{len(incidents)} plays: {len(incidents) - calm} incidents, {calm} calm days")
    console.print(_table(scores))
    for sentence in unknown:
        console.print(sentence, markup=False)
    for one in scores:
        failures = one.failures
        if failures:
            console.print(f"\n{one.rules}, {one.interval} s: {len(failures)} not as they should be")
        for verdict in failures:
            console.print(f"  {verdict.trial.incident.name}: {_why(verdict, one.ours)}", markup=False)


def _table(scores: Sequence[Score]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="", padding=(0, 2, 0, 0))
    for heading in ("rules", "scrape", "told", "cause named", "quiet", "precision", "pages each", "median", "worst"):
        table.add_column(heading, justify="left" if heading in ("rules", "worst") else "right")
    for one in scores:
        incidents, slowest = one.incidents, one.slowest
        calm = len(one.verdicts) - len(incidents)
        table.add_row(
            one.rules,
            f"{one.interval} s",
            f"{sum(each.told for each in incidents)}/{len(incidents)}",
            f"{round(one.named * len(incidents))}/{len(incidents)}",
            f"{round(one.quiet * calm)}/{calm}",
            "-" if one.precision is None else f"{one.precision:.3f}",
            "-" if one.pages_each is None else f"{one.pages_each:.2f}",
            "-" if one.median_seconds is None else f"{one.median_seconds:.0f} s",
            "-" if slowest is None else f"{slowest.seconds:.0f} s ({slowest.trial.incident.name})",
        )
    return table


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
