"""The silence of planned work, in a real Alertmanager."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests import pager
from tests.operations.conftest import Town
from tests.redis.fakes import Behaviour, serving
from tests.unit.a_prometheus import cut_off, dripping, http, replying
from tests.waiting import until

from herdwatch import cli, operations
from herdwatch.cli.silencing import silenced
from herdwatch.errors import CheckFailed, HerdwatchError, OperationError, UsageError
from herdwatch.operations.promote import Outcome
from herdwatch.operations.silence import Silence, silence
from herdwatch.stack import AlertmanagerServer, RedisServer, Supervisor, free_port
from herdwatch.stack.http import get_json


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AlertmanagerServer]:
    config = pager.render(pager.configuration("http://127.0.0.1:1"), tmp_path_factory.mktemp("silence"))
    with Supervisor() as supervisor:
        yield pager.start(supervisor, config)


def address(server: AlertmanagerServer) -> str:
    return server.url.removeprefix("http://")


def state_of(server: AlertmanagerServer, cache: str) -> str:
    (found,) = [one for one in server.alerts() if one["labels"]["cache"] == cache]
    return str(found["status"]["state"])


def test_one_cache_is_silent_and_the_others_are_not(
    alertmanager: AlertmanagerServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "herdwatch.yaml"
    config.write_text(
        "caches: [{name: users, url: 'redis://127.0.0.1'}]\n"
        f"prometheus: {{alertmanagers: ['{address(alertmanager)}', '127.0.0.1:{free_port()}']}}\n"
    )
    silenced("15m", "users", config, why="a test")
    told = capsys.readouterr().err
    assert "alerts on cache users are silenced until" in told
    assert "not silenced everywhere: Alertmanager 127.0.0.1:" in told
    pager.post(alertmanager, [{"labels": pager.labels("CacheDown", cache=cache)} for cache in ("users", "users2")])
    until(lambda: state_of(alertmanager, "users") == "suppressed")
    until(lambda: state_of(alertmanager, "users2") == "active")


def silences(server: AlertmanagerServer, cache: str, *, state: str = "active") -> list[str]:
    """Why each silence of this cache is there."""
    found = get_json(f"{server.url}/api/v2/silences")
    those = [one for one in found if one["matchers"][0]["value"] == cache and one["status"]["state"] == state]
    return [one["comment"] for one in those]


def test_a_promotion_is_silent_and_one_that_is_refused_silences_nothing(
    alertmanager: AlertmanagerServer, town: Town, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    primary, replica = town.pair()
    config = tmp_path / "herdwatch.yaml"
    config.write_text(
        f"caches: [{{name: promoted, url: 'redis://{primary.address}'}}]\n"
        f"prometheus: {{alertmanagers: ['{address(alertmanager)}']}}\n"
    )
    command = ["promote", "--cache", "promoted", "--config", str(config), "--yes", "--silence", "5m"]
    with replica.client() as client:
        client.config_set("maxmemory", 1024)
        assert cli.run(command) == 1
        assert silences(alertmanager, "promoted") == []
        client.config_set("maxmemory", 0)
    assert cli.run(command) == 0
    assert silences(alertmanager, "promoted") == ["herdwatch promote"]
    assert cli.run(command) == 0
    assert silences(alertmanager, "promoted") == ["herdwatch promote"]
    assert "Traceback" not in capsys.readouterr().err


def bundle(folder: Path, name: str, redis: RedisServer, *alertmanagers: str) -> Path:
    config = folder / "herdwatch.yaml"
    config.write_text(
        f"caches: [{{name: {name}, url: 'redis://{redis.address}'}}]\n"
        f"prometheus: {{alertmanagers: [{', '.join(repr(one) for one in alertmanagers)}]}}\n"
    )
    return config


def failing(error: BaseException) -> Callable[..., Outcome]:
    def promote(*_: object, **__: object) -> Outcome:
        raise error

    return promote


@pytest.mark.parametrize("error", [OperationError("lost on the way"), KeyboardInterrupt()], ids=["failed", "ctrl-c"])
def test_a_promotion_that_fails_says_that_the_silence_stays(
    alertmanager: AlertmanagerServer,
    town: Town,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
) -> None:
    primary, _ = town.pair()
    name = f"failed{type(error).__name__}"
    config = bundle(tmp_path, name, primary, address(alertmanager))
    monkeypatch.setattr("herdwatch.operations.promote.promote", failing(error))
    assert cli.run(["promote", "--cache", name, "--config", str(config), "--yes", "--silence", "5m"]) in (1, 130)
    err = capsys.readouterr().err
    assert f"alerts on cache {name} stay silenced until" in err
    assert "end that with: amtool silence expire --alertmanager.url=http://" in err
    assert len(silences(alertmanager, name)) == 1


def test_a_promotion_that_is_refused_after_all_ends_its_silence(
    alertmanager: AlertmanagerServer,
    town: Town,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    primary, _ = town.pair()
    config = bundle(tmp_path, "late", primary, address(alertmanager))
    monkeypatch.setattr("herdwatch.operations.promote.promote", failing(CheckFailed("nothing was changed")))
    assert cli.run(["promote", "--cache", "late", "--config", str(config), "--yes", "--silence", "5m"]) == 1
    assert "alerts on cache late are no longer silenced" in capsys.readouterr().err
    until(lambda: silences(alertmanager, "late", state="expired") == ["herdwatch promote"])
    assert silences(alertmanager, "late") == []


WRONG = {
    "a bad time": (["--cache", "users", "--silence", "tomorrow"], "it must be a time such as 90s"),
    "no name": (["--primary", "redis://127.0.0.1:1", "--silence", "5m"], "--silence needs the name of the cache"),
    "no Alertmanager": (
        ["--cache", "users", "--silence", "5m"],
        "prometheus.alertmanagers of herdwatch.yaml names none",
    ),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_a_silence_that_cannot_be_is_refused_before_anything_is_asked(
    sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, right = WRONG[sentence]
    (tmp_path / "herdwatch.yaml").write_text(
        "caches: [{name: users, url: 'redis://127.0.0.1:1'}]\nprometheus: {alertmanagers: []}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("herdwatch.cli.promoting._ask", lambda _: pytest.fail("people were asked first"))
    assert cli.run(["promote", *arguments]) == 2
    assert right in capsys.readouterr().err


def test_each_alertmanager_has_its_command() -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    made = Silence("users", datetime.now(UTC), (("a:9093", "one"), (nowhere, "two")), ())
    for text in (made.as_text(), made.still()):
        assert "amtool silence expire --alertmanager.url=http://a:9093 one; amtool" in text
        assert text.endswith(f"amtool silence expire --alertmanager.url=http://{nowhere} two")
    left = Silence("users", datetime.now(UTC), ((nowhere, "two"),), ())
    assert left.end() == left.still()


def test_it_ends_by_itself(alertmanager: AlertmanagerServer) -> None:
    made = silence([address(alertmanager)], "carts", seconds=3.0, why="a test")
    assert [at for at, _ in made.ids] == [address(alertmanager)]
    pager.post(alertmanager, [{"labels": pager.labels("CacheDown", cache="carts")}])
    until(lambda: state_of(alertmanager, "carts") == "suppressed")
    until(lambda: state_of(alertmanager, "carts") == "active")


def test_without_an_alertmanager_the_work_does_not_begin(supervisor: Supervisor) -> None:
    redis = RedisServer(supervisor)
    nowhere = f"127.0.0.1:{free_port()}"
    with pytest.raises(OperationError, match=f"nothing was begun: Alertmanager {nowhere} does not answer") as refused:
        silence([nowhere], "users", seconds=60, why="a test")
    assert "Traceback" not in str(refused.value)
    with pytest.raises(OperationError, match=r"does not answer|as no Alertmanager does"):
        silence([redis.address], "users", seconds=60, why="a test")


TAKEN = http(200, '{"silenceID": "abc"}')
TROUBLE: dict[str, tuple[Behaviour, str]] = {
    "an error that is cut off": (cut_off(http(503, "x" * 1000)[:-900]), "does not answer: "),
    "an error": (replying(http(400, "bad\nmatcher")), "answers 400: bad matcher"),
    "a redirect": (replying(b"HTTP/1.1 302 X\r\nLocation: /login\r\n\r\n"), "answers 302: "),
    "headers that drip": (dripping(TAKEN[:20], TAKEN[20:]), "does not answer: timed out"),
    "a body that drips": (dripping(TAKEN[:-10], TAKEN[-10:]), "does not answer: timed out"),
    "no silence": (replying(http(200, "[]")), "answers as no Alertmanager does"),
}


@pytest.mark.parametrize("sentence", TROUBLE)
def test_what_one_alertmanager_has_taken_is_told_whatever_another_does(
    sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations.silence, "SECONDS", 0.5)
    behave, right = TROUBLE[sentence]
    with serving(replying(TAKEN)) as good, serving(behave) as bad:
        config = tmp_path / "herdwatch.yaml"
        config.write_text(
            "caches: [{name: users, url: 'redis://127.0.0.1'}]\n"
            f"prometheus: {{alertmanagers: ['127.0.0.1:{good}', '127.0.0.1:{bad}']}}\n"
        )
        made = silenced("15m", "users", config, why="a test")
        assert made is not None
        assert made.ids == ((f"127.0.0.1:{good}", "abc"),)
        left = replace(made, ids=((f"127.0.0.1:{bad}", "abc"),))
        assert left.end() == left.still() or sentence == "no silence"
    told = capsys.readouterr().err
    assert f"amtool silence expire --alertmanager.url=http://127.0.0.1:{good} abc\n" in told
    assert f"127.0.0.1:{bad} {right}" in told


@pytest.mark.parametrize("time", ["", "15", "m", "-5m", "0s", "5h", "1.5h", "\u0661m", "15 m"])
def test_a_time_that_is_none_is_refused(time: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="it must be a time such as 90s, 15m or 1h"):
        silenced(time, "users", tmp_path / "none", why="a test")


def test_the_cache_must_be_known_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(HerdwatchError, match="give --cache NAME"):
        silenced("5m", None, tmp_path / "none", why="a test")
