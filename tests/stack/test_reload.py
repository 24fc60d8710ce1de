"""A running exporter is told by a signal that its files have changed."""

from __future__ import annotations

import signal
from base64 import b64encode
from pathlib import Path

import bcrypt
from tests.waiting import until

from herdwatch.stack import ExporterServer, RedisServer, Supervisor, free_port, http


class Running:
    """An exporter with one cache, `users`, behind one user, and the files that it was started with."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.redis = RedisServer(supervisor)
        self.listen = f"127.0.0.1:{free_port()}"
        self.config, self.web = supervisor.folder / "herdwatch.yaml", supervisor.folder / "web.yml"
        self.watch("users")
        self.let_in("first")
        self.server = ExporterServer(supervisor, self.config, listen=self.listen, web_config=self.web)

    def watch(self, *names: str) -> None:
        caches = "".join(f"- {{name: {name}, url: '{self.redis.url}'}}\n" for name in names)
        self.config.write_text(f"caches:\n{caches}exporter: {{listen: '{self.listen}'}}\n")

    def let_in(self, password: str) -> None:
        hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
        self.web.write_text(f"basic_auth_users: {{prometheus: '{hashed}'}}\n")

    def status(self, path: str, password: str) -> int:
        credentials = b64encode(f"prometheus:{password}".encode()).decode()
        return http.get(f"{self.server.url}{path}", headers={"Authorization": f"Basic {credentials}"})[0]

    def reload(self, word: str) -> None:
        """Send the signal and wait until the log says how it went."""
        before = self.log.count(word)
        self.server.process.send(signal.SIGHUP)
        until(lambda: self.log.count(word) > before)

    @property
    def log(self) -> str:
        return Path(self.server.process.log).read_text()


def test_the_new_files_hold_after_the_signal_and_a_wrong_one_changes_nothing(supervisor: Supervisor) -> None:
    exporter = Running(supervisor)
    assert exporter.status("/probe?target=carts", "first") == 404

    exporter.watch("users", "carts")
    exporter.let_in("second")
    exporter.reload("reloaded: 2 caches")
    assert exporter.status("/probe?target=carts", "second") == 200
    assert exporter.status("/probe?target=carts", "first") == 401

    exporter.watch("users")
    exporter.web.write_text("basic_auth_users: {prometheus: plainly}\n")
    exporter.reload("refused, the old one stays")
    assert exporter.status("/probe?target=carts", "second") == 200, "both files are taken, or neither"
    assert "plainly" not in exporter.log

    exporter.let_in("third")
    exporter.config.write_text("caches: [\n")
    exporter.reload("refused, the old one stays")
    assert exporter.status("/probe?target=carts", "second") == 200
    assert exporter.status("/probe?target=carts", "third") == 401
