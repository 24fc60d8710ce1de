"""The file behind --web.config.file: what a wrong one is told, and what a reload takes from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.certificates import openssl, self_signed

from herdwatch.errors import ConfigError
from herdwatch.server import Web
from herdwatch.server.web_config import load

HASH = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG"
TLS = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
TLS_KEYS = "cert_file, key_file, client_auth_type, client_ca_file, min_version"
NO_HASH = (
    "must be a bcrypt hash: $2a$, $2b$ or $2y$, a cost from 04 to 14, '$' and 53 characters; "
    "make one with: htpasswd -nBC 10 '' (Debian's apache2-utils)"
)

Write = Callable[[str], Path]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pairs, and with files that are something else."""
    folder = tmp_path_factory.mktemp("certificates")
    server = self_signed(folder, "server")
    self_signed(folder, "other", kind="rsa")
    openssl("ec", "-in", server.key, "-aes128", "-passout", "pass:hunter2", "-out", folder / "locked.key")
    (folder / "prose.txt").write_text("no certificate and no key, not even in part: é", encoding="utf-8")
    return folder


@pytest.fixture
def write(certificates: Path) -> Write:
    """Put the text into web.yml beside the certificates."""

    def file(text: str) -> Path:
        path = certificates / "web.yml"
        path.write_text(text)
        return path

    return file


def user(password: str, name: str = "alice") -> str:
    return f"basic_auth_users:\n  {name}: {password}\n"


def tls(line: str) -> str:
    return f"{TLS}  {line}\n"


def pair(certificate: str, key: str) -> str:
    return f"tls_server_config:\n  cert_file: {certificate}\n  key_file: {key}\n"


