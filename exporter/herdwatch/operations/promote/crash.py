"""The path for a dead primary: its best replica is cut loose, the others follow it, and the old one when it is back.

Until it is cut loose a replica follows the dead address, and copies whatever comes back there: an empty primary wipes
it within a fraction of a second. So that comes first, and everything else after it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from herdwatch.errors import OperationError, UsageError
from herdwatch.operations.promote import checks, demotion, words
from herdwatch.operations.promote import heir as heirs
from herdwatch.operations.promote.checks import count, ok, refused, warns
from herdwatch.operations.promote.endpoint import Endpoint, Unreachable
from herdwatch.operations.promote.model import Check, Name, Plan, Request, Step, Tell
from herdwatch.operations.promote.observe import Seen, look
from herdwatch.operations.promote.verify import cut_loose, glance, kept, state

TRIES = 3
"""Times that a primary is asked before it is taken for dead."""
BETWEEN = 0.2
"""Seconds between them."""
HEARD = 12
"""Seconds: a living primary speaks to its replicas every ten (repl-ping-replica-period)."""
STALE = 900
"""Seconds of silence after which a replica may have stopped hearing long before its primary died."""
HUNG = "timeout"
"""What takes connections, or swallows them, and says nothing may be stopped or overloaded, and go on."""
_DEAD = ("refused", HUNG)


def survey(request: Request) -> Plan:
    """Look whether the primary is dead, and at its replicas; judge them. Changes nothing."""
    if not request.replicas:
        raise UsageError("a dead primary cannot say who its replicas are; name each of them with --replica")
    replicas, lost = _look_at_all(request.replicas)
    if lost:
        advice = "; leave it out to go on without it" if len(request.replicas) > 1 else ""
        return Plan(request, (refused(Name.REACHABLE, f"{lost[0]}{advice}", final=True),))
    old, why = _autopsy(request.primary)
    twin = _twins(replicas if old is None else [old, *replicas])
    if twin is not None:
        return Plan(request, (twin,))
    heir = _heir(replicas)
    if old is not None and heir.is_primary:
        if demotion.wanted(request, old, heir):
            return demotion.plan(request, old, heir)
        if old.follows(heir.endpoint):
            done = f"already promoted: {heir} is the primary with {count(heir.total)}, {old} follows it"
            return Plan(request, (), done=done, old=old, heir=heir, after=tuple(words.roles(old, heir)))
    others = tuple(one for one in replicas if one is not heir and not one.follows(heir.endpoint))
    after = tuple(words.crashed(request.primary, heir.endpoint, hung=why == HUNG))
    if heir.is_primary and heir.was_replica and old is None and not others and not request.demote:
        done = f"already promoted: {heir} is the primary with {count(heir.total)}; {request.primary} does not answer"
        return Plan(request, (), done=done, heir=heir, after=after)
    found = tuple(_checks(request, old, why, heir, replicas))
    return Plan(
        request,
        checks.allowing(found, request.allow),
        tuple(_steps(request, heir, others)),
        old=old,
        heir=heir,
        others=others,
        after=after,
    )


def run(plan: Plan, tell: Tell) -> tuple[Seen, str]:
    """Carry out a plan; gives the new primary and a sentence. Raises OperationError, which says what was left."""
    heir, request = plan.heir, plan.request
    if heir is None:
        raise OperationError("this plan has nothing to carry out")
    after = _cut_loose(heir, request, tell)
    strayed = [found for one in plan.others if (found := _repoint(one, heir, tell))]
    if strayed:
        raise OperationError(f"{heir} is promoted, but {'; '.join(strayed)}; run again, or leave that one out")
    sentence = f"{heir} is the primary with {count(after.total)}"
    if request.demote and demotion.when_back(request.primary, after, request.timeout, tell):
        return after, f"{sentence}, {request.primary} follows it"
    back = glance(request.primary, patience=0.5)
    if back is not None and back.is_primary:
        left = state((request.primary, heir.endpoint))
        raise OperationError(f"{heir} is promoted, and {request.primary} is a primary too: {left}; see --demote")
    tell(Step.VERIFIED, f"{heir.total:,} keys before, {after.total:,} now")
    return after, sentence


def _look_at_all(endpoints: tuple[Endpoint, ...]) -> tuple[list[Seen], list[Unreachable]]:
    seen, lost = [], []
    for endpoint in endpoints:
        try:
            seen.append(look(endpoint))
        except Unreachable as error:
            lost.append(error)
    return seen, lost


def _autopsy(primary: Endpoint) -> tuple[Seen | None, str]:
    """What the primary says of itself if it says anything; else why not, by the collector's reasons."""
    why = ""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(BETWEEN)
        try:
            return look(primary, patience=1.0), ""
        except Unreachable as error:
            why = error.why
            if why not in _DEAD:
                break
    return None, why


