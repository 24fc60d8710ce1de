"""The replication part of Redis INFO -> samples. Source: the Redis command reference, INFO replication."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, takewhile

from herdwatch.collector.info import Fields, Sample, number, pairs


def samples(fields: Fields) -> Iterator[Sample]:
    """Role, and what its side of the link looks like: replicas and lag on a primary, the link on a replica."""
    role = fields.get("role")
    if role == "master":
        yield "cache_primary", (), 1
        yield from _replicas(fields)
    elif role is not None:
        yield "cache_primary", (), 0
        yield "cache_replica_link_up", (), fields.get("master_link_status") == "up"


def _replicas(fields: Fields) -> Iterator[Sample]:
    # Redis numbers them from 0 without a gap.
    replicas = map(pairs, takewhile(bool, (fields.get(f"slave{place}", "") for place in count())))
    online = [replica for replica in replicas if replica.get("state") == "online"]
    yield "cache_connected_replicas", (), len(online)
    end = number(fields, "master_repl_offset")
    offsets = [offset for replica in online if (offset := number(replica, "offset")) is not None]
    if end is not None and offsets:
        yield "cache_replication_lag_bytes", (), max(0.0, end - min(offsets))
