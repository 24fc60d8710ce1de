"""Basic auth: who is let in, and what it costs to ask."""

from __future__ import annotations

import asyncio
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import bcrypt
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from herdwatch.server import HttpStats, Web, auth
from herdwatch.server.auth import BasicAuth, Checks, Overloaded

SECONDS = 20.0
LONG = "x" * 100


def hashed(password: bytes, cost: int = 4) -> bytes:
    return bcrypt.hashpw(password[:72], bcrypt.gensalt(cost))


USERS = {"alice": hashed(b"hunter2"), "böb": hashed("schön".encode()), "long": hashed(LONG.encode())}
BYTES = {name.encode(): value for name, value in USERS.items()}


def header(user: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + b64encode(f"{user}:{password}".encode()).decode()}


@pytest.fixture
def stats() -> HttpStats:
    return HttpStats()


@pytest.fixture
def client(tmp_path: Path, stats: HttpStats) -> Iterator[TestClient]:
    async def page(_: Request) -> PlainTextResponse:
        return PlainTextResponse("inside")

    path = tmp_path / "web.yml"
    path.write_text("basic_auth_users:\n" + "".join(f"  {name}: {value.decode()}\n" for name, value in USERS.items()))
    guarded = BasicAuth(Starlette(routes=[Route("/metrics", page)]), Web(path), stats)
    with TestClient(guarded) as entered:
        yield entered
    guarded.close()


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The hashes that bcrypt was run on."""
    seen: list[bytes] = []

    def checkpw(password: bytes, expected: bytes) -> bool:
        seen.append(expected)
        return real(password, expected)

    real = bcrypt.checkpw
    monkeypatch.setattr(bcrypt, "checkpw", checkpw)
    return seen


@pytest.mark.parametrize(
    ("user", "password"), [("alice", "hunter2"), ("böb", "schön"), ("long", LONG), ("long", LONG + "cut off by bcrypt")]
)
def test_who_has_the_password_is_let_in(client: TestClient, user: str, password: str) -> None:
    for _ in range(2):  # the second answer comes from memory
        answer = client.get("/metrics", headers=header(user, password))
        assert (answer.status_code, answer.text) == (200, "inside")


REFUSED = {
    "no credentials": {},
    "a wrong password": header("alice", "hunter3"),
    "another user's password": header("böb", "hunter2"),
    "an unknown user": header("carol", "hunter2"),
    "an unknown user without a password": header("carol", ""),
    "nobody": header("", ""),
    "a password with a zero byte": header("alice", "hunter2\0"),
    "a password that goes on": header("alice", "hunter2:"),
    "another scheme": {"authorization": "Bearer hunter2"},
    "no scheme": {"authorization": "hunter2"},
    "what is not base64": {"authorization": "Basic hunter2!"},
    "no colon": {"authorization": "Basic " + b64encode(b"alice").decode()},
}


@pytest.mark.parametrize("sentence", REFUSED)
@pytest.mark.parametrize("path", ["/metrics", "/-/healthy", "/nowhere"])
def test_everybody_else_is_refused_everywhere(
    client: TestClient, stats: HttpStats, sentence: str, path: str, capfd: pytest.CaptureFixture[str]
) -> None:
    for count in (1, 2):
        answer = client.get(path, headers=REFUSED[sentence])
        assert (answer.status_code, answer.text) == (401, "Unauthorized\n")
        assert answer.headers["www-authenticate"] == 'Basic realm="herdwatch"'
        assert stats.rejected["unauthorized"] == count
    assert capfd.readouterr() == ("", "")


def test_two_credentials_in_one_request_are_none(client: TestClient) -> None:
    pair = [("authorization", header("alice", "hunter2")["authorization"])] * 2
    assert client.get("/metrics", headers=pair).status_code == 401


def test_a_password_is_checked_once_right_or_wrong(client: TestClient, checked: list[bytes]) -> None:
    for password, status in (("hunter2", 200), ("hunter3", 401)):
        checked.clear()
        assert [client.get("/metrics", headers=header("alice", password)).status_code for _ in range(3)] == [status] * 3
        assert checked == [USERS["alice"]]


def test_an_unknown_user_costs_what_a_known_one_costs(client: TestClient, checked: list[bytes]) -> None:
    for user in ("carol", "dave", "erin"):
        checked.clear()
        assert client.get("/metrics", headers=header(user, "guess")).status_code == 401
        assert len(checked) == 1
        assert checked[0] in USERS.values()


def test_an_unknown_user_is_not_let_in_by_the_password_of_the_hash_that_stands_in() -> None:
    async def ask() -> list[bool]:
        checks = Checks()
        only = {b"alice": BYTES[b"alice"]}
        outcomes = [await checks.right(only, (user, b"hunter2")) for user in (b"carol", b"alice", b"carol")]
        checks.close()
        return outcomes

    assert asyncio.run(ask()) == [False, True, False]


def test_a_new_hash_is_not_answered_from_memory() -> None:
    async def ask() -> list[bool]:
        checks = Checks()
        outcomes = [
            await checks.right({b"alice": one}, (b"alice", b"hunter2")) for one in (USERS["alice"], USERS["long"])
        ]
        checks.close()
        return outcomes

    assert asyncio.run(ask()) == [True, False]


def test_wrong_passwords_never_push_out_a_right_one(checked: list[bytes]) -> None:
    async def ask() -> None:
        checks = Checks()
        assert await checks.right(BYTES, (b"alice", b"hunter2"))
        for number in range(auth.REMEMBERED + 1):
            assert not await checks.right(BYTES, (b"alice", b"%d" % number))
        checked.clear()
        assert await checks.right(BYTES, (b"alice", b"hunter2"))
        assert checked == []
        assert not await checks.right(BYTES, (b"alice", b"0"))  # the oldest wrong one is forgotten
        assert len(checked) == 1
        checks.close()

    asyncio.run(ask())


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, Callable[[], int]]]:
    """bcrypt that does not answer until the event is set, and the greatest number of checks that ran at once."""
    release, lock = threading.Event(), threading.Lock()
    running = most = 0

    def checkpw(_: bytes, __: bytes) -> bool:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        assert release.wait(SECONDS)
        with lock:
            running -= 1
        return True

    monkeypatch.setattr(bcrypt, "checkpw", checkpw)
    yield release, lambda: most
    release.set()


def test_two_checks_run_at_once_and_the_one_too_many_is_turned_away(
    held: tuple[threading.Event, Callable[[], int]],
) -> None:
    release, most = held

    async def ask() -> None:
        checks = Checks()
        asked = [
            asyncio.ensure_future(checks.right(BYTES, (b"alice", b"%d" % number)))
            for number in range(auth.AT_ONCE + auth.WAITING)
        ]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await checks.right(BYTES, (b"alice", b"one more"))
        asked += [asyncio.ensure_future(checks.right(BYTES, (b"alice", b"0"))) for _ in range(500)]  # who waits already
        asked[0].cancel()  # whoever leaves takes nobody along
        release.set()
        outcomes = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), SECONDS)
        assert outcomes[1:] == [True] * (len(asked) - 1)
        assert await checks.right(BYTES, (b"alice", b"one more"))
        checks.close()

    asyncio.run(ask())
    assert most() == auth.AT_ONCE


def test_a_request_too_many_is_told_to_come_again(client: TestClient, stats: HttpStats) -> None:
    async def overloaded(*_: object) -> bool:
        raise Overloaded

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checks, "right", overloaded)
        answer = client.get("/metrics", headers=header("alice", "hunter2"))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert stats.rejected == {"too_many": 1, "too_slow": 0, "too_large": 0, "unauthorized": 0}
