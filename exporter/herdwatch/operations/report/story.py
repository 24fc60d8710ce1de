"""The story of an incident: what Prometheus knows of it, put in order and judged, ready to be told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from herdwatch.errors import CheckFailed
from herdwatch.operations.report.asked import Asked
from herdwatch.operations.report.curves import Curve, curves
from herdwatch.operations.report.happened import Firing, Flush, Happened, Restart, happened
from herdwatch.operations.report.verdict import Verdict, verdict
from herdwatch.operations.report.words import named, percent, si, times_over
from herdwatch.prometheus import Api
from herdwatch.times import clock, span

MAX_CACHES = 50
"""Caches that are drawn unless they are named: those with the gravest signs, and of these the earliest."""
PAGES = "critical"
"""The severity that is worth waking up for."""
_CALM = ("info", "none")
"""Severities that speak of no trouble."""
_RECORDED = ("herdwatch:cache", "cache:requests:rate", "cache_instance:keys:current")
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at a time, as one clause. `weight` is critical, warning or none of both."""

    at: float
    cache: str
    text: str
    weight: str = ""


@dataclass(frozen=True, slots=True)
class Story:
    """One cache: what happened to it, in what order, its curves and the verdict."""

    cache: str
    firings: tuple[Firing, ...]
    restarts: tuple[Restart, ...]
    flushes: tuple[Flush, ...]
    curves: Mapping[str, Curve]
    verdict: Verdict
    events: tuple[Event, ...]

    @property
    def pages(self) -> tuple[Firing, ...]:
        """The alerts worth waking up for."""
        return tuple(one for one in self.firings if one.severity == PAGES)


