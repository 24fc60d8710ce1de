"""What comes before and after a failed scrape, and what people are told. The faults themselves: test_fault_table.py."""

from __future__ import annotations

import asyncio
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.redis import fakes

from herdwatch.cli import run
from herdwatch.collector import CacheCollector, Scrape, sentence
from herdwatch.collector.failures import reason
from herdwatch.config import Cache
from herdwatch.metrics import FAILURE_REASONS, PROBE
from herdwatch.stack import RedisServer, Supervisor, free_port

PASSWORD = "correct-horse"
GENEROUS_SECONDS = 20


def scrape(url: str, *, deadline: float | None = 1.0, **cache: Any) -> Scrape:
    async def run() -> Scrape:
        collector = CacheCollector(Cache(name="users", url=url, **cache), timeout=5)
        async with asyncio.timeout(GENEROUS_SECONDS):
            try:
                return await collector.scrape(deadline)
            finally:
                await collector.aclose()

    return asyncio.run(run())


def assert_down(found: Scrape, why: str) -> None:
    assert found.failure == why
    samples = {(name, labels): value for name, labels, value in found.samples}
    assert samples["cache_up", ()] == 0
    assert [labels for name, labels in samples if name == "cache_failure"] == [(why,)]
    assert {name for name, _ in samples} == {family.name for family in PROBE}
    assert found.guard == []


def test_a_stopped_redis_times_out_and_is_up_again_once_it_goes_on(supervisor: Supervisor) -> None:
    redis = RedisServer(supervisor, name="stopped")

    async def run() -> tuple[Scrape, Scrape, Scrape]:
        collector = CacheCollector(Cache(name="users", url=redis.url), timeout=5)
        first = await collector.scrape()
        redis.process.send(signal.SIGSTOP)
        second = await collector.scrape(0.3)
        redis.process.send(signal.SIGCONT)
        third = await collector.scrape()
        await collector.aclose()
        return first, second, third

    first, second, third = asyncio.run(run())
    assert (first.failure, third.failure) == (None, None)
    assert_down(second, "timeout")


def test_the_right_password_from_a_file(supervisor: Supervisor, tmp_path: Path) -> None:
    redis = RedisServer(supervisor, "--requirepass", PASSWORD, name="right")
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    assert scrape(redis.url, password_file=file).failure is None


def test_a_password_reference_that_leads_nowhere_is_a_failed_scrape(shared: RedisServer, tmp_path: Path) -> None:
    assert_down(scrape(shared.url, password_file=tmp_path / "none"), "auth")


def test_a_user_who_may_only_run_info_sees_all_of_redis_and_leaves_the_acl_log_empty(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    redis = RedisServer(supervisor, name="least")
    (tmp_path / "password").write_text(PASSWORD)
    with redis.client() as client:
        client.acl_setuser(
            "exporter", enabled=True, passwords=[f"+{PASSWORD}"], commands=["+info", "+hgetall"], keys=["herdwatch:*"]
        )
        found = scrape(redis.url, username="exporter", password_file=tmp_path / "password")
        assert found.failure is None
        succeeded = {labels[0]: value for name, labels, value in found.samples if name == "cache_collector_success"}
        assert succeeded == {"info": 1, "commandstats": 1, "reports": 1}
        assert client.acl_log() == []


def test_concurrent_scrapes_of_a_stopped_redis_all_end_in_time(supervisor: Supervisor) -> None:
    redis = RedisServer(supervisor, name="crowd")
    redis.process.send(signal.SIGSTOP)

    async def run() -> list[Scrape]:
        collector = CacheCollector(Cache(name="users", url=redis.url), timeout=5)
        async with asyncio.timeout(GENEROUS_SECONDS):
            found = await asyncio.gather(*(collector.scrape(0.3) for _ in range(20)))
        await collector.aclose()
        return found

    assert {found.failure for found in asyncio.run(run())} == {"timeout"}
    redis.process.send(signal.SIGCONT)


def test_one_scrape_on_the_terminal_says_what_is_wrong(
    supervisor: Supervisor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    redis = RedisServer(supervisor, "--requirepass", PASSWORD, name="once")
    (tmp_path / "wrong").write_text("geheim")
    (tmp_path / "right").write_text(PASSWORD)
    base = ["exporter", "--once", "--redis-url"]

    assert run([*base, redis.url, "--password-file", str(tmp_path / "right")]) == 0
    assert "cache_up 1.0" in capsys.readouterr().out

    assert run([*base, redis.url, "--password-file", str(tmp_path / "wrong")]) == 1
    answer = capsys.readouterr()
    assert 'cache_failure{reason="auth"} 1.0' in answer.out
    assert answer.err.startswith(
        f"herdwatch: cache cache: Redis at {redis.address} does not answer (auth): the user or password is missing"
    )
    assert answer.err.count("\n") == 1

    assert run([*base, redis.url, "--password-file", str(tmp_path / "nowhere")]) == 1
    missing = (
        f"herdwatch: cache cache: password_file {tmp_path / 'nowhere'} cannot be read: No such file or directory\n"
    )
    assert capsys.readouterr().err == missing

    with redis.client(password=PASSWORD) as client:
        client.set("herdwatch:reports", "no hash")
    assert run([*base, redis.url, "--password-file", str(tmp_path / "right")]) == 0
    assert capsys.readouterr().err == (
        "herdwatch: cache cache: no reports (other): see its log and rename-command; a herdwatch:reports that is no "
        "hash must be deleted\n"
    )

    assert run([*base, f"redis://127.0.0.1:{free_port()}"]) == 1
    assert "nothing listens there" in capsys.readouterr().err


def assert_lacks(found: Scrape, command: str) -> None:
    assert_down(found, "other")
    assert re.match(
        rf"cache users: Redis at 127\.0\.0\.1:\d+ has no command {command}: its rename-command", found.detail
    )


def test_a_command_that_redis_was_made_to_forget_is_named(supervisor: Supervisor) -> None:
    redis = RedisServer(supervisor, "--rename-command", "SELECT", "hidden", name="no-select")
    assert_lacks(scrape(f"redis://{redis.address}/1"), "SELECT")
    for quoted in (b"'INFO'", b"`INFO`"):
        unknown = b"-ERR unknown command %b, with args beginning with: \r\n" % quoted
        with fakes.serving(fakes.answering({b"INFO": unknown})) as port:
            assert_lacks(scrape(f"redis://127.0.0.1:{port}"), "INFO")


@pytest.mark.parametrize("why", FAILURE_REASONS)
def test_every_reason_has_a_sentence(why: str) -> None:
    told = sentence(Cache(name="users", url="redis://redis.example"), why)
    assert told.startswith(f"cache users: Redis at redis.example:6379 does not answer ({why}): ")


def test_every_reason_that_can_be_given_is_declared() -> None:
    assert {reason(ValueError("what is this")), reason(OSError()), reason(TimeoutError())} <= set(FAILURE_REASONS)