WRONG = {
    "an unknown key": ("web: 1\n", "1: web: unknown key; known here: tls_server_config, basic_auth_users"),
    "an unknown key of TLS": (tls("ciphers: x"), f"4: tls_server_config.ciphers: unknown key; known here: {TLS_KEYS}"),
    "the toolkit's rate limit": (
        f"{TLS}rate_limit:\n  burst: 20\n",
        "4: rate_limit: not supported; supported here: tls_server_config, basic_auth_users",
    ),
    "the toolkit's HTTP settings": (
        "http_server_config:\n  http2: true\n",
        "1: http_server_config: not supported; supported here: tls_server_config, basic_auth_users",
    ),
    "a client policy that Python cannot hold": (
        tls("client_auth_type: RequireAnyClientCert"),
        "4: tls_server_config.client_auth_type: RequireAnyClientCert is not supported: Python's TLS asks for a "
        "certificate only to verify it; use VerifyClientCertIfGiven or RequireAndVerifyClientCert",
    ),
    "a client policy that nobody knows": (
        tls("client_auth_type: Sometimes"),
        "4: tls_server_config.client_auth_type: must be one of NoClientCert, VerifyClientCertIfGiven, "
        "RequireAndVerifyClientCert",
    ),
    "clients to verify by no authority": (
        tls("client_auth_type: RequireAndVerifyClientCert"),
        "4: tls_server_config.client_auth_type: RequireAndVerifyClientCert needs client_ca_file: else any authority "
        "in the world would do",
    ),
    "an authority for nothing": (
        tls("client_ca_file: server.crt"),
        "4: tls_server_config.client_ca_file: is of no use without client_auth_type: RequireAndVerifyClientCert",
    ),
    "an old TLS": (
        tls("min_version: TLS11"),
        "4: tls_server_config.min_version: TLS11 is not supported: it is no longer safe; use TLS12 or TLS13",
    ),
    "a TLS that is none": (tls("min_version: 1.2"), "4: tls_server_config.min_version: must be TLS12 or TLS13"),
    "TLS without a key": (
        "tls_server_config:\n  cert_file: server.crt\n",
        "1: tls_server_config.key_file: is required",
    ),
    "TLS without anything": ("tls_server_config:\n", "1: tls_server_config: must be a mapping of keys"),
    "a certificate without a name": (
        pair("", "server.key"),
        "2: tls_server_config.cert_file: a file is its path: printable characters, at least one",
    ),
    "a certificate that is not there": (
        pair("gone.crt", "server.key"),
        "2: tls_server_config.cert_file: FOLDER/gone.crt cannot be read: No such file or directory",
    ),
    "a certificate that is a folder": (
        pair("/", "server.key"),
        "2: tls_server_config.cert_file: / cannot be read: Is a directory",
    ),
    "a certificate that is none": (
        pair("prose.txt", "server.key"),
        "2: tls_server_config.cert_file: FOLDER/prose.txt holds no certificate in PEM form",
    ),
    "a key that is not there": (
        pair("server.crt", "gone.key"),
        "3: tls_server_config.key_file: FOLDER/gone.key cannot be read: No such file or directory",
    ),
    "a key that is none": (
        pair("server.crt", "prose.txt"),
        "3: tls_server_config.key_file: FOLDER/prose.txt holds no private key in PEM form",
    ),
    "the key of another certificate": (
        pair("server.crt", "other.key"),
        "3: tls_server_config.key_file: FOLDER/other.key is not the key of the certificate in FOLDER/server.crt",
    ),
    "a key that is locked": (
        pair("server.crt", "locked.key"),
        "3: tls_server_config.key_file: FOLDER/locked.key is encrypted; give a key without a passphrase",
    ),
    "an authority that is none": (
        tls("client_auth_type: VerifyClientCertIfGiven") + "  client_ca_file: server.key\n",
        "5: tls_server_config.client_ca_file: FOLDER/server.key holds no certificate in PEM form",
    ),
    "a password in plain text": (user("hunter2"), f"2: basic_auth_users.alice: {NO_HASH}"),
    "a password that looks like a date": (user("2024-13-45"), f"2: basic_auth_users.alice: {NO_HASH}"),
    "a password that YAML takes for an alias": (user("*hunter2"), "2: not valid YAML: found undefined alias ..."),
    "a password that YAML takes for a tag": (
        user("!hunter2"),
        "2: not valid YAML: could not determine a constructor for the tag ...",
    ),
    "a hash of another kind": (user("$2x$" + HASH[4:]), f"2: basic_auth_users.alice: {NO_HASH}"),
    "a hash that is cut off": (user(HASH[:-1]), f"2: basic_auth_users.alice: {NO_HASH}"),
    "a cost below what bcrypt knows": (user(HASH.replace("$10$", "$03$")), f"2: basic_auth_users.alice: {NO_HASH}"),
    "a cost above what bcrypt knows": (user(HASH.replace("$10$", "$32$")), f"2: basic_auth_users.alice: {NO_HASH}"),
    "a cost that takes seconds": (
        user(HASH.replace("$10$", "$15$")),
        "2: basic_auth_users.alice: cost 15 is refused: each check would take seconds; use at most 14",
    ),
    "a user with a colon": (
        user(HASH, "'a:b'"),
        "2: basic_auth_users.a:b: a user's name is printable text without ':', which basic auth could not carry",
    ),
    "a list of users": ("basic_auth_users: [alice]\n", "1: basic_auth_users: must be a mapping of keys"),
    "a user given twice": (
        user(HASH) + f"  alice: {HASH}\n",
        "3: not valid YAML: the key ... is given twice",
    ),
    "nothing at all": ("", "1: the top level is empty; it must be a mapping of keys such as tls_server_config:"),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_a_wrong_file_is_told_with_its_line_and_without_its_secrets(write: Write, sentence: str) -> None:
    text, told = WRONG[sentence]
    path = write(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == f"{path}:{told.replace('FOLDER', str(path.parent))}"
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "key",
    [
        "cert",
        "key",
        "client_ca",
        "client_allowed_sans",
        "max_version",
        "cipher_suites",
        "prefer_server_cipher_suites",
        "curve_preferences",
    ],
)
def test_what_the_toolkit_knows_and_we_do_not_is_refused_by_name(write: Write, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(tls(f"{key}: hunter2")))
    assert str(caught.value).endswith(f":4: tls_server_config.{key}: not supported; supported here: {TLS_KEYS}")


GOOD = {
    "nothing but users": user(HASH),
    "the form of every tool": "".join([user("$2a$" + HASH[4:]), f"  bob: $2b${HASH[4:]}\n  '7': {HASH}\n"]),
    "a user whose name is a number": user(HASH, "7"),
    "nobody": "basic_auth_users: {}\n",
    "TLS": TLS,
    "TLS by absolute paths": pair("FOLDER/server.crt", "FOLDER/server.key"),
    "TLS 1.3 alone": tls("min_version: TLS13"),
    "no client certificates, said aloud": tls("client_auth_type: NoClientCert"),
    "client certificates": tls("client_auth_type: RequireAndVerifyClientCert") + "  client_ca_file: other.crt\n",
    "TLS and users": TLS + user(HASH),
}


@pytest.mark.parametrize("sentence", GOOD)
def test_a_right_file_is_taken_from_whatever_folder_the_exporter_was_started_in(
    write: Write, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(GOOD[sentence])
    path.write_text(path.read_text().replace("FOLDER", str(path.parent)))
    monkeypatch.chdir(tmp_path)
    web = Web(path)
    assert (web.tls is not None) is ("tls_server_config" in GOOD[sentence])
    assert HASH[:10] not in repr(load(path)) + repr(web)


def test_a_file_that_is_not_there_is_told_with_its_option(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yml: no such file; it is what --web\.config\.file names$"):
        Web(tmp_path / "gone.yml")


def test_without_a_file_everyone_is_let_in_and_a_reload_changes_nothing() -> None:
    web = Web()
    web.reload()
    assert (web.tls, web.users) == (None, {})


def test_a_reload_takes_new_users_and_a_new_certificate(write: Write) -> None:
    web = Web(write(TLS + user(HASH)))
    before = web.tls
    write(pair("other.crt", "other.key") + user(HASH, "bob"))
    web.reload()
    assert web.users == {b"bob": HASH.encode()}
    assert web.tls is not before


def test_a_reload_of_a_wrong_file_changes_nothing(write: Write) -> None:
    web = Web(write(TLS + user(HASH)))
    before = (web.tls, web.users)
    for wrong in (pair("server.crt", "other.key"), user("hunter2"), "{"):
        write(wrong)
        with pytest.raises(ConfigError, match=r"web\.yml:\d"):
            web.reload()
        assert (web.tls, web.users) == before


@pytest.mark.parametrize(("first", "second", "told"), [(TLS, user(HASH), "off"), (user(HASH), TLS, "on")])
def test_a_reload_cannot_turn_tls_on_or_off(write: Write, first: str, second: str, told: str) -> None:
    web = Web(write(first))
    users = web.users
    write(second)
    with pytest.raises(ConfigError, match=rf"web\.yml: a reload cannot turn TLS {told}; restart the exporter for that"):
        web.reload()
    assert web.users == users
