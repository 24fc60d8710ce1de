"""After a fork parent and child have their own connections, threads and counts, under gunicorn --preload too."""

from __future__ import annotations

import collections
import json
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from herdwatch import reports
from herdwatch.stack import Process, RedisServer, Supervisor, free_port

DEADLINE = 60.0
HERE = Path(__file__).parent
WORKERS = 4


@pytest.fixture
def empty(shared: RedisServer) -> RedisServer:
    with shared.client() as client:
        client.flushall()
    return shared


def written(server: RedisServer) -> dict[str, dict[str, int]]:
    """The totals of each incarnation that are not zero."""
    with server.client() as client:
        found = [reports.parse(field, value) for field, value in client.hgetall(reports.KEY).items()]
    return {
        report.incarnation: {f"{family}.{label}".rstrip("."): n for (family, _, label), n in report.totals.items() if n}
        for report in found
    }


def play(scene: str, server: RedisServer) -> Any:
    # Python 3.12 warns of any fork of a process with threads, which is what these scenes are about.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", str(HERE / "fork_worker.py"), scene, server.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.mark.parametrize("scene", ["fork", "multiprocessing"])
def test_a_child_begins_at_zero_under_a_name_and_with_connections_and_threads_of_its_own(
    scene: str, empty: RedisServer
) -> None:
    found = play(scene, empty)
    before, begun, ended, after = (found[name] for name in ("before", "begun", "ended", "after"))
    assert (before["counts"]["cache_lookups_total.hit"], begun["counts"]) == (2, {})
    assert ended["counts"] == {"cache_lookups_total.hit": 5}
    assert after["counts"] == {**before["counts"], "cache_lookups_total.hit": 3}
    assert begun["connection"] != before["connection"] == after["connection"]
    assert "herdwatch-reporter" in begun["threads"]
    assert begun["name"] == ended["name"] != before["name"] == after["name"]
    assert written(empty) == {before["name"]: after["counts"], begun["name"]: ended["counts"]}


def test_a_child_of_a_process_in_the_midst_of_everything_is_not_locked_out(empty: RedisServer) -> None:
    assert play("locked", empty) == [True, "child", "child", True]


def test_children_of_a_busy_process_work(empty: RedisServer) -> None:
    assert play("busy", empty) == 20


def test_a_fork_takes_no_message_from_a_thread_of_the_parent_that_waits_for_it(empty: RedisServer) -> None:
    assert sorted(play("woken", empty)) == ["child", "value", "value"]


def test_a_child_shows_what_it_has_counted_itself_and_nothing_of_guards_that_were_gone(empty: RedisServer) -> None:
    assert play("exposed", empty) == [4, None, 6, 4]


def ask(base: str, path: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{base}/{path}", timeout=DEADLINE) as answer:  # noqa: S310  our own server
        found: dict[str, Any] = json.load(answer)
    return found


def ask_at_once(base: str, path: str, callers: int) -> list[dict[str, Any]]:
    answers: list[dict[str, Any]] = []
    threads = [threading.Thread(target=lambda: answers.append(ask(base, path)), daemon=True) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive()
    assert len(answers) == callers
    return answers


def ready(base: str) -> bool:
    try:
        with urllib.request.urlopen(f"{base}/warm", timeout=DEADLINE):  # noqa: S310  our own server
            return True
    except OSError:
        return False


@pytest.fixture
def gunicorn(supervisor: Supervisor, empty: RedisServer) -> tuple[str, Process]:
    address = f"127.0.0.1:{free_port()}"
    process = supervisor.start(
        "gunicorn",
        [
            *(sys.executable, "-m", "gunicorn", "--preload", "--workers", str(WORKERS)),
            *("--bind", address, "--chdir", str(HERE), "preload_app:app"),
        ],
        env={"REDIS_URL": empty.url, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    return f"http://{address}", process


def test_four_preloaded_workers_of_gunicorn_load_once_and_report_every_request(
    gunicorn: tuple[str, Process], empty: RedisServer
) -> None:
    base, process = gunicorn
    process.wait_until(lambda: ready(base))
    answers: list[dict[str, Any]] = []
    # A sync worker serves one request at a time: those of a slow load are spread over all workers.
    for turn in range(20):
        answers += ask_at_once(base, f"cold{turn}", 2 * WORKERS)
        if len({answer["pid"] for answer in answers}) == WORKERS and turn:
            break
    assert process.pid not in {answer["pid"] for answer in answers}
    assert len({answer["pid"] for answer in answers}) == WORKERS
    with empty.client() as client:
        loads = {key: client.get(key) for key in client.keys("loads:*")}
    assert set(loads.values()) == {b"1"}
    assert len(loads) == 2 + turn

    process.send(signal.SIGTERM)
    deadline = time.monotonic() + DEADLINE
    while process.running:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "Traceback" not in process.log.read_text()

    told = written(empty)
    served = collections.Counter[str]()
    for totals in told.values():
        served.update(totals)
    assert sum(1 for totals in told.values() if totals) == WORKERS
    assert len(told) == WORKERS + 1  # the master's own report, of nothing
    sent = len(answers) + 1
    assert served["cache_lookups_total.hit"] + served["cache_lookups_total.miss"] == sent
    assert served["singleflight_executions_total.miss"] == len(loads)
    assert served["singleflight_requests_total"] == served["cache_lookups_total.miss"]
    assert served["singleflight_coalesced_total.fleet"] == served["cache_lookups_total.miss"] - len(loads)