@dataclass(frozen=True, slots=True)
class Report:
    """All of it. `sign` is the first of the gravest signs of trouble anywhere, in seconds since 1970.

    `wide` are the alerts about no cache, `left_out` the caches with an incident that are not drawn.
    """

    url: str
    asked: Asked
    sign: float | None
    stories: tuple[Story, ...]
    wide: tuple[Firing, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def incident(self) -> bool:
        """Whether an alert above info fired, a process started again, or anything was flushed."""
        return self.sign is not None

    @property
    def events(self) -> tuple[Event, ...]:
        """The events of all caches, in the order of time."""
        mine = [event for one in self.wide for event in _of_firing(one)]
        return _ordered([*mine, *(event for one in self.stories for event in one.events)])


def tell(api: Api, url: str, asked: Asked) -> Report:
    """Ask a Prometheus for everything; `url` is what it is called. Without `caches`, of those that had an incident.

    Raises CheckFailed where it has none of herdwatch's recording rules in that time, or not one of the caches, and
    what the API raises.
    """
    _known(api, url, asked)
    found = happened(api, asked)
    signs = _signs(found)
    troubled = sorted(signs.keys() - {""}, key=lambda cache: (signs[cache], cache))
    drawn = list(dict.fromkeys(asked.caches)) or troubled[:MAX_CACHES]
    of_caches = curves(api, asked, drawn)
    first = min(signs.values(), default=None)
    return Report(
        url,
        asked,
        first.at if first else None,
        tuple(_story(cache, found, signs.get(cache), asked, of_caches[cache]) for cache in drawn),
        wide=tuple(one for one in found.firings if not one.cache),
        left_out=() if asked.caches else tuple(troubled[MAX_CACHES:]),
    )


def _known(api: Api, url: str, asked: Asked) -> None:
    names = "|".join(_RECORDED)
    selector = f'{{__name__=~"{names}",cache!=""}}[{asked.seconds + 1}s]'
    result = api.query(f"group by (cache) (last_over_time({selector}))", asked.until)
    known = sorted(one["metric"].get("cache", "") for one in result)
    times = f"between {clock(asked.since)} and {clock(asked.until)} UTC"
    if not known:
        raise CheckFailed(
            f"{url} has no series of herdwatch's recording rules {times}; "
            "give another time, or load alerts/herdwatch.rules.yml there"
        )
    for cache in asked.caches:
        if cache not in known:
            raise CheckFailed(f"{url} knows no cache {cache!r} {times}; there is: {named(known, _SHOWN)}")


@dataclass(frozen=True, slots=True, order=True)
class _Sign:
    """A sign of trouble; the least of several is where an incident began.

    `slight` is a warning: it counts where there is nothing graver, since most of them speak of something else. What was
    there already when the time began counts where nothing of its weight is newer: it may have been there for days.
    """

    slight: bool
    earlier: bool
    at: float


def _signs(found: Happened) -> dict[str, _Sign]:
    """The first sign of trouble of each cache, and under an empty name that of the alerts about none.

    An alert counts from when it was about to fire; one that is information never does.
    """
    seen = [(one.cache, _Sign(False, False, one.at)) for one in found.restarts]
    seen += [(one.cache, _Sign(False, False, one.at)) for one in found.flushes]
    seen += [
        (one.cache, _Sign(one.severity != PAGES, one.earlier, one.begins))
        for one in found.firings
        if one.severity not in _CALM
    ]
    signs: dict[str, _Sign] = {}
    for cache, sign in seen:
        signs[cache] = min(sign, signs.get(cache, sign))
    return signs


def _story(cache: str, found: Happened, first: _Sign | None, asked: Asked, own: Mapping[str, Curve]) -> Story:
    firings = tuple(one for one in found.firings if one.cache == cache)
    restarts = tuple(one for one in found.restarts if one.cache == cache)
    flushes = tuple(one for one in found.flushes if one.cache == cache)
    judged = verdict(first.at if first else None, asked.grid, own)
    events = [event for one in firings for event in _of_firing(one)]
    events += [_of_restart(one) for one in restarts]
    events += [_of_flush(one) for one in flushes]
    events += _of_verdict(cache, judged) if first else []
    events += _of_warm_up(cache, asked.grid, own.get("warming", ()))
    return Story(cache, firings, restarts, flushes, own, judged, _ordered(events))


def _ordered(events: Iterable[Event]) -> tuple[Event, ...]:
    return tuple(sorted(events, key=lambda one: (one.at, one.cache)))


def _of_firing(one: Firing) -> Iterator[Event]:
    where = f", {one.where}" if one.where else ""
    if one.pending is not None:
        since = " already when the time begins" if one.earlier else ""
        yield Event(one.pending, one.cache, f"{one.alert} is about to fire{since}{where}")
    fires = "fires already when the time begins" if one.already else "fires"
    yield Event(one.start, one.cache, f"{one.alert} {fires} ({one.severity or 'no severity'}{where})", one.severity)
    if one.end is not None:
        lasted = span(round(one.end - one.start))
        yield Event(one.end, one.cache, f"{one.alert} is over after {lasted}{where}")


def _of_restart(one: Restart) -> Event:
    started = f"by its own clock at {clock(one.started)}" if 0 <= one.started < 1e11 else "at a time it does not know"
    return Event(one.at, one.cache, f"Redis {one.instance} is a new process, started {started}", PAGES)


def _of_flush(one: Flush) -> Event:
    calls = "once" if one.count == 1 else f"{one.count} times"
    return Event(one.at, one.cache, f"Redis {one.instance}: {one.command.upper()} was called {calls}", PAGES)


def _of_verdict(cache: str, judged: Verdict) -> Iterator[Event]:
    if judged.dented and judged.ratio_lowest:
        yield Event(
            judged.ratio_lowest.at, cache, f"the hit ratio is at its lowest, {percent(judged.ratio_lowest.value)}"
        )
    if judged.recovered is not None:
        yield Event(
            judged.recovered, cache, f"the hit ratio is back at 95 % of what it was, {percent(judged.ratio_before)}"
        )
    if judged.keys_lowest and judged.keys_before and judged.keys_lowest.value < judged.keys_before:
        yield Event(judged.keys_lowest.at, cache, f"keys are at their fewest, {si(judged.keys_lowest.value)}")
    yield from _of_loads(cache, judged)


def _of_loads(cache: str, judged: Verdict) -> Iterator[Event]:
    own, whole = judged.loads, judged.database_loads
    over = f", {times_over(judged.overload)} the capacity" if judged.overload is not None else ""
    if own and own.value > 0:
        more = "" if whole else over
        yield Event(own.at, cache, f"loads are at their most, {si(own.value)} a second{more}")
    if whole and whole.value > 0:
        text = f"the loads of all caches of its database are at their most, {si(whole.value)} a second{over}"
        yield Event(whole.at, cache, text)


def _of_warm_up(cache: str, grid: Iterable[int], active: Curve) -> Iterator[Event]:
    before: float | None = None
    for at, value in zip(grid, active, strict=False):
        if value is not None and before is not None and (value > 0) != (before > 0):
            yield Event(at, cache, "a warm-up begins" if value > 0 else "the warm-up has ended")
        before = value if value is not None else before
