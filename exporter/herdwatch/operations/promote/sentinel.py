"""Where Sentinels are in charge they do it: all of them are asked, they must agree, and one of them is told.

Source: the Redis documentation, High availability with Redis Sentinel. SENTINEL FAILOVER promotes as if the primary
were unreachable, and Sentinel makes the old one follow ten to twenty seconds later; what is written to it until then is
lost. So as soon as all Sentinels name the new primary, the old one is told by us what they would tell it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from herdwatch.collector.resp import ReplyError
from herdwatch.errors import OperationError
from herdwatch.operations.promote import checks, words
from herdwatch.operations.promote import heir as heirs
from herdwatch.operations.promote.checks import count, ok, refused, warns
from herdwatch.operations.promote.endpoint import Endpoint, Unreachable
from herdwatch.operations.promote.model import Check, Name, Plan, Request, Step, Tell
from herdwatch.operations.promote.observe import Replica, Seen, look
from herdwatch.operations.promote.observe import words as said
from herdwatch.operations.promote.verify import glance, kept, state, until

Place = tuple[str, int]
_UNFIT = ("s_down", "o_down", "disconnected")


@dataclass(frozen=True, slots=True)
class View:
    """What one Sentinel says of the master: `error` where it says nothing that can be used."""

    endpoint: Endpoint
    place: Place | None = None
    quorum: str = ""
    flags: tuple[str, ...] = ()
    replicas: tuple[dict[str, str], ...] = ()
    error: str = ""

    def lists(self, place: Place) -> bool:
        """Whether it knows a replica at that address."""
        return any((one.get("ip"), one.get("port")) == (place[0], str(place[1])) for one in self.replicas)


def view(endpoint: Endpoint, master: str) -> View:
    """Ask one Sentinel. Raises Unreachable."""
    asked = ("GET-MASTER-ADDR-BY-NAME", "CKQUORUM", "MASTER", "REPLICAS")
    address, quorum, about, replicas = endpoint.ask(*(("SENTINEL", word, master) for word in asked))
    if isinstance(address, ReplyError):
        return View(endpoint, error=f"{endpoint} is no Sentinel that may be asked: {said(address)}")
    if not (isinstance(address, list) and len(address) == 2):
        return View(endpoint, error=f"the Sentinel {endpoint} watches no {master!r}; see: SENTINEL MASTERS")
    host, port = (_text(word) for word in address)
    return View(
        endpoint,
        (host, int(port) if port.isdigit() else 0),
        said(quorum) if isinstance(quorum, ReplyError) else "",
        tuple(_pairs(about).get("flags", "").split(",")),
        tuple(map(_pairs, replicas)) if isinstance(replicas, list) else (),
    )


def survey(request: Request) -> Plan:
    """Ask every Sentinel, then the servers that they name; judge them. Changes nothing."""
    views, silent = _views(request)
    gates = tuple(_gates(request, views, silent))
    if any(gate.final for gate in gates):
        return Plan(request, gates)
    first = views[0]
    place = first.place or ("", 0)
    try:
        leader = look(request.primary if request.primary.is_at(*place) else request.primary.at(*place))
    except Unreachable as error:
        advice = "the Sentinels promote a replica by themselves after down-after-milliseconds"
        return Plan(request, (*gates, refused(Name.REACHABLE, f"{error}; if it is dead, {advice}", final=True)))
    if not request.primary.is_at(*place) and not _is(request.primary, leader):
        return _switched(request, gates, first, leader)
    return _fresh(request, gates, first, leader)


def run(plan: Plan, tell: Tell) -> tuple[Seen, str]:
    """Tell one Sentinel to fail over, unless it was told before, and wait. Raises OperationError with what was left."""
    request, old = plan.request, plan.old
    if plan.target is not None:
        _start(request, tell)
    found: list[Seen] = []

    def through() -> bool:
        found[:] = _through(request, tell)
        return bool(found)

    if not until(through, request.timeout):
        views, _ = _views(request)
        says = "; ".join(f"{one.endpoint} says {one.error or _written(one.place)}" for one in views)
        left = state((request.primary, *(request.primary.at(*place) for place in _elsewhere(request, views))))
        raise OperationError(f"the failover is not through after {request.timeout:g} s: {says}; {left}; run again")
    after, was = found
    tell(Step.PROMOTED, f"{after} is the primary, and {was} follows it")
    if old is not None:
        kept(old, plan.heir or old, after, was, share=request.limits.keys)
    sentence = f"{after} is the primary of {request.master} with {count(after.total)}, {was} follows it"
    tell(Step.VERIFIED, "all Sentinels agree, and the link is up")
    return after, sentence


def settle(request: Request, tell: Tell) -> None:
    """Wait, as long as the timeout says, until no failover is under way that somebody else began."""

    def busy() -> bool:
        return any("failover_in_progress" in one.flags for one in _views(request)[0])

    if busy():
        tell(Step.STARTED, f"a failover of {request.master} is under way already; waiting for it")
        until(lambda: not busy(), request.timeout)


def _views(request: Request) -> tuple[list[View], list[Unreachable]]:
    views, silent = [], []
    for endpoint in request.sentinels:
        try:
            views.append(view(endpoint, request.master))
        except Unreachable as error:
            silent.append(error)
    return views, silent


def _gates(request: Request, views: list[View], silent: list[Unreachable]) -> Iterator[Check]:
    if not views:
        yield refused(Name.REACHABLE, f"no Sentinel answers: {silent[0]}", final=True)
        return
    if silent:
        yield warns(Name.REACHABLE, f"{', '.join(one.name for one in silent)} of the Sentinels do not answer")
    broken = [one.error for one in views if one.error]
    if broken:
        yield refused(Name.AGREEMENT, broken[0], final=True)
        return
    if len({one.place for one in views}) > 1:
        said_by = ", ".join(f"{one.endpoint} says {_written(one.place)}" for one in views)
        yield refused(Name.AGREEMENT, f"the Sentinels disagree on {request.master}: {said_by}", final=True)
        return
    yield ok(Name.AGREEMENT, f"{len(views)} Sentinels say that {request.master} is {_written(views[0].place)}")
    if any("failover_in_progress" in one.flags for one in views):
        yield refused(Name.FAILOVER, f"a failover of {request.master} is under way; wait until it is over", final=True)
    short = [one for one in views if one.quorum]
    if short:
        yield refused(Name.QUORUM, f"{short[0].endpoint} says: {short[0].quorum}")
    else:
        yield ok(Name.QUORUM, "enough Sentinels see each other")


def _fresh(request: Request, gates: tuple[Check, ...], first: View, leader: Seen) -> Plan:
    """Nothing was done yet: the checks of the primary and of the replica that Sentinel will most likely take."""
    likely = _likely(first)
    if likely is None:
        sentence = f"{first.endpoint} knows no replica of {request.master} that is fit to be promoted"
        return Plan(request, (*gates, refused(Name.ROLES, sentence, final=True)))
    try:
        heir = look(request.primary.at(*likely))
    except Unreachable as error:
        return Plan(request, (*gates, refused(Name.REACHABLE, str(error), final=True)))
    known = next((one for one in leader.replicas if (one.host, one.port) == likely), None)
    found = (*gates, *_checks(request, leader, heir, known))
    steps = (
        f"{first.endpoint}: SENTINEL FAILOVER {request.master}; Sentinel chooses, most likely {heir}",
        f"wait up to {request.timeout:g} s until all Sentinels name the new primary; make {leader} follow it at once: "
        "what is written to it between these two is lost",
    )
    after = (f"applications that ask Sentinel follow by themselves; those that do not still use {leader}",)
    allowed = checks.allowing(found, request.allow)
    return Plan(request, allowed, steps, old=leader, heir=heir, target=likely, after=after)


def _checks(request: Request, leader: Seen, heir: Seen, known: Replica | None) -> Iterator[Check]:
    yield ok(Name.REACHABLE, f"{leader} and {heir} answer")
    yield checks.cluster(leader)
    if not (leader.is_primary and heir.is_replica):
        sentence = f"{leader} is to be a primary and {heir} a replica; they are {_role(leader)} and {_role(heir)}"
        yield refused(Name.ROLES, sentence, final=True)
        return
    yield ok(Name.ROLES, f"{leader} is a primary and {heir} a replica")
    yield checks.loading(heir)
    yield checks.link(heir)
    yield checks.lag(leader, heir, known, request.limits)
    yield checks.keys(leader, heir, request.limits)
    yield checks.password(leader, heir)
    yield checks.persistence(leader, heir)
    yield from heirs.settings(heir, leader, max(1, heirs.online(leader)))
    lost = f"nothing pauses them: what they write to {leader} after the switch is lost, then they get READONLY"
    yield checks.clients(leader, meanwhile=lost)


def _switched(request: Request, gates: tuple[Check, ...], first: View, leader: Seen) -> Plan:
    """The Sentinels name another primary: was that us? Then there is at most the old one's demotion to wait for."""
    place = (request.primary.host, request.primary.port)
    if not (first.lists(place) or any(request.primary.is_at(*known) for known in _known(first))):
        sentence = f"the Sentinels say that {request.master} is {leader}, and know no {request.primary}"
        return Plan(request, (*gates, refused(Name.AGREEMENT, sentence, final=True)))
    old = glance(request.primary)
    done = f"already promoted: {leader} is the primary of {request.master} with {count(leader.total)}"
    if old is None:
        advice = tuple(words.returning(request.primary, leader.endpoint))[:1]
        return Plan(request, (), done=f"{done}; {request.primary} does not answer", heir=leader, after=advice)
    if old.is_replica and old.linked:
        return Plan(request, (), done=f"{done}, {old} follows it", old=old, heir=leader)
    step = f"{old}: REPLICAOF {leader}, as the Sentinels would tell it within a minute"
    return Plan(request, checks.allowing(gates, request.allow), (step,), heir=leader)


