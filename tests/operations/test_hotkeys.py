"""`herdwatch hotkeys`, from journals and from real servers, with what can be wrong with both."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.waiting import until

import herdwatch.cli.operating
from herdwatch import cli, journals
from herdwatch.operations import hot_keys, live_keys
from herdwatch.operations.hot_keys import Wanted
from herdwatch.stack import RedisServer, Supervisor
from herdwatch.stack.processes import free_port

Hotkeys = Callable[..., tuple[int, str, str]]
VERB = herdwatch.cli.operating.hotkeys
HOT = [f"user:{number}" for number in range(10)]
ODD = b"\xff\\\n\x1b[2J"


@pytest.fixture
def hotkeys(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hotkeys:
    """`herdwatch hotkeys` in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: object) -> tuple[int, str, str]:
        code = cli.run(["hotkeys", *map(str, arguments)])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return code, captured.out, captured.err

    return command


def filled(supervisor: Supervisor, policy: str, keys: int = 3000) -> RedisServer:
    server = RedisServer(supervisor, "--maxmemory", "200mb", "--maxmemory-policy", policy, name=policy)
    with server.client() as client:
        client.mset({f"user:{number}": "x" for number in range(keys)} | {f"order:{n}": "x" for n in range(20)})
        client.mset({"herdwatch:reports": "x", "herdwatch:lease:user:1": "x", ODD: "x"})
    return server


@pytest.fixture(scope="module")
def frequent(supervisor: Supervisor) -> RedisServer:
    """It counts lookups, and ten keys and one odd one have had many."""
    server = filled(supervisor, "allkeys-lfu")
    touch(server, [*HOT, "herdwatch:reports"], 1000)
    touch(server, [ODD], 200)
    return server


@pytest.fixture(scope="module")
def recent(supervisor: Supervisor) -> RedisServer:
    """It knows when keys were touched last."""
    return filled(supervisor, "allkeys-lru")


def touch(server: RedisServer, keys: list[Any], times: int) -> None:
    with server.client() as client:
        pipeline = client.pipeline(transaction=False)
        for key in keys * times:
            pipeline.get(key)
        pipeline.execute()


@contextmanager
def touched(server: RedisServer, keys: list[Any]) -> Iterator[None]:
    """These keys are asked for again and again meanwhile."""
    done = threading.Event()

    def work() -> None:
        while not done.wait(0.1):
            touch(server, keys, 1)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def write(folder: Path, *, cache: str = "users", name: str = "a", at: float | None = None, error: int = 3) -> Path:
    groups = {
        "people": journals.Group(900, error, {"user:1": 400, "herdwatch:x": 5, "user:2": 200, "odd\n\x1b[2J": 30}),
        "orders": journals.Group(100, 0, {"order:1": 50}),
    }
    path = folder / f"{name}{journals.SUFFIX}"
    journal = journals.Journal(cache, "profiles", time.time() if at is None else at, groups)
    path.write_text("".join(journals.lines(journal)))
    return path


def names(out: str) -> list[str]:
    return [one["key"] for one in json.loads(out)["keys"]]


def test_the_journal_says_which_keys_and_what_they_carry(hotkeys: Hotkeys, tmp_path: Path) -> None:
    write(tmp_path, at=time.time() - 300)
    code, out, err = hotkeys("--journal", tmp_path, "--top", 3)
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert (
        lines[0] == "The 3 hottest of 4 keys of cache users, from 1 journal of profiles, the newest written 5 min ago."
    )
    assert lines[1].startswith(
        "They carry at least 65.0% of 1,000 lookups, of which an hour's age takes half; a count is "
    )
    assert lines[1].endswith("at most 3 too low.")
    assert [line.split() for line in lines[3:]] == [
        ["lookups", "group", "key"],
        ["400", "people", "user:1"],
        ["200", "people", "user:2"],
        ["50", "orders", "order:1"],
    ]


def test_as_json_it_has_every_fact(hotkeys: Hotkeys, tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, name="b")
    (tmp_path / f"c{journals.SUFFIX}").write_bytes(b"\x00\xff")
    code, out, _ = hotkeys("--journal", tmp_path, "--json", "--group", "people")
    data = json.loads(out)
    assert code == 0
    assert data["keys"][0] == {"key": "user:1", "group": "people", "lookups": pytest.approx(800, abs=2)}
    assert names(out) == ["user:1", "user:2", "odd\n\x1b[2J"]
    facts = {"method": "journal", "cache": "users", "services": ["profiles"], "files": 2, "interrupted": False}
    assert data | facts == data
    assert 0.69 < data["share"] <= 0.7
    [left_out] = data["left_out"]
    assert "c.hotkeys:1: no journal of herdwatch" in left_out


