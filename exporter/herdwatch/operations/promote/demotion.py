"""An old primary that is back as a primary, beside the new one: made its replica, where that is asked for."""

from __future__ import annotations

from herdwatch.collector.resp import ReplyError
from herdwatch.errors import OperationError
from herdwatch.operations.promote import checks, words
from herdwatch.operations.promote.checks import count, ok, refused
from herdwatch.operations.promote.endpoint import Endpoint
from herdwatch.operations.promote.model import Check, Name, Plan, Request, Step, Tell
from herdwatch.operations.promote.observe import Seen, look
from herdwatch.operations.promote.observe import words as said
from herdwatch.operations.promote.verify import GRACE, following, glance, state, until


def wanted(request: Request, old: Seen, heir: Seen) -> bool:
    """Whether there are two primaries, of which the user wants the old one to follow the promoted one."""
    return request.demote and old.is_primary and heir.is_primary and old.run_id != heir.run_id


def plan(request: Request, old: Seen, heir: Seen) -> Plan:
    """Make the old primary a replica of the one that was promoted before; what it holds is replaced."""
    found = (
        ok(Name.REACHABLE, f"{old} and {heir} answer"),
        checks.cluster(old),
        _was_promoted(heir),
        _poorer(old, heir),
        checks.permission(old.endpoint, checks.REPLICAOF_PROBE),
    )
    steps = (f"{old}: REPLICAOF {heir}; its {count(old.total)} are replaced by the {heir.total:,} of {heir}",)
    after = (words.applications(heir.endpoint, old.endpoint), *words.roles(old, heir))
    return Plan(request, checks.allowing(found, request.allow), steps, old=old, heir=heir, after=after)


def run(chosen: Plan, tell: Tell) -> tuple[Seen, str]:
    """Carry it out; gives the primary and a sentence. Raises OperationError."""
    if chosen.old is None or chosen.heir is None:
        raise OperationError("this plan has nothing to carry out")
    follow(chosen.old.endpoint, chosen.heir.endpoint)
    tell(Step.DEMOTED, f"{chosen.old} follows {chosen.heir}")
    after = look(chosen.heir.endpoint)
    return after, f"{after} is the primary with {count(after.total)}, {chosen.old} follows it again"


def follow(replica: Endpoint, leader: Endpoint) -> None:
    """Make one server a replica of the other, and wait for its link. Raises OperationError."""
    primary = look(leader)  # a replica that is sent to a dead leader is lost to a second run
    if look(replica).run_id == primary.run_id:
        raise OperationError(f"{replica} and {leader} are one and the same server, which was left alone")
    reply = replica.ask(("REPLICAOF", leader.host, leader.port))[0]
    if isinstance(reply, ReplyError):
        raise OperationError(f"{replica} refuses REPLICAOF {leader}: {said(reply)}; {state((replica, leader))}")
    if not following(replica, primary, GRACE):
        raise OperationError(f"{replica} was told to follow {leader} and has no link yet: {state((replica, leader))}")


def when_back(old: Endpoint, heir: Seen, seconds: float, tell: Tell) -> bool:
    """Wait for a dead primary to return and make it follow; whether it came. Raises OperationError."""
    if not until(lambda: glance(old, patience=0.5) is not None, seconds):
        return False
    back = look(old)
    if back.is_primary and back.total > heir.total:
        raise OperationError(
            f"{old} is back with more keys than {heir} and was left alone: {state((old, heir.endpoint))}"
        )
    follow(old, heir.endpoint)
    tell(Step.DEMOTED, f"{old} came back and follows {heir}")
    return True


def _was_promoted(heir: Seen) -> Check:
    if heir.was_replica:
        return ok(Name.ROLES, f"{heir} is a primary and was a replica before")
    return refused(Name.ROLES, f"{heir} was never a replica; is it the one that was promoted?")


def _poorer(old: Seen, heir: Seen) -> Check:
    if old.total > heir.total:
        return refused(Name.KEYS, f"{old} holds {count(old.total)}, more than the {heir.total:,} of {heir}")
    return ok(Name.KEYS, f"{heir} holds {count(heir.total)}, {old} {old.total:,}")