def _start(request: Request, tell: Tell) -> None:
    reply: Any = None
    for endpoint in request.sentinels:
        try:
            reply = endpoint.ask(("SENTINEL", "FAILOVER", request.master))[0]
        except Unreachable:
            continue
        if not isinstance(reply, ReplyError) or "INPROG" in str(reply):
            tell(Step.STARTED, f"SENTINEL FAILOVER {request.master} was said to {endpoint}")
            return
    why = said(reply) if isinstance(reply, ReplyError) else "none of them answers"
    raise OperationError(f"the Sentinels do not fail over: {why}; nothing was changed")


def _through(request: Request, tell: Tell) -> list[Seen]:
    """The new primary and the old one, once all Sentinels that answer name the first and the second follows it."""
    views, _ = _views(request)
    places = {one.place for one in views}
    place = places.pop() if len(places) == 1 else None
    if place is None or request.primary.is_at(*place):
        return []
    after, was = glance(request.primary.at(*place)), glance(request.primary)
    if after is None or was is None or not after.is_primary or after.run_id == was.run_id:
        return []
    if was.is_primary:
        reply = was.endpoint.ask(("REPLICAOF", *place))[0]
        if not isinstance(reply, ReplyError):  # else a Sentinel will say it, some seconds later
            tell(Step.DEMOTED, f"{was} was told to follow {after}")
        return []
    if not was.linked:
        return []
    return [after, was] if was.text("master_replid") == after.text("master_replid") else []


