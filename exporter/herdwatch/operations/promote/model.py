"""What a promotion is asked for, judged by and ends in: plain data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from herdwatch.operations.promote.endpoint import Endpoint
    from herdwatch.operations.promote.observe import Seen


class Kind(StrEnum):
    """The way to promote."""

    PLANNED = "planned"
    CRASH = "crash"
    SENTINEL = "sentinel"


class Name(StrEnum):
    """What is checked before anything is changed."""

    REACHABLE = "reachable"
    DEAD = "dead"
    CLUSTER = "cluster"
    ROLES = "roles"
    FOLLOWS = "follows"
    AGREEMENT = "agreement"
    QUORUM = "quorum"
    SENTINEL = "sentinel"
    VERSION = "version"
    PERMISSION = "permission"
    PASSWORD = "password"  # noqa: S105 - the name of a check
    FAILOVER = "failover"
    LOADING = "loading"
    LINK = "link"
    LAG = "lag"
    KEYS = "keys"
    MEMORY = "memory"
    PERSISTENCE = "persistence"
    REPLICAS = "replicas"
    CLIENTS = "clients"


class Status(StrEnum):
    """What a check came to; `allowed` would have refused, and was overridden by name."""

    OK = "ok"
    WARNS = "warns"
    ALLOWED = "allowed"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Check:
    """One check and its verdict in a sentence. A `final` one cannot be overridden: it could not work."""

    name: Name
    status: Status
    sentence: str
    final: bool = False


class Step(StrEnum):
    """Where a promotion is."""

    CHECKED = "checked"
    STARTED = "started"
    HANDING_OVER = "handing over"
    CUT_LOOSE = "cut loose"
    REPOINTED = "re-pointed"
    DEMOTED = "demoted"
    PROMOTED = "promoted"
    ABORTED = "aborted"
    VERIFIED = "verified"


Tell = Callable[[Step, str], None]
"""Takes each step when it is done, with a sentence on it."""


def silent(step: Step, sentence: str) -> None:
    """Tells nobody."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`lag_bytes` and `lag_seconds` are the most a replica may be behind, `keys` the least share of keys it has."""

    lag_bytes: int = 1024 * 1024
    lag_seconds: int = 2
    keys: float = 0.99


@dataclass(frozen=True, slots=True)
class Request:
    """What to promote. `timeout` is in seconds.

    So long a planned failover waits for the replica, and failover.HANDOVER more for the handing over; Sentinel has it
    for all, and with `demote` a dead primary has it to come back.
    """

    kind: Kind
    primary: Endpoint
    replicas: tuple[Endpoint, ...] = ()
    sentinels: tuple[Endpoint, ...] = ()
    master: str = ""
    allow: frozenset[Name] = frozenset()
    timeout: float = 10.0
    demote: bool = False
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True)
class Plan:
    """What was found, and what would be done. `done` says it where there is nothing left to do.

    `pending` are the servers that a second run has still to treat, `target` is what the primary calls its heir.
    """

    request: Request
    checks: tuple[Check, ...]
    steps: tuple[str, ...] = ()
    done: str = ""
    old: Seen | None = None
    heir: Seen | None = None
    target: tuple[str, int] | None = None
    others: tuple[Seen, ...] = ()
    after: tuple[str, ...] = ()

    @property
    def refused(self) -> tuple[Check, ...]:
        """The checks that stand in the way."""
        return tuple(check for check in self.checks if check.status is Status.REFUSED)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A promotion that came through. `already` if there was nothing to do; `next` is what is left to people."""

    kind: Kind
    primary: str
    former: str
    already: bool
    sentence: str
    keys_before: int
    keys_after: int
    seconds: float
    checks: tuple[Check, ...] = field(repr=False)
    next: tuple[str, ...] = ()
