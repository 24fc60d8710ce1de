"""`herdwatch warm` as people type it: sources of keys, dry runs, a kill in the middle, and what can be wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.waiting import until

from herdwatch import cli, journals, reports
from herdwatch.journals import Group, Journal
from herdwatch.stack import RedisServer, free_port

APPLICATION = """
import asyncio
import os
import time

import redis
import redis.asyncio

from herdwatch.guard import Guard

ledger = redis.Redis(port=int(os.environ["PORT"]), db=1)
guard = Guard(redis.asyncio.Redis(port=int(os.environ["PORT"])), cache="users", service="profiles", registry=None)


def load(key):
    ledger.hincrby("loads", key, 1)
    time.sleep(float(os.environ.get("SLOW", "0")))
    if key.endswith("7"):
        raise LookupError("the password is hunter2")
    return {"key": key}


async def load_async(key):
    ledger.hincrby("loads", key, 1)
    return {"key": key}


@guard.cached(key=lambda number: f"user:{number}", ttl=60)
async def cached(number):
    return {}


def two(key, more):
    return {}


nothing = 7
"""
KEYS = tuple(f"user:{number}" for number in range(200))


class Place:
    """A folder with an application, and what it stored."""

    def __init__(self, folder: Path, server: RedisServer) -> None:
        self.folder, self.server = folder, server
        (folder / "an_app.py").write_text(APPLICATION)
        (folder / "broken.py").write_text("raise RuntimeError('the password is hunter2')")
        (folder / "herdwatch.yaml").write_text(f"caches: [{{name: users, url: 'redis://127.0.0.1:{server.port}'}}]\n")
        (folder / "keys").write_text("\n".join(KEYS) + "\n\n")

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        environment = {**os.environ, "PORT": str(self.server.port), **options.pop("env", {})}
        command = [sys.executable, "-m", "herdwatch", "warm", *arguments]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, cwd=self.folder, env=environment, text=True, **pipes)

    def run(self, *arguments: str, typed: str = "", **options: Any) -> tuple[int, str, str]:
        with self.start(*arguments, **options) as process:
            out, err = process.communicate(typed, timeout=60)
        assert "Traceback" not in out + err
        assert "hunter2" not in out + err
        return process.returncode, out, err

    def journal(self, counts: dict[str, int], *, group: str = "default", total: int, name: str = "one") -> Path:
        journal = Journal("users", "profiles", 1_700_000_000.0, {group: Group(total, 0, counts)})
        path = self.folder / f"{name}{journals.SUFFIX}"
        path.write_text("".join(journals.lines(journal)))
        return path

    @property
    def loads(self) -> dict[str, int]:
        with self.server.client(db=1) as client:
            return {key.decode(): int(count) for key, count in client.hgetall("loads").items()}

    @property
    def stored(self) -> set[str]:
        with self.server.client() as client:
            return {key.decode() for key in client.keys("user:*")}


@pytest.fixture
def place(tmp_path: Path, shared: RedisServer) -> Iterator[Place]:
    yield Place(tmp_path, shared)
    with shared.client() as client:
        client.flushall()


def test_keys_of_a_file_are_loaded_and_what_fails_is_told_by_its_type(place: Place) -> None:
    code, out, err = place.run("--loader", "an_app:load", "--keys", "keys", "--cache", "users")
    assert code == 1
    assert place.stored == {key for key in KEYS if not key.endswith("7")}
    assert out.startswith("200 of 200 keys in ")
    assert re.search(r"\d+ loaded,.* 20 failed\n", out)
    raised = re.search(r"^what the loader raised: 20 LookupError; the first of these keys: (.*)$", out, re.M)
    assert raised is not None
    assert {key[-1] for key in raised[1].split(", ")} == {"7"}
    assert "200 keys from keys; 100 loads every 0.1 s" in err
    assert err.endswith("herdwatch: 20 keys are not warm because the loader failed\n")


def test_keys_of_standard_input_and_an_async_loader_at_the_application_s_guard(place: Place) -> None:
    code, out, _ = place.run(
        *("--loader", "an_app:load_async", "--guard", "an_app:guard", "--keys", "-", "--json"), typed="user:1\nuser:2\n"
    )
    assert code == 0
    assert place.stored == {"user:1", "user:2"}
    told = json.loads(out)
    assert (told["target"], told["loaded"], told["failed"], told["stopped"]) == (2, 2, {}, "")
    with place.server.client() as client:
        assert [field.split(b"/")[0] for field in client.hkeys(reports.KEY)] == [b"herdwatch-warm"]


def test_a_journal_is_warmed_until_the_hit_ratio_that_is_asked_for(place: Place) -> None:
    place.journal({"user:1": 600, "user:2": 250, "user:3": 50}, total=1000)
    arguments = ("--loader", "an_app:load", "--journal", "one.hotkeys", "--until-hit-ratio", "0.8")
    code, out, err = place.run(*arguments)
    assert code == 0
    assert place.stored == {"user:1", "user:2"}
    assert "the warm ones carry 85.0% of the lookups in the journal of profiles" in out
    assert "2 keys from the journal of profiles, which carry 85.0% of the lookups" in err


def test_the_hit_ratio_can_be_the_one_that_the_database_needs(place: Place) -> None:
    place.journal({"user:1": 600, "user:2": 250, "user:3": 50}, total=1000)
    (place.folder / "herdwatch.yaml").write_text(
        f"caches: [{{name: users, url: 'redis://127.0.0.1:{place.server.port}', database: main}}]\n"
        "databases: {main: {capacity: 500, peak: 1000}}\n"
    )
    arguments = ("--loader", "an_app:load", "--journal", "one.hotkeys", "--until-hit-ratio", "capacity")
    assert place.run(*arguments)[0] == 0
    assert place.stored == {"user:1"}
    (place.folder / "herdwatch.yaml").rename(place.folder / "elsewhere.yaml")
    of_the_guard = ("--guard", "an_app:guard", "--config", "elsewhere.yaml", "--json")
    assert json.loads(place.run(*arguments, *of_the_guard)[1])["warm"] == 1


def test_a_dry_run_loads_nothing_and_says_how_long_it_would_take(place: Place) -> None:
    place.journal({"user:1": 600, "user:2": 400}, total=1000)
    assert place.run("--loader", "an_app:load", "--journal", "one.hotkeys", "--limit", "1")[0] == 0
    before = place.loads
    code, out, _ = place.run("--loader", "an_app:load", "--journal", "one.hotkeys", "--max-rate", "2", "--dry-run")
    assert (code, place.loads) == (0, before)
    assert out == (
        "1 of 2 keys are cold\nthe warm ones carry 60.0% of the lookups now\n"
        "to load them takes 0.5 s at the least; nothing was loaded\n"
    )


def test_a_warm_up_that_is_killed_goes_on_where_it_stopped(place: Place) -> None:
    arguments = ("--loader", "an_app:load", "--keys", "keys", "--cache", "users", "--concurrency", "2")
    with place.start(*arguments, env={"SLOW": "0.02"}) as process:
        until(lambda: len(place.loads) > 60, "the sixtieth load")
        process.kill()
    assert len(place.loads) < 190
    assert place.run(*arguments)[0] == 1  # those that end in 7 fail
    twice = [key for key, count in place.loads.items() if count > 1 and not key.endswith("7")]
    assert set(place.loads) == set(KEYS)
    assert len(twice) <= 2  # loaded, and killed before it was stored
    assert place.stored == {key for key in KEYS if not key.endswith("7")}


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_who_interrupts_it_is_told_how_far_it_came_and_its_report_says_that_it_ended(
    place: Place, sent: signal.Signals
) -> None:
    arguments = ("--loader", "an_app:load", "--keys", "keys", "--cache", "users", "--concurrency", "2")
    with place.start(*arguments, env={"SLOW": "0.02"}) as process:
        until(lambda: len(place.loads) > 20, "the twentieth load")
        process.send_signal(sent)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "not to its end: stopped; the same command goes on from here" in out
    assert err.endswith("herdwatch: interrupted\n")
    with place.server.client() as client:
        (told,) = [json.loads(value) for value in client.hvals(reports.KEY)]
    assert told["warmup"]["active"] == 0
    assert 0 < told["warmup"]["done"] < 200


def services(place: Place) -> Path:
    """A folder of journals of two services in one cache and group."""
    folder = place.folder / "services"
    folder.mkdir()
    for service, key in (("orders", "order:1"), ("profiles", "user:1")):
        journal = Journal("users", service, time.time() - 180, {"default": Group(10, 0, {key: 10})})
        (folder / f"{service}{journals.SUFFIX}").write_text("".join(journals.lines(journal)))
    return folder


def test_of_two_services_those_that_are_named_are_warmed_and_the_journal_s_age_and_ruins_are_told(place: Place) -> None:
    folder = services(place)
    (folder / f"cut{journals.SUFFIX}").write_text((folder / f"orders{journals.SUFFIX}").read_text()[:-10])
    arguments = ("--loader", "an_app:load_async", "--journal", "services", "--service", "profiles")
    code, _, err = place.run(*arguments)
    assert (code, set(place.loads)) == (0, {"user:1"})
    assert "1 keys from the journal of profiles, which carry 100.0% of the lookups" in err
    assert re.search(r"^the journal was written 3 min ago$", err, re.M)
    assert re.search(r"^left out: services/cut.hotkeys:\d: .*cut off", err, re.M)
    assert place.run(*arguments, "--service", "orders")[0] == 0
    assert set(place.loads) == {"user:1", "order:1"}


def test_a_key_that_is_no_text_is_left_out(place: Place) -> None:
    place.journal({"user:1": 600, "user:\udcff": 400}, total=1000)
    code, out, err = place.run("--loader", "an_app:load", "--journal", "one.hotkeys")
    assert (code, place.stored) == (0, {"user:1"})
    assert "left out: keys that are no UTF-8: 1" in err
    assert "the warm ones carry 60.0% of the lookups" in out


def test_a_share_that_is_not_reached_is_no_success(place: Place) -> None:
    place.journal({"user:1": 500}, total=1000)
    arguments = ("--loader", "an_app:load", "--journal", "one.hotkeys", "--until-hit-ratio", "0.95", "--json")
    code, out, err = place.run(*arguments)
    assert code == 1
    assert "0.95 is wanted and cannot be reached: all these keys together carry 50.0%" in err
    assert err.endswith("herdwatch: 0.95 was wanted, 50.0% is reached\n")
    told = json.loads(out)
    assert (told["short"], told["share_wanted"], told["share_of_lookups"], told["stopped"]) == (True, 0.95, 0.5, "")


def test_what_the_application_keeps_there_itself_is_told_and_left_alone(place: Place) -> None:
    with place.server.client() as client:
        client.rpush("user:1", "a job")
        arguments = ("--loader", "an_app:load", "--keys", "-", "--cache", "users")
        assert "1 are no values of this guard" in place.run(*arguments, "--dry-run", typed="user:1\nuser:2\n")[1]
        code, out, _ = place.run(*arguments, typed="user:1\nuser:2\n")
        assert (code, client.lrange("user:1", 0, -1)) == (0, [b"a job"])
    assert "1 loaded, 1 left alone" in out
    assert "1 are no values of this guard and were left alone; name the guard of their application with --guard" in out


def test_a_closed_standard_input_is_said(place: Place) -> None:
    command = f"exec {sys.executable} -m herdwatch warm --loader an_app:load --keys - --cache users <&-"
    environment = {**os.environ, "PORT": str(place.server.port)}
    done = subprocess.run(
        ["/bin/sh", "-c", command], cwd=place.folder, env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "herdwatch: standard input: it is closed; give one key a line, hottest first\n"


def test_who_interrupts_slow_loads_is_told_of_them_and_a_second_time_ends_it_at_once(place: Place) -> None:
    arguments = ("--loader", "an_app:load", "--keys", "keys", "--cache", "users", "--concurrency", "2")
    with place.start(*arguments, env={"SLOW": "3600"}) as process:
        until(lambda: len(place.loads) == 2, "two loads")
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        assert "stopping, 2 loads in the air; Ctrl-C again ends it now\n" in lines
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.endswith("herdwatch: interrupted\n")
    assert "Traceback" not in err


class Alertmanager(BaseHTTPRequestHandler):
    """Takes silences."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"silenceID": "an-id"}')

    def log_message(self, *_: object) -> None:
        pass


