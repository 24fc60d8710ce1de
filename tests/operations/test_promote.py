"""A planned promotion between real servers: what it keeps, what it refuses, what it says."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ReadOnlyError, ResponseError
from tests.waiting import until

from herdwatch.errors import CheckFailed, OperationError
from herdwatch.operations.promote import Kind, Name, Request, Status, Step, of_url, prepare, promote
from herdwatch.operations.promote.checks import version
from herdwatch.operations.promote.observe import Seen
from herdwatch.stack import RedisServer
from herdwatch.stack.processes import free_port

Ask = Callable[..., Request]


def role(server: RedisServer) -> str:
    with server.client() as client:
        return str(client.info("replication")["role"])


def size(server: RedisServer) -> int:
    with server.client() as client:
        return int(client.dbsize())


def writable(server: RedisServer) -> bool:
    with server.client() as client:
        return bool(client.set("written", "1"))


def refused(request: Request) -> dict[Name, str]:
    found = prepare(request)
    with pytest.raises(CheckFailed, match="not promoted, nothing was changed"):
        promote(request)
    return {check.name: check.sentence for check in found.refused}


def test_a_planned_promotion_loses_no_key_and_no_write_that_was_acknowledged(town: Any, ask: Ask) -> None:
    old, heir = town.pair(keys=200_000)
    acknowledged: list[int] = []
    turned_away = threading.Event()

    def write() -> None:
        with old.client(socket_timeout=20) as client:
            for number in range(10_000_000):
                try:
                    client.set(f"new:{number}", number)
                    assert client.get(f"key:{number % 200_000}") == b"%d" % (number % 200_000)
                except ReadOnlyError:
                    turned_away.set()
                    return
                acknowledged.append(number)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    until(lambda: len(acknowledged) > 100, "writes before the failover")
    outcome = promote(ask(old, heir))
    assert turned_away.wait(30)
    writer.join(30)
    assert (role(old), role(heir)) == ("slave", "master")
    assert not outcome.already
    assert outcome.keys_after >= 200_000
    with heir.client() as client:
        assert all(client.mget([f"key:{number}" for number in range(200_000)]))
        assert all(client.mget([f"new:{number}" for number in acknowledged]))
    assert promote(ask(old, heir)).already


def test_the_only_replica_need_not_be_named_and_a_second_run_has_nothing_to_do(town: Any, ask: Ask) -> None:
    old, heir = town.pair()
    assert promote(ask(old)).primary == heir.address
    again = promote(ask(old))
    assert again.already
    assert again.sentence.startswith(f"already promoted: {heir.address} is the primary with 1,000 keys")


def test_a_plan_changes_nothing_and_warns_of_a_primary_that_would_return_empty(town: Any, ask: Ask) -> None:
    old, heir = town.pair()
    found = prepare(ask(old, heir))
    assert not found.refused
    status = {check.name: check.status for check in found.checks}
    assert status[Name.PERSISTENCE] is Status.WARNS
    assert status[Name.LAG] is Status.OK
    assert (role(old), role(heir)) == ("master", "slave")
    assert any("FAILOVER TO" in step for step in found.steps)


def test_other_replicas_are_told_of(town: Any, ask: Ask) -> None:
    old, heir = town.pair()
    stray = town.replica(old)
    assert "has 2 replicas" in refused(ask(old))[Name.ROLES]
    outcome = promote(ask(old, heir))
    assert any(f"{stray.address} still follows {old.address}: redis-cli" in line for line in outcome.next)


def test_a_replica_that_lags_is_refused_unless_told_otherwise(town: Any, ask: Ask) -> None:
    old = town.server()
    gate = town.gate(old.port)
    heir = town.replica(old, through=gate)
    gate.hold()
    with old.client() as client:
        client.set("large", b"x" * 2_000_000)
    assert f"{heir.address} is 2,000," in refused(ask(old, heir))[Name.LAG]
    assert Name.LAG not in {check.name for check in prepare(ask(old, heir, allow=frozenset({Name.LAG}))).refused}
    gate.release()
    town.caught_up(old, heir)
    promote(ask(old, heir))


def test_a_stopped_replica_is_refused(town: Any, ask: Ask) -> None:
    old, heir = town.pair()
    heir.process.send(signal.SIGSTOP)
    with pytest.raises(CheckFailed, match=rf"reachable: Redis at {heir.address} does not answer \(timeout\)"):
        promote(ask(old, heir))
    assert writable(old)


def test_a_replica_whose_primary_came_back_empty_is_not_left_to_be_wiped(town: Any) -> None:
    old, heir = town.pair()
    old.kill()
    old._options = ("--requirepass", "hunter2")  # which keeps the replica from linking at once
    old.restart()
    request = Request(Kind.PLANNED, of_url("--primary", f"redis://:hunter2@{old.address}"), (of_url("--r", heir.url),))
    found = refused(request)
    assert "still holds 1,000 and loses them when it links again" in found[Name.PERSISTENCE]
    assert "herdwatch promote --crash --allow dead" in found[Name.PERSISTENCE]
    saving = replace(request, kind=Kind.CRASH, allow=frozenset({Name.DEAD}))
    with pytest.raises(OperationError, match=f"{old.address} is a primary too"):
        promote(saving)
    assert (role(heir), size(heir)) == ("master", 1000)


def test_a_replica_colder_than_its_primary_is_refused(town: Any, ask: Ask) -> None:
    old, heir = town.pair()
    with heir.client() as client:
        client.config_set("replica-read-only", "no")
        client.flushall()
    assert "holds 0 of 1,000 keys" in refused(ask(old, heir))[Name.KEYS]


def test_a_replica_that_would_evict_as_a_primary_is_refused(town: Any, ask: Ask) -> None:
    old, heir = town.pair()
    with heir.client() as client:
        client.config_set("maxmemory", 100_000)
    assert "would refuse writes, as there are" in refused(ask(old, heir))[Name.MEMORY]
    with heir.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    assert "would evict, as there are" in refused(ask(old, heir))[Name.MEMORY]


def test_an_old_primary_that_could_not_log_in_is_refused(town: Any, ask: Ask) -> None:
    old, heir = town.pair()
    for server in (old, heir):
        with server.client() as client:
            client.config_set("requirepass", "hunter2")
    assert "refuses INFO: NOAUTH" in refused(ask(old, heir))[Name.REACHABLE]
    primary = of_url("--url", f"redis://:hunter2@{old.address}")
    keyed = Request(Kind.PLANNED, primary, (primary.at("127.0.0.1", heir.port),))
    assert "has no masterauth" in refused(keyed)[Name.PASSWORD]
    with old.client(password="hunter2") as client:
        client.config_set("masterauth", "hunter2")
    assert "hunter2" not in repr(keyed)
    assert promote(keyed).primary == heir.address


def test_two_primaries_are_refused_and_the_poorer_one_follows_if_asked(town: Any, ask: Ask) -> None:
    old, heir = town.pair()
    with heir.client() as client:
        client.replicaof("NO", "ONE")
    with old.client() as client:
        client.flushall()
    assert "two primaries" in refused(ask(old, heir))[Name.ROLES]
    outcome = promote(ask(old, heir, demote=True))
    assert (role(old), size(old), outcome.primary) == ("slave", 1000, heir.address)


def test_servers_that_are_no_pair_are_refused(town: Any, ask: Ask) -> None:
    old, heir = town.pair()
    alone, chained = town.server(), town.replica(heir)
    assert "has no replica online" in refused(ask(alone))[Name.ROLES]
    assert "one and the same" in refused(ask(old, old))[Name.ROLES]
    assert "which is a replica itself" in refused(ask(chained, heir))[Name.ROLES]
    assert f"it knows: {heir.address}" in refused(ask(old, chained))[Name.FOLLOWS]
    assert [role(one) for one in (old, heir, chained)] == ["master", "slave", "slave"]


def test_a_cluster_is_refused(town: Any, ask: Ask) -> None:
    port = next(port for port in iter(free_port, 0) if port < 55_000)  # the bus takes the port 10,000 above
    node = RedisServer(town.supervisor, "--cluster-enabled", "yes", name="node", port=port)
    assert "CLUSTER FAILOVER" in refused(ask(node, town.server()))[Name.CLUSTER]


def test_a_user_who_may_not_is_told_which_command_he_lacks(town: Any, ask: Ask) -> None:
    old, heir = town.pair()
    with old.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-failover")
    assert refused(ask(old, heir))[Name.PERMISSION].endswith("may not run FAILOVER; it needs +failover")
    with old.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-info")
    assert "refuses INFO: NOPERM" in refused(ask(old, heir))[Name.REACHABLE]
    assert role(heir) == "slave"


def test_a_failover_that_is_not_through_in_time_is_rolled_back(town: Any, ask: Ask) -> None:
    old, gate, heir = town.held()
    with pytest.raises(OperationError, match=f"{old.address} is a primary with 1,001 keys;.*nothing was lost"):
        promote(ask(old, heir, timeout=0.3))
    assert writable(old)
    gate.release()
    assert promote(ask(old, heir)).primary == heir.address


def test_fewer_keys_than_before_are_told(town: Any, ask: Ask) -> None:
    old, heir = town.pair()

    def lose(step: Step, _: str) -> None:
        if step is Step.PROMOTED:
            with heir.client() as client:
                client.flushall()

    with pytest.raises(OperationError, match=r"holds 0 of the 1,000 keys"):
        promote(ask(old, heir), tell=lose)


def test_keys_that_expire_meanwhile_are_not_missed(town: Any, ask: Ask) -> None:
    old, heir = town.pair()

    def expire(step: Step, _: str) -> None:
        if step is Step.STARTED:
            until(lambda: role(heir) == "master", "the failover")
            with heir.client() as client:
                for number in range(500):
                    client.pexpire(f"key:{number}", 100)
                until(lambda: client.info("stats")["expired_keys"] == 500, "expired keys")

    assert promote(ask(old, heir), tell=expire).keys_after == 500


def test_a_redis_without_failover_is_refused() -> None:
    endpoint = of_url("--url", "redis://127.0.0.1:1")
    old, new = (Seen(endpoint, {"redis_version": text}) for text in ("6.0.16", "7.2.4"))
    assert version(new, new).status is Status.OK
    assert "is Redis 6.0 and FAILOVER came with 6.2" in version(new, old).sentence
    assert version(old, new).final


def test_clients_that_wait_in_a_blocking_command_are_told_of(town: Any, ask: Ask) -> None:
    old, heir = town.pair()
    unblocked = threading.Event()

    def wait(client: Redis) -> None:
        with pytest.raises(ResponseError, match="UNBLOCKED"):
            client.blpop("queue")
        unblocked.set()

    with old.client(socket_timeout=20) as client:
        waiter = threading.Thread(target=wait, args=[client])
        waiter.start()
        until(lambda: old.client().info("clients")["blocked_clients"] == 1, "a client that waits")
        sentence = {check.name: check.sentence for check in prepare(ask(old, heir)).checks}[Name.CLIENTS]
        assert "1 wait in a blocking command and get UNBLOCKED" in sentence
        promote(ask(old, heir))
        waiter.join(20)
        assert unblocked.is_set()
