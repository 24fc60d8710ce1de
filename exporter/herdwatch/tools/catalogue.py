"""Every external program: its names, the oldest version that will do, where Debian and Homebrew keep it. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

PACKAGES: Mapping[str, tuple[str, ...]] = {
    "promtool": ("promtool",),
    "prometheus": ("prometheus",),
    "alertmanager": ("prometheus-alertmanager",),
    # redis-server is a symbolic link to a program in redis-tools, so the two are only whole in one folder.
    "redis": ("redis-server", "redis-tools"),
    "valkey": ("valkey-server", "valkey-tools"),
    "redis_exporter": ("prometheus-redis-exporter",),
}
"""Folder inside the tools folder -> the Debian packages unpacked into it together."""


@dataclass(frozen=True, slots=True)
class Program:
    """What herdwatch has to know of a program to find it, to judge it, and to say how to install it."""

    name: str
    executables: tuple[str, ...]
    """File names it goes by: the project's own first, then Debian's."""
    roots: tuple[str, ...]
    """Keys of PACKAGES that may hold it, the smallest first; the last one exists in every Debian release."""
    brew: str | None
    """The Homebrew formula, None where there is none."""
    minimum: tuple[int, ...] = ()
    """Oldest version that will do; empty where any will."""

    @property
    def debian(self) -> str:
        """The Debian package that brings it in every release."""
        return PACKAGES[self.roots[-1]][0]


# Prometheus 2.42 is the first to know keep_firing_for, which the rules use.
_PROGRAMS = (
    Program("promtool", ("promtool",), ("promtool", "prometheus"), "prometheus", (2, 42)),
    Program("prometheus", ("prometheus",), ("prometheus",), "prometheus", (2, 42)),
    Program("alertmanager", ("alertmanager", "prometheus-alertmanager"), ("alertmanager",), "alertmanager", (0, 25)),
    Program("amtool", ("amtool",), ("alertmanager",), "alertmanager", (0, 25)),
    Program("redis-server", ("redis-server",), ("redis",), "redis", (6, 2)),
    Program("redis-cli", ("redis-cli",), ("redis",), "redis"),
    Program("valkey-server", ("valkey-server",), ("valkey",), "valkey", (7, 2)),
    Program("redis_exporter", ("redis_exporter", "prometheus-redis-exporter"), ("redis_exporter",), None),
)

PROGRAMS: Mapping[str, Program] = {program.name: program for program in _PROGRAMS}

SERVERS = ("redis-server", "valkey-server")
"""What speaks the Redis protocol; the tests of `make test-servers` run on every version of them that is to be had."""

ALL: tuple[str, ...] = tuple(name for name in PROGRAMS if name not in ("redis_exporter", "valkey-server"))
"""What demo and tests need. redis_exporter is only compared with, in the benchmark, and Valkey is one more server."""
