"""A promotion while the primary lives: the checks, the steps, FAILOVER, and what is verified after it."""

from __future__ import annotations

from collections.abc import Iterator

from herdwatch.errors import OperationError, UsageError
from herdwatch.operations.promote import checks, demotion, words
from herdwatch.operations.promote import heir as heirs
from herdwatch.operations.promote.checks import count, ok, refused, warns
from herdwatch.operations.promote.endpoint import Endpoint, Unreachable
from herdwatch.operations.promote.failover import HANDOVER, Handover, adopt
from herdwatch.operations.promote.model import Check, Name, Plan, Request, Status, Step, Tell
from herdwatch.operations.promote.observe import Replica, Seen, look
from herdwatch.operations.promote.verify import GRACE, following, glance, kept, state


def survey(request: Request) -> Plan:
    """Look at both servers and judge them. Changes nothing. Raises UsageError for more than one replica."""
    if len(request.replicas) > 1:
        raise UsageError("a planned promotion takes one --replica; several are for --crash")
    try:
        old = look(request.primary)
    except Unreachable as error:
        return _without_primary(request, error)
    if old.failing_over:
        sentence = f"a failover of {old} is under way; a run without --plan waits for it, and then looks again"
        return Plan(request, (refused(Name.FAILOVER, sentence, final=True),), old=old)
    try:
        heir = look(_heir(request, old))
    except Unreachable as error:
        return Plan(request, (refused(Name.REACHABLE, str(error), final=True),))
    except _NoReplica as error:
        return Plan(request, (refused(Name.ROLES, str(error), final=True),))
    if old.follows(heir.endpoint) or (old.is_replica and heir.is_primary and _same_history(old, heir)):
        return _done(request, old, heir)
    if demotion.wanted(request, old, heir):
        return demotion.plan(request, old, heir)
    target = _target(old, heir)
    found = tuple(_checks(request, old, heir, target))
    return Plan(
        request,
        checks.allowing(found, request.allow),
        _steps(request, old, heir, target),
        old=old,
        heir=heir,
        target=(target.host, target.port) if target else None,
        after=(
            words.applications(heir.endpoint, old.endpoint),
            *words.roles(old, heir),
            *_strays(old, heir, target),
        ),
    )


def run(plan: Plan, tell: Tell) -> tuple[Seen, str]:
    """Carry out a plan; gives the new primary and a sentence. Raises OperationError, which says what was left."""
    old, heir, request = plan.old, plan.heir, plan.request
    if old is None or heir is None or plan.target is None:
        raise OperationError("this plan has nothing to carry out")
    now = Handover(old.endpoint, heir.endpoint, old.run_id, tell).run(plan.target, request.timeout)
    after = glance(heir.endpoint)
    left = state((old.endpoint, heir.endpoint))
    if now.is_primary:
        two = after is not None and after.is_primary
        advice = "two primaries: decide which one stays, and make the other follow it" if two else "nothing was lost"
        raise OperationError(f"{heir} did not take over in time: {left}; {advice}; then run again")
    tell(Step.PROMOTED, f"{heir} is the primary")
    if after is None or not after.is_primary:
        raise OperationError(f"{old} has handed over, but its heir is no primary: {left}")
    if not following(old.endpoint, after, GRACE):
        raise OperationError(f"{heir} is promoted, but {old} does not follow it: {left}; --demote makes it")
    after = look(heir.endpoint)
    kept(old, heir, after, glance(old.endpoint), share=request.limits.keys)
    sentence = f"{heir} is the primary with {count(after.total)}, {old} follows it"
    tell(Step.VERIFIED, f"{old.total:,} keys before, {after.total:,} now; the link is up")
    return after, sentence


def settle(request: Request, tell: Tell) -> None:
    """Wait for a failover that is under way already, such as that of a run which was killed."""
    old = glance(request.primary)
    if old is not None and old.failing_over:
        adopt(old, request.replicas[0] if request.replicas else None, request.timeout + HANDOVER, tell)


class _NoReplica(Exception):
    """The primary has no replica that could be taken without being named."""


def _heir(request: Request, old: Seen) -> Endpoint:
    if request.replicas:
        return request.replicas[0]
    if old.is_replica:
        return old.endpoint.at(old.text("master_host"), old.number("master_port"))
    online = [one for one in old.replicas if one.state == "online"]
    if not online:
        raise _NoReplica(f"{old} has no replica online; add one with REPLICAOF and wait until it is warm")
    if len(online) > 1:
        raise _NoReplica(f"{old} has {len(online)} replicas; name one with --replica: {', '.join(map(str, online))}")
    return old.endpoint.at(online[0].host, online[0].port)


def _target(old: Seen, heir: Seen) -> Replica | None:
    """The heir as its primary knows it: what FAILOVER must call it."""
    known = [one for one in old.replicas if heir.endpoint.is_at(one.host, one.port)]
    if not known and len(old.replicas) == 1 and _one_connection(old, heir):
        known = list(old.replicas)
    return known[0] if len(known) == 1 else None


