"""What is checked of a primary and its replica before anything is changed, each with its verdict in a sentence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from herdwatch.collector.resp import Command, ReplyError
from herdwatch.operations.promote.endpoint import Endpoint, Unreachable
from herdwatch.operations.promote.model import Check, Limits, Name, Status
from herdwatch.operations.promote.observe import Replica, Seen, setting, words

FIRST_WITH_FAILOVER = (6, 2)
HELLO = "__sentinel__:hello"
"""The channel on which every Sentinel listens at every server that it watches."""

FAILOVER_PROBE: Command = ("FAILOVER", "TIMEOUT", "0")
REPLICAOF_PROBE: Command = ("REPLICAOF", "127.0.0.1", "none")
"""Commands whose arguments Redis refuses after it has looked whether the user may run them: they change nothing."""


def ok(name: Name, sentence: str) -> Check:
    """Nothing stands in the way."""
    return Check(name, Status.OK, sentence)


def warns(name: Name, sentence: str) -> Check:
    """It does not stand in the way, and should be known."""
    return Check(name, Status.WARNS, sentence)


def refused(name: Name, sentence: str, *, final: bool = False) -> Check:
    """It stands in the way; a `final` one whatever the user says."""
    return Check(name, Status.REFUSED, sentence, final)


def allowing(checks: Iterable[Check], allow: frozenset[Name]) -> tuple[Check, ...]:
    """The checks with those overridden that are named."""
    return tuple(
        replace(one, status=Status.ALLOWED)
        if one.status is Status.REFUSED and one.name in allow and not one.final
        else one
        for one in checks
    )


def count(keys: int) -> str:
    """1 key, 200,000 keys."""
    return f"{keys:,} key{'' if keys == 1 else 's'}"


def cluster(seen: Seen) -> Check:
    """FAILOVER and REPLICAOF are not for a cluster."""
    if seen.text("redis_mode") == "cluster" or seen.number("cluster_enabled"):
        return refused(Name.CLUSTER, f"{seen} is part of a cluster; run CLUSTER FAILOVER at its replica", final=True)
    return ok(Name.CLUSTER, f"{seen} is not part of a cluster")


def version(primary: Seen, replica: Seen) -> Check:
    """Both sides of a handover must know it."""
    for seen in (primary, replica):
        if seen.version < FIRST_WITH_FAILOVER:
            found = ".".join(map(str, seen.version))
            advice = "stop the writers, then REPLICAOF NO ONE at the replica and REPLICAOF at the old primary"
            return refused(
                Name.VERSION, f"{seen} is Redis {found} and FAILOVER came with 6.2; without it: {advice}", final=True
            )
    return ok(Name.VERSION, f"FAILOVER is known to Redis {primary.text('redis_version')[:20]}")


def permission(endpoint: Endpoint, command: Command) -> Check:
    """Whether the user may run the command that changes something, asked so that it cannot."""
    return _permission(endpoint, str(command[0]), endpoint.ask(command)[0])


def _permission(endpoint: Endpoint, name: str, reply: object) -> Check:
    if isinstance(reply, ReplyError):
        if reply.code == "NOPERM":
            return refused(
                Name.PERMISSION, f"the user at {endpoint} may not run {name}; it needs +{name.lower()}", final=True
            )
        if "unknown command" in str(reply).lower():
            sentence = f"{endpoint} has no {name} (a managed service?); use its own failover"
            return refused(Name.PERMISSION, sentence, final=True)
    return ok(Name.PERMISSION, f"the user at {endpoint} may run {name}")


def password(primary: Seen, replica: Seen) -> Check:
    """Whether the old primary can log in at the new one; else a handover hangs with all writes waiting.

    Its masterauth is tried, and shown nowhere. A server without passwords refuses one as well.
    """
    secret = setting(primary.endpoint, "masterauth")
    bare = replica.endpoint.bare()
    if secret:
        user = setting(primary.endpoint, "masteruser") or ""
        return _follower(primary, replica, bare.keyed(user, secret))
    try:
        reply = bare.ask(("PING",))[0]
    except Unreachable:  # TLS that wants a certificate, or a server without a place
        reply = None
    if not (isinstance(reply, ReplyError) and reply.code in ("NOAUTH", "NOPERM")):
        return ok(Name.PASSWORD, f"{replica} asks its replicas for no password")
    if secret is None:
        return warns(Name.PASSWORD, f"{replica} wants a password; whether {primary} has one as masterauth is not seen")
    sentence = f"{replica} wants a password and {primary} has no masterauth, so it could not follow"
    return refused(Name.PASSWORD, f"{sentence}; CONFIG SET masterauth at {primary} first")


def _follower(primary: Seen, replica: Seen, login: Endpoint) -> Check:
    """Whether a replica's first words are taken with that login."""
    advice = f"correct masteruser and masterauth at {primary}, or the user at {replica}, first"
    try:
        replies = login.ask(("PING",), ("REPLCONF", "capa", "psync2"))
    except Unreachable as error:
        if error.why != "auth":
            return warns(Name.PASSWORD, f"whether {primary} can log in at {replica} is not seen ({error.why})")
        sentence = f"{replica} does not take the masterauth of {primary}, so it could not follow"
        return refused(Name.PASSWORD, f"{sentence}; {advice}")
    if any(isinstance(reply, ReplyError) and reply.code == "NOPERM" for reply in replies):
        sentence = f"the masteruser of {primary} lacks +ping +replconf +psync at {replica}, so it could not follow"
        return refused(Name.PASSWORD, f"{sentence}; {advice}")
    return ok(Name.PASSWORD, f"{replica} takes the masterauth of {primary}")


