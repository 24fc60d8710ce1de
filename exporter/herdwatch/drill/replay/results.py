"""What a drill found, as data: what the terminal, the page and the JSON are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

VERSION = 1


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert that fired because of the fault, so many seconds after it."""

    name: str
    severity: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Counted:
    """The same loads, counted by the guard, by the application's log, and by PostgreSQL.

    `executions` are loader calls by the guard's own count (None without a guard), `asked` those that the log has,
    `sent` those of them that got a connection, `scanned` the queries that PostgreSQL ran. `requests` and `classes` are
    both sides of the counting rule: requests = executions{miss} + coalesced + stale + shed.
    """

    asked: int
    sent: int
    scanned: int
    executions: int | None = None
    requests: int | None = None
    classes: int | None = None

    @property
    def agree(self) -> bool:
        """Whether all of them say the same."""
        guard = self.executions is None or (self.executions == self.asked and self.requests == self.classes)
        return guard and self.sent == self.scanned


@dataclass(frozen=True, slots=True)
class Curves:
    """A value for each second of a run; second n begins `first + n` seconds after the fault.

    `asked` and `sent` are queries a second, `hit_ratio` is of lookups, `p50` and `p99` are seconds, `failed` and `shed`
    are requests a second. None where there was nothing to count.
    """

    first: int
    asked: tuple[float, ...] = ()
    sent: tuple[float, ...] = ()
    hit_ratio: tuple[float | None, ...] = ()
    p50: tuple[float | None, ...] = ()
    p99: tuple[float | None, ...] = ()
    failed: tuple[float, ...] = ()
    shed: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """One run. Times are seconds after the fault, None for what did not happen while it was watched.

    `peak` is the most queries that were asked for in any one second after the fault, `peak_sent` the most that
    PostgreSQL was given; both are counts a second, as `capacity` and `rate` are. Latencies are from the intended start
    of a request, of all requests that were not turned away on purpose; who gave up counts with the time of waiting.
    """

    name: str
    scenario: str
    level: str
    about: str
    rate: float
    capacity: float
    seconds: float
    peak: float
    peak_sent: float
    counted: Counted
    requests: int
    failed: int
    shed: int
    p50: float | None
    p99: float | None
    p99_before: float | None
    lowest: float | None
    recovered: float | None
    alerts: tuple[Alert, ...]
    paged: float | None
    pages: int
    late: float
    curves: Curves

    @property
    def peak_ratio(self) -> float:
        """Peak of what was asked, as a multiple of the capacity."""
        return self.peak / self.capacity


@dataclass(frozen=True, slots=True)
class Verdict:
    """A sentence that is the same for the same outcome, and whether it is as it should be."""

    sentence: str
    holds: bool

    def __str__(self) -> str:
        return f"{'yes' if self.holds else 'NO '}  {self.sentence}"


@dataclass(frozen=True, slots=True)
class Claim:
    """What the seed says, what was measured, and how."""

    claimed: str
    measured: str
    how: str
    holds: bool


@dataclass(slots=True)
class Drill:
    """All of it. `partial` says why it is not whole, and is empty otherwise; `multiple` is load per capacity."""

    seed: int
    capacity: float
    multiple: float
    multiple_wanted: float
    scrape_interval: int
    scale: dict[str, float]
    versions: dict[str, str]
    results: list[Result] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    planned: list[Sequence[Any]] = field(default_factory=list)
    partial: str = ""

    @property
    def passed(self) -> bool:
        """Whether it is whole and every verdict holds."""
        return not self.partial and all(one.holds for one in self.verdicts)

    def as_json(self) -> dict[str, Any]:
        """Plain data, with what properties add."""
        data = {"herdwatch_drill": VERSION, **asdict(self), "passed": self.passed}
        for told, one in zip(data["results"], self.results, strict=True):
            told["peak_ratio"] = one.peak_ratio
            told["counted"]["agree"] = one.counted.agree
        return data
