"""What a guard counts, as plain ints: a labelled counter of prometheus_client costs a microsecond, this a fraction.

A caller is counted once, in one step, when its class is known: hit, negative, led, shared, fetched, stale or shed.
Everything that adds up (requests, lookups that missed) is computed from these when it is read, so no reader ever
sees a request without its class.
"""

from __future__ import annotations

from bisect import bisect_left

from herdwatch.guard.hot_keys import HotKeys
from herdwatch.metrics import LOAD_BUCKETS
from herdwatch.reports import Totals, check_name

MAX_GROUPS = 64
OVERFLOW = "other"
"""Where the callers of one group too many are counted: a label must be a closed set."""


class GroupCounts:
    """The counts of one group. Written by one event loop, or by threads under their guard's lock."""

    __slots__ = (
        "buckets",
        "errors",
        "fetched",
        "hit",
        "hot",
        "led",
        "load_seconds",
        "negative",
        "refresh_error",
        "refresh_ok",
        "refresh_skipped",
        "refreshed",
        "shared",
        "shed",
        "stale",
        "warmed",
    )

    hot: HotKeys | None
    hit: int
    negative: int
    led: int  # missed, and called the loader
    shared: int  # missed, and shared what this process began
    fetched: int  # missed, and got what another process loaded
    stale: int
    shed: int
    refreshed: int  # loader calls of background refreshes
    warmed: int  # loader calls of a warm-up
    errors: int
    refresh_ok: int
    refresh_error: int
    refresh_skipped: int

    def __init__(self, hot: HotKeys | None = None) -> None:
        for name in GroupCounts.__slots__:
            setattr(self, name, 0)
        self.buckets = [0] * (len(LOAD_BUCKETS) + 1)
        self.load_seconds = 0.0
        self.hot = hot

    def observe(self, seconds: float) -> None:
        """One loader call took `seconds`."""
        self.buckets[bisect_left(LOAD_BUCKETS, seconds)] += 1
        self.load_seconds += seconds

    def add(self, other: GroupCounts) -> None:
        """Count what the other one has counted, but for its hot keys."""
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.buckets = [mine + its for mine, its in zip(self.buckets, other.buckets, strict=True)]

    @property
    def mean_load_seconds(self) -> float:
        """What a loader call has taken so far; 0 before the first."""
        calls = sum(self.buckets)
        return self.load_seconds / calls if calls else 0.0

    def totals(self, group: str) -> Totals:
        """Every counter family of this group, as a report carries it."""
        led, shared, fetched, stale, shed = self.led, self.shared, self.fetched, self.stale, self.shed
        counts = {
            ("cache_lookups_total", "hit"): self.hit,
            ("cache_lookups_total", "negative"): self.negative,
            ("cache_lookups_total", "stale"): stale,
            ("cache_lookups_total", "miss"): led + shared + fetched + shed,
            ("singleflight_requests_total", ""): led + shared + fetched + stale + shed,
            ("singleflight_executions_total", "miss"): led,
            ("singleflight_executions_total", "refresh"): self.refreshed,
            ("singleflight_executions_total", "warm"): self.warmed,
            ("singleflight_coalesced_total", "process"): shared,
            ("singleflight_coalesced_total", "fleet"): fetched,
            ("singleflight_stale_total", ""): stale,
            ("singleflight_shed_total", ""): shed,
            ("singleflight_errors_total", ""): self.errors,
            ("cache_refreshes_total", "ok"): self.refresh_ok,
            ("cache_refreshes_total", "error"): self.refresh_error,
            ("cache_refreshes_total", "skipped"): self.refresh_skipped,
        }
        return {(family, group, label): value for (family, label), value in counts.items()}


_NUMBERS = tuple(name for name in GroupCounts.__slots__ if name not in ("buckets", "hot"))


class Counts(dict[str, GroupCounts]):
    """The counts of one guard: group -> GroupCounts, made at its first use."""

    def __init__(self, cache: str, service: str, *, hot_keys: int = 0) -> None:
        super().__init__()
        self._hot_keys = hot_keys
        self.cache, self.service = check_name(cache), check_name(service)
        if "/" in service:
            raise ValueError(f"service is {service!r}; a service's name has no slash")
        self.inflight = 0

    def __missing__(self, group: str) -> GroupCounts:
        if len(self) >= MAX_GROUPS and group != OVERFLOW:
            return self[OVERFLOW]
        # Two threads may come here at once: setdefault gives both the same counts.
        hot = HotKeys(self._hot_keys) if self._hot_keys else None
        return self.setdefault(check_name(group), GroupCounts(hot))

    def totals(self) -> Totals:
        """The counters of all groups."""
        totals: Totals = {}
        for group, counts in list(self.items()):
            totals |= counts.totals(group)
        return totals

    def add(self, other: Counts) -> None:
        """Count what the other one has counted; what is in the air there stays there."""
        for group, counts in list(other.items()):
            self[group].add(counts)

    def reset(self) -> None:
        """Begin at zero: after a fork the child has counted nothing."""
        self.clear()
        self.inflight = 0
