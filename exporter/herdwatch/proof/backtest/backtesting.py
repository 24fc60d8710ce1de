"""A backtest from end to end: count, fetch and play piece by piece on all cores, join, and count pages."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from herdwatch.errors import CheckFailed, HerdwatchError
from herdwatch.prometheus import Access, Prometheus
from herdwatch.promtool import Promtool
from herdwatch.proof.backtest.checks import Gaps, gaps
from herdwatch.proof.backtest.history import Extent, History, Past
from herdwatch.proof.backtest.needs import Needs
from herdwatch.proof.backtest.pages import Page, pages
from herdwatch.proof.backtest.pieces import Piece, Spans, asleep, awake, clipped, cut, joined, of_seen
from herdwatch.proof.backtest.request import Request
from herdwatch.proof.parallel import parallel
from herdwatch.proof.player import Player
from herdwatch.proof.plays import Firing
from herdwatch.times import clock

PLAY_SECONDS = 900.0
"""Deadline of one piece in promtool."""
SETTLED = 60
"""Seconds in which all targets are scraped, again after Prometheus awoke, for the first time after a history began."""


@dataclass(frozen=True, slots=True)
class Backtest:
    """What the rules would have done; times are seconds since 1970, an `end` that is None lies after `until`.

    `alerts` are all names and severities; `missing` the metrics without data, with the alerts that read them; `asleep`
    when Prometheus scraped nothing; `seen` the caches with a history, `unseen` those that should have one;
    from `sure` on every rule had the past that it looks at.
    """

    url: str
    since: int
    begins: int
    until: int
    evaluation: int
    alerts: Sequence[tuple[str, str]]
    firings: Sequence[Firing]
    pages: Sequence[Page]
    seen: Sequence[str]
    unseen: Sequence[str]
    missing: Mapping[str, Sequence[str]]
    asleep: Sequence[tuple[int, int]]
    sure: int
    notes: Sequence[str] = field(default=())


@dataclass(frozen=True, slots=True)
class Told:
    """What one piece told."""

    firings: Sequence[Firing]
    first: Mapping[str, int]
    holes: Sequence[tuple[int, int]]


def run(
    access: Access, request: Request, *, progress: bool = False, workers: int | None = None, length: int | None = None
) -> Backtest:
    """Play the rules on what a Prometheus remembers; `progress` shows a bar where stderr is a terminal.

    `length` is the most seconds of a piece. Raises CheckFailed or UsageError where there is nothing to play, where
    Prometheus does not give it, or where a rule file is wrong.
    """
    needs = Needs.of(request.rules, request.source)
    stop = threading.Event()
    history = History(Prometheus(access, stop=stop), needs, caches=request.caches)
    promtool = Promtool(timeout=PLAY_SECONDS)
    with _bar(progress) as bar, tempfile.TemporaryDirectory(prefix="herdwatch-backtest-") as folder:
        counting = bar.add_task("counting series", total=len(needs.wanted))
        extent = history.extent(
            request.since - needs.past, request.since, request.until, tick=lambda: bar.advance(counting)
        )
        bar.remove_task(counting)
        lacking = gaps(access.url, request, needs, extent, history)
        pieces = cut(
            extent.begins,
            request.since,
            request.until,
            past=needs.past,
            series=extent.series,
            evaluation=request.evaluation,
            length=length,
        )
        begins = [piece.window.start for piece in pieces]
        players = _players(needs, promtool, Path(folder), request.evaluation, begins)
        playing = bar.add_task("playing", total=len(pieces))

        def one(piece: Piece) -> Told:
            try:
                return _told(piece, history.window(extent, piece.window), players[piece.window.start])
            except HerdwatchError as error:
                raise CheckFailed(f"from {clock(piece.start)} to {clock(piece.end)} UTC: {error}") from None

        told = parallel(
            one, pieces, workers=workers, give_up=[stop.set, promtool.stop], done=lambda _: bar.advance(playing)
        )
    return _summed(access.url, request, needs, extent, lacking, list(zip(pieces, told, strict=True)))


def _bar(shown: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    console = Console(stderr=True)
    return Progress(*columns, TimeRemainingColumn(), console=console, disable=not (shown and console.is_terminal))


def _players(
    needs: Needs, promtool: Promtool, folder: Path, evaluation: int, begins: Iterable[int]
) -> Mapping[int, Player]:
    """A player for each second at which a window begins; rules that read no clock have one for all."""

    def player(at: int) -> Player:
        path = folder / f"{at}.rules.yml"
        path.write_text(needs.played(at), encoding="utf-8")
        return Player(promtool, [path], evaluation=evaluation)

    if needs.reads_clock:
        return {at: player(at) for at in sorted(set(begins))}
    return dict.fromkeys(begins, player(0))


def _told(piece: Piece, past: Past, player: Player) -> Told:
    firings = player.play(past.play) if past.play.series else ()
    return Told(list(clipped(firings, piece)), past.first, past.holes)


def _summed(
    url: str, request: Request, needs: Needs, extent: Extent, lacking: Gaps, told: Sequence[tuple[Piece, Told]]
) -> Backtest:
    begins = told[0][0].start
    first = _earliest(one.first for _, one in told)
    sleeps = asleep(hole for _, one in told for hole in one.holes)
    fired = _believed(told, [(extent.begins - SETTLED, extent.begins + SETTLED), *sleeps], first, request)
    named = {*request.configured, *(firing.labels.get("cache", "") for _, one in told for firing in one.firings)}
    return Backtest(
        url=url,
        since=request.since,
        begins=begins,
        until=request.until,
        evaluation=request.evaluation,
        alerts=needs.alerts,
        firings=fired,
        pages=pages(fired, request.alertmanager, begins, request.until),
        seen=sorted(first),
        unseen=sorted(named - set(first) - {""}),
        missing={metric: needs.readers[metric] for metric in lacking.missing},
        asleep=list(_within(sleeps, begins, request.until)),
        sure=max(begins, extent.begins + needs.past),
        notes=(*needs.notes, *lacking.sentences),
    )


def _believed(
    told: Sequence[tuple[Piece, Told]], sleeps: Spans, first: Mapping[str, int], request: Request
) -> list[Firing]:
    fired = joined((piece, one.firings) for piece, one in told)
    heard = awake(fired, sleeps, settled=SETTLED + request.evaluation, evaluation=request.evaluation)
    return [firing for firing in of_seen(heard, first) if firing.start < request.until]


def _within(sleeps: Spans, begins: int, until: int) -> Iterable[tuple[int, int]]:
    for start, end in sleeps:
        if min(end, until) - max(start, begins) > SETTLED:
            yield max(start, begins), min(end, until)


def _earliest(several: Iterable[Mapping[str, int]]) -> dict[str, int]:
    first: dict[str, int] = {}
    for cache, at in (item for one in several for item in one.items()):
        first[cache] = min(at, first.get(cache, at))
    return first
