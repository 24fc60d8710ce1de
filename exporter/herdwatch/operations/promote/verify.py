"""Waiting with a deadline, and whether a promotion left what it should."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from herdwatch.collector.resp import ReplyError
from herdwatch.errors import OperationError
from herdwatch.operations.promote.checks import count
from herdwatch.operations.promote.endpoint import Endpoint, Unreachable
from herdwatch.operations.promote.observe import Seen, look, words

EVERY = 0.05
"""Seconds between two looks."""
GRACE = 10.0
"""Seconds that the old primary has for its link to the new one, when the failover itself is through."""


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether it came to hold within so many seconds; it is asked once at least."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(EVERY)
    return True


def glance(endpoint: Endpoint, *, patience: float | None = None) -> Seen | None:
    """What a server says of itself, or None where it does not answer."""
    try:
        return look(endpoint, patience=patience)
    except Unreachable:
        return None


def state(endpoints: Iterable[Endpoint]) -> str:
    """What each server is now, in words: what is said of an operation that did not come through."""
    return "; ".join(_state(endpoint) for endpoint in endpoints)


def _state(endpoint: Endpoint) -> str:
    try:
        seen = look(endpoint)
    except Unreachable as error:
        return f"{endpoint} does not answer ({error.why})"
    runs = f", and a failover runs ({seen.text('master_failover_state')[:40]})" if seen.failing_over else ""
    if seen.is_primary:
        return f"{endpoint} is a primary with {count(seen.total)}{runs}"
    link = "up" if seen.linked else "down"
    return f"{endpoint} is a replica of {seen.leader} with {count(seen.total)}, its link {link}{runs}"


def cut_loose(replica: Endpoint) -> Seen:
    """REPLICAOF NO ONE, from when on nothing can wipe it; the primary that it is. Raises OperationError."""
    try:
        reply = replica.ask(("REPLICAOF", "NO", "ONE"))[0]
        after = look(replica)
    except Unreachable as error:
        raise OperationError(f"{error}: whether it is promoted is not known; run again when it answers") from None
    if isinstance(reply, ReplyError) or not after.is_primary:
        why = words(reply) if isinstance(reply, ReplyError) else "it is still a replica"
        raise OperationError(f"{replica} was not promoted: {why}; {state((replica,))}")
    return after


def following(follower: Endpoint, leader: Seen, seconds: float) -> bool:
    """Whether it came to follow that server, its link up, within so many seconds.

    The leader is asked each time: one that was without a replica for long takes a new id when one joins
    (repl-backlog-ttl).
    """

    def follows() -> bool:
        seen, now = glance(follower), glance(leader.endpoint)
        if seen is None or now is None:
            return False
        return seen.linked and seen.text("master_replid") == now.text("master_replid")

    return until(follows, seconds)


def kept(before: Seen, heir_before: Seen, after: Seen, old: Seen | None, *, share: float) -> None:
    """Raise OperationError where the new primary has fewer keys than the old one had, but for those that ran out.

    `share` of what was there must be left; what expired or was evicted meanwhile is not missed.
    """
    gone = max(0, after.gone - heir_before.gone) + max(0, (old.gone if old else 0) - before.gone)
    if after.total < before.total * share - gone:
        raise OperationError(
            f"promoted, but {after} holds {after.total:,} of the {count(before.total)} that {before} held; "
            "do not restart anything, and see who deletes keys"
        )
