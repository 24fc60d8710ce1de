"""The file behind `--web.config.file`: TLS and basic auth, in the format of Prometheus's exporter toolkit.

Source: prometheus/exporter-toolkit, docs/web-configuration.md. What of it is not supported is refused by name.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, ClassVar

import bcrypt
from pydantic import AfterValidator, Field, PrivateAttr, ValidationInfo, model_validator

from herdwatch.config import Section, WrongHere, read, validated
from herdwatch.config.fields import File
from herdwatch.server.tls import Context, TlsFiles, WrongFile

MAX_COST = 14
"""Cost of a bcrypt hash beyond which a check takes seconds; 14 takes about one."""

_HASH = re.compile(r"\$2[aby]\$([0-9]{2})\$([./A-Za-z0-9]{53})")
_TAKEN_CLIENT_AUTH = ("NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert")
_REFUSED_CLIENT_AUTH = ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert")
_TAKEN_VERSIONS = ("TLS12", "TLS13")
_REFUSED_VERSIONS = ("TLS10", "TLS11")


def _client_auth(value: str) -> str:
    if value in _REFUSED_CLIENT_AUTH:
        raise ValueError(
            f"{value} is not supported: Python's TLS asks for a certificate only to verify it; "
            "use VerifyClientCertIfGiven or RequireAndVerifyClientCert"
        )
    if value not in _TAKEN_CLIENT_AUTH:
        raise ValueError(f"must be one of {', '.join(_TAKEN_CLIENT_AUTH)}")
    return value


def _version(value: str) -> str:
    if value in _REFUSED_VERSIONS:
        raise ValueError(f"{value} is not supported: it is no longer safe; use TLS12 or TLS13")
    if value not in _TAKEN_VERSIONS:
        raise ValueError("must be TLS12 or TLS13")
    return value


def _user(value: str) -> str:
    if not value or ":" in value or not value.isprintable():
        raise ValueError("a user's name is printable text without ':', which basic auth could not carry")
    return value


def _hash(value: str) -> str:
    match = _HASH.fullmatch(value)
    if match is None or not 4 <= int(match[1]) <= 31 or not _computes(f"$2b$04${match[2]}"):
        raise ValueError(
            "must be a bcrypt hash: $2a$, $2b$ or $2y$, a cost from 04 to 14, '$' and 53 characters; make one "
            "with: htpasswd -nBC 10 '' (Debian's apache2-utils)"
        )
    if int(match[1]) > MAX_COST:
        raise ValueError(f"cost {match[1]} is refused: each check would take seconds; use at most {MAX_COST}")
    return value


def _computes(cheap: str) -> bool:
    """Whether bcrypt takes salt and digest, tried at its lowest cost: a millisecond."""
    try:
        bcrypt.checkpw(b"", cheap.encode())
    except ValueError:
        return False
    return True


User = Annotated[str, AfterValidator(_user)]
Hash = Annotated[str, AfterValidator(_hash)]


class TlsServer(Section):
    """Block `tls_server_config`. Loading it loads the files it names, so that a wrong one is told with its line."""

    unsupported: ClassVar[frozenset[str]] = frozenset(
        {"cert", "key", "client_ca", "client_allowed_sans", "max_version"}
        | {"cipher_suites", "prefer_server_cipher_suites", "curve_preferences"}
    )

    cert_file: File
    key_file: File
    client_auth_type: Annotated[str, AfterValidator(_client_auth)] = "NoClientCert"
    client_ca_file: File | None = None
    min_version: Annotated[str, AfterValidator(_version)] = "TLS12"

    _context: Context = PrivateAttr()

    @model_validator(mode="after")
    def _loads(self, info: ValidationInfo) -> TlsServer:
        verifies = self.client_auth_type != "NoClientCert"
        if verifies and self.client_ca_file is None:
            message = f"{self.client_auth_type} needs client_ca_file: else any authority in the world would do"
            raise WrongHere(message, "client_auth_type")
        if self.client_ca_file is not None and not verifies:
            raise WrongHere("is of no use without client_auth_type: RequireAndVerifyClientCert", "client_ca_file")
        folder: Path = (info.context or {}).get("folder", Path())
        files = TlsFiles(
            certificate=folder / self.cert_file,
            key=folder / self.key_file,
            client_authority=folder / self.client_ca_file if self.client_ca_file else None,
        )
        try:
            self._context = files.context(
                required=self.client_auth_type == "RequireAndVerifyClientCert", newest_only=self.min_version == "TLS13"
            )
        except WrongFile as error:
            raise WrongHere(str(error), error.key) from None
        return self

    @property
    def context(self) -> Context:
        """What new connections shake hands with."""
        return self._context


class WebConfig(Section):
    """The whole file. `basic_auth_users` maps users to bcrypt hashes; without any, nobody is asked."""

    unsupported: ClassVar[frozenset[str]] = frozenset({"http_server_config", "rate_limit"})

    tls_server_config: TlsServer | None = None
    basic_auth_users: dict[User, Hash] = Field(default={}, repr=False)


def load(path: Path) -> WebConfig:
    """Read and validate the file and what it names; raises ConfigError naming file, line and what would be right.

    Relative paths in it are relative to its folder.
    """
    text = read(path, missing="it is what --web.config.file names")
    context = {"folder": path.parent}
    return validated(text, str(path), WebConfig, example="tls_server_config:", secret=True, context=context)
