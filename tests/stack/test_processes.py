"""Whatever ends a stack, nothing of it is left."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from herdwatch.errors import StackError
from herdwatch.stack import RedisServer, Supervisor, free_port
from herdwatch.stack.processes import MAX_RESERVED

SECONDS = 20

OWNER = """
import sys, time
from herdwatch.stack import RedisServer, Supervisor, free_port
from herdwatch.stack.processes import MAX_RESERVED
with Supervisor() as supervisor:
    redis = RedisServer(supervisor)
    # A grandchild in the same session, as a server with workers has.
    shell = supervisor.start("shell", ["sh", "-c", "sleep 300 & echo $! >%s/sleep.pid; wait" % supervisor.folder])
    shell.wait_until(lambda: (supervisor.folder / "sleep.pid").is_file())
    time.sleep(0.2)
    sleeper = (supervisor.folder / "sleep.pid").read_text().strip()
    print(redis.process.pid, shell.pid, sleeper, supervisor.folder, flush=True)
    time.sleep(300)
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(*pids: int) -> bool:
    deadline = time.monotonic() + SECONDS
    while any(alive(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def owner() -> tuple[subprocess.Popen[str], list[int], Path]:
    process = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    *pids, folder = process.stdout.readline().split()
    process.stdout.close()
    return process, [int(pid) for pid in pids], Path(folder)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_polite_end_stops_every_process_and_removes_the_folder(number: signal.Signals) -> None:
    process, pids, folder = owner()
    assert all(map(alive, pids))
    process.send_signal(number)
    assert process.wait(SECONDS) != 0
    assert gone(*pids)
    assert not folder.exists()


def test_sigkill_of_the_owner_takes_its_servers_along() -> None:
    process, (redis, shell, sleeper), folder = owner()
    try:
        process.kill()
        process.wait(SECONDS)
        assert gone(redis, shell)
    finally:
        if alive(sleeper):
            os.kill(sleeper, signal.SIGKILL)
        shutil.rmtree(folder)


def test_an_exception_inside_stops_every_process() -> None:
    pids: list[int] = []

    def fails() -> None:
        with Supervisor() as supervisor:
            pids.append(RedisServer(supervisor).process.pid)
            raise ValueError("in the middle")

    with pytest.raises(ValueError, match="in the middle"):
        fails()
    assert gone(*pids)


def test_a_stopped_process_is_stopped_too(supervisor: Supervisor) -> None:
    redis = RedisServer(supervisor)
    redis.process.send(signal.SIGSTOP)
    redis.process.stop()
    assert gone(redis.process.pid)


def test_a_process_that_ignores_sigterm_is_killed(supervisor: Supervisor) -> None:
    process = supervisor.start("stubborn", ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"])
    process.wait_until(lambda: "up" in process.log.read_text())
    process.stop()
    assert gone(process.pid)


def test_a_server_that_dies_at_once_says_its_last_words(supervisor: Supervisor) -> None:
    with pytest.raises(StackError, match=r"redis ended with exit code 1: .*no-such-option"):
        RedisServer(supervisor, "--no-such-option", "1")


def test_a_server_that_is_never_ready_is_an_error_in_time(supervisor: Supervisor) -> None:
    process = supervisor.start("slow", ["sh", "-c", "echo still thinking; sleep 60"])
    with pytest.raises(StackError, match=r"slow was not ready within 0.5 s: still thinking"):
        process.wait_until(lambda: False, seconds=0.5)


def test_a_program_that_is_not_there_is_an_error(supervisor: Supervisor) -> None:
    with pytest.raises(StackError, match=r"ghost cannot be started: .*no-such-program"):
        supervisor.start("ghost", ["/no-such-program"])


def test_a_server_whose_port_another_one_has_is_not_taken_for_it(supervisor: Supervisor) -> None:
    first = RedisServer(supervisor)
    with pytest.raises(StackError, match=r"^second ended with exit code 1: .*Address already in use"):
        RedisServer(supervisor, name="second", port=first.port)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a server bind a port that is kept")
def test_a_free_port_is_kept_for_the_server_that_asks_for_it(supervisor: Supervisor) -> None:
    port = free_port()
    with socket.socket() as anybody, pytest.raises(OSError, match="Address already in use"):
        anybody.bind(("127.0.0.1", port))
    assert RedisServer(supervisor, name="kept", port=port).port == port


def test_only_so_many_ports_are_kept() -> None:
    opened = Path("/proc/self/fd")
    before = len(list(opened.iterdir()))
    assert len({free_port() for _ in range(3 * MAX_RESERVED)}) > MAX_RESERVED
    assert len(list(opened.iterdir())) - before <= MAX_RESERVED


def test_a_process_that_ended_by_itself_is_noticed(supervisor: Supervisor) -> None:
    process = supervisor.start("short", ["true"])
    assert gone(process.pid)
    assert supervisor.dead() == [process]


def test_redis_comes_back_empty_at_the_same_address(supervisor: Supervisor) -> None:
    redis = RedisServer(supervisor)
    with redis.client() as client:
        client.set("a", 1)
    before = redis.address
    redis.kill()
    redis.restart()
    assert redis.address == before
    with redis.client() as client:
        assert client.dbsize() == 0
    assert supervisor.dead() == []