def test_bare_keys_are_one_a_line_and_what_cannot_be_is_told_beside_them(hotkeys: Hotkeys, tmp_path: Path) -> None:
    write(tmp_path)
    code, out, err = hotkeys("--journal", tmp_path, "--keys")
    assert (code, out) == (0, "user:1\nuser:2\norder:1\n")
    assert err.endswith("\nLeft out, since they are no plain text: 1.\n")
    assert hotkeys("--journal", tmp_path, "--keys", "--match", "nothing*")[1] == ""


def test_no_key_moves_the_cursor_of_a_terminal(hotkeys: Hotkeys, tmp_path: Path) -> None:
    write(tmp_path)
    out = hotkeys("--journal", tmp_path)[1]
    assert r"odd\n\x1b[2J" in out
    assert hot_keys.shown(ODD) == r"\xff\\\n\x1b[2J"
    assert hot_keys.shown("ünï\u3000".encode()) == "ünï\u3000"
    assert hot_keys.shown("a\u202eb".encode()) == r"a\u202eb"


def test_of_a_redis_that_counts_lookups_the_most_frequent_keys_are_found_by_that(
    hotkeys: Hotkeys, frequent: RedisServer
) -> None:
    code, out, err = hotkeys("--redis-url", frequent.url, "--top", 11, "--json")
    data = json.loads(out)
    assert (code, err) == (0, "")
    assert set(names(out)) == {*HOT, r"\xff\\\n\x1b[2J"}
    assert [one for one in data["keys"] if "escaped" in one] == [one for one in data["keys"] if "xff" in one["key"]]
    assert data["method"] == "frequency"
    assert (data["policy"], data["complete"], data["share"]) == ("allkeys-lfu", True, None)
    assert data["keys_looked_at"] == data["keys_there"] == 3023
    said = hotkeys("--redis-url", frequent.url, "--top", 3)[1].splitlines()
    assert said[0].startswith(f"The 3 hottest keys at {frequent.address} db 0: all 3,023 keys looked at in ")
    assert said[1].startswith("By OBJECT FREQ (allkeys-lfu), which grows with the logarithm of the lookups")


def test_of_another_redis_those_are_found_that_are_touched_again_and_again(
    hotkeys: Hotkeys, recent: RedisServer
) -> None:
    with recent.client() as client:
        until(lambda: client.object("idletime", "user:2999") >= 2, "keys that are idle")
    with touched(recent, HOT):
        code, out, _ = hotkeys("--redis-url", recent.url, "--top", 10, "--seconds", 3, "--json")
        said = hotkeys("--redis-url", recent.url, "--top", 2, "--seconds", 1)[1].splitlines()
    data = json.loads(out)
    assert code == 0
    assert set(names(out)) == set(HOT)
    assert (data["method"], data["policy"], data["complete"]) == ("idle", "allkeys-lru", True)
    assert data["rounds"] >= 1
    assert {one["touched"] for one in data["keys"]} == {1.0}
    assert said[1].startswith("By OBJECT IDLETIME (allkeys-lru): in what share of ")


def test_it_reads_no_value_touches_no_key_and_uses_three_commands(hotkeys: Hotkeys, frequent: RedisServer) -> None:
    with frequent.client() as client:
        # Each touch counts now, and no minute that passes takes one away.
        client.config_set("lfu-decay-time", 0)
        client.config_set("lfu-log-factor", 0)
        before = client.object("freq", "user:1")
        client.config_resetstat()
        assert hotkeys("--redis-url", frequent.url)[0] == 0
        used = {name.removeprefix("cmdstat_").partition("|")[0] for name in client.info("commandstats")}
        assert used - {"config"} == {"info", "scan", "object"}
        assert client.object("freq", "user:1") == before < 255
        client.config_set("lfu-decay-time", 1)
        client.config_set("lfu-log-factor", 10)


