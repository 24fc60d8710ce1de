"""The Redis user that a cache takes, as `herdwatch acl` prints it. What Redis makes of it: tests/redis."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from herdwatch.cli import run
from herdwatch.collector import acl
from herdwatch.config import Cache

BASE = "ACL SETUSER herdwatch resetpass on '>PASSWORD' resetkeys '~herdwatch:reports' -@all +info +hgetall"

RULES: dict[str, tuple[dict[str, Any], str]] = {
    "a cache": ({}, BASE),
    "database 0 by name": ({"url": "redis://h:6379/0"}, BASE),
    "database 0 in more digits": ({"url": "redis://h:6379/00"}, BASE),
    "another database": ({"url": "rediss://h:6379/10"}, f"{BASE} +select"),
    "a socket": ({"url": "unix:///run/redis/1"}, BASE),
    "key groups": ({"groups": {"users": "user:*"}}, f"{BASE} +randomkey"),
    "exact key groups": ({"groups": {"users": "user:*"}, "exact_groups": ["users"]}, f"{BASE} +randomkey +scan"),
    "all at once": (
        {"url": "redis://h/1", "groups": {"users": "user:*"}, "exact_groups": ["users"]},
        f"{BASE} +select +randomkey +scan",
    ),
    "a user of its own": ({"username": "watcher"}, BASE.replace("SETUSER herdwatch", "SETUSER watcher")),
    "a user in the URL": ({"url": "redis://watch%2Ber@h"}, BASE.replace("SETUSER herdwatch", "SETUSER watch+er")),
    "both, of which the key counts": (
        {"url": "redis://other@h", "username": "watcher"},
        BASE.replace("SETUSER herdwatch", "SETUSER watcher"),
    ),
    "a user that a shell would run": ({"username": "$(id)"}, BASE.replace("SETUSER herdwatch", "SETUSER '$(id)'")),
}


@pytest.mark.parametrize("sentence", RULES)
def test_the_rule_of(sentence: str) -> None:
    more, rule = RULES[sentence]
    assert acl.setuser(Cache.model_validate({"name": "users", "url": "redis://h", **more})) == rule


def test_a_rule_is_one_word_each_for_redis_as_for_a_shell() -> None:
    words = shlex.split(BASE)
    assert words == [
        "ACL",
        "SETUSER",
        "herdwatch",
        "resetpass",
        "on",
        ">PASSWORD",
        *acl.permissions(Cache(name="c", url="redis://h")),
    ]


def test_the_command_prints_a_comment_and_a_rule_for_each_cache_and_no_password(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "my.yaml"
    file.write_text(
        "caches:\n"
        "  - {name: users, url: redis://127.0.0.1, password_env: SOME_SECRET}\n"
        "  - {name: carts, url: redis://10.0.0.2:6380/2, username: watcher}\n"
    )
    monkeypatch.setenv("SOME_SECRET", "hunter2")
    assert run(["acl", "--config", str(file)]) == 0
    assert capsys.readouterr() == (
        "# cache users at 127.0.0.1:6379; herdwatch.yaml needs username: herdwatch for it\n"
        f"{BASE}\n"
        "# cache carts at 10.0.0.2:6380\n"
        f"{BASE.replace('SETUSER herdwatch', 'SETUSER watcher')} +select\n"
        "# then ACL SAVE where Redis has an aclfile, else CONFIG REWRITE: without, a restart takes the user along\n",
        "",
    )
