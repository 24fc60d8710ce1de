"""What a replica's own settings come to once it is the primary: until then it keeps to those of its primary.

Source: redis.conf on replica-ignore-maxmemory, maxmemory-policy and min-replicas-to-write.
"""

from __future__ import annotations

from collections.abc import Iterator

from herdwatch.operations.promote.checks import ok, persistent, refused, warns
from herdwatch.operations.promote.model import Check, Name
from herdwatch.operations.promote.observe import Seen, setting


def settings(heir: Seen, old: Seen, replicas: int) -> Iterator[Check]:
    """All of them, against what its primary has; `replicas` is how many will follow the heir."""
    yield memory(heir, old.number("used_memory"), old)
    yield from writes(heir, replicas)
    yield from unkept(heir, old)


def memory(heir: Seen, used: int, old: Seen | None = None) -> Check:
    """A replica ignores its own maxmemory; as a primary it keeps to it. `old` is its primary, where that answers."""
    limit, policy = heir.number("maxmemory"), heir.text("maxmemory_policy")
    if limit and limit < used:
        then = "refuse writes" if policy == "noeviction" else "evict"
        sentence = f"{heir} may use {limit:,} bytes as a primary and would {then}, as there are {used:,}"
        return refused(Name.MEMORY, f"{sentence}; raise its maxmemory first")
    if old is not None and (limit, policy) != (old.number("maxmemory"), old.text("maxmemory_policy")):
        sentence = f"as a primary {heir} keeps to maxmemory {_of(heir)}, while {old} has {_of(old)}"
        return warns(Name.MEMORY, f"{sentence}; CONFIG SET them at {heir} as they are to be")
    return ok(Name.MEMORY, f"{heir} has {'no limit' if not limit else f'{limit:,} bytes'} for {used:,} bytes of data")


def writes(heir: Seen, replicas: int) -> Iterator[Check]:
    """A primary that wants more replicas than it has answers every write with NOREPLICAS."""
    if not heir.text("min_slaves_good_slaves"):  # Redis shows it only where replicas are wanted
        return
    found = setting(heir.endpoint, "min-replicas-to-write")
    if found is None or not found.isdigit():
        yield warns(Name.REPLICAS, f"{heir} takes writes only with replicas of its own; how many is not seen")
    elif int(found) > replicas:
        sentence = f"{heir} wants {found} replicas before it takes a write and will have {replicas}"
        advice = f"CONFIG SET min-replicas-to-write {replicas} at {heir} first"
        yield refused(Name.REPLICAS, f"{sentence}: clients would get NOREPLICAS; {advice}")


def unkept(heir: Seen, old: Seen) -> Iterator[Check]:
    """A primary without persistence that restarts by itself comes back empty, and wipes what follows it."""
    kept = persistent(heir)
    if not kept:
        found = "shows no setting of its persistence" if kept is None else "has no persistence"
        advice = f"stop its automatic restart, or it comes back empty and wipes {old}"
        yield warns(Name.PERSISTENCE, f"{heir} {found}: as a primary it must not restart by itself; {advice}")


def online(seen: Seen) -> int:
    """How many replicas keep up with it."""
    return sum(one.state == "online" for one in seen.replicas)


def _of(seen: Seen) -> str:
    return f"{seen.number('maxmemory') or 'none'} and {seen.text('maxmemory_policy')[:40]}"