def test_groups_and_patterns_choose_keys(hotkeys: Hotkeys, frequent: RedisServer, tmp_path: Path) -> None:
    (tmp_path / "herdwatch.yaml").write_text(
        f"caches:\n  - name: users\n    url: {frequent.url}\n    groups: {{people: 'user:*', orders: 'order:*'}}\n"
    )
    code, out, _ = hotkeys("--cache", "users", "--group", "orders", "--json")
    assert code == 0
    assert sorted(names(out)) == sorted(f"order:{number}" for number in range(20))
    assert {one["group"] for one in json.loads(out)["keys"]} == {"orders"}
    assert set(names(hotkeys("--cache", "users", "--match", "user:?", "--json")[1])) == set(HOT)
    assert hotkeys("--config", "herdwatch.yaml", "--top", 1)[0] == 0
    code, _, err = hotkeys("--cache", "users", "--group", "carts")
    assert (code, err) == (2, "herdwatch: cache users has no group 'carts'; there is: orders, people\n")


def test_when_the_time_is_over_it_says_how_far_it_got(
    hotkeys: Hotkeys, frequent: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_keys, "SHARE", 0.0005)
    code, out, _ = hotkeys("--redis-url", frequent.url, "--seconds", 1, "--json")
    data = json.loads(out)
    assert code == 0
    assert (data["complete"], 0 < data["keys_looked_at"] < data["keys_there"]) == (False, True)


def test_an_interrupt_prints_what_there_is(frequent: RedisServer) -> None:
    slow = (
        "import sys, herdwatch.cli.operating; from herdwatch import cli; from herdwatch.operations import live_keys;"
        "live_keys.SHARE = 0.002; print('ready', file=sys.stderr, flush=True); sys.exit(cli.run(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", slow, "hotkeys", "--redis-url", frequent.url, "--seconds", "600", "--json"]
    with frequent.client() as client:
        client.config_resetstat()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            until(lambda: client.info("commandstats").get("cmdstat_scan", {}).get("calls", 0) >= 3, "three steps")
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
    assert process.returncode == cli.INTERRUPTED
    assert err == "ready\nherdwatch: interrupted\n"
    data = json.loads(out)
    assert (data["interrupted"], data["complete"]) == (True, False)
    assert data["keys"]


