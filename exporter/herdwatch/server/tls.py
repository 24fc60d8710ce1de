"""Certificates and keys from files, as the TLS context of a server."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

Context = ssl.SSLContext

_MISMATCHES = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
"""How OpenSSL's versions say that a key belongs to another certificate, of the same or of another kind."""

_WEAKNESSES = ("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK")


class WrongFile(ValueError):
    """A file does not serve; `key` is what the configuration calls it."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


class _Encrypted(Exception):
    """The key asks for a passphrase; OpenSSL would ask the terminal."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: a certificate with its chain, its key, and the authority whose clients are let in."""

    certificate: Path
    key: Path
    client_authority: Path | None = None

    def context(self, *, required: bool, newest_only: bool) -> Context:
        """The context of a server that these files make; raises WrongFile with a sentence that names the file.

        With a client authority a client's certificate is verified; `required` refuses who has none. `newest_only`
        takes TLS 1.3 alone, else 1.2 does as well.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3 if newest_only else ssl.TLSVersion.TLSv1_2
        # A client that renegotiates costs the server a signature for every message of its own.
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(["http/1.1"])
        self._load_pair(context)
        if self.client_authority is not None:
            _load_authority(context, self.client_authority, "client_ca_file")
            context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
        return context

    def _load_pair(self, context: Context) -> None:
        _load_authority(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), self.certificate, "cert_file")
        _readable(self.key, "key_file")
        try:
            context.load_cert_chain(self.certificate, self.key, password=_no_passphrase)
        except _Encrypted:
            raise WrongFile("key_file", f"{self.key} is encrypted; give a key without a passphrase") from None
        except ssl.SSLError as error:
            if error.reason in _MISMATCHES:
                message = f"{self.key} is not the key of the certificate in {self.certificate}"
            elif error.reason in _WEAKNESSES:
                raise WrongFile("cert_file", f"{self.certificate} is too weak for OpenSSL: {error.reason}") from None
            else:
                message = f"{self.key} holds no private key in PEM form"
            raise WrongFile("key_file", message) from None


def _load_authority(context: Context, path: Path, key: str) -> None:
    _readable(path, key)
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError:
        raise WrongFile(key, f"{path} holds no certificate in PEM form") from None


def _readable(path: Path, key: str) -> None:
    """Find out what OpenSSL does not tell: which file it is, and why it cannot be read."""
    try:
        with path.open("rb") as file:
            file.read(1)
    except (OSError, ValueError) as error:
        raise WrongFile(key, f"{path} cannot be read: {getattr(error, 'strerror', error)}") from None


def _no_passphrase() -> str:
    raise _Encrypted
