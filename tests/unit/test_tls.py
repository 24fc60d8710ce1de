"""TLS over real sockets: who gets through the handshake, who is not waited for, and what a reload changes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.certificates import Pair, self_signed
from tests.front import GET, LIMIT, OK, Server, closed, play, rejected

from herdwatch.server import Web, connections, protocol, serving

VERIFY = "client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: {}"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    folder = tmp_path_factory.mktemp("certificates")
    kinds = {"server": "ec", "renewed": "rsa", "prometheus": "ec", "stranger": "ec"}
    return {name: self_signed(folder, name, kind=kind) for name, kind in kinds.items()}


@pytest.fixture
def write(tmp_path: Path, pairs: dict[str, Pair]) -> Callable[..., Path]:
    """Write web.yml with a pair and further lines, in which {} is the file of a client authority."""

    def file(name: str = "server", lines: str = "", authority: str = "prometheus") -> Path:
        path, pair = tmp_path / "web.yml", pairs[name]
        lines = lines.format(pairs[authority].certificate)
        path.write_text(f"tls_server_config:\n  cert_file: {pair.certificate}\n  key_file: {pair.key}\n  {lines}\n")
        return path

    return file


@pytest.fixture
def client(pairs: dict[str, Pair]) -> Callable[..., ssl.SSLContext]:
    """The context of a client that trusts one server, shows a certificate or none, and sends what it is told to."""

    def context(trusts: str = "server", shows: str | None = None) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=pairs[trusts].certificate)
        if shows is not None:
            made.load_cert_chain(pairs[shows].certificate, pairs[shows].key)
        return made

    return context


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(serving, "SWEEP_SECONDS", 0.02)
    monkeypatch.setattr(serving, "DRAIN_SECONDS", 0.5)
    return monkeypatch


async def outcome(server: Server, context: ssl.SSLContext) -> str:
    """The status line of one request, or an empty text where the handshake or what follows it is refused."""
    try:
        return await server.ask(await server.connect(context))
    except (ssl.SSLError, ConnectionError):
        return ""


def test_requests_are_answered_over_tls(write: Callable[..., Path], client: Callable[..., ssl.SSLContext]) -> None:
    async def script(server: Server) -> None:
        peer = await server.connect(client())
        assert [await server.ask(peer) for _ in range(3)] == [OK] * 3
        assert server.stats.connections == 1
        assert rejected(server) == {}

    play(script, Web(write()))


def test_who_never_says_hello_is_not_waited_for(
    write: Callable[..., Path], client: Callable[..., ssl.SSLContext], short: pytest.MonkeyPatch
) -> None:
    short.setattr(protocol, "HANDSHAKE_SECONDS", 1.0)

    async def script(server: Server) -> None:
        silent = [await server.connect() for _ in range(LIMIT - 1)]
        silent[0][1].write(b"\x16\x03\x01\x02\x00\x01\x00")  # the beginning of a hello
        assert await outcome(server, client()) == OK
        assert [await closed(peer) for peer in silent] == [b""] * len(silent)
        await server.until(lambda: rejected(server) == {"too_slow": LIMIT - 1})
        assert server.stats.connections == 1

    play(script, Web(write()))


def test_who_never_says_hello_makes_room(write: Callable[..., Path], client: Callable[..., ssl.SSLContext]) -> None:
    async def script(server: Server) -> None:
        silent = [await server.connect() for _ in range(LIMIT)]
        await server.until(lambda: server.stats.connections == LIMIT)
        assert [await outcome(server, client()) for _ in range(3)] == [OK] * 3
        assert [await closed(peer) for peer in silent[:3]] == [b""] * 3
        assert rejected(server) == {"too_many": 3}

    play(script, Web(write()))


def test_who_shakes_hands_and_then_says_nothing_is_closed(
    write: Callable[..., Path], client: Callable[..., ssl.SSLContext], short: pytest.MonkeyPatch
) -> None:
    short.setattr(protocol, "REQUEST_SECONDS", 0.1)

    async def script(server: Server) -> None:
        assert await closed(await server.connect(client())) == b""
        assert rejected(server) == {"too_slow": 1}

    play(script, Web(write()))


def test_who_does_not_read_the_answer_is_closed_under_tls_as_well(
    write: Callable[..., Path], client: Callable[..., ssl.SSLContext], short: pytest.MonkeyPatch
) -> None:
    short.setattr(connections, "RESPONSE_SECONDS", 0.3)

    async def script(server: Server) -> None:
        server.big = 20_000_000
        _, writer = await server.connect(client())
        writer.transport.pause_reading()
        writer.write(GET)
        await server.until(lambda: server.asked == 1)
        await server.until(lambda: server.stats.connections == 0)
        assert rejected(server) == {"too_slow": 1}

    play(script, Web(write()))


@pytest.mark.parametrize("sent", [GET, b"\x00" * 100, b"hello\n"])
def test_who_does_not_speak_tls_is_closed(
    write: Callable[..., Path], client: Callable[..., ssl.SSLContext], sent: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    async def script(server: Server) -> None:
        peer = await server.connect()
        peer[1].write(sent)
        assert b"HTTP" not in await closed(peer)
        await server.until(lambda: server.stats.connections == 0)
        assert await outcome(server, client()) == OK

    play(script, Web(write()))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("lines", "expected"), [("", OK), ("min_version: TLS12", OK), ("min_version: TLS13", "")])
def test_the_oldest_version_is_the_one_that_is_configured(
    write: Callable[..., Path], client: Callable[..., ssl.SSLContext], lines: str, expected: str
) -> None:
    async def script(server: Server) -> None:
        older = client()
        older.maximum_version = ssl.TLSVersion.TLSv1_2
        assert await outcome(server, older) == expected
        assert await outcome(server, client()) == OK

    play(script, Web(write(lines=lines)))


@pytest.mark.parametrize(
    ("policy", "shows", "expected"),
    [
        ("RequireAndVerifyClientCert", "prometheus", OK),
        ("RequireAndVerifyClientCert", "stranger", ""),
        ("RequireAndVerifyClientCert", None, ""),
        ("VerifyClientCertIfGiven", "prometheus", OK),
        ("VerifyClientCertIfGiven", "stranger", ""),
        ("VerifyClientCertIfGiven", None, OK),
    ],
)
def test_a_client_is_known_by_its_certificate(
    write: Callable[..., Path],
    client: Callable[..., ssl.SSLContext],
    policy: str,
    shows: str | None,
    expected: str,
) -> None:
    async def script(server: Server) -> None:
        assert await outcome(server, client(shows=shows)) == expected
        assert server.asked == (expected == OK)

    play(script, Web(write(lines=VERIFY.replace("RequireAndVerifyClientCert", policy))))


def test_after_a_reload_new_connections_see_the_new_certificate_and_old_ones_end_with_their_next_answer(
    write: Callable[..., Path], client: Callable[..., ssl.SSLContext]
) -> None:
    web = Web(write())

    async def script(server: Server) -> None:
        old = await server.connect(client())
        assert await server.ask(old) == OK
        write("renewed")
        web.reload()
        assert await outcome(server, client("renewed")) == OK
        assert await outcome(server, client("server")) == ""
        assert await server.ask(old) == OK
        assert await closed(old) == b""

    play(script, web)


def test_after_a_reload_an_authority_that_the_file_dropped_is_trusted_no_more(
    write: Callable[..., Path], client: Callable[..., ssl.SSLContext]
) -> None:
    web = Web(write(lines=VERIFY))

    async def script(server: Server) -> None:
        assert await outcome(server, client(shows="prometheus")) == OK
        write(lines=VERIFY, authority="stranger")
        web.reload()
        assert await outcome(server, client(shows="prometheus")) == ""
        assert await outcome(server, client(shows="stranger")) == OK

    play(script, web)


def test_a_stop_in_the_middle_of_a_handshake_waits_for_nobody(write: Callable[..., Path]) -> None:
    async def script(server: Server) -> None:
        silent = await server.connect()
        await server.until(lambda: server.stats.connections == 1)
        await asyncio.wait_for(serving._drain(server.front), 20)
        assert await closed(silent) == b""
        await server.until(lambda: not server.front.handshakes)

    play(script, Web(write()))
