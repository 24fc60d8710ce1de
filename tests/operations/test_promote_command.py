"""`herdwatch promote` as people type it: exit codes, one sentence, no traceback and no password."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.redis.fakes import saying, serving

from herdwatch import cli
from herdwatch.bundle.location import bundle_root
from herdwatch.stack import RedisServer

Run = Callable[..., tuple[int, str, str]]
SECRET = "hunter2"


def told(err: str) -> str:
    """The one sentence on stderr."""
    assert err.startswith("herdwatch: ")
    assert err.count("\n") == 1
    return err.removeprefix("herdwatch: ").strip()


def role(server: RedisServer, **options: Any) -> str:
    with server.client(**options) as client:
        return str(client.info("replication")["role"])


WRONG: dict[str, tuple[list[str], str]] = {
    "no primary": ([], "give --primary URL or --cache NAME, one of them"),
    "two primaries named": (["--primary", "redis://h", "--cache", "x"], "give --primary URL or --cache NAME"),
    "a configuration without a cache": (["--primary", "redis://h", "--config", "x"], "--config goes with --cache"),
    "an address without a scheme": (["--primary", "127.0.0.1:6379"], "--primary: a Redis URL starts with"),
    "a password that breaks the URL": (["--primary", f"redis://:{SECRET}/@h"], "--primary: not a URL"),
    "a replica that is none": (
        ["--primary", "redis://h", "--replica", "http://h"],
        "--replica: a Redis URL starts with",
    ),
    "two replicas without a crash": (
        ["--primary", "redis://127.0.0.1:1", "--replica", "redis://a", "--replica", "redis://b", "--yes"],
        "a planned promotion takes one --replica",
    ),
    "a crash without a replica": (["--primary", "redis://h", "--crash", "--yes"], "name each of them with --replica"),
    "an unknown check": (["--primary", "redis://h", "--allow", "everything"], "Invalid value for '--allow'"),
    "a Sentinel without a name": (["--primary", "redis://h", "--sentinel", "h:1"], "--sentinel and --master go"),
    "a name without a Sentinel": (["--primary", "redis://h", "--master", "x"], "--sentinel and --master go"),
    "a Sentinel and a replica": (
        ["--primary", "redis://h", "--replica", "redis://g", "--sentinel", "h:1", "--master", "x"],
        "leave --replica out",
    ),
    "a Sentinel and a crash": (
        ["--primary", "redis://h", "--crash", "--sentinel", "h:1", "--master", "x"],
        "are not for Sentinel",
    ),
    "one Sentinel twice": (["--primary", "redis://h", "--sentinel", "h:1,h:1", "--master", "x"], "one Sentinel twice"),
    "no Sentinel at all": (["--primary", "redis://h", "--sentinel", ",", "--master", "x"], "names no Sentinel"),
    "two passwords": (
        ["--primary", "redis://h", "--password-env", "A", "--password-file", "b"],
        "--password-file: give password_env or password_file, not both",
    ),
    "a cache that is not configured": (
        ["--cache", "other", "--config", str(bundle_root() / "herdwatch.yaml")],
        f"no cache 'other' in {bundle_root()}/herdwatch.yaml; there is: cache",
    ),
    "a password that is not there": (
        ["--primary", "redis://127.0.0.1:1", "--password-env", "GONE", "--plan"],
        "GONE, which is not set",
    ),
    "nobody to be asked": (["--primary", "redis://127.0.0.1:1"], "look with --plan, then give --yes"),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_wrong_usage_is_told_in_one_sentence(run: Run, sentence: str) -> None:
    arguments, right = WRONG[sentence]
    code, _, err = run(*arguments)
    assert code == 2
    assert right in told(err)
    assert SECRET not in err


def test_a_plan_then_the_promotion_then_nothing_to_do(town: Any, run: Run) -> None:
    old, heir = town.pair()
    servers = ("--primary", old.url, "--replica", heir.url)
    code, out, err = run(*servers, "--plan")
    assert (code, err) == (0, "")
    assert "warns    persistence" in out
    assert f"1. {old.address}: FAILOVER TO {heir.address} TIMEOUT 10 s" in out
    assert run(*servers)[0] == 2
    assert (role(old), role(heir)) == ("master", "slave")
    code, out, err = run(*servers, "--yes")
    assert code == 0
    assert out.startswith(f"{heir.address} is the primary with 1,000 keys, {old.address} follows it (")
    steps = [line.partition(": ") for line in err.splitlines()]
    assert [step for step, _, _ in steps][:4] == ["checked", "checked", "checked", "started"]
    assert steps[1][2].startswith(f"warns persistence: {old.address} has no persistence")
    assert steps[2][2].startswith(f"warns persistence: {heir.address} has no persistence: as a primary it must not")
    code, out, err = run(*servers, "--yes", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["already"] is True


def test_a_plan_that_would_be_refused_says_so_and_exits_with_1(town: Any, run: Run) -> None:
    alone = town.server()
    code, out, err = run("--primary", alone.url, "--plan", "--json")
    assert (code, json.loads(out)["refused"]) == (1, ["roles"])
    assert "has no replica online" in told(err)


def test_the_primary_and_its_login_come_from_herdwatch_yaml(
    town: Any, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, heir = town.pair()
    for server in (old, heir):
        with server.client() as client:
            client.config_set("masterauth", SECRET)
            client.config_set("requirepass", SECRET)
    cache = f"caches: [{{name: users, url: '{old.url}', password_env: CACHE_PASSWORD}}]\n"
    (tmp_path / "herdwatch.yaml").write_text(cache)
    monkeypatch.setenv("CACHE_PASSWORD", "wrong")
    code, out, err = run("--cache", "users", "--yes")
    assert (code, out) == (1, "")
    assert "(auth)" in told(err)
    monkeypatch.setenv("CACHE_PASSWORD", SECRET)
    code, out, err = run("--cache", "users", "--yes")
    assert code == 0
    assert role(heir, password=SECRET) == "master"
    assert SECRET not in out + err


def test_a_password_in_the_url_is_used_and_never_shown(town: Any, run: Run) -> None:
    old, heir = town.pair()
    for server in (old, heir):
        with server.client() as client:
            client.config_set("masterauth", SECRET)
            client.config_set("requirepass", SECRET)
    urls = ("--primary", f"redis://:{SECRET}@{old.address}", "--replica", heir.url)
    said = [run(*urls, "--plan"), run(*urls, "--plan", "--json"), run(*urls, "--yes")]
    assert [code for code, _, _ in said] == [0, 0, 0]
    assert SECRET not in "".join(out + err for _, out, err in said)
    code, out, err = run("--primary", f"redis://:{SECRET}x@{old.address}", "--yes")
    assert code == 1
    assert SECRET not in out + err


def test_what_is_no_redis_is_told_in_one_sentence(run: Run) -> None:
    code, _, err = run("--primary", "redis://no-such-host.invalid", "--yes")
    assert code == 1
    assert "does not resolve" in told(err)
    with serving(saying(b"*1000000000\r\n")) as port:
        code, _, err = run("--primary", f"redis://127.0.0.1:{port}", "--yes")
    assert code == 1
    assert "is no Redis" in told(err)
    with serving(saying(b"$5\r\nhello\r\n")) as port:
        code, _, err = run("--primary", f"redis://127.0.0.1:{port}", "--yes")
    assert code == 1
    assert "is no Redis" in told(err)


class Terminal(io.StringIO):
    """Somebody sits there; not every machine that runs tests has terminals to give."""

    def isatty(self) -> bool:
        return True


def test_on_a_terminal_it_asks_first(town: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    old, heir = town.pair()
    for answer, code, then in (("n", 1, "slave"), ("y", 0, "master")):
        screen = Terminal()
        monkeypatch.setattr(sys, "stdin", Terminal(f"{answer}\n"))
        monkeypatch.setattr(sys, "stderr", screen)
        assert cli.run(["promote", "--primary", old.url, "--replica", heir.url]) == code
        assert "Do it? [y/N]" in screen.getvalue()
        assert ("herdwatch: nothing was done, since the answer was no\n" in screen.getvalue()) == (answer == "n")
        assert role(heir) == then


@pytest.mark.parametrize("stream", ["stdin", "stderr"])
def test_a_stream_that_is_closed_is_nobody_to_be_asked(monkeypatch: pytest.MonkeyPatch, run: Run, stream: str) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal())
    if stream == "stdin":
        monkeypatch.setattr(sys, "stdin", None)
        code, _, err = run("--primary", "redis://127.0.0.1:1")
        assert (code, "nobody is there to be asked" in told(err)) == (2, True)
    else:
        monkeypatch.setattr(sys, "stderr", None)
        assert run("--primary", "redis://127.0.0.1:1")[0] == 2