def _one_connection(old: Seen, heir: Seen) -> bool:
    """Whether the replication link is one and the same at both ends: addresses differ behind a port mapping."""

    def found(seen: Seen, kind: str, field: str) -> set[str]:
        reply = seen.endpoint.ask(("CLIENT", "LIST", "TYPE", kind))[0]
        lines = reply.decode("utf-8", "replace").split() if isinstance(reply, bytes) else []
        return {word.removeprefix(field) for word in lines if word.startswith(field)}

    return bool(found(old, "replica", "addr=") & found(heir, "master", "laddr="))


def _same_history(old: Seen, heir: Seen) -> bool:
    return old.text("master_replid") == heir.text("master_replid")


def _without_primary(request: Request, error: Unreachable) -> Plan:
    heir = glance(request.replicas[0]) if len(request.replicas) == 1 else None
    if heir is not None and heir.is_primary and heir.was_replica:
        done = f"already promoted: {heir} is the primary with {count(heir.total)}; {request.primary} does not answer"
        after = tuple(words.returning(request.primary, heir.endpoint))
        return Plan(request, (), done=done, heir=heir, after=after)
    advice = "" if error.why != "refused" else "; is it dead? herdwatch promote --crash is for that"
    return Plan(request, (refused(Name.REACHABLE, f"{error}{advice}", final=True),))


def _done(request: Request, old: Seen, heir: Seen) -> Plan:
    if not heir.is_primary:
        sentence = f"{old} follows {heir}, which is a replica itself; give the primary as --primary"
        return Plan(request, (refused(Name.ROLES, sentence, final=True),))
    if not following(old.endpoint, heir, GRACE):
        sentence = f"{old} follows {heir} already, but its link is down; see the log of {old}"
        return Plan(request, (refused(Name.LINK, sentence, final=True),))
    done = f"already promoted: {heir} is the primary with {count(heir.total)}, {old} follows it"
    return Plan(request, (), done=done, old=old, heir=heir, after=tuple(words.roles(old, heir)))


def _checks(request: Request, old: Seen, heir: Seen, target: Replica | None) -> Iterator[Check]:
    yield ok(Name.REACHABLE, f"{old} and {heir} answer")
    gates = (checks.cluster(old), _roles(old, heir), _follows(old, heir, target))
    for gate in gates:
        yield gate
        if gate.final:
            return
    yield checks.sentinel(old)
    yield checks.version(old, heir)
    yield checks.permission(old.endpoint, checks.FAILOVER_PROBE)
    rescue = checks.permission(heir.endpoint, checks.REPLICAOF_PROBE)
    if rescue.status is Status.REFUSED:
        yield warns(rescue.name, f"{rescue.sentence}, or {heir} cannot be cut loose if {old} dies on the way")
    yield checks.password(old, heir)
    yield checks.loading(old)
    yield checks.loading(heir)
    yield checks.link(heir)
    yield checks.lag(old, heir, target, request.limits)
    yield checks.keys(old, heir, request.limits)
    yield checks.persistence(old, heir)
    yield from heirs.settings(heir, old, 1 + heirs.online(heir))
    yield checks.others(old, target)
    yield checks.clients(old)


def _roles(old: Seen, heir: Seen) -> Check:
    if old.is_primary and heir.is_replica:
        return ok(Name.ROLES, f"{old} is a primary and {heir} a replica")
    if old.is_primary and heir.is_primary:
        if old.run_id == heir.run_id:
            return refused(Name.ROLES, f"{old} and {heir} are one and the same server", final=True)
        held = f"{old} holds {count(old.total)}, {heir} {heir.total:,}"
        advice = "decide which one stays and make the other follow it"
        if heir.was_replica:
            advice += f"; --demote does it: {old} follows {heir}"
        return refused(Name.ROLES, f"two primaries: {held}; {advice}", final=True)
    sentence = f"{old} is no primary: it follows {old.leader}; give the primary as --primary"
    return refused(Name.ROLES, sentence, final=True)


def _follows(old: Seen, heir: Seen, target: Replica | None) -> Check:
    if target is not None:
        return ok(Name.FOLLOWS, f"{heir} follows {old}, which calls it {target}")
    if _same_history(old, heir) or heir.follows(old.endpoint):
        trap = checks.persistence(old, heir)
        if trap.status is Status.REFUSED:
            return Check(trap.name, trap.status, trap.sentence, final=True)
    known = ", ".join(map(str, old.replicas)) or "none"
    sentence = f"{heir} follows {heir.leader} and is no replica that {old} knows of; it knows: {known}"
    return refused(Name.FOLLOWS, sentence, final=True)


def _steps(request: Request, old: Seen, heir: Seen, target: Replica | None) -> tuple[str, ...]:
    return (
        f"{old}: FAILOVER TO {target or heir} TIMEOUT {request.timeout:g} s; writes wait until {heir} has everything",
        f"wait until {heir} has taken over; FAILOVER ABORT after {request.timeout + HANDOVER:g} s: all is as before",
        f"verify: {heir} is a primary with no fewer keys, {old} follows it with its link up",
    )


def _strays(old: Seen, heir: Seen, target: Replica | None) -> Iterator[str]:
    for one in old.replicas:
        if one != target and one.port:
            move = words.cli(
                old.endpoint.at(one.host, one.port), "REPLICAOF", heir.endpoint.host, str(heir.endpoint.port)
            )
            yield f"{one} still follows {old}: {move}"