def test_a_redis_that_is_killed_in_the_middle_is_told_after_what_was_found(
    supervisor: Supervisor, hotkeys: Hotkeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = filled(supervisor, "volatile-lfu")
    monkeypatch.setattr(live_keys, "SHARE", 0.002)

    def kill() -> None:
        with server.client() as client:
            until(lambda: client.info("commandstats").get("cmdstat_scan", {}).get("calls", 0) >= 3, "three steps")
        server.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    code, out, err = hotkeys("--redis-url", server.url, "--seconds", 600, "--json")
    killer.join()
    assert code == 1
    assert err == f"herdwatch: {json.loads(out)['failure']}\n"
    assert re.match(r"herdwatch: cache cache: Redis at \S+ does not answer \((refused|other)\): ", err)
    assert json.loads(out)["keys"]
    assert json.loads(out)["complete"] is False


def test_a_redis_that_was_restarted_in_the_middle_is_told(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = filled(supervisor, "allkeys-lfu", keys=300)
    real = live_keys._Search._pass

    async def then_restart(self: live_keys._Search, until: float) -> None:
        await real(self, until)
        server.kill()
        server.restart()

    monkeypatch.setattr(live_keys._Search, "_pass", then_restart)
    one = herdwatch.cli.operating.one_cache(None, None, server.url, {})
    found = live_keys.listing(one, Wanted(top=5))
    assert found.failure.endswith("was restarted meanwhile; what is listed is of before and after")
    assert len(found.keys) == 5


def test_a_user_who_may_not_is_told_what_it_takes(
    hotkeys: Hotkeys, frequent: RedisServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PASSWORD", "secret-one")
    login = ("--redis-url", frequent.url, "--username", "looker", "--password-env", "PASSWORD")
    with frequent.client() as client:
        for rights in (["+info"], ["+info", "+scan"], ["+info", "+scan", "+object", "~none:*"]):
            client.execute_command("ACL", "SETUSER", "looker", "reset", "on", ">secret-one", *rights)
            code, out, err = hotkeys(*login)
            assert (code, out) == (1, "")
            assert err.endswith("refuses: its user needs +info +scan +object and ~*; values are never read\n")
        client.execute_command("ACL", "SETUSER", "looker", "resetkeys", "~order:*")
        code, out, _ = hotkeys(*login, "--json")
        assert (code, len(names(out)), json.loads(out)["keys_refused"] > 0) == (0, 20, True)
        client.execute_command("ACL", "SETUSER", "looker", "resetkeys", "~*")
        assert hotkeys(*login)[0] == 0
        client.execute_command("ACL", "SETUSER", "exporter", "reset", "on", "nopass", "+info", "~*")
        config = tmp_path / "herdwatch.yaml"
        config.write_text(f"caches: [{{name: users, url: '{frequent.url}', username: exporter}}]\n")
        assert hotkeys("--config", config)[0] == 1
        assert hotkeys("--config", config, *login[2:])[0] == 0
        monkeypatch.setenv("PASSWORD", "another")
        code, _, err = hotkeys(*login)
    assert code == 1
    assert "(auth)" in err
    assert "another" not in err


def test_a_redis_that_loads_is_told(supervisor: Supervisor, hotkeys: Hotkeys) -> None:
    # Redis answers once in 2 MB of what it loads: a hundred keys of 20 kB, 0.3 s.
    server = RedisServer(supervisor, "--key-load-delay", "3000", name="loads")
    with server.client(socket_timeout=30) as client:
        for number in range(1000):
            client.set(f"user:{number}", os.urandom(20_000))
        client.save()
    server.kill()
    server.restart()
    code, out, err = hotkeys("--redis-url", server.url)
    server.kill()
    assert (code, out) == (1, "")
    assert err.endswith("loads its dataset and answers nothing else; ask again when it is done, or take the journal\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "say where to look: --journal PATH, --cache NAME of herdwatch.yaml, or --redis-url URL"),
        (("--json", "--keys"), "give --json or --keys, not both"),
        (("--journal", "x", "--redis-url", "redis://h"), "--journal is a source of its own"),
        (("--journal", "nowhere"), "nowhere: cannot be read: No such file or directory"),
        (("--redis-url", "redis://h", "--cache", "users"), "give --redis-url, or --cache of a configuration, not both"),
        (
            ("--redis-url", "redis://h", "--password-env", "A", "--password-file", "b"),
            "give password_env or password_f",
        ),
        (("--redis-url", "redis://h", "--group", "people"), "cache cache has no group 'people'; there is: none"),
        (("--redis-url", "http://h"), "--redis-url: "),
        (("--journal", ".", "--top", "0"), "--top"),
        (("--config", "nowhere.yaml"), "nowhere.yaml: no such file"),
    ],
)
def test_what_is_asked_wrongly_is_one_sentence(hotkeys: Hotkeys, arguments: tuple[str, ...], words: str) -> None:
    code, out, err = hotkeys(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("herdwatch: ")
    assert words in err
    assert err.count("\n") == 1


def test_a_journal_that_is_none_or_of_two_caches_is_one_sentence(hotkeys: Hotkeys, tmp_path: Path) -> None:
    path = write(tmp_path)
    assert hotkeys("--journal", path, "--group", "carts")[2] == (
        f"herdwatch: {path}: no group 'carts' in the journal; there is: orders, people\n"
    )
    write(tmp_path, name="b", cache="orders")
    code, _, err = hotkeys("--journal", tmp_path)
    assert (code, err) == (2, f"herdwatch: {tmp_path}: journals of 2 caches; name one of them: orders, users\n")
    assert hotkeys("--journal", tmp_path, "--cache", "orders")[0] == 0
    path.write_bytes(path.read_bytes()[:-20])
    code, _, err = hotkeys("--journal", path)
    assert (code, err.startswith(f"herdwatch: {path}:")) == (2, True)
    path.write_bytes(os.urandom(100))
    assert hotkeys("--journal", path)[0] == 2


def test_nobody_there_is_one_sentence(hotkeys: Hotkeys) -> None:
    code, out, err = hotkeys("--redis-url", f"redis://127.0.0.1:{free_port()}")
    assert (code, out) == (1, "")
    assert "does not answer (refused): nothing listens there" in err


def test_the_command_is_one_of_herdwatch_s(tmp_path: Path) -> None:
    write(tmp_path)
    command = [sys.executable, "-m", "herdwatch", "hotkeys", "--journal", str(tmp_path), "--keys", "--top", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "user:1\n")
