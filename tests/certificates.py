"""Self-signed certificates, made by the `openssl` command when a test asks for one."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

KINDS = {"ec": ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"], "rsa": ["rsa:2048"]}


@dataclass(frozen=True)
class Pair:
    """The PEM files of a certificate and its key."""

    certificate: Path
    key: Path


def openssl(*arguments: str | Path) -> None:
    """Run the command; what it says is shown when it fails."""
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)  # noqa: S607
    assert done.returncode == 0, done.stderr


def self_signed(folder: Path, name: str, *, kind: str = "ec") -> Pair:
    """A certificate for 127.0.0.1 that is its own authority, valid for a day: NAME.crt and NAME.key in the folder."""
    pair = Pair(folder / f"{name}.crt", folder / f"{name}.key")
    subject = ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "1"]
    files = ["-keyout", pair.key, "-out", pair.certificate]
    openssl("req", "-x509", "-newkey", *KINDS[kind], "-nodes", *files, *subject)
    return pair
