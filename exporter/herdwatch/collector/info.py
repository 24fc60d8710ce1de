"""The answer of Redis INFO -> samples of one Redis process.

Source: the Redis command reference, INFO. Whatever the text holds, parsing does not raise: a field that is missing or
unreadable leaves its sample out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from herdwatch.metrics import FLUSH_COMMANDS

Fields = Mapping[str, str]
Sample = tuple[str, tuple[str, ...], float]
"""(family, label values, value)"""

MAX_DATABASES = 1000
LONGEST_WORD = 100
"""What the other side may make of labels."""

_DATABASE = re.compile(r"db[0-9]{1,5}")

_PLAIN = (
    ("cache_hits_total", "keyspace_hits"),
    ("cache_misses_total", "keyspace_misses"),
    ("cache_evicted_keys_total", "evicted_keys"),
    ("cache_expired_keys_total", "expired_keys"),
    ("cache_memory_used_bytes", "used_memory"),
    ("cache_memory_max_bytes", "maxmemory"),
    ("cache_connected_clients", "connected_clients"),
    ("cache_blocked_clients", "blocked_clients"),
    ("cache_rejected_connections_total", "rejected_connections"),
    ("cache_commands_processed_total", "total_commands_processed"),
    ("cache_loading", "loading"),
)


def parse(raw: bytes) -> dict[str, str]:
    """`name:value` lines -> a dictionary; section titles and lines of another form are passed over."""
    lines = raw.decode("utf-8", "replace").split("\r\n")
    return dict([line.split(":", 1) for line in lines if ":" in line])  # a list is a third faster than a generator


def number(fields: Fields, name: str) -> float | None:
    """A field as a non-negative number, or None where it is missing or none."""
    text = fields.get(name, "")
    if not text.isascii() or not text.replace(".", "", 1).isdigit() or len(text) > 30:
        return None
    return float(text)


def pairs(text: str) -> dict[str, str]:
    """`a=1,b=2`, the form of keyspace, commandstats and slave lines."""
    return dict(part.partition("=")[::2] for part in text.split(","))


def server_time(fields: Fields) -> float | None:
    """Redis TIME in Unix seconds."""
    microseconds = number(fields, "server_time_usec")
    return None if microseconds is None else microseconds / 1e6


@dataclass(slots=True)
class ProcessMemory:
    """What must be remembered between two answers of one cache: databases once seen, and which process answered."""

    databases: set[str] = field(default_factory=lambda: {"0"})
    run_id: str | None = None
    start_time: float | None = None
    restarts: int = 0

    def observe(self, fields: Fields) -> None:
        """Take in one answer. Under one run_id the first start time stands."""
        # Only a name of this form is a database: Redis 8 has fields that merely start like one.
        found = (name for name in fields if name[:2] == "db" and _DATABASE.fullmatch(name))
        for name in found:
            if len(self.databases) < MAX_DATABASES:
                self.databases.add(name[2:])
        run_id, now, uptime = fields.get("run_id"), server_time(fields), number(fields, "uptime_in_seconds")
        if run_id == self.run_id and self.start_time is not None:
            return
        if self.run_id is not None and run_id != self.run_id:
            self.restarts += 1
        self.run_id = run_id
        self.start_time = None if now is None or uptime is None else int(now) - uptime


def samples(fields: Fields, memory: ProcessMemory) -> Iterator[Sample]:
    """All samples of INFO but those of replication and commandstats; `memory` has observed these fields."""
    for family, name in _PLAIN:
        value = number(fields, name)
        if value is not None:
            yield family, (), value
    yield from _lookups(fields)
    yield from _databases(fields, memory)
    yield from _loading(fields)
    if memory.start_time is not None:
        yield "cache_start_time_seconds", (), memory.start_time
    yield "cache_restarts_total", (), memory.restarts
    words = (version(fields), fields.get("redis_mode", ""), fields.get("maxmemory_policy", ""))
    yield "cache", tuple(word[:LONGEST_WORD] for word in words), 1


def version(fields: Fields) -> str:
    """A Valkey calls itself Redis 7.2.4 for the sake of old clients, and has its own version beside that."""
    valkey = fields.get("valkey_version")
    return f"valkey {valkey}" if valkey else fields.get("redis_version", "")


def _lookups(fields: Fields) -> Iterator[Sample]:
    hits, misses = number(fields, "keyspace_hits"), number(fields, "keyspace_misses")
    if hits is None or misses is None:
        return
    yield "cache_requests_total", (), hits + misses
    yield "cache_hit_ratio", (), hits / (hits + misses) if hits + misses else float("nan")


def _databases(fields: Fields, memory: ProcessMemory) -> Iterator[Sample]:
    # INFO omits an empty database; a count that vanished instead of falling to 0 would hide a flush.
    for database in sorted(memory.databases, key=int):
        counts = pairs(fields.get(f"db{database}", ""))
        yield "cache_keys", (database,), number(counts, "keys") or 0.0
        yield "cache_expiring_keys", (database,), number(counts, "expires") or 0.0


def keys(fields: Fields, database: int) -> int:
    """Keys of one logical database; 0 where INFO omits it."""
    return int(number(pairs(fields.get(f"db{database}", "")), "keys") or 0)


def _loading(fields: Fields) -> Iterator[Sample]:
    if fields.get("loading") == "0":
        yield "cache_loading_progress_ratio", (), 1.0
    elif (percent := number(fields, "loading_loaded_perc")) is not None:
        yield "cache_loading_progress_ratio", (), percent / 100


def flushes(fields: Fields) -> Iterator[Sample]:
    """Samples of INFO commandstats; a command never called since the process began counts 0."""
    for command in FLUSH_COMMANDS:
        calls = number(pairs(fields.get(f"cmdstat_{command}", "")), "calls")
        yield "cache_flushes_total", (command,), calls or 0.0
