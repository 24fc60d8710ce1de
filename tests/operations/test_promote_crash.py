"""The path for a dead primary: what is saved, what is refused, and what a second run finishes."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.operations.conftest import fill
from tests.waiting import until

from herdwatch.errors import CheckFailed, OperationError, UsageError
from herdwatch.operations.promote import (
    Check,
    Endpoint,
    Kind,
    Name,
    Request,
    Status,
    Step,
    crash,
    demotion,
    of_url,
    prepare,
    promote,
)
from herdwatch.stack import RedisServer

Ask = Callable[..., Request]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crash, "BETWEEN", 0.01)


class Killed(BaseException):
    """Stands for the end of the process that promotes."""


def role(server: RedisServer) -> str:
    with server.client() as client:
        return str(client.info("replication")["role"])


def size(server: RedisServer) -> int:
    with server.client() as client:
        return int(client.dbsize())


def at_step(wanted: Step, action: Callable[[], object]) -> Callable[[Step, str], None]:
    def tell(step: Step, _: str) -> None:
        if step is wanted:
            action()

    return tell


def end() -> None:
    raise Killed


def refused(request: Request) -> dict[Name, str]:
    with pytest.raises(CheckFailed, match="nothing was changed"):
        promote(request)
    return {check.name: check.sentence for check in prepare(request).refused}


def test_a_replica_of_a_dead_primary_keeps_every_key(town: Any, ask: Ask) -> None:
    old, heir = town.pair(keys=20_000)
    old.kill()
    request = ask(old, heir, kind=Kind.CRASH)
    outcome = promote(request)
    assert (outcome.keys_after, role(heir)) == (20_000, "master")
    assert any(f"stop the automatic restart of {old.address}" in line for line in outcome.next)
    again = promote(request)
    assert again.already
    assert again.sentence.endswith(f"{old.address} does not answer")


def test_an_old_primary_that_returns_is_told_of_and_follows_if_asked(town: Any, ask: Ask) -> None:
    old, heir = town.pair()
    old.kill()
    with pytest.raises(OperationError, match=f"{old.address} is a primary too"):
        promote(ask(old, heir, kind=Kind.CRASH), tell=at_step(Step.CUT_LOOSE, old.restart))
    assert "two primaries" in refused(ask(old, heir, kind=Kind.CRASH))[Name.ROLES]
    promote(ask(old, heir, kind=Kind.CRASH, demote=True))
    assert (role(old), size(old), role(heir)) == ("slave", 1000, "master")
    assert promote(ask(old, heir, kind=Kind.CRASH, demote=True)).already


def test_an_old_primary_that_returns_after_its_heir_was_long_alone_follows_all_the_same(town: Any, ask: Ask) -> None:
    """A primary without a replica for repl-backlog-ttl forgets its history, and whose replica it was."""
    old = town.server()
    fill(old, 100)
    heir = town.replica(old, "--repl-backlog-ttl", "1")
    old.kill()
    promote(ask(old, heir, kind=Kind.CRASH))
    with heir.client() as client:
        until(lambda: client.info("replication")["repl_backlog_active"] == 0, "that the heir has forgotten")
    old.restart()
    request = ask(old, heir, kind=Kind.CRASH, demote=True)
    assert "was never a replica" in refused(request)[Name.ROLES]
    assert promote(replace(request, allow=frozenset({Name.ROLES}))).sentence.endswith("follows it again")
    assert (role(old), size(old)) == ("slave", 100)


def test_an_old_primary_is_waited_for_if_it_is_to_follow(town: Any, ask: Ask) -> None:
    old, heir = town.pair()
    old.kill()
    outcome = promote(ask(old, heir, kind=Kind.CRASH, demote=True), tell=at_step(Step.CUT_LOOSE, old.restart))
    assert outcome.sentence.endswith(f"{old.address} follows it")
    assert (role(old), size(old)) == ("slave", 1000)


def test_of_several_replicas_the_one_that_has_heard_most_is_taken_and_the_others_follow(town: Any, ask: Ask) -> None:
    old = town.server()
    with old.client() as client:
        client.set("first", "1")
    gate = town.gate(old.port)
    behind, ahead = town.replica(old, through=gate), town.replica(old)
    gate.hold()
    with old.client() as client:
        client.mset({f"key:{number}": number for number in range(100)})
        client.wait(1, 2000)
    old.kill()
    gate.close()
    found = prepare(ask(old, behind, ahead, kind=Kind.CRASH))
    assert [check.name for check in found.refused] == [Name.FOLLOWS]  # its address of the primary is the gate's
    outcome = promote(ask(old, behind, ahead, kind=Kind.CRASH, allow=frozenset({Name.FOLLOWS})))
    assert outcome.primary == ahead.address
    assert (role(ahead), role(behind), size(behind)) == ("master", "slave", 101)


@pytest.mark.parametrize("lost", ["herdwatch", "the other replica", "the promoted one"])
def test_what_is_killed_between_the_steps_leaves_what_a_second_run_finishes(town: Any, ask: Ask, lost: str) -> None:
    old, one = town.pair()
    other = town.replica(old)
    old.kill()
    request = ask(old, one, other, kind=Kind.CRASH)
    heir = prepare(request).heir
    assert heir is not None
    first, second = (one, other) if heir.endpoint.port == one.port else (other, one)
    action = {"herdwatch": end, "the other replica": second.kill, "the promoted one": first.kill}[lost]
    with pytest.raises((Killed, OperationError)):
        promote(request, tell=at_step(Step.CUT_LOOSE, action))
    if lost == "herdwatch":
        assert (role(first), role(second)) == ("master", "slave")
        promote(request)
        assert promote(request).already
        with second.client() as client:
            assert client.info("replication")["master_port"] == first.port
    else:
        assert "leave it out to go on without it" in refused(request)[Name.REACHABLE]
        left = first if lost == "the other replica" else second
        promote(ask(old, left, kind=Kind.CRASH))
        assert (role(left), size(left)) == ("master", 1000)


def test_a_primary_that_lives_is_not_taken_for_dead(town: Any, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crash, "TRIES", 1)
    old, heir = town.pair()
    assert "is alive" in refused(ask(old, heir, kind=Kind.CRASH))[Name.DEAD]
    old.process.send(signal.SIGSTOP)
    with pytest.raises(CheckFailed, match=f"dead: .*{heir.address} heard from it"):
        promote(ask(old, heir, kind=Kind.CRASH))
    old.process.send(signal.SIGCONT)
    assert role(heir) == "slave"


def test_a_replica_that_was_wiped_is_not_promoted(town: Any, ask: Ask) -> None:
    old, heir = town.pair()
    old.kill()
    old.restart()
    town.caught_up(old, heir)
    old.kill()
    assert "holds no keys" in refused(ask(old, heir, kind=Kind.CRASH))[Name.KEYS]


def test_replicas_of_different_primaries_are_refused(town: Any, ask: Ask) -> None:
    old, heir = town.pair()
    _, stranger = town.pair()
    old.kill()
    assert "not copies of one primary" in refused(ask(old, heir, stranger, kind=Kind.CRASH))[Name.ROLES]


def test_a_primary_that_never_was_a_replica_is_no_promoted_one(town: Any, ask: Ask) -> None:
    old, stranger = town.server(), town.server()
    old.kill()
    assert "was never a replica" in refused(ask(old, stranger, kind=Kind.CRASH))[Name.ROLES]


def test_a_user_who_may_not_cut_it_loose_is_told(town: Any, ask: Ask) -> None:
    old, heir = town.pair()
    old.kill()
    with heir.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-replicaof")
    assert "needs +replicaof" in refused(ask(old, heir, kind=Kind.CRASH))[Name.PERMISSION]


def test_the_replicas_of_a_dead_primary_must_be_named(town: Any, ask: Ask) -> None:
    with pytest.raises(UsageError, match="name each of them with --replica"):
        promote(ask(town.server(), kind=Kind.CRASH))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_one_replica_named_twice_is_not_made_a_replica_of_itself(town: Any, ask: Ask, host: str) -> None:
    old, heir = town.pair()
    old.kill()
    twice = replace(ask(old, heir, kind=Kind.CRASH), replicas=(at(heir), at(heir, host)))
    assert "are one and the same server; name it once" in refused(replace(twice, demote=True))[Name.ROLES]
    with pytest.raises(OperationError, match="one and the same server, which was left alone"):
        demotion.follow(at(heir), at(heir, host))
    assert role(heir) == "slave"
    promote(ask(old, heir, kind=Kind.CRASH))
    with heir.client() as client:
        assert client.set("written", "1")
    assert "one and the same" in refused(ask(heir, heir, kind=Kind.CRASH))[Name.ROLES]


def test_a_primary_that_hangs_is_promoted_away_from_and_never_called_dead(
    town: Any, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crash, "TRIES", 1)
    monkeypatch.setattr(crash, "HEARD", 0)
    old, heir = town.pair()
    old.process.send(signal.SIGSTOP)
    request = ask(old, heir, kind=Kind.CRASH)
    dead = found(request)[Name.DEAD]
    assert dead.status is Status.WARNS
    assert dead.sentence.endswith(f"it may wake up and take writes beside {heir.address}; stop its process first")
    outcome = promote(request)
    old.process.send(signal.SIGCONT)
    assert outcome.next[0].startswith(f"end the process of {old.address}")
    assert "no writes any more" not in " ".join(outcome.next)
    assert "two primaries" in refused(request)[Name.ROLES]


def test_a_replica_says_when_it_last_heard_from_its_primary(
    town: Any, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, heir = town.pair()
    old.kill()
    request = ask(old, heir, kind=Kind.CRASH)
    link = found(request)[Name.LINK]
    assert (link.status, "last heard from its primary" in link.sentence) == (Status.OK, True)
    monkeypatch.setattr(crash, "STALE", -1)
    assert found(request)[Name.LINK].status is Status.WARNS
    with heir.client() as client:
        client.save()
    heir.kill()
    RedisServer.restart(heir)  # with its file
    link = found(request)[Name.LINK]
    assert link.status is Status.WARNS
    assert f"{heir.address} has not heard from its primary since it started" in link.sentence
    assert size(heir) == 1000


def at(server: RedisServer, host: str = "127.0.0.1") -> Endpoint:
    return of_url("--replica", f"redis://{host}:{server.port}")


def found(request: Request) -> dict[Name, Check]:
    return {check.name: check for check in prepare(request).checks}
