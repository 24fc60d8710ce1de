"""A long time is played in pieces, each with some past before it; what fires across a border is one firing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from herdwatch.errors import CheckFailed
from herdwatch.proof.backtest.samples import Window
from herdwatch.proof.plays import Firing

PIECE = 6 * 3600
"""Seconds of a piece, unless its past is long: then it is longer, so that most of the work is no past."""
PLAY = 48 * 3600
"""Seconds of a piece with its past, at most."""
ROOM = 32_000_000
"""Series times seconds in one play: about 1.6 gigabytes of promtool's memory."""
SILENCE = 300
"""Seconds without a scrape of anything from which on Prometheus counts as asleep: it evaluated no rule then."""

Spans = Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Piece:
    """Evaluations from `start` up to, without, `end`, in seconds since 1970; `window` begins with their past."""

    start: int
    end: int
    window: Window


def cut(
    begins: int, since: int, end: int, *, past: int, series: int, evaluation: int, length: int | None = None
) -> list[Piece]:
    """The pieces of a time, of `length` seconds at most where it is given; no history lies before `begins`.

    Raises CheckFailed where even a short piece has more series than fit into a play.
    """
    past = _up(past, evaluation)
    longest = min(max(PIECE, 4 * past), min(PLAY, ROOM // max(1, series)) - past) // evaluation * evaluation
    if longest < max(past // 4, SILENCE):
        most = ROOM // (past + max(past // 4, SILENCE))
        raise CheckFailed(
            f"the rules read {series} series at once, and {most} can be played; name some of the caches with --cache"
        )
    longest = longest if length is None else _up(min(length, longest), evaluation)
    earliest, first = (at // evaluation * evaluation for at in (begins, max(begins, since)))
    last = _up(end, evaluation)
    count = -(-(last - first) // longest)
    each = _up(-(-(last - first) // count), evaluation)
    return [
        Piece(at, min(at + each, last), Window(max(at - past, earliest), min(at + each, last), evaluation))
        for at in range(first, last, each)
    ]


def clipped(firings: Iterable[Firing], piece: Piece) -> Iterator[Firing]:
    """What a play says of its piece alone, in seconds since 1970; what still fires at its end has no end."""
    for firing in firings:
        start = max(firing.start + piece.window.start, piece.start)
        end = None if firing.end is None else firing.end + piece.window.start
        if start < piece.end and (end is None or end > piece.start):
            yield replace(firing, start=start, end=end if end is not None and end < piece.end else None)


def joined(told: Iterable[tuple[Piece, Iterable[Firing]]]) -> list[Firing]:
    """The firings of pieces in their order: one that ends with a piece goes on in the next."""
    done: list[Firing] = []
    going: dict[object, Firing] = {}
    for piece, firings in told:
        before, going = going, {}
        for firing in firings:
            key = _key(firing)
            if firing.start == piece.start and key in before:
                firing = replace(firing, start=before.pop(key).start)
            if firing.end is None:
                going[key] = firing
            else:
                done.append(firing)
        done += [replace(firing, end=piece.start) for firing in before.values()]
    done += going.values()
    return sorted(done, key=lambda firing: (firing.start, firing.alert, sorted(firing.labels.items())))


def _key(firing: Firing) -> object:
    return firing.alert, frozenset(firing.labels.items())


def asleep(holes: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The times of which the holes of all windows are parts, without those that are too short to count."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(holes):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return [(start, end) for start, end in merged if end - start > SILENCE]


def awake(firings: Iterable[Firing], sleeps: Spans, *, settled: int, evaluation: int) -> Iterator[Firing]:
    """Without what began while Prometheus slept and was over `settled` seconds after it awoke: nobody evaluated it."""
    for firing in firings:
        slept = next((end for start, end in sleeps if start < firing.start <= end), None)
        if slept is None:
            yield firing
        elif firing.end is None or firing.end > slept + settled:
            yield replace(firing, start=_up(slept, evaluation))


def of_seen(firings: Iterable[Firing], first: Mapping[str, int]) -> Iterator[Firing]:
    """Without what began before there was anything of its cache: that tells the configuration is younger, no more."""
    for firing in firings:
        cache = firing.labels.get("cache")
        if cache is None or (cache in first and firing.start >= first[cache]):
            yield firing


def _up(seconds: int, evaluation: int) -> int:
    return -(-seconds // evaluation) * evaluation
