"""The code in the guide of the guard runs as it stands there, against a real Redis, and does what the guide says."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import json
import os
import re
import shlex
import sys
import types
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from markdown_it import MarkdownIt
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from starlette.testclient import TestClient
from tests.waiting import until

import herdwatch.guard
from herdwatch import reports
from herdwatch.guard import Guard, Reporter, Shed, SyncGuard, exposition, reporter
from herdwatch.guard.commands import lease_of
from herdwatch.stack import RedisServer, Supervisor
from herdwatch.stack.processes import Process, free_port

GUIDE = Path(herdwatch.guard.__file__).with_name("README.md").read_text(encoding="utf-8")
PEERS = ["cashews", "aiocache", "dogpile.cache"]
SECONDS = 20.0
"""Deadline of everything that is waited for."""


def blocks(heading: str, language: str) -> list[str]:
    """The fenced blocks of one section, up to the next heading; `language` as it stands behind the fence."""
    found: list[str] = []
    tokens = MarkdownIt("commonmark").parse(GUIDE)
    inside = ""
    for before, token in zip([None, *tokens], tokens, strict=False):
        if before is not None and before.type == "heading_open":
            inside = token.content
        elif token.type == "fence" and token.info == language and inside == heading:
            found.append(token.content)
    assert found, f"no {language} under {heading}"
    return found


def words(command: str) -> list[str]:
    """A line of shell, with its continuations, as words."""
    return shlex.split(command.replace("\\\n", " "), comments=True)


def redis_cli(heading: str) -> list[list[str]]:
    """The commands for redis-cli in the blocks of one section."""
    lines = "\n".join(blocks(heading, "bash")).replace("\\\n", " ").splitlines()
    return [words(line)[1:] for line in lines if line.startswith("redis-cli ")]


@pytest.fixture
def empty(shared: RedisServer) -> Iterator[RedisServer]:
    with shared.client() as client:
        client.flushall()
        yield shared
        client.flushall()


@contextlib.contextmanager
def closing(namespace: dict[str, Any]) -> Iterator[None]:
    """What a block leaves open is closed, and its guards are taken off the registry that all tests share."""
    try:
        yield
    finally:
        for value in namespace.values():
            if isinstance(value, (Guard, SyncGuard)):
                exposition.withdraw(value.core)
            if isinstance(value, SyncGuard):
                value.close()


async def run(text: str, namespace: dict[str, Any]) -> None:
    """Run a block that may await at its top level."""
    code = compile(text, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    waiting = types.FunctionType(code, namespace)()
    if waiting is not None:
        await waiting


class Database:
    """What the blocks call `database`."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def fetch_one_now(self, key: str) -> dict[str, str]:
        self.asked.append(key)
        return {"name": f"Ada {len(self.asked)}"}

    async def fetch_one(self, key: str) -> dict[str, str]:
        return self.fetch_one_now(key)


def test_the_four_lines_run_one_after_the_other(empty: RedisServer) -> None:
    database = Database()

    async def build_report() -> str:
        return "built"

    namespace: dict[str, Any] = {
        "url": empty.url,
        "database": database,
        "fetch_user_now": database.fetch_one_now,
        "build_report": build_report,
    }
    with_guard, decorator, sync_guard, flight = blocks("The four lines", "python")

    async def scenario() -> None:
        for text in (with_guard, decorator, sync_guard):
            await run(text, namespace)
            assert namespace.pop("profile") == {"name": "Ada 1"}
        assert database.asked == ["user:42"]
        await run(flight, namespace)
        assert (namespace["report"], namespace["led"]) == ("built", True)
        await namespace["guard"].aclose()

    with closing(namespace):
        asyncio.run(scenario())