def _twins(servers: list[Seen]) -> Check | None:
    """Two names of one process: it would be made a replica of itself, and answer READONLY for ever."""
    for place, one in enumerate(servers):
        for other in servers[:place]:
            if one.run_id == other.run_id:
                return refused(Name.ROLES, f"{other} and {one} are one and the same server; name it once", final=True)
    return None


def _heir(replicas: list[Seen]) -> Seen:
    """The one that was promoted before, else the one that has heard most of those that hold keys."""
    return max(replicas, key=lambda one: (one.is_primary, one.total > 0, one.number("slave_repl_offset"), one.total))


def _checks(request: Request, old: Seen | None, why: str, heir: Seen, replicas: list[Seen]) -> Iterator[Check]:
    yield ok(Name.REACHABLE, f"{', '.join(map(str, replicas))} answer{'s' if len(replicas) == 1 else ''}")
    for gate in (checks.cluster(heir), _roles(request, old, heir, replicas)):
        yield gate
        if gate.final:
            return
    yield _dead(request, old, why, heir, replicas)
    yield _follows(request, heir, replicas)
    yield checks.sentinel(heir)
    for one in replicas:
        yield checks.permission(one.endpoint, checks.REPLICAOF_PROBE)
    yield checks.loading(heir)
    yield _link(heir)
    yield _keys(heir)
    yield heirs.memory(heir, heir.number("used_memory"))
    yield from heirs.writes(heir, max(len(replicas) - 1, heirs.online(heir)))
    yield _persistence(request, heir)
    yield _reach(heir, replicas)


def _roles(request: Request, old: Seen | None, heir: Seen, replicas: list[Seen]) -> Check:
    primaries = [one for one in replicas if one.is_primary]
    if len(primaries) > 1:
        held = ", ".join(f"{one} with {count(one.total)}" for one in primaries)
        return refused(Name.ROLES, f"two primaries: {held}; make one follow the other with REPLICAOF", final=True)
    if heir.is_primary and old is not None and old.is_primary:
        held = f"{old} with {count(old.total)}, {heir} with {heir.total:,}"
        return refused(Name.ROLES, f"two primaries: {held}; --demote makes {old} follow {heir}", final=True)
    if heir.is_primary and not heir.was_replica:
        sentence = f"{heir} is a primary and was never a replica; is it one of {request.primary}?"
        return refused(Name.ROLES, sentence, final=True)
    warm = {one.text("master_replid") for one in replicas if one.is_replica and one.total}
    if len(warm) > 1 and not heir.is_primary:
        return refused(Name.ROLES, "the replicas are not copies of one primary; name only the one to keep", final=True)
    return ok(Name.ROLES, f"{heir} {'was promoted before' if heir.is_primary else 'is a replica, and has heard most'}")


def _dead(request: Request, old: Seen | None, why: str, heir: Seen, replicas: list[Seen]) -> Check:
    primary = request.primary
    if old is not None:
        sentence = f"{primary} is alive, {old.text('role').replace('slave', 'replica')[:20]} with {count(old.total)}"
        return refused(Name.DEAD, f"{sentence}; leave --crash out")
    if why not in _DEAD:
        sentence = f"{primary} is not surely dead ({why}); see whether it runs, and correct its address or login"
        return refused(Name.DEAD, sentence)
    for one in replicas:
        if one.is_replica and one.linked and one.number("master_last_io_seconds_ago", HEARD) < HEARD:
            ago = one.number("master_last_io_seconds_ago")
            return refused(Name.DEAD, f"{primary} does not answer here ({why}), but {one} heard from it {ago} s ago")
    sentence = f"{primary} does not answer ({why}, {TRIES} times)"
    if why == HUNG:
        return warns(Name.DEAD, f"{sentence}: it may wake up and take writes beside {heir}; stop its process first")
    return ok(Name.DEAD, sentence)


