"""The claims of the seed that runs can answer: claimed, measured, how."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from herdwatch.drill.replay.results import Claim, Result
from herdwatch.drill.replay.scale import OVERRUN


def of(results: Sequence[Result]) -> list[Claim]:
    """Those that there are runs for."""
    return list(_of({one.name: one for one in results}))


def _of(runs: Mapping[str, Result]) -> Iterator[Claim]:
    if bare := runs.get("restart-none"):
        yield Claim(
            "50,000 req/s, all miss cache, database overwhelmed (20x capacity)",
            f"{bare.rate:,.0f} req/s, {_percent(bare.lowest)} hits in the worst second, as the hottest keys are back "
            f"with their first load; the database was asked for {bare.peak_ratio:.1f} times its capacity at the peak, "
            f"and {_share(bare.failed, bare)} of the requests failed",
            f"restart without a guard, at {bare.rate / bare.capacity:.3g} times the capacity: queries asked for in the "
            "busiest second by the application's log, over the capacity that was measured first",
            holds=bare.peak_ratio >= OVERRUN,
        )
    if (bare := runs.get("restart-none")) and (single := runs.get("restart-singleflight")):
        yield Claim(
            "Singleflight prevents stampede, simple; only helps duplicate requests",
            f"{single.peak_ratio:.1f} times the capacity at the peak instead of {bare.peak_ratio:.1f}, as distinct "
            f"keys remain; {_share(single.failed, single)} of the requests failed, not {_share(bare.failed, bare)}",
            "restart with singleflight beside restart without",
            holds=single.peak < bare.peak,
        )
    if limited := runs.get("restart-limiter"):
        yield Claim(
            "Consider rate limiting if overload continues",
            f"{limited.peak_ratio:.2f} times the capacity at the peak, {_share(limited.failed, limited)} failed, "
            f"{_share(limited.shed, limited)} were turned away",
            "restart with singleflight, refresh and the guard's limiter",
            holds=limited.peak_ratio <= 1.0 and not limited.failed and limited.shed < limited.requests / 2,
        )
    if warmed := runs.get("restart-warm"):
        yield Claim(
            "Gradual warmup: controlled load, slower full availability",
            f"{warmed.peak_ratio:.2f} times the capacity at the peak; 95 % hits after {_seconds(warmed.recovered)}, "
            f"and {_share(warmed.shed, warmed)} of the requests were turned away",
            "restart behind a closed door, herdwatch warm --until-hit-ratio capacity, then the door opens",
            holds=warmed.peak_ratio <= 1.0 and not warmed.failed and warmed.recovered is not None,
        )
    if promoted := runs.get("restart-replica"):
        yield Claim(
            "Cache replica: no cold start",
            f"{_percent(promoted.lowest)} hits in the worst second, {promoted.peak:.0f} queries a second at the peak, "
            f"{promoted.failed} requests failed",
            "herdwatch promote, then the old primary restarts as a replica",
            holds=promoted.recovered == 0 and not promoted.failed,
        )
    if expired := runs.get("mass-expiry-limiter"):
        yield Claim(
            "Background refresh: hot keys never expire, spread refresh load",
            f"{_percent(expired.lowest)} of the lookups found a value, an old one at first, in the worst second after "
            f"everything had expired, {expired.peak_ratio:.2f} times the capacity at the peak",
            "all values end at one moment; the old ones are given while they are renewed",
            holds=expired.recovered == 0 and not expired.failed,
        )


def _percent(ratio: float | None) -> str:
    return "no" if ratio is None else f"{100 * ratio:.0f} %"


def _share(count: int, result: Result) -> str:
    return f"{100 * count / max(1, result.requests):.1f} %"


def _seconds(value: float | None) -> str:
    return "more than was watched" if value is None else f"{value:.0f} s"
