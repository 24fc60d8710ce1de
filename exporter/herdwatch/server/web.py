"""What is in force of the file behind `--web.config.file`, and how it is replaced while the server runs."""

from __future__ import annotations

from pathlib import Path

from herdwatch.errors import ConfigError
from herdwatch.server.tls import Context
from herdwatch.server.web_config import WebConfig, load


class Web:
    """TLS and users as they are now; without a file: plain HTTP for everyone. Raises ConfigError for a wrong file."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._take(load(path) if path is not None else WebConfig())

    @property
    def tls(self) -> Context | None:
        """What new connections shake hands with, or None for plain HTTP. A reload makes another."""
        return self._tls

    @property
    def users(self) -> dict[bytes, bytes]:
        """User -> bcrypt hash; nobody is asked where it is empty."""
        return self._users

    def reload(self) -> None:
        """Read the file and the certificates again; raises ConfigError, and keeps what there was, if one is wrong.

        Open connections keep their certificate until their next answer, which is their last.
        """
        if self._path is None:
            return
        new = load(self._path)
        if (new.tls_server_config is None) != (self._tls is None):
            state = "off" if new.tls_server_config is None else "on"
            raise ConfigError(f"{self._path}: a reload cannot turn TLS {state}; restart the exporter for that")
        self._take(new)

    def _take(self, config: WebConfig) -> None:
        # A context of its own each time: one that is loaded anew would go on to trust what the file has dropped.
        self._tls = config.tls_server_config.context if config.tls_server_config else None
        self._users = {user.encode(): hashed.encode() for user, hashed in config.basic_auth_users.items()}
