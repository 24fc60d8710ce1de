"""The servers of a stack, each on a free port of 127.0.0.1 and ready when its constructor returns."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from herdwatch.stack import http
from herdwatch.stack.processes import Process, Supervisor, free_port
from herdwatch.tools import find


class RedisServer:
    """A redis-server without persistence: what is killed comes back empty. `options` are its own arguments."""

    def __init__(self, supervisor: Supervisor, *options: str, name: str = "redis", port: int | None = None) -> None:
        self._supervisor = supervisor
        self._name = name
        self._options = options
        self.port = port or free_port()
        self.process = self._start()

    @property
    def url(self) -> str:
        """redis://127.0.0.1:PORT/0"""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def address(self) -> str:
        """127.0.0.1:PORT"""
        return f"127.0.0.1:{self.port}"

    def client(self, **options: Any) -> Redis:
        """A client whose every wait is bounded by two seconds and that retries nothing."""
        return Redis(
            **{
                "host": "127.0.0.1",
                "port": self.port,
                "socket_timeout": 2.0,
                "socket_connect_timeout": 2.0,
                "retry": Retry(NoBackoff(), 0),
                "protocol": 2,
                "driver_info": None,
                **options,
            }
        )

    def kill(self) -> None:
        """SIGKILL: memory is gone."""
        self.process.kill()
        self._supervisor.forget(self.process)

    def restart(self) -> None:
        """Start a new process at the same address."""
        self.process = self._start()

    def _start(self) -> Process:
        tool = find("redis-server")
        folder = self._supervisor.folder / self._name
        folder.mkdir(exist_ok=True)
        settings = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder), "--daemonize", "no"]
        settings += ["--save", "", "--appendonly", "no", *self._options]
        process = self._supervisor.start(self._name, tool.command(*settings), env=tool.env, cwd=tool.cwd)
        process.wait_until(lambda: self._answers(process))
        return process

    def _answers(self, process: Process) -> bool:
        with self.client(socket_timeout=1.0) as client:
            try:
                # Where the port was taken another one answers, while this one is still about to end.
                return bool(client.info("server")["process_id"] == process.pid)
            except RedisError as error:
                return "NOAUTH" in str(error) or "Authentication required" in str(error)


class ExporterServer:
    """`herdwatch exporter` as a process of its own, from a configuration file whose `exporter.listen` it takes.

    With `web_config`, the file of `--web.config.file`, only who it lets in is answered; `url` is https where it is.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        config: Path,
        *,
        listen: str,
        runbooks: Path | None = None,
        web_config: Path | None = None,
    ) -> None:
        self.url = f"http://{listen}"
        command = [sys.executable, "-m", "herdwatch", "exporter", "--config", str(config)]
        if runbooks is not None:
            command += ["--runbooks", str(runbooks)]
        if web_config is not None:
            command += ["--web.config.file", str(web_config)]
        self.process = supervisor.start("exporter", command)
        if web_config is None:
            self.process.wait_until(lambda: http.answers(f"{self.url}/-/ready"))
        else:
            self.process.wait_until(lambda: f"://{listen}\n" in self.process.log.read_text(errors="replace"))
            if f"https://{listen}\n" in self.process.log.read_text(errors="replace"):
                self.url = f"https://{listen}"


class PrometheusServer:
    """A Prometheus on a rendered configuration; its data is in the supervisor's folder."""

    def __init__(self, supervisor: Supervisor, config: Path) -> None:
        tool = find("prometheus")
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        arguments = [
            f"--config.file={config}",
            f"--storage.tsdb.path={supervisor.folder / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
        ]
        self.process = supervisor.start("prometheus", tool.command(*arguments), env=tool.env, cwd=tool.cwd)
        self.process.wait_until(lambda: http.answers(f"{self.url}/-/ready"))

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The result of an instant query: a vector's samples as Prometheus's API gives them."""
        data = http.get_json(f"{self.url}/api/v1/query", query=expr)
        result: list[dict[str, Any]] = data["data"]["result"]
        return result

    def value(self, expr: str) -> float | None:
        """The value of the first sample of an instant query, or None when it has none."""
        result = self.query(expr)
        return float(result[0]["value"][1]) if result else None


class AlertmanagerServer:
    """An Alertmanager on a rendered configuration, at an address that Prometheus already knows; no cluster."""

    def __init__(self, supervisor: Supervisor, config: Path, *, listen: str) -> None:
        tool = find("alertmanager")
        self.url = f"http://{listen}"
        arguments = [
            f"--config.file={config}",
            f"--storage.path={supervisor.folder / 'alertmanager'}",
            f"--web.listen-address={listen}",
            "--cluster.listen-address=",
            "--log.level=warn",
        ]
        self.process = supervisor.start("alertmanager", tool.command(*arguments), env=tool.env, cwd=tool.cwd)
        self.process.wait_until(lambda: http.answers(f"{self.url}/-/ready"))

    def alerts(self) -> list[dict[str, Any]]:
        """What it holds now, with status and inhibitedBy, as its API gives it."""
        alerts: list[dict[str, Any]] = http.get_json(f"{self.url}/api/v2/alerts")
        return alerts
