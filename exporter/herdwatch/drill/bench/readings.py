"""What a process and a Redis have used so far."""

from __future__ import annotations

import os
import re
from pathlib import Path

from redis import Redis

from herdwatch.errors import StackError


def cpu_seconds(pid: int) -> float:
    """User and system CPU of a process, from /proc; raises StackError when it has ended."""
    fields = _told(pid, "stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """What a process has in memory now (RSS), from /proc; raises StackError when it has ended."""
    found = re.search(r"VmRSS:\s+(\d+) kB", _told(pid, "status"))
    if found is None:  # a zombie has no memory
        raise StackError(f"process {pid} has ended")
    return int(found[1]) * 1024


def _told(pid: int, what: str) -> str:
    try:
        return Path(f"/proc/{pid}/{what}").read_text()
    except OSError:
        raise StackError(f"process {pid} has ended") from None


def redis_cpu_seconds(redis: Redis) -> float:
    """User and system CPU of a Redis, by its own account."""
    cpu = redis.info("cpu")
    return float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])


def series(exposition: bytes) -> int:
    """Sample lines of an exposition in text format."""
    return sum(1 for line in exposition.splitlines() if line and not line.startswith(b"#"))