def sentinel(seen: Seen) -> Check:
    """A Sentinel would fight a failover that it did not make."""
    reply = seen.endpoint.ask(("PUBSUB", "NUMSUB", HELLO))[0]
    if isinstance(reply, list) and len(reply) == 2 and isinstance(reply[1], int):
        if reply[1]:
            sentence = f"{reply[1]} Sentinels watch {seen} and would fight this"
            return refused(Name.SENTINEL, f"{sentence}; use --sentinel HOST:PORT --master NAME")
        return ok(Name.SENTINEL, f"no Sentinel watches {seen}")
    why = words(reply) if isinstance(reply, ReplyError) else "no answer that can be read"
    return warns(Name.SENTINEL, f"whether a Sentinel watches {seen} is not seen ({why})")


def loading(seen: Seen) -> Check:
    """A server that loads has not all of its keys yet."""
    if seen.number("loading"):
        return refused(Name.LOADING, f"{seen} is still loading its dataset; wait until it is done", final=True)
    return ok(Name.LOADING, f"{seen} has loaded")


def link(replica: Seen) -> Check:
    """Whether the replica hears from its primary and has had its first copy."""
    if replica.number("master_sync_in_progress"):
        return refused(Name.LINK, f"{replica} is still copying from {replica.leader}; wait until it is done")
    if not replica.linked:
        down = replica.number("master_link_down_since_seconds", -1)
        since = f" for {down} s" if down >= 0 else ""
        return refused(Name.LINK, f"{replica} has had no link to {replica.leader}{since}; see its log, and masterauth")
    return ok(Name.LINK, f"{replica} is linked to {replica.leader}")


def lag(primary: Seen, replica: Seen, known: Replica | None, limits: Limits) -> Check:
    """How far the replica is behind. It was looked at after its primary, so one that keeps up is not behind at all.

    What it told its primary would be up to a second old, in which a busy cache writes more than the limit.
    """
    if known is None:
        return refused(Name.LAG, f"{primary} does not count this replica as its own", final=True)
    behind = max(0, primary.number("master_repl_offset") - replica.number("slave_repl_offset"))
    sentence = f"{replica} is {behind:,} bytes behind {primary} and spoke {known.lag} s ago"
    if behind > limits.lag_bytes or known.lag > limits.lag_seconds:
        limit = f"at most {limits.lag_bytes:,} bytes and {limits.lag_seconds} s are taken"
        return refused(Name.LAG, f"{sentence}; {limit}, so wait until it has caught up")
    return ok(Name.LAG, sentence)


def keys(primary: Seen, replica: Seen, limits: Limits) -> Check:
    """Whether the replica is as warm as its primary, in every database."""
    short = [
        (name, replica.keys.get(name, 0), wanted)
        for name, wanted in primary.keys.items()
        if replica.keys.get(name, 0) < wanted * limits.keys
    ]
    if short:
        name, has, wanted = min(short, key=lambda one: one[1] / one[2])
        sentence = f"{replica} holds {has:,} of {count(wanted)} of {primary} in {name}"
        return refused(Name.KEYS, f"{sentence}; at least {limits.keys:.0%} is wanted")
    if not replica.total:
        return warns(Name.KEYS, f"{primary} and {replica} hold no keys: there is nothing to keep warm")
    return ok(Name.KEYS, f"{replica} holds {replica.total:,} of {count(primary.total)}")


def persistent(seen: Seen) -> bool | None:
    """Whether it would come back with its keys; None where that cannot be seen."""
    if seen.number("aof_enabled"):
        return True
    save = setting(seen.endpoint, "save")
    return None if save is None else bool(save)


def persistence(primary: Seen, replica: Seen) -> Check:
    """What a restart by itself does to this pair: an empty primary wipes its replica within a fraction of a second."""
    if primary.text("master_replid") != replica.text("master_replid") and primary.total < replica.total:
        sentence = f"{primary} is {primary.number('uptime_in_seconds')} s old and holds {count(primary.total)}"
        rescue = "cut it loose now: herdwatch promote --crash --allow dead, with the same --primary and --replica"
        return refused(
            Name.PERSISTENCE,
            f"{sentence}; {replica} still holds {replica.total:,} and loses them when it links again: {rescue}",
        )
    kept = persistent(primary)
    if kept:
        return ok(Name.PERSISTENCE, f"{primary} has persistence")
    found = "shows no setting of its persistence" if kept is None else "has no persistence"
    return warns(
        Name.PERSISTENCE,
        f"{primary} {found}: stop its automatic restart until it is configured as a replica, "
        "or it comes back empty and takes writes again",
    )


def others(primary: Seen, target: Replica | None) -> Check:
    """FAILOVER swaps two servers and leaves all others where they are."""
    rest = [str(one) for one in primary.replicas if one != target]
    if rest:
        sentence = f"{', '.join(rest)} will go on following {primary}, as replicas of a replica"
        return warns(Name.REPLICAS, f"{sentence}, and be wiped if it restarts empty; point them at the new one after")
    return ok(Name.REPLICAS, f"{primary} has no other replica")


def clients(primary: Seen, *, meanwhile: str = "their writes wait, then get READONLY") -> Check:
    """Who feels it, and what becomes of writes `meanwhile`."""
    connected, blocked = max(0, primary.number("connected_clients") - 1), primary.number("blocked_clients")
    sentence = f"{connected} clients are connected to {primary}; {meanwhile}"
    paused = primary.text("paused_reason")
    if paused not in ("", "none"):
        return warns(Name.CLIENTS, f"{sentence}; they are paused already ({paused[:40]})")
    if blocked:
        return warns(Name.CLIENTS, f"{sentence}; {blocked} wait in a blocking command and get UNBLOCKED")
    return ok(Name.CLIENTS, sentence)
