"""Each party killed in the middle of each step: what is left is said, and a second run finishes."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from tests.waiting import until

from herdwatch.errors import CheckFailed, OperationError
from herdwatch.operations.promote import Endpoint, Request, Step, failover, of_url, planned, promote
from herdwatch.operations.promote.verify import state
from herdwatch.stack import RedisServer
from herdwatch.stack.processes import free_port

Ask = Callable[..., Request]


def info(server: RedisServer) -> dict[str, Any]:
    with server.client() as client:
        found: dict[str, Any] = client.info("replication")
        return found


def size(server: RedisServer) -> int:
    with server.client() as client:
        return int(client.dbsize())


def writable(server: RedisServer) -> bool:
    with server.client() as client:
        return bool(client.set("written", "1"))


def at_step(wanted: Step, action: Callable[[], object]) -> Callable[[Step, str], None]:
    def tell(step: Step, _: str) -> None:
        if step is wanted:
            action()

    return tell


def command(*arguments: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "herdwatch", "promote", *arguments, "--yes"]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def failing_over(server: RedisServer) -> bool:
    return bool(info(server)["master_failover_state"] != "no-failover")


@pytest.fixture
def handing_over(town: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[RedisServer, RedisServer, Any]:
    """A pair whose failover stops half way: the replica announces itself at a gate that is closed."""
    monkeypatch.setattr(failover, "HANDOVER", 0.4)
    monkeypatch.setattr(planned, "HANDOVER", 0.4)
    old = town.server()
    with old.client() as client:
        client.mset({f"key:{number}": number for number in range(1000)})
    port = free_port()
    heir = town.replica(old, "--replica-announce-port", str(port))
    gate = town.gate(heir.port, port)
    gate.hold()
    return old, heir, gate


def test_herdwatch_killed_while_writes_wait(town: Any, ask: Ask) -> None:
    old, gate, heir = town.held()
    with command("--primary", old.url, "--replica", heir.url) as process:
        until(lambda: failing_over(old), "a failover")
        process.kill()
    gate.release()
    assert promote(ask(old, heir)).already
    assert info(heir)["role"] == "master"
    assert size(heir) == 1001


def test_a_second_run_waits_for_the_failover_of_the_first(town: Any, ask: Ask) -> None:
    old, gate, heir = town.held()
    with command("--primary", old.url, "--replica", heir.url) as process:
        until(lambda: failing_over(old), "a failover")
        process.kill()
    told: list[str] = []

    def tell(_: Step, sentence: str) -> None:
        told.append(sentence)
        gate.release()

    assert promote(ask(old), tell=tell).already
    assert "is under way already" in told[0]


def test_ctrl_c_rolls_the_failover_back_and_says_so(town: Any) -> None:
    old, _, heir = town.held()
    with command("--primary", old.url, "--replica", heir.url) as process:
        until(lambda: failing_over(old), "a failover")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert f"aborted: interrupted: {old.address} is a primary with 1,001 keys" in err
    assert "Traceback" not in err
    assert writable(old)


def test_ctrl_c_before_the_primary_has_answered_rolls_the_failover_back_too(
    town: Any, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, _, heir = town.held()
    request, asked = ask(old, heir), Endpoint.ask

    def interrupted(self: Endpoint, *commands: Any, **more: Any) -> list[Any]:
        replies = asked(self, *commands, **more)
        if commands[0][:2] == ("FAILOVER", "TO"):
            raise KeyboardInterrupt  # the primary has it, and nobody waits for the answer any more
        return replies

    monkeypatch.setattr(Endpoint, "ask", interrupted)
    told: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        promote(request, tell=lambda step, sentence: told.append(f"{step}: {sentence}"))
    assert f"aborted: interrupted: FAILOVER ABORT was said to {old.address}" in told
    assert told[-1].startswith(f"aborted: interrupted: {old.address} is a primary with 1,001 keys; ")
    assert not failing_over(old)
    assert (info(heir)["role"], writable(old)) == ("slave", True)


def test_ctrl_c_while_the_primary_is_busy_waits_for_it_and_rolls_back(town: Any) -> None:
    old, _, heir = town.held()
    with command("--primary", old.url, "--replica", heir.url) as process, old.client(socket_timeout=20) as client:
        until(lambda: failing_over(old), "a failover")
        client.connection_pool.get_connection().send_command("DEBUG", "SLEEP", "1.5")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"FAILOVER ABORT was said to {old.address}" in err
    assert not failing_over(old)


def test_a_failover_that_runs_is_told_with_the_state(town: Any) -> None:
    old, _, _ = town.held()
    with old.client() as client:
        client.execute_command("FAILOVER")
        told = state([of_url("--url", old.url)])
        client.execute_command("FAILOVER", "ABORT")
    assert told == f"{old.address} is a primary with 1,001 keys, and a failover runs (waiting-for-sync)"


def test_the_primary_killed_while_writes_wait(town: Any, ask: Ask) -> None:
    old, _, heir = town.held()

    def kill() -> None:
        old.kill()
        town.close()

    with pytest.raises(OperationError, match=f"{heir.address} was promoted instead: .* is a primary with 1,000 keys"):
        promote(ask(old, heir), tell=at_step(Step.STARTED, kill))
    assert promote(ask(old, heir)).sentence.endswith(f"{old.address} does not answer")
    old.restart()
    assert promote(ask(old, heir, demote=True)).primary == heir.address
    assert (info(old)["role"], size(old)) == ("slave", 1000)


def test_the_primary_killed_while_writes_wait_where_the_replica_may_not_be_cut_loose(town: Any, ask: Ask) -> None:
    old, _, heir = town.held()
    told: list[Step] = []
    with heir.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-replicaof")

    def tell(step: Step, _: str) -> None:
        told.append(step)
        if step is Step.STARTED:
            old.kill()
            town.close()

    with pytest.raises(OperationError) as raised:
        promote(ask(old, heir), tell=tell)
    said = str(raised.value)
    assert f"{old.address} died during the failover, and {heir.address} was not promoted: NOPERM" in said
    assert f"{heir.address} is a replica of " in said
    assert said.endswith(f"keep {old.address} from starting empty, or it wipes {heir.address}")
    assert Step.CUT_LOOSE not in told


def test_the_primary_that_comes_back_empty_while_writes_wait_wipes_nothing(town: Any, ask: Ask) -> None:
    old, gate, heir = town.held()

    def restart() -> None:
        old.kill()
        old.restart()

    with pytest.raises(OperationError, match="was promoted instead"):
        promote(ask(old, heir), tell=at_step(Step.STARTED, restart))
    gate.release()
    assert (info(heir)["role"], size(heir)) == ("master", 1000)


def test_the_replica_killed_while_writes_wait(town: Any, ask: Ask) -> None:
    old, gate, heir = town.held()
    with pytest.raises(OperationError, match="did not take over"):
        promote(ask(old, heir, timeout=0.5), tell=at_step(Step.STARTED, heir.kill))
    assert writable(old)
    gate.release()
    heir.restart()
    town.caught_up(old, heir)
    assert promote(ask(old, heir)).primary == heir.address


def test_the_replica_killed_while_it_is_handed_over(
    handing_over: tuple[RedisServer, RedisServer, Any], ask: Ask, town: Any
) -> None:
    old, heir, gate = handing_over
    with pytest.raises(OperationError, match=f"did not take over.*{old.address} is a primary with 1,000 keys"):
        promote(ask(old, heir, timeout=0.5), tell=at_step(Step.HANDING_OVER, heir.kill))
    assert writable(old)
    heir.restart()
    gate.release()
    town.caught_up(old, heir)
    assert promote(ask(old, heir)).primary == heir.address


def test_the_primary_killed_while_it_hands_over(handing_over: tuple[RedisServer, RedisServer, Any], ask: Ask) -> None:
    old, heir, _ = handing_over
    with pytest.raises(OperationError, match="was promoted instead"):
        promote(ask(old, heir), tell=at_step(Step.HANDING_OVER, old.kill))
    assert (info(heir)["role"], size(heir)) == ("master", 1000)
    assert promote(ask(old, heir)).already


def test_herdwatch_killed_while_it_is_handed_over_and_the_replica_too(
    handing_over: tuple[RedisServer, RedisServer, Any], ask: Ask
) -> None:
    old, heir, _ = handing_over
    with command("--primary", old.url, "--replica", heir.url) as process:
        until(lambda: info(old)["master_failover_state"] == "failover-in-progress", "a handover")
        process.kill()
    heir.kill()
    with pytest.raises(CheckFailed, match=f"{heir.address} does not answer"):
        promote(ask(old, heir, timeout=0.2))
    assert writable(old)


def test_the_primary_killed_after_the_handover(town: Any, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    old, heir = town.pair()
    monkeypatch.setattr(planned, "GRACE", 0.5)
    with pytest.raises(OperationError, match=f"{heir.address} is promoted, but"):
        promote(ask(old, heir), tell=at_step(Step.PROMOTED, old.kill))
    assert promote(ask(old, heir)).already
    assert size(heir) == 1000
