"""What a server says of itself: INFO, and CONFIG GET where the user may.

Sources: the Redis command reference, INFO and CONFIG GET.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, takewhile

from herdwatch.collector import info
from herdwatch.collector.failures import reason
from herdwatch.collector.info import Fields, pairs
from herdwatch.collector.resp import ReplyError
from herdwatch.operations.promote.endpoint import Endpoint, Unreachable, address

_DATABASE = re.compile(r"db[0-9]{1,5}")
NO_FAILOVER = "no-failover"


@dataclass(frozen=True, slots=True)
class Replica:
    """A replica as its primary sees it. `lag` is seconds since it last said how far it is."""

    host: str
    port: int
    state: str
    offset: int
    lag: int

    def __str__(self) -> str:
        return address(self.host, self.port)


@dataclass(frozen=True, slots=True)
class Seen:
    """One server at one moment."""

    endpoint: Endpoint
    fields: Fields

    def __str__(self) -> str:
        return str(self.endpoint)

    def text(self, name: str) -> str:
        """A field of INFO, empty where it is missing."""
        return self.fields.get(name, "")

    def number(self, name: str, default: int = 0) -> int:
        """A whole number of INFO; `default` where it is missing or none."""
        found = info.number(self.fields, name)
        return default if found is None else int(found)

    @property
    def is_primary(self) -> bool:
        """Whether it takes writes."""
        return self.text("role") == "master"

    @property
    def is_replica(self) -> bool:
        """Whether it follows another server."""
        return self.text("role") == "slave"

    @property
    def was_replica(self) -> bool:
        """Whether this process was a replica before it was a primary."""
        return self.text("second_repl_offset") not in ("", "-1")

    @property
    def run_id(self) -> str:
        """Of this process."""
        return self.text("run_id")

    @property
    def leader(self) -> str:
        """HOST:PORT of the server that it follows."""
        return address(self.text("master_host"), self.text("master_port"))

    @property
    def linked(self) -> bool:
        """Whether its link to the primary is up and it has all that a first copy brings."""
        return self.text("master_link_status") == "up" and self.number("master_sync_in_progress") == 0

    @property
    def failing_over(self) -> bool:
        """Whether a FAILOVER runs."""
        return self.text("master_failover_state") not in ("", NO_FAILOVER)

    @property
    def version(self) -> tuple[int, int]:
        """Major and minor version of Redis, or what its descendants say for old clients; (0, 0) if unreadable."""
        found = re.match(r"([0-9]{1,5})\.([0-9]{1,5})", self.text("redis_version"))
        return (int(found[1]), int(found[2])) if found else (0, 0)

    @property
    def keys(self) -> dict[str, int]:
        """Keys by database, those that hold any."""
        return keys(self.fields)

    @property
    def total(self) -> int:
        """Keys in all databases."""
        return sum(self.keys.values())

    @property
    def gone(self) -> int:
        """Keys that expired or were evicted since this process began."""
        return self.number("expired_keys") + self.number("evicted_keys")

    def follows(self, leader: Endpoint) -> bool:
        """Whether it is a replica of that server, by address."""
        return self.is_replica and leader.is_at(self.text("master_host"), self.number("master_port"))

    @property
    def replicas(self) -> tuple[Replica, ...]:
        """Those that follow it, in whatever state."""
        return tuple(replicas(self.fields))


def keys(fields: Fields) -> dict[str, int]:
    """Keys by database, those that hold any."""
    names = (name for name in fields if _DATABASE.fullmatch(name))
    return {name: info.keys(fields, int(name[2:])) for name in names}


def replicas(fields: Fields) -> Iterator[Replica]:
    """Those that follow a server, in whatever state."""
    # Redis numbers them from 0 without a gap.
    for line in takewhile(bool, (fields.get(f"slave{place}", "") for place in count())):
        found = pairs(line)
        number = {name: int(info.number(found, name) or 0) for name in ("port", "offset", "lag")}
        yield Replica(
            found.get("ip", "")[:255], number["port"], found.get("state", ""), number["offset"], number["lag"]
        )


def look(endpoint: Endpoint, *, patience: float | None = None) -> Seen:
    """Ask a server about itself. Raises Unreachable where it gives no INFO, whatever else it says."""
    reply = endpoint.ask(("INFO",), patience=patience)[0]
    if isinstance(reply, bytes):
        fields = info.parse(reply)
        if "role" in fields and "run_id" in fields:
            return Seen(endpoint, fields)
        raise Unreachable(str(endpoint), "protocol", f"what answers at {endpoint} is no Redis; correct the address")
    if isinstance(reply, ReplyError):
        raise Unreachable(str(endpoint), reason(reply), f"{endpoint} refuses INFO: {words(reply)}")
    raise Unreachable(str(endpoint), "protocol", f"what answers at {endpoint} is no Redis; correct the address")


def setting(endpoint: Endpoint, name: str) -> str | None:
    """A value of CONFIG GET, None where the user may not or a service has none."""
    reply = endpoint.ask(("CONFIG", "GET", name))[0]
    if isinstance(reply, list) and len(reply) == 2 and isinstance(reply[1], bytes):
        return reply[1].decode("utf-8", "replace")
    return None


def words(error: ReplyError) -> str:
    """An error reply, fit to be printed."""
    text = str(error).removeprefix("ERR ")
    return "".join(letter for letter in text if letter.isprintable())[:160].rstrip(".")