@pytest.mark.parametrize("peer", PEERS)
def test_what_replaces_another_library_loads_once_and_again_after_a_delete(peer: str, empty: RedisServer) -> None:
    (text,) = blocks(peer, "python after")
    text = text.replace("127.0.0.1:6379", empty.address).replace("port=6379", f"port={empty.port}")
    database = Database()
    namespace: dict[str, Any] = {"database": database}

    async def scenario() -> None:
        await run(text, namespace)
        assert namespace["profile"] == {"name": "Ada 1"}
        again = namespace["get_profile"](42)
        assert (await again if inspect.isawaitable(again) else again) == {"name": "Ada 2"}
        if isinstance(namespace["guard"], Guard):
            await namespace["guard"].aclose()

    with closing(namespace):
        asyncio.run(scenario())
    assert database.asked == ["user:42"] * 2


def test_the_test_in_the_guide_passes() -> None:
    (text,) = blocks("Testing code that uses it", "python")
    namespace: dict[str, Any] = {}
    asyncio.run(run(text, namespace))
    namespace["test_a_profile_is_loaded_once"]()


class Service:
    """An example that runs as a server of its own, as the guide starts it."""

    def __init__(self, supervisor: Supervisor, command: str, redis: RedisServer, folder: Path) -> None:
        self.redis = redis
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        variable, program, *arguments = words(command)
        assert variable == "REDIS_URL=redis://127.0.0.1:6379/0"
        place = {
            "uvicorn": ["--port", str(port)],
            "gunicorn": ["--bind", f"127.0.0.1:{port}", "--no-control-socket"],  # it would lie in the home folder
        }[program]
        self.process: Process = supervisor.start(
            "service",
            [sys.executable, "-m", program, *place, *arguments],
            env={**os.environ, "REDIS_URL": redis.url},
            cwd=folder,
        )
        self.process.wait_until(self._answers)

    def _answers(self) -> bool:
        try:
            return self.get("/metrics").status_code == 200
        except httpx2.TransportError:
            return False

    def get(self, path: str) -> httpx2.Response:
        return httpx2.get(self.url + path, timeout=SECONDS, trust_env=False)

    def put(self, path: str, value: Any) -> int:
        return httpx2.put(self.url + path, json=value, timeout=SECONDS, trust_env=False).status_code

    def get_at_once(self, path: str, times: int) -> list[Any]:
        """The bodies of this many requests in the air at the same time."""

        async def scenario() -> list[Any]:
            limits = httpx2.Limits(max_connections=times)
            async with httpx2.AsyncClient(timeout=SECONDS, limits=limits, trust_env=False) as client:
                answers = await asyncio.gather(*(client.get(self.url + path) for _ in range(times)))
            return [answer.json() for answer in answers]

        return asyncio.run(scenario())

    def count(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples on /metrics that carry these labels."""
        families = text_string_to_metric_families(self.get("/metrics").text)
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(one.value for one in samples if labels.items() <= one.labels.items())

    @property
    def loads(self) -> float:
        return self.count("singleflight_executions_total", trigger="miss", group="users", cache="users")


@pytest.fixture(scope="module", params=["Starlette", "Flask"])
def service(
    request: pytest.FixtureRequest, supervisor: Supervisor, tmp_path_factory: pytest.TempPathFactory
) -> Service:
    """Each example with a Redis of its own; the tests use different keys, and count differences."""
    redis, folder = RedisServer(supervisor, name=request.param), tmp_path_factory.mktemp(request.param)
    (text,), (command,) = blocks(request.param, "python"), blocks(request.param, "bash")
    (folder / "app.py").write_text(text, encoding="utf-8")
    return Service(supervisor, command, redis, folder)


def test_the_first_request_loads_and_the_second_hits(service: Service) -> None:
    loads, hits = service.loads, service.count("cache_lookups_total", result="hit")
    assert service.put("/users/1", {"name": "Grace"}) == 204
    assert [service.get("/users/1").json() for _ in range(2)] == [{"name": "Grace"}] * 2
    assert service.loads == loads + 1
    assert service.count("cache_lookups_total", result="hit") == hits + 1


def test_fifty_requests_at_once_load_once_and_the_metrics_say_so(service: Service) -> None:
    loads, shared = service.loads, service.count("singleflight_coalesced_total")
    hits = service.count("cache_lookups_total", result="hit")
    assert service.get_at_once("/users/42", 50) == [{"name": "Ada"}] * 50
    assert service.loads == loads + 1
    late = service.count("cache_lookups_total", result="hit") - hits  # who connected when the load had ended
    assert service.count("singleflight_coalesced_total") == shared + 49 - late
    assert late < 49


def test_a_write_is_seen_by_the_next_request(service: Service) -> None:
    for name in ("Grace", "Barbara"):
        assert service.put("/users/2", {"name": name}) == 204
        assert [service.get("/users/2").json() for _ in range(2)] == [{"name": name}] * 2


def test_who_does_not_exist_is_asked_for_once(service: Service) -> None:
    loads, negative = service.loads, service.count("cache_lookups_total", result="negative")
    assert [service.get("/users/3").status_code for _ in range(3)] == [404] * 3
    assert service.loads == loads + 1
    assert service.count("cache_lookups_total", result="negative") == negative + 2


def test_a_redis_that_is_gone_does_not_take_the_example_along(service: Service) -> None:
    service.put("/users/4", {"name": "Grace"})
    service.redis.kill()
    assert service.get("/users/4").json() == {"name": "Grace"}
    service.redis.restart()
    assert service.get("/users/4").json() == {"name": "Grace"}
    loads = service.loads
    assert service.get("/users/4").json() == {"name": "Grace"}
    assert service.loads == loads


class Busy:
    def get(self, *_: object, **__: object) -> None:
        raise Shed("no slot")


@pytest.mark.parametrize("framework", ["Starlette", "Flask"])
def test_who_is_turned_away_gets_503(framework: str, empty: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", empty.url)
    namespace: dict[str, Any] = {"__name__": "app"}
    (text,) = blocks(framework, "python")
    asyncio.run(run(text, namespace))
    with closing(dict(namespace)):
        namespace["guard"] = Busy()
        app = namespace["app"]
        answer = (TestClient(app) if framework == "Starlette" else app.test_client()).get("/users/42")
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")


def several(framework: str, folder: Path) -> str:
    """Write the files of the example with several workers; the command that starts it."""
    (text,), (module, lifespan) = blocks(framework, "python"), blocks("Several workers", "python")
    gunicorn, uvicorn = blocks("Several workers", "bash")
    if framework == "Starlette":
        text, changed = re.subn(r"@asynccontextmanager\n.*?    yield\n", lifespan, text, flags=re.DOTALL)
        assert changed == 1
        text = text.replace("import Guard, Shed", "import Guard, Reporter, Shed")
    else:
        (folder / "workers.py").write_text(module, encoding="utf-8")
    (folder / "app.py").write_text(text, encoding="utf-8")
    return uvicorn if framework == "Starlette" else gunicorn


@pytest.mark.parametrize(
    ("framework", "named", "processes"),
    [
        ("Starlette", "profiles", 4),
        ("Flask", "accounts", 5),  # the process that the workers were forked from reports too
    ],
)
def test_four_workers_load_once_and_report_what_they_counted(
    framework: str, named: str, processes: int, supervisor: Supervisor, empty: RedisServer, tmp_path: Path
) -> None:
    service = Service(supervisor, several(framework, tmp_path), empty, tmp_path)
    with empty.client() as client:
        until(lambda: client.hlen(reports.KEY) == processes)
    assert service.get_at_once("/users/42", 60) == [{"name": "Ada"}] * 60
    assert "singleflight_inflight{" not in service.get("/metrics").text
    service.process.stop()  # each process writes a last report
    supervisor.forget(service.process)
    with empty.client() as client:
        found = [reports.parse(field, value) for field, value in client.hgetall(reports.KEY).items()]
    totals = sum((Counter(report.totals) for report in found), Counter())
    assert totals["singleflight_executions_total", "users", "miss"] == 1
    assert sum(totals["cache_lookups_total", "users", result] for result in ("hit", "miss")) == 60
    assert [report.service for report in found] == [named] * processes


def test_the_switches_turn_off_and_on_what_the_guide_says(empty: RedisServer) -> None:
    *lines, show, back = redis_cli("Switches")
    client = empty.client()
    ours, theirs = (
        SyncGuard(empty.client(), cache="users", service=name, registry=None) for name in ("profiles", "accounts")
    )
    with ours, theirs, Reporter(ours, theirs, every=0.05):
        for line in lines:
            client.execute_command(*line)
        assert len(client.execute_command(*show)) == len(lines)
        until(lambda: not ours.core.switches.singleflight)
        until(lambda: not theirs.core.switches.refresh)
        assert (ours.core.switches.refresh, ours.core.switches.limiter) == (False, False)
        assert (theirs.core.switches.singleflight, theirs.core.switches.limiter) == (True, True)
        client.delete("herdwatch:switches")
        client.execute_command(*back)
        until(lambda: ours.core.switches.singleflight)
        assert (ours.core.switches.refresh, ours.core.switches.limiter) == (True, True)
    client.close()


@pytest.fixture(scope="module")
def walled(supervisor: Supervisor) -> RedisServer:
    """A Redis in which the guide's user is made anew by each test."""
    return RedisServer(supervisor, name="walled")


(ALLOWED,) = redis_cli("The guard's own Redis user")
REPORTER = blocks("The guard's own Redis user", "bash")[0].splitlines()[-1].split()


def allow(server: RedisServer, *more: str) -> dict[str, str]:
    """Make the guide's user, with further rules behind; its name and password."""
    user = {"username": ALLOWED[2], "password": next(one[1:] for one in ALLOWED if one.startswith(">"))}
    with server.client() as admin:
        admin.flushall()
        admin.execute_command("ACL", "DELUSER", user["username"])
        admin.execute_command(*ALLOWED, *more)
        admin.execute_command("ACL", "LOG", "RESET")
    return user


def denied(server: RedisServer) -> list[str]:
    """What Redis refused to that user: command, key or channel."""
    with server.client() as admin:
        entries = [dict(zip(one[::2], one[1::2], strict=True)) for one in admin.execute_command("ACL", "LOG")]
    return [entry[b"object"].decode() for entry in entries]


@contextlib.contextmanager
def reporting(guard: SyncGuard, server: RedisServer) -> Iterator[None]:
    """A Reporter that finds the report of a process that died."""
    dead = {"v": 1, "start": 1.0, "at": 1.0, "every": 1.0, "groups": {}}
    with server.client() as admin:
        admin.hset(reports.KEY, "profiles/dead", json.dumps(dead))
    with Reporter(guard, every=0.05):
        yield


def evals(server: RedisServer) -> int:
    with server.client() as admin:
        return int(admin.info("commandstats").get("cmdstat_eval", {}).get("calls", 0))


async def use_everything(server: RedisServer, user: dict[str, str]) -> None:
    """Every command that a guard can send: two guards are two processes to Redis."""
    gate, before = asyncio.Event(), evals(server)

    async def load(key: str) -> str:
        await gate.wait()
        return f"value of {key}"

    one, two = (
        Guard(AsyncRedis.from_url(server.url, **user), cache="users", service="profiles", registry=None, lease=0.5)
        for _ in range(2)
    )
    async with one, two:
        gets = [asyncio.ensure_future(guard.get("user:1", load=load, ttl=60)) for guard in (one, two)]
        async with asyncio.timeout(SECONDS):
            while evals(server) == before and not denied(server):  # until the lease was extended
                await asyncio.sleep(0.02)
        gate.set()
        assert await asyncio.gather(*gets) == ["value of user:1"] * 2
        assert sum(guard.core.counts["default"].led for guard in (one, two)) == 1
        many = await one.get_many(["user:1", "user:2"], load=load, ttl=60)
        assert many == {"user:1": "value of user:1", "user:2": "value of user:2"}
        assert await one.set("user:1", "written", ttl=60)
        assert await two.get("user:1", load=load, ttl=60) == "written"
        assert await two.delete("user:1")


@pytest.fixture(autouse=True)
def tidy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reporters look for dead reports each time, not once a minute."""
    monkeypatch.setattr(reporter, "_CLEAN_SECONDS", 0.0)


def test_the_acl_line_of_the_guide_is_all_that_a_guard_and_a_reporter_need(walled: RedisServer) -> None:
    asyncio.run(use_everything(walled, allow(walled, *("-" + word[1:] for word in REPORTER))))
    assert denied(walled) == []
    user = allow(walled)
    with SyncGuard(Redis.from_url(walled.url, **user), cache="users", service="profiles", registry=None) as guard:
        assert guard.get("user:3", load=str.upper, ttl=60) == "USER:3"
        assert guard.get_many(["user:3", "user:4"], load=str.upper, ttl=60)["user:4"] == "USER:4"
        assert guard.set("user:3", "written", ttl=60)
        assert guard.delete("user:3")
        with reporting(guard, walled), walled.client() as admin:
            until(lambda: admin.hlen(reports.KEY) == 1 and not admin.hexists(reports.KEY, "profiles/dead"))
    assert denied(walled) == []


@pytest.mark.parametrize("word", [word for word in ALLOWED if word.startswith("+")])
def test_no_word_of_the_acl_line_is_idle(word: str, walled: RedisServer) -> None:
    user = allow(walled, "-" + word[1:])
    with contextlib.suppress(AssertionError):  # what still works then is not the question
        asyncio.run(use_everything(walled, user))
    guard = SyncGuard(Redis.from_url(walled.url, **user), cache="users", service="profiles", registry=None)
    with guard, reporting(guard, walled):
        until(lambda: word[1:] in denied(walled))


def test_where_channels_are_denied_waiters_poll_and_a_failed_load_is_tried_again(walled: RedisServer) -> None:
    user = allow(walled, "resetchannels", "-subscribe", "-publish")
    calls: list[str] = []
    keys = ("user:good", "user:bad")

    async def scenario() -> None:
        gate = asyncio.Event()

        async def load(key: str) -> str:
            calls.append(key)
            await gate.wait()
            if key == "user:bad":
                raise LookupError(key)
            return key

        guards = [
            Guard(AsyncRedis.from_url(walled.url, **user), cache="users", service="profiles", registry=None)
            for _ in range(2)
        ]
        gets = [asyncio.ensure_future(guard.get(key, load=load, ttl=60)) for guard in guards for key in keys]
        admin = AsyncRedis.from_url(walled.url)
        async with asyncio.timeout(SECONDS):
            while await admin.exists(*map(lease_of, keys)) < len(keys):
                await asyncio.sleep(0.01)
            gate.set()
            good, bad, good_too, bad_too = await asyncio.gather(*gets, return_exceptions=True)
        await admin.aclose()
        for guard in guards:
            await guard.aclose()
        assert good == good_too == "user:good"
        assert [type(bad), type(bad_too)] == [LookupError] * 2

    asyncio.run(scenario())
    assert sorted(calls) == ["user:bad", "user:bad", "user:good"]


def test_every_block_of_python_is_run_here_or_belongs_to_another_library() -> None:
    run_here = ["The four lines", "Testing code that uses it", "Starlette", "Flask", "Several workers"]
    ran = sum(len(blocks(heading, "python")) for heading in run_here)
    assert GUIDE.count("\n```python\n") == ran
    assert GUIDE.count("\n```python after\n") == GUIDE.count("\n```python before\n") == len(PEERS)
    for peer in PEERS:
        compile(blocks(peer, "python before")[0], peer, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