def test_a_warm_up_that_is_longer_than_its_silence_says_so_and_one_that_fails_that_it_is_still_silent(
    place: Place,
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Alertmanager) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with (place.folder / "herdwatch.yaml").open("a") as file:
            file.write(f"prometheus: {{alertmanagers: ['127.0.0.1:{server.server_port}']}}\n")
        arguments = ("--loader", "an_app:load", "--cache", "users", "--silence", "20s", "--max-failures", "1")
        code, _, err = place.run(
            *arguments, "--keys", "-", "--max-rate", "0.1", typed="user:7\nuser:1\nuser:2\nuser:3\n"
        )
        server.shutdown()
    assert code == 1
    assert "this takes 40 s at the least, and the silence ends after 20 s" in err
    *_, still, last = err.splitlines()
    assert "--alertmanager.url=" in still
    assert "an-id" in still
    assert last.startswith("herdwatch: the last 1 loads failed")


WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "no source": (("--loader", "an_app:load"), "give --journal PATH or --keys FILE, one of them"),
    "two sources": (("--keys", "keys", "--journal", "."), "give --journal PATH or --keys FILE, one of them"),
    "no such module": (("--loader", "gone:load"), "--loader gone:load: no module gone; run this where"),
    "no such function": (("--loader", "an_app:gone"), "--loader an_app:gone: an_app has no gone"),
    "no path": (("--loader", "an_app"), "--loader an_app: it must look as in package.module:name"),
    "no function": (("--loader", "an_app:nothing"), "--loader an_app:nothing: not a function"),
    "two arguments": (("--loader", "an_app:two"), "--loader an_app:two: it must take one argument, the key"),
    "a guarded loader": (("--loader", "an_app:cached"), "--loader an_app:cached: a guard wraps this function already"),
    "a module that breaks": (("--loader", "broken:load"), "importing broken failed with RuntimeError"),
    "no guard": (("--guard", "an_app:load"), "--guard an_app:load: a function; it must be a herdwatch Guard"),
    "a guard and a Redis": (("--guard", "an_app:guard", "--redis-url", "redis://h"), "--guard says where the Redis is"),
    "a guard and a user": (("--guard", "an_app:guard", "--username", "u"), "give it without --redis-url and cred"),
    "a service of a file": (("--service", "profiles"), "--service chooses among the services of a journal"),
    "a ttl without an end": (("--ttl", "inf"), "Invalid value for '--ttl': Input should be less than or equal to"),
    "a ttl that is no number": (("--ttl", "nan"), "Invalid value for '--ttl'"),
    "a patience that is no number": (("--patience", "nan"), "Invalid value for '--patience'"),
    "no file": (("--keys", "gone"), "gone: cannot be read: No such file"),
    "an empty file": (("--keys", "empty.txt"), "empty.txt: no keys; give one a line, hottest first"),
    "binary keys": (("--keys", "binary"), "binary:2: not UTF-8; give one key a line"),
    "a journal cut off": (("--journal", "cut.hotkeys"), "cut.hotkeys:2: cut off"),
    "a binary journal": (("--journal", "binary"), "binary:1: no journal of herdwatch"),
    "no journal": (("--journal", "empty"), "empty: no journal there"),
    "another cache": (("--journal", "cut", "--cache", "carts"), "no journal of cache 'carts'; there is: users"),
    "two groups": (("--journal", "two.hotkeys"), "2 groups, each with a loader of its own; name one of them"),
    "two services": (
        ("--journal", "services"),
        "2 services, each with a loader of its own; name one of them, or those",
    ),
    "no such service": (
        ("--journal", "services", "--service", "x"),
        "no journal of service 'x'; there is: orders, pro",
    ),
    "no such group": (("--journal", "two.hotkeys", "--group", "c"), "no group 'c'; there is: a, b"),
    "a ratio without counts": (("--until-hit-ratio", "0.9"), "a hit ratio can be aimed at with a journal only"),
    "a ratio above 1": (("--until-hit-ratio", "2"), "--until-hit-ratio 2: it must be a ratio such as 0.95"),
    "no capacity": (("--until-hit-ratio", "capacity"), "herdwatch.yaml names no database behind cache 'users'"),
    "a silence for ever": (("--silence", "9h"), "--silence 9h: it must be a time such as 90s, 15m or 1h, at most 4h"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_is_refused_in_a_sentence_and_nothing_is_loaded(
    place: Place, what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given, sentence = WRONG[what]
    (place.folder / "binary").write_bytes(b"user:1\n\xff\xfe\x00\n")
    (place.folder / "empty").mkdir()
    (place.folder / "empty.txt").write_text("\n")
    whole = place.journal({"user:1": 1}, total=1, name="cut").read_text()
    (place.folder / "cut.hotkeys").write_text(whole.rpartition("\n{")[0])
    (place.folder / "cut").mkdir()
    (place.folder / "cut" / "a.hotkeys").write_text(whole)
    groups = {name: Group(1, 0, {"user:1": 1}) for name in "ab"}
    (place.folder / "two.hotkeys").write_text("".join(journals.lines(Journal("users", "profiles", 1.0, groups))))
    services(place)
    arguments = list(given)
    if "--keys" not in given and "--journal" not in given and what != "no source":
        arguments += ["--keys", "keys"]
    if "--loader" not in given:
        arguments += ["--loader", "an_app:load"]
    if not {"--guard", "--cache"} & set(given):
        arguments += ["--cache", "users"]
    monkeypatch.chdir(place.folder)
    monkeypatch.setenv("PORT", str(place.server.port))
    monkeypatch.setattr(sys, "path", list(sys.path))
    code = cli.run(["warm", *arguments])
    out, err = capsys.readouterr()
    assert (code, out, place.loads, place.stored) == (2, "", {}, set())
    assert sentence in err
    assert "hunter2" not in err


def test_a_redis_that_is_not_there_is_said_after_the_patience(place: Place) -> None:
    url = f"redis://:hunter2@127.0.0.1:{free_port()}"
    code, _, err = place.run("--loader", "an_app:load", "--keys", "keys", "--redis-url", url)
    assert code == 2  # a password in a URL
    nowhere = f"redis://127.0.0.1:{free_port()}"
    code, _, err = place.run("--loader", "an_app:load", "--keys", "keys", "--redis-url", nowhere, "--patience", "0.5")
    assert code == 1
    assert "herdwatch: Redis has not answered for 0.5 s" in err
    assert place.loads == {}