def _follows(request: Request, heir: Seen, replicas: list[Seen]) -> Check:
    for one in replicas:
        if one.is_replica and not one.follows(request.primary) and not one.follows(heir.endpoint):
            return refused(Name.FOLLOWS, f"{one} follows {one.leader}, not {request.primary}; correct --primary")
    return ok(Name.FOLLOWS, f"all follow {request.primary}" if heir.is_replica else f"all follow it or {heir}")


def _link(heir: Seen) -> Check:
    if heir.is_replica and heir.number("master_sync_in_progress"):
        return refused(Name.LINK, f"{heir} is in the middle of a copy from {heir.leader}: it is not whole")
    if heir.is_primary:
        return ok(Name.LINK, f"{heir} follows nobody any more")
    ago = heir.number("master_last_io_seconds_ago" if heir.linked else "master_link_down_since_seconds", -1)
    if ago < 0:
        sentence = f"{heir} has not heard from its primary since it started {heir.number('uptime_in_seconds')} s ago"
        return warns(Name.LINK, f"{sentence}: its keys are those of its file, however old that is")
    sentence = f"{heir} last heard from its primary {ago} s ago"
    if ago > STALE:
        return warns(Name.LINK, f"{sentence}; did {heir.leader} die only later, what was written since is not in it")
    return ok(Name.LINK, sentence)


def _keys(heir: Seen) -> Check:
    if not heir.total:
        return refused(Name.KEYS, f"{heir} holds no keys: nothing is won by promoting it; see herdwatch warm")
    return ok(Name.KEYS, f"{heir} holds {count(heir.total)}")


def _persistence(request: Request, heir: Seen) -> Check:
    primary, unsafe = request.primary, checks.persistent(heir) is False
    sentence = f"stop the automatic restart of {primary}: whatever still follows it is wiped if it comes back empty"
    also = f"; {heir} has no persistence either, so it must not restart by itself" if unsafe else ""
    return warns(Name.PERSISTENCE, f"{sentence}{also}")


def _reach(heir: Seen, replicas: list[Seen]) -> Check:
    if len(replicas) > 1 and not heir.endpoint.host:
        sentence = f"the other replicas cannot follow {heir}, a socket of this machine; name it by HOST:PORT"
        return refused(Name.REPLICAS, sentence, final=True)
    return warns(Name.REPLICAS, "replicas that are not named here go on following the dead address; name them too")


def _steps(request: Request, heir: Seen, others: tuple[Seen, ...]) -> Iterator[str]:
    if heir.is_replica:
        yield f"{heir}: REPLICAOF NO ONE; from then on nothing can wipe its {count(heir.total)}"
    for one in others:
        yield f"{one}: REPLICAOF {heir}"
    if request.demote:
        yield f"{request.primary}: REPLICAOF {heir}, if it comes back within {request.timeout:g} s"
    yield f"verify: {heir} is a primary with no fewer keys"


def _cut_loose(heir: Seen, request: Request, tell: Tell) -> Seen:
    if heir.is_primary:
        return heir
    after = cut_loose(heir.endpoint)
    tell(Step.CUT_LOOSE, f"{heir} is cut loose and a primary, with {count(after.total)}")
    kept(heir, heir, after, None, share=request.limits.keys)
    return after


def _repoint(one: Seen, heir: Seen, tell: Tell) -> str:
    """Make another replica follow the new primary; what went wrong, in words, or nothing."""
    try:
        demotion.follow(one.endpoint, heir.endpoint)
    except (OperationError, Unreachable) as error:
        return str(error)
    tell(Step.REPOINTED, f"{one} follows {heir}")
    return ""