def _elsewhere(request: Request, views: list[View]) -> list[Place]:
    return sorted({one.place for one in views if one.place and not request.primary.is_at(*one.place)})


def _likely(seen: View) -> Place | None:
    """The replica that Sentinel's own order puts first: lowest priority, then most heard, then the run id."""
    fit = [one for one in seen.replicas if not set(one.get("flags", "").split(",")) & set(_UNFIT)]
    fit = [one for one in fit if one.get("slave-priority") != "0" and one.get("port", "").isdigit()]
    if not fit:
        return None
    order = min(fit, key=lambda one: (_int(one, "slave-priority"), -_int(one, "slave-repl-offset"), one.get("runid")))
    return order.get("ip", ""), int(order["port"])


def _known(seen: View) -> list[Place]:
    return [(one.get("ip", ""), _int(one, "port")) for one in seen.replicas]


def _is(endpoint: Endpoint, seen: Seen) -> bool:
    other = glance(endpoint)
    return other is not None and other.run_id == seen.run_id


def _int(fields: dict[str, str], name: str) -> int:
    found = fields.get(name, "")
    return int(found) if found.isdigit() and len(found) < 20 else 0


def _role(seen: Seen) -> str:
    return "a primary" if seen.is_primary else "a replica"


def _written(place: Place | None) -> str:
    return f"{place[0]}:{place[1]}" if place else "nothing"


def _text(value: object) -> str:
    return value.decode("utf-8", "replace")[:255] if isinstance(value, bytes) else ""


def _pairs(flat: object) -> dict[str, str]:
    if not isinstance(flat, list):
        return {}
    texts = [_text(value) for value in flat]
    return dict(zip(texts[::2], texts[1::2], strict=False))
