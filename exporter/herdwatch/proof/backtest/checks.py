"""What a history must hold before the silence of rules means anything: series for all that they read."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from herdwatch import metrics
from herdwatch.errors import CheckFailed, UsageError
from herdwatch.proof.backtest.history import Extent, History
from herdwatch.proof.backtest.needs import Needs, Wanted
from herdwatch.proof.backtest.request import Request
from herdwatch.times import clock

_PARTS = ("_bucket", "_sum", "_count")


@dataclass(frozen=True, slots=True)
class Gaps:
    """What rules read and a history lacks: metrics without any series, and a sentence for each selector without one."""

    missing: Sequence[str]
    sentences: Sequence[str]


def gaps(url: str, request: Request, needs: Needs, extent: Extent, history: History) -> Gaps:
    """What is lacking; raises CheckFailed or UsageError where silence would say nothing.

    That is where nothing is there that rules read, a metric of rules of others has no series, or a cache that is named.
    """
    missing = _without_series(request, extent, history)
    _must_have_data(url, request, needs, extent, missing)
    _must_have_caches(request, history)
    return Gaps(missing, list(_unmatched(request, needs, extent, history, missing)))


def _without_series(request: Request, extent: Extent, history: History) -> list[str]:
    """The metrics of which nothing is there; of rules of others not those of which only the selectors find nothing."""
    if request.own or not extent.fresh:
        return extent.missing
    return [one for one in extent.missing if not history.has(Wanted(one), request.since, request.until)]


def _must_have_data(url: str, request: Request, needs: Needs, extent: Extent, missing: Collection[str]) -> None:
    """A metric that herdwatch declares may be missing from rules of others as well, as long as something tells."""
    telling = {wanted.metric for wanted in needs.wanted} - {"up"}
    silent = bool(telling) and telling <= set(missing)
    if not extent.fresh or (request.own and silent):
        but = " but for up" if extent.fresh else ""
        raise CheckFailed(
            f"{url} has no series{_whose(request)} that the rules of {request.source} read{but}, {_times(request)}"
        )
    unknown = sorted(metric for metric in missing if silent or not _declared(metric))
    if unknown and not request.own:
        lines = [
            f"{needs.places[metric]}: {url} has no series of {metric}{_whose(request)} {_times(request)}"
            for metric in unknown
        ]
        raise CheckFailed("; ".join(lines) + "; take such rules out, because silence would prove nothing of them")


def _must_have_caches(request: Request, history: History) -> None:
    """Raises UsageError for a cache of `request` that no series has; a configuration has been asked before."""
    if request.own or not request.caches:
        return
    there = history.caches(request.caches, request.since, request.until)
    unknown = [name for name in request.caches if name not in there]
    if unknown:
        raise UsageError(
            f"--cache: no series that the rules of {request.source} read has {unknown[0]!r} in its label cache, "
            f"{_times(request)}"
        )


def _unmatched(
    request: Request, needs: Needs, extent: Extent, history: History, missing: Collection[str]
) -> Iterator[str]:
    """A sentence for each selector that finds nothing although its metric has series; ours may find nothing."""
    if request.own:
        return
    for one in sorted({*needs.narrower, *needs.wanted} - extent.fresh, key=Wanted.selector):
        if one.metric in missing or (one in needs.narrower and history.has(one, request.since, request.until)):
            continue
        yield f"{needs.selected[one]}: no series of {one.selector()}, so that silence proves nothing of it"


def _times(request: Request) -> str:
    return f"between {clock(request.since)} and {clock(request.until)} UTC"


def _whose(request: Request) -> str:
    return f" of {', '.join(request.caches)}" if request.caches else ""


def _declared(metric: str) -> bool:
    family = next((metric.removesuffix(part) for part in _PARTS if metric.endswith(part)), metric)
    return metric == "up" or metric in metrics.BY_SAMPLE or family in metrics.BY_SAMPLE
