"""The kept connection: when it is replaced, what it bears, and what it never says."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from tests.certificates import self_signed
from tests.redis import fakes

from herdwatch.collector import CacheCollector, Scrape
from herdwatch.collector.failures import reason
from herdwatch.collector.link import Link
from herdwatch.collector.resp import _packed
from herdwatch.config import Cache
from herdwatch.stack import RedisServer, Supervisor

GENEROUS_SECONDS = 20
INFO = [("INFO",)]


def run(work: Callable[[Link], Coroutine[Any, Any, Any]], cache: Cache) -> Any:
    async def bounded() -> Any:
        link = Link(cache)
        try:
            async with asyncio.timeout(GENEROUS_SECONDS):
                return await work(link)
        finally:
            link.hang_up()

    return asyncio.run(bounded())


def at(port: int, scheme: str = "redis", **more: Any) -> Cache:
    return Cache(name="users", url=f"{scheme}://127.0.0.1:{port}/0", **more)


def once_then(behave: fakes.Behaviour) -> fakes.Behaviour:
    """Answers one command on the first connection, then behaves so there; a Redis on all others."""
    first = threading.Event()

    def treat(connection: socket.socket) -> None:
        if first.is_set():
            fakes.answering({})(connection)
            return
        first.set()
        connection.recv(65_536)
        connection.sendall(fakes.bulk(fakes.INFO))
        behave(connection)

    return treat


async def twice(link: Link) -> list[Any]:
    return [*await link.ask(INFO, patience=0.3), *await link.ask(INFO, patience=0.3)]


def test_a_kept_connection_that_went_silent_is_replaced_within_the_same_call() -> None:
    with fakes.serving(once_then(fakes.silent)) as port:
        assert run(twice, at(port)) == [fakes.INFO] * 2


def test_a_kept_connection_that_was_closed_is_replaced_within_the_same_call() -> None:
    with fakes.serving(once_then(lambda _: None)) as port:
        assert run(twice, at(port)) == [fakes.INFO] * 2


def test_who_speaks_unasked_is_hung_up_on_and_asked_anew() -> None:
    heard = threading.Event()

    def chatter(connection: socket.socket) -> None:
        try:
            while True:
                connection.sendall(b"+more\r\n" * 10_000)
        except OSError:
            heard.set()

    async def work(link: Link) -> list[Any]:
        found = await link.ask(INFO)
        await asyncio.to_thread(heard.wait, GENEROUS_SECONDS)
        return [*found, *await link.ask(INFO)]

    with fakes.serving(once_then(chatter)) as port:
        assert run(work, at(port)) == [fakes.INFO] * 2
    assert heard.is_set()


def test_what_breaks_after_the_first_reply_costs_only_the_rest() -> None:
    async def work(link: Link) -> list[Any]:
        return await link.ask([("INFO",), ("INFO", "commandstats"), ("HGETALL", "x")])

    with fakes.serving(fakes.saying(fakes.bulk(fakes.INFO) + b"?\r\n")) as port:
        first, *rest = run(work, at(port))
    assert first == fakes.INFO
    assert [reason(error) for error in rest] == ["protocol", "protocol"]


def test_replies_that_do_not_come_in_time_cost_none_that_did_and_are_not_asked_for_again() -> None:
    asked: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        while request := connection.recv(65_536):
            asked.append(request)
            connection.sendall(fakes.bulk(fakes.INFO) * len(asked))

    async def work(link: Link) -> list[Any]:
        await link.ask(INFO)
        return await link.ask([*INFO * 3], patience=0.2, within=0.5)

    with fakes.serving(behave) as port:
        *known, late = run(work, at(port))
    assert (known, reason(late), len(asked)) == ([fakes.INFO] * 2, "timeout", 2)


def test_after_more_replies_than_commands_nothing_is_read_from_that_connection() -> None:
    with fakes.serving(fakes.saying(b"+one\r\n+two\r\n")) as port:
        assert run(twice, at(port)) == [b"one", b"one"]


def secured(pair: Any, *, authority: Path | None = None) -> fakes.Behaviour:
    """A Redis behind TLS; with an authority it asks for a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    if authority is not None:
        context.load_verify_locations(authority)
        context.verify_mode = ssl.CERT_REQUIRED

    def behave(connection: socket.socket) -> None:
        try:
            with context.wrap_socket(connection, server_side=True) as inner:
                fakes.answering({})(inner)
        except ssl.SSLError:  # it was not trusted, or did not trust
            return

    return behave


def test_a_private_authority_and_a_client_certificate_are_taken_from_files(tmp_path: Path) -> None:
    theirs, ours = self_signed(tmp_path, "redis"), self_signed(tmp_path, "herdwatch")

    def scrape(port: int, **files: Path) -> Scrape:
        async def work() -> Scrape:
            collector = CacheCollector(at(port, "rediss", **files), timeout=GENEROUS_SECONDS)
            try:
                return await collector.scrape()
            finally:
                await collector.aclose()

        return asyncio.run(work())

    trusting = {"tls_ca_file": theirs.certificate}
    presenting = {**trusting, "tls_cert_file": ours.certificate, "tls_key_file": ours.key}
    with fakes.serving(secured(theirs)) as port:
        assert scrape(port).failure == "tls"
        assert scrape(port, **trusting).failure is None
        assert scrape(port, tls_ca_file=tmp_path / "missing.pem").failure == "tls"
    with fakes.serving(secured(theirs, authority=ours.certificate)) as port:
        assert scrape(port, **presenting).failure is None
        assert scrape(port, **trusting).failure in ("tls", "other")


def test_the_database_of_a_socket_s_url_is_selected(supervisor: Supervisor, tmp_path: Path) -> None:
    redis = RedisServer(supervisor, "--unixsocket", str(tmp_path / "redis.sock"), name="socket")
    cache = Cache(name="users", url=f"unix://{tmp_path}/redis.sock?db=5")
    assert run(lambda link: link.ask([("SET", "here", "x")]), cache) == [b"OK"]
    assert (cache.instance, cache.logical_database) == (f"{tmp_path}/redis.sock", 5)
    with redis.client(db=5) as client:
        assert client.get("here") == b"x"


def test_no_command_has_no_reply_and_waits_for_none(shared: RedisServer) -> None:
    cache = Cache(name="users", url=shared.url)
    assert run(lambda link: link.ask([]), cache) == []


def test_a_password_is_not_remembered_with_the_commands(shared: RedisServer, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("correct-horse")
    with shared.client() as client:
        client.execute_command("ACL", "SETUSER", "watch", "on", ">correct-horse", "-@all", "+info")
    _packed.cache_clear()

    async def work(link: Link) -> list[Any]:
        return await link.ask(INFO)

    [found] = run(work, at(shared.port, username="watch", password_file=tmp_path / "password"))
    assert b"redis_version" in found
    assert _packed.cache_info().currsize == 1
