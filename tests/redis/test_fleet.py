"""Scrapes of one cache that overlap are one scrape; a new configuration replaces the old one while scrapes go on."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from herdwatch import config as configuration
from herdwatch.bundle.location import bundle_root
from herdwatch.collector import Scrape
from herdwatch.config import Config
from herdwatch.server import Exporter
from herdwatch.server.fleet import Fleet
from herdwatch.stack import RedisServer, Supervisor

GENEROUS_SECONDS = 20


def watching(*redises: RedisServer, deadline: str = "5s", **more: Any) -> Config:
    caches = "".join(
        f"- {{name: cache{number}, url: '{redis.url}', team: {more.get('team', 'platform')}}}\n"
        for number, redis in enumerate(redises)
    )
    return configuration.parse(f"caches:\n{caches}exporter: {{deadline: {deadline}}}\n", "test.yaml")


def run(config: Config, work: Callable[[Fleet], Coroutine[Any, Any, Any]]) -> Any:
    async def bounded() -> Any:
        fleet = Fleet(config)
        try:
            async with asyncio.timeout(GENEROUS_SECONDS):
                return await work(fleet)
        finally:
            await fleet.aclose()

    return asyncio.run(bounded())


def value(scrape: Scrape, family: str) -> float:
    return next(value for name, _, value in scrape.samples if name == family)


def asked(redis: RedisServer) -> int:
    """How often Redis was asked for reports, which happens once a round trip."""
    with redis.client() as client:
        return int(client.info("commandstats").get("cmdstat_hgetall", {"calls": 0})["calls"])


@pytest.fixture
def stopped(supervisor: Supervisor) -> Iterator[RedisServer]:
    redis = RedisServer(supervisor, name="stopped")
    yield redis
    redis.process.send(signal.SIGCONT)


def test_scrapes_that_overlap_share_one_round_trip(shared: RedisServer) -> None:
    async def work(fleet: Fleet) -> list[Scrape]:
        await fleet.scrape("cache0")
        return await asyncio.gather(*(fleet.scrape("cache0") for _ in range(50)))

    before = asked(shared)
    found = run(watching(shared), work)
    assert [scrape.failure for scrape in found] == [None] * 50
    assert asked(shared) - before == 2


def test_a_scrape_that_asks_after_the_answer_gets_one_of_its_own(shared: RedisServer) -> None:
    async def work(fleet: Fleet) -> tuple[Scrape, Scrape]:
        first = await fleet.scrape("cache0")
        with shared.client() as client:
            client.get("nothing here")
        return first, await fleet.scrape("cache0")

    first, second = run(watching(shared), work)
    assert value(second, "cache_misses_total") > value(first, "cache_misses_total")


def test_caches_do_not_share(supervisor: Supervisor) -> None:
    full, empty = (RedisServer(supervisor, name=name) for name in ("full", "empty"))
    with full.client() as client:
        client.set("a", 1)

    async def work(fleet: Fleet) -> list[Scrape]:
        return await asyncio.gather(*(fleet.scrape(name) for name in ("cache0", "cache1") * 5))

    assert [value(scrape, "cache_keys") for scrape in run(watching(full, empty), work)] == [1, 0] * 5


def test_who_has_time_left_when_the_one_that_asked_first_has_none_asks_anew(stopped: RedisServer) -> None:
    async def work(fleet: Fleet) -> tuple[Scrape, Scrape]:
        await fleet.scrape("cache0")
        stopped.process.send(signal.SIGSTOP)
        hurried = asyncio.create_task(fleet.scrape("cache0", 0.3))
        await asyncio.sleep(0)
        patient = asyncio.create_task(fleet.scrape("cache0"))
        first = await hurried
        stopped.process.send(signal.SIGCONT)
        return first, await patient

    first, second = run(watching(stopped, deadline="15s"), work)
    assert (first.failure, second.failure) == ("timeout", None)


def test_who_has_less_time_than_the_one_that_asked_first_does_not_wait_for_it(stopped: RedisServer) -> None:
    async def work(fleet: Fleet) -> tuple[Scrape, bool, Scrape]:
        stopped.process.send(signal.SIGSTOP)
        patient = asyncio.create_task(fleet.scrape("cache0"))
        await asyncio.sleep(0)
        hurried = await fleet.scrape("cache0", 0.3)
        waits = not patient.done()
        stopped.process.send(signal.SIGCONT)
        return hurried, waits, await patient

    hurried, waits, patient = run(watching(stopped, deadline="15s"), work)
    assert (hurried.failure, waits, patient.failure) == ("timeout", True, None)


def test_who_goes_away_takes_nobody_along(stopped: RedisServer) -> None:
    async def work(fleet: Fleet) -> Scrape:
        stopped.process.send(signal.SIGSTOP)
        first = asyncio.create_task(fleet.scrape("cache0"))
        await asyncio.sleep(0)
        second = asyncio.create_task(fleet.scrape("cache0"))
        await asyncio.sleep(0.1)
        first.cancel()
        stopped.process.send(signal.SIGCONT)
        return await second

    assert run(watching(stopped, deadline="15s"), work).failure is None


def test_a_new_configuration_keeps_what_did_not_change_and_drops_what_is_gone(supervisor: Supervisor) -> None:
    kept, gone, new = (RedisServer(supervisor, name=name) for name in ("kept", "gone", "new"))

    def connections(redis: RedisServer) -> int:
        with redis.client() as client:
            return int(client.info("clients")["connected_clients"]) - 1

    async def work(fleet: Fleet) -> None:
        await asyncio.gather(*(fleet.scrape(name) for name in fleet.names))
        assert [connections(redis) for redis in (kept, gone, new)] == [1, 1, 0]
        accepted = value(await fleet.scrape("cache0"), "cache_commands_processed_total")
        await fleet.adopt(watching(kept, new))
        assert fleet.names == ("cache0", "cache1")
        with kept.client() as client:
            before = client.info("stats")["total_connections_received"]
            found = await fleet.scrape("cache0")
            assert client.info("stats")["total_connections_received"] == before
        assert value(found, "cache_commands_processed_total") > accepted
        assert (await fleet.scrape("cache1")).failure is None
        assert [connections(redis) for redis in (kept, new)] == [1, 1]
        until = time.monotonic() + GENEROUS_SECONDS
        while connections(gone) and time.monotonic() < until:
            await asyncio.sleep(0.02)
        assert connections(gone) == 0

    run(watching(kept, gone), work)


def test_a_longer_deadline_holds_after_a_reload(stopped: RedisServer) -> None:
    async def work(fleet: Fleet) -> Scrape:
        await fleet.adopt(watching(stopped, deadline="15s"))
        stopped.process.send(signal.SIGSTOP)
        patient = asyncio.create_task(fleet.scrape("cache0"))
        await asyncio.sleep(1.5)  # longer than the old deadline and what a flight has beyond it
        stopped.process.send(signal.SIGCONT)
        return await patient

    assert run(watching(stopped, deadline="100ms"), work).failure is None


def test_another_address_to_listen_on_leaves_the_connections_alone(shared: RedisServer) -> None:
    async def work(fleet: Fleet) -> tuple[int, int]:
        with shared.client() as client:
            await fleet.scrape("cache0")
            before = client.info("stats")["total_connections_received"]
            config = watching(shared)
            await fleet.adopt(configuration.listening(config, "127.0.0.1:1"))
            await fleet.scrape("cache0")
            return before, client.info("stats")["total_connections_received"]

    before, after = run(watching(shared), work)
    assert before == after


@pytest.fixture
def file(tmp_path: Path, shared: RedisServer) -> Path:
    path = tmp_path / "herdwatch.yaml"
    path.write_text(f"caches:\n- {{name: users, url: '{shared.url}'}}\n")
    return path


@pytest.fixture
def client(file: Path) -> Iterator[TestClient]:
    exporter = Exporter(
        configuration.load(file), runbooks=bundle_root() / "runbooks", read=lambda: configuration.load(file)
    )
    with TestClient(exporter.app) as client:
        yield client
        if client.portal:
            client.portal.call(exporter.aclose)


def reloads(client: TestClient) -> dict[str, str]:
    lines = client.get("/metrics").text.splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if line.startswith("herdwatch_config_") and "time" not in line)


def test_a_reload_takes_a_new_file(file: Path, client: TestClient) -> None:
    assert client.get("/probe?target=carts").status_code == 404
    file.write_text(file.read_text() + file.read_text().split("\n")[1].replace("users", "carts") + "\n")
    answer = client.post("/-/reload")
    assert (answer.status_code, answer.text) == (200, "reloaded: 2 caches\n")
    assert "cache_up 1.0" in client.get("/probe?target=carts").text
    assert [group["labels"]["cache"] for group in client.get("/sd").json()] == ["users", "carts"]
    assert reloads(client) == {
        'herdwatch_config_reloads_total{result="ok"}': "1.0",
        'herdwatch_config_reloads_total{result="refused"}': "0.0",
        "herdwatch_config_last_reload_successful": "1.0",
    }


@pytest.mark.parametrize("text", ["caches: [", "caches: []\n", "caches:\n- {name: users, url: 'http://x'}\n"])
def test_a_wrong_file_is_refused_and_the_old_one_stays(
    file: Path, client: TestClient, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    good = file.read_text()
    file.write_text(text)
    answer = client.post("/-/reload")
    assert answer.status_code == 500
    assert answer.text.startswith(f"{file}:")
    assert "refused, the old one stays" in capsys.readouterr().err
    assert "cache_up 1.0" in client.get("/probe?target=users").text
    assert reloads(client)["herdwatch_config_last_reload_successful"] == "0.0"
    assert reloads(client)['herdwatch_config_reloads_total{result="refused"}'] == "1.0"
    file.write_text(good)
    assert client.post("/-/reload").status_code == 200
    assert reloads(client)["herdwatch_config_last_reload_successful"] == "1.0"


def test_a_reload_that_moves_the_address_says_that_it_needs_a_restart(
    file: Path, client: TestClient, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(file.read_text() + "exporter: {listen: 127.0.0.1:1}\n")
    assert "restart" in client.post("/-/reload").text
    assert "exporter.listen is 127.0.0.1:1 now; the old address stays until a restart" in capsys.readouterr().err


def test_a_reload_tells_of_a_password_that_cannot_be_read(file: Path, client: TestClient) -> None:
    file.write_text(file.read_text().replace("}", ", password_file: nowhere}"))
    told = f"cache users: password_file {file.parent / 'nowhere'} cannot be read: No such file or directory\n"
    assert client.post("/-/reload").text == f"reloaded: 1 caches\n{told}"


def test_what_troubles_a_cache_is_told_once_and_its_end_too(
    supervisor: Supervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    redis = RedisServer(supervisor, name="troubled")

    async def work(fleet: Fleet) -> None:
        for command in (("SET", "herdwatch:reports", "x"), ("GET", "x"), ("DEL", "herdwatch:reports"), ("GET", "x")):
            with redis.client() as client:
                client.execute_command(*command)
            await fleet.scrape("cache0")
        redis.kill()
        await fleet.scrape("cache0")

    run(watching(redis), work)
    trouble, end, down = capsys.readouterr().err.splitlines()
    assert trouble.startswith("herdwatch: cache cache0: no reports (other): ")
    assert end == "herdwatch: cache cache0: Redis answers again, all of it"
    assert "does not answer (refused)" in down


def test_a_reload_is_asked_for_with_post(client: TestClient) -> None:
    assert client.get("/-/reload").status_code == 405
