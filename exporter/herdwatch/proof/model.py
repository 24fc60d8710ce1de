"""A cache, its traffic and its application, small enough to be read: what a scraper would see of an incident.

Time goes in steps of one second. Keys are looked up with the popularity of Zipf's law, so the share of lookups that
find theirs grows with the logarithm of the keys that are there, and the popular ones come back first. Every lookup that
misses loads its key, unless a load of it is under way; keys leave after a time to live that balances a warm cache.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log1p
from typing import Literal

State = Literal["up", "loading", "hung", "down"]

COLD_COALESCING = 0.9
"""Of the callers that miss on an empty cache, so many ask for what is being loaded already."""

WARM_COALESCING = 0.02


@dataclass(slots=True)
class Node:
    """One Redis process at its address. Keys are counted by database; times are seconds of the play."""

    instance: str
    primary: bool = True
    state: State = "up"
    started: int = 0
    keys: dict[str, float] = field(default_factory=dict)
    dataset: dict[str, float] = field(default_factory=dict)
    loading_seconds: int = 0
    loading_until: int = 0
    hits: float = 0
    misses: float = 0
    evicted: float = 0
    expired: float = 0
    flushes: int = 0
    replicas: int = 0
    link_up: bool = True
    reason: str = "refused"
    watched: bool = True
    target_up: bool = True

    @property
    def total(self) -> float:
        """Keys of all databases."""
        return sum(self.keys.values())

    def crash(self, reason: str = "refused") -> None:
        """The process is gone, and what it counted with it."""
        self.state, self.reason = "down", reason
        self.hits = self.misses = self.evicted = self.expired = 0
        self.flushes = 0

    def start(self, now: int, kept: dict[str, float] | None = None, loading: int = 0) -> None:
        """A new process: with the keys of its dump, if it has one, once they are loaded."""
        self.crash()
        self.started = now
        self.dataset = dict(kept or {})
        self.keys = {} if loading else dict(self.dataset)
        self.loading_seconds, self.loading_until = loading, now + loading
        self.state = "loading" if loading else "up"

    def lose(self, share: float, db: str | None = None) -> None:
        """A share of the keys is gone, of one database or of all."""
        for name in self.keys if db is None else (db,):
            self.keys[name] *= 1 - share

    def tick(self, now: int) -> None:
        """A second of loading."""
        if self.state == "loading":
            done = 1 - (self.loading_until - now) / self.loading_seconds
            self.keys = {db: count * min(done, 1.0) for db, count in self.dataset.items()}
            if now >= self.loading_until:
                self.state = "up"


@dataclass(slots=True)
class Service:
    """An application with the guard. Its `instances` are scraped; without any, its counts come through reports.

    `share` of the cache's lookups are its own. Counters are totals of all its processes; a service that has nothing to
    coalesce says nothing of `enabled`.
    """

    name: str
    share: float = 1.0
    enabled: bool | None = True
    present: bool = True
    instances: tuple[str, ...] = ()
    silent_until: int = 0
    hits: float = 0
    misses: float = 0
    executions: float = 0
    coalesced: float = 0
    refreshes: float = 0
    refresh_errors: float = 0
    refresh_failing: float = 0.0
    hot_callers: float = 0.0
    warmup: tuple[float, float, bool] | None = None
    warming: float = 0.0

    def forget(self) -> None:
        """Its counts begin at zero: a new exporter accumulates anew, a new process counts anew."""
        self.hits = self.misses = self.executions = self.coalesced = self.refreshes = self.refresh_errors = 0


@dataclass(slots=True)
class Cache:
    """A cache: its nodes, its lookups a second, and the hit ratio `wanted` that it has with `working_set` keys in it.

    `limit` is where maxmemory begins to evict, in keys of a primary. `scan` lookups a second ask for keys that nobody
    asks for again. Fewer `wanted` without fewer keys is what an application does that asks for other keys; of the node
    `spoilt`, half of what is looked up is never found.
    """

    name: str
    team: str
    lookups: float
    working_set: float
    wanted: float
    nodes: list[Node]
    services: list[Service] = field(default_factory=list)
    capacity: float | None = None
    peak: float = 0
    database: str = ""
    limit: float | None = None
    scan: float = 0
    labelled: bool = True
    configured: bool = True
    shares: dict[str, float] = field(default_factory=lambda: {"0": 1.0})
    spoilt: Node | None = None
    _ttl: float = 0

    def __post_init__(self) -> None:
        fills = self.lookups * (1 - self.wanted) * (1 - self._coalescing(1.0))
        self._ttl = self.working_set / fills if fills else 0

    @property
    def primaries(self) -> list[Node]:
        """The nodes that take writes, also those that do not answer."""
        return [node for node in self.nodes if node.primary]

    def tick(self, now: int) -> None:
        """One second of everything."""
        for node in self.nodes:
            node.tick(now)
        primaries = self.primaries
        for node in primaries:
            self._serve(node, len(primaries))
        for service in self.services:
            self._refresh(service)

    def _serve(self, node: Node, of: int) -> None:
        asked = self.lookups / of
        if node.state != "up":
            self._load(asked, asked * self._coalescing(0.0), 0)  # the database answers what the cache does not
            return
        full = self.working_set / of
        coverage = min(log1p(node.total) / log1p(full), 1.0)
        found = self.wanted * coverage * (0.5 if node is self.spoilt else 1)
        missed = asked * (1 - found)
        shared = missed * self._coalescing(coverage)
        node.hits += asked - missed
        # Who shares a load shares its GET as well; a guard asks again when it has the lease.
        guarded = min(sum(one.share for one in self.services if one.present), 1.0)
        node.misses += (missed - shared) * (1 + guarded) + self.scan / of
        self._load(missed, shared, asked - missed)
        self._fill(node, missed - shared, self.scan / of)

    def _fill(self, node: Node, loaded: float, scanned: float) -> None:
        gone = node.total / self._ttl if self._ttl else 0
        node.expired += gone
        after = max(node.total - gone + loaded + scanned, 0.0)
        if self.limit is not None and after > self.limit:
            node.evicted += after - self.limit
            after = self.limit
        before = node.total
        for db, share in self.shares.items():
            part = node.keys.get(db, 0.0) / before if before else share
            node.keys[db] = node.keys.get(db, 0.0) + (after - before) * (part if after < before else share)

    def _coalescing(self, coverage: float) -> float:
        guarded = sum(one.share for one in self.services if one.present and one.enabled)
        return min(guarded, 1.0) * (WARM_COALESCING + (COLD_COALESCING - WARM_COALESCING) * (1 - coverage))

    def _load(self, missed: float, shared: float, hits: float) -> None:
        guarded = sum(one.share for one in self.services if one.present and one.enabled) or 1.0
        for service in self.services:
            if not service.present:
                continue
            mine = missed * service.share
            coalesced = shared * service.share / guarded if service.enabled else 0.0
            service.hits += hits * service.share
            service.misses += mine + service.hot_callers
            service.coalesced += coalesced + service.hot_callers
            service.executions += mine - coalesced

    def _refresh(self, service: Service) -> None:
        refreshed = self.lookups * service.share * 0.01
        service.refresh_errors += refreshed * service.refresh_failing
        service.refreshes += refreshed * (1 - service.refresh_failing)
        if service.warmup is not None:
            target, done, active = service.warmup
            service.warmup = (target, min(done + service.warming, target), active)
