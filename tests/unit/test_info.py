"""INFO as Redis writes it, and as it never should."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdwatch.collector import info, replication
from herdwatch.collector.families import families
from herdwatch.collector.info import ProcessMemory

ANSWER = (
    b"# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nrun_id:aaa\r\n"
    b"server_time_usec:1700000100900000\r\nuptime_in_seconds:100\r\n"
    b"# Clients\r\nconnected_clients:3\r\nblocked_clients:0\r\n"
    b"# Memory\r\nused_memory:1000\r\nmaxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\n"
    b"# Persistence\r\nloading:0\r\n"
    b"# Stats\r\ntotal_commands_processed:50\r\nkeyspace_hits:30\r\nkeyspace_misses:10\r\n"
    b"evicted_keys:1\r\nexpired_keys:2\r\nrejected_connections:0\r\n"
    b"# Replication\r\nrole:master\r\nmaster_repl_offset:900\r\n"
    b"slave0:ip=10.0.0.1,port=6379,state=online,offset=880,lag=0\r\n"
    b"slave1:ip=10.0.0.2,port=6379,state=online,offset=700,lag=1\r\n"
    b"slave2:ip=10.0.0.3,port=6379,state=wait_bgsave,offset=0,lag=0\r\n"
    b"# Keyspace\r\ndb0:keys=5,expires=4,avg_ttl=0\r\ndb3:keys=7,expires=0,avg_ttl=0\r\n"
)


def collected(raw: bytes, memory: ProcessMemory | None = None) -> dict[tuple[str, tuple[str, ...]], float]:
    memory = memory or ProcessMemory()
    fields = info.parse(raw)
    memory.observe(fields)
    samples = [*info.samples(fields, memory), *replication.samples(fields)]
    return {(name, labels): value for name, labels, value in samples}


@pytest.mark.parametrize(
    ("family", "labels", "value"),
    [
        ("cache_keys", ("0",), 5),
        ("cache_keys", ("3",), 7),
        ("cache_expiring_keys", ("0",), 4),
        ("cache_hits_total", (), 30),
        ("cache_misses_total", (), 10),
        ("cache_requests_total", (), 40),
        ("cache_hit_ratio", (), 0.75),
        ("cache_start_time_seconds", (), 1_700_000_000),
        ("cache_loading_progress_ratio", (), 1),
        ("cache_primary", (), 1),
        ("cache_connected_replicas", (), 2),
        ("cache_replication_lag_bytes", (), 200),
        ("cache", ("7.0.15", "standalone", "allkeys-lru"), 1),
    ],
)
def test_a_family_is_read_from_its_field(family: str, labels: tuple[str, ...], value: float) -> None:
    assert collected(ANSWER)[family, labels] == value


def test_the_hit_ratio_is_nan_before_any_lookup() -> None:
    raw = ANSWER.replace(b"keyspace_hits:30", b"keyspace_hits:0").replace(b"keyspace_misses:10", b"keyspace_misses:0")
    assert math.isnan(collected(raw)["cache_hit_ratio", ()])


def test_a_database_once_seen_stays_at_zero_when_info_omits_it() -> None:
    memory = ProcessMemory()
    collected(ANSWER, memory)
    empty = ANSWER.partition(b"# Keyspace")[0]
    after = collected(empty, memory)
    assert (after["cache_keys", ("0",)], after["cache_keys", ("3",)]) == (0, 0)


def test_a_field_that_only_starts_like_a_database_is_none() -> None:
    found = collected(ANSWER + b"db0_distrib_strings_sizes:1=2\r\ndb_size:3\r\n")
    assert {labels for family, labels in found if family == "cache_keys"} == {("0",), ("3",)}


def test_one_process_keeps_its_start_time_although_the_reading_jitters() -> None:
    memory = ProcessMemory()
    first = collected(ANSWER, memory)["cache_start_time_seconds", ()]
    later = ANSWER.replace(b"1700000100900000", b"1700000102100000").replace(b"seconds:100", b"seconds:101")
    assert collected(later, memory)["cache_start_time_seconds", ()] == first
    assert collected(later, memory)["cache_restarts_total", ()] == 0


def test_another_run_id_is_a_restart_with_a_start_time_of_its_own() -> None:
    memory = ProcessMemory()
    collected(ANSWER, memory)
    later = ANSWER.replace(b"run_id:aaa", b"run_id:bbb").replace(b"seconds:100", b"seconds:1")
    after = collected(later, memory)
    assert after["cache_restarts_total", ()] == 1
    assert after["cache_start_time_seconds", ()] == 1_700_000_099


def test_a_replica_tells_its_link_and_nothing_about_replicas() -> None:
    raw = ANSWER.replace(b"role:master", b"role:slave\r\nmaster_link_status:down")
    found = collected(raw)
    assert (found["cache_primary", ()], found["cache_replica_link_up", ()]) == (0, 0)
    assert ("cache_connected_replicas", ()) not in found


def test_a_primary_without_an_online_replica_has_no_lag() -> None:
    found = collected(ANSWER.replace(b"state=online", b"state=wait_bgsave"))
    assert found["cache_connected_replicas", ()] == 0
    assert ("cache_replication_lag_bytes", ()) not in found


def test_progress_of_a_load_is_a_share_of_one() -> None:
    found = collected(ANSWER.replace(b"loading:0", b"loading:1\r\nloading_loaded_perc:42.50"))
    assert (found["cache_loading", ()], found["cache_loading_progress_ratio", ()]) == (1, 0.425)


def test_flush_commands_never_called_count_zero() -> None:
    fields = info.parse(b"# Commandstats\r\ncmdstat_flushall:calls=2,usec=9,usec_per_call=4.50\r\n")
    assert list(info.flushes(fields)) == [
        ("cache_flushes_total", ("flushall",), 2),
        ("cache_flushes_total", ("flushdb",), 0),
    ]


@given(st.binary(max_size=400), st.integers(0, len(ANSWER)))
def test_no_answer_however_broken_raises_or_yields_a_sample_that_cannot_be_exposed(noise: bytes, cut: int) -> None:
    memory = ProcessMemory()
    fields = info.parse(ANSWER[:cut] + noise + ANSWER[cut:])
    memory.observe(fields)
    made = families([*info.samples(fields, memory), *replication.samples(fields), *info.flushes(fields)])
    assert all(sample.value >= 0 or math.isnan(sample.value) for metric in made for sample in metric.samples)
