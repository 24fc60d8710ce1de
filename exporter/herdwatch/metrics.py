"""Every metric family, declared once. Pure data: the exporter and the guard build from it, tests and pages read it.

Standard library only: the guard, which applications import, stands on this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["gauge", "counter", "info", "histogram"]

FAILURE_REASONS = ("refused", "timeout", "auth", "permission", "tls", "dns", "maxclients", "protocol", "other")
"""The closed set of `cache_failure{reason}`."""

PART_FAILURE_REASONS = (*FAILURE_REASONS, "loading")
"""The closed set of `cache_collector_failure{reason}`: a loading Redis answers INFO and refuses the rest."""

FLUSH_COMMANDS = ("flushall", "flushdb")
LOOKUP_RESULTS = ("hit", "miss", "stale", "negative")
TRIGGERS = ("miss", "refresh", "warm")
SCOPES = ("process", "fleet")
REFRESH_RESULTS = ("ok", "error", "skipped")


@dataclass(frozen=True, slots=True)
class Family:
    """One metric family.

    `name` is the family's name in PromQL: a counter's ends in `_total`; an info family's sample is `<name>_info`.
    `labels` are those the family itself carries: target labels (cache, instance, team) come from the scrape.
    `source` says where the number is read.
    """

    name: str
    kind: Kind
    help: str
    source: str
    labels: tuple[str, ...] = ()

    @property
    def sample(self) -> str:
        """The name of the family's sample as PromQL sees it (for a histogram, the prefix of its three)."""
        return f"{self.name}_info" if self.kind == "info" else self.name


def _gauge(name: str, help: str, source: str, *labels: str) -> Family:
    return Family(name, "gauge", help, source, labels)


def _counter(name: str, help: str, source: str, *labels: str) -> Family:
    return Family(name, "counter", help, source, labels)


PROBE = (
    _gauge("cache_up", "1 if Redis answered INFO inside the deadline, else 0.", "exporter"),
    _gauge(
        "cache_failure",
        "1 for the one reason why Redis did not answer; absent while it does.",
        "exporter",
        "reason",
    ),
    _gauge("cache_collector_success", "1 if this part of the last scrape worked, else 0.", "exporter", "collector"),
    _gauge(
        "cache_collector_failure",
        "1 for the one reason why this part of the last scrape did not work; absent while it does.",
        "exporter",
        "collector",
        "reason",
    ),
    _gauge(
        "cache_collector_duration_seconds",
        "Time until this part of the scrape had its answer.",
        "exporter",
        "collector",
    ),
)
"""Families that are there whatever Redis does."""

REDIS = (
    _gauge("cache_keys", "Keys in a logical database.", "INFO keyspace: keys", "db"),
    _gauge("cache_expiring_keys", "Keys with a time to live in a logical database.", "INFO keyspace: expires", "db"),
    _counter("cache_hits_total", "Lookups that found their key.", "INFO stats: keyspace_hits"),
    _counter("cache_misses_total", "Lookups that did not find their key.", "INFO stats: keyspace_misses"),
    _counter("cache_requests_total", "Lookups: hits plus misses.", "INFO stats: keyspace_hits + keyspace_misses"),
    _gauge(
        "cache_hit_ratio",
        "Hits per lookup since the Redis process started or CONFIG RESETSTAT; NaN before any lookup. "
        "For display: alerts use rates.",
        "INFO stats",
    ),
    _gauge(
        "cache_start_time_seconds",
        "Start of the Redis process in Unix seconds, by its own clock.",
        "INFO server: server_time_usec, uptime_in_seconds, run_id",
    ),
    _counter(
        "cache_restarts_total",
        "Changes of the Redis run_id that this exporter has seen. Information only.",
        "INFO server: run_id",
    ),
    _counter("cache_flushes_total", "Calls of a flush command.", "INFO commandstats", "command"),
    _gauge("cache_loading", "1 while Redis loads its dataset, else 0.", "INFO persistence: loading"),
    _gauge(
        "cache_loading_progress_ratio",
        "Share of the dataset that is loaded; 1 when no load runs.",
        "INFO persistence: loading_loaded_perc",
    ),
    _counter("cache_evicted_keys_total", "Keys evicted because of maxmemory.", "INFO stats: evicted_keys"),
    _counter("cache_expired_keys_total", "Keys that reached their time to live.", "INFO stats: expired_keys"),
    _gauge("cache_memory_used_bytes", "Memory that Redis has allocated.", "INFO memory: used_memory"),
    _gauge("cache_memory_max_bytes", "The maxmemory limit; 0 means none.", "INFO memory: maxmemory"),
    _gauge("cache_connected_clients", "Client connections.", "INFO clients: connected_clients"),
    _gauge("cache_blocked_clients", "Clients waiting in a blocking command.", "INFO clients: blocked_clients"),
    _counter(
        "cache_rejected_connections_total",
        "Connections refused because of maxclients.",
        "INFO stats: rejected_connections",
    ),
    _counter(
        "cache_commands_processed_total", "Commands that Redis has executed.", "INFO stats: total_commands_processed"
    ),
    _gauge("cache_primary", "1 on a primary, 0 on a replica.", "INFO replication: role"),
    _gauge("cache_connected_replicas", "On a primary: replicas in state online.", "INFO replication: slaveN"),
    _gauge(
        "cache_replication_lag_bytes",
        "On a primary: how far the worst online replica is behind; absent without one.",
        "INFO replication: master_repl_offset, slaveN offset",
    ),
    _gauge(
        "cache_replica_link_up",
        "On a replica: 1 while its link to the primary is up, else 0.",
        "INFO replication: master_link_status",
    ),
    Family(
        "cache",
        "info",
        "What runs here.",
        "INFO server, INFO memory",
        ("version", "mode", "maxmemory_policy"),
    ),
)
"""Families of one Redis process. None of them is exported when Redis did not answer."""

KEY_GROUPS = (
    _gauge(
        "cache_key_group_keys",
        "Keys that match the pattern of a key group: an estimate from a sample of random keys, or an exact count.",
        "RANDOMKEY times INFO keyspace: keys; SCAN",
        "group",
    ),
    _gauge(
        "cache_key_group_error_keys",
        "Half-width of the 95 % confidence interval of cache_key_group_keys; 0 for an exact count.",
        "RANDOMKEY times INFO keyspace: keys; SCAN",
        "group",
    ),
    _gauge(
        "cache_key_group_age_seconds",
        "Time since the exact count of the group ended, which runs in the background, in small steps between scrapes; "
        "absent for an estimate, which is made at the scrape.",
        "SCAN",
        "group",
    ),
)
"""Families of key groups, there for a cache that has some configured; the age for groups counted exactly."""

GUARD_COUNTERS = (
    _counter(
        "cache_lookups_total",
        "Lookups as the application saw them.",
        "guard",
        "cache",
        "service",
        "group",
        "result",
    ),
    _counter(
        "singleflight_requests_total",
        "Callers that missed: executions{trigger=miss} + coalesced + stale + shed.",
        "guard",
        "cache",
        "service",
        "group",
    ),
    _counter(
        "singleflight_executions_total",
        "Loader calls, which is what the database saw.",
        "guard",
        "cache",
        "service",
        "group",
        "trigger",
    ),
    _counter(
        "singleflight_coalesced_total",
        "Callers who shared a load that another caller began; its leader is not one of them.",
        "guard",
        "cache",
        "service",
        "group",
        "scope",
    ),
    _counter(
        "singleflight_stale_total",
        "Callers who were given the old value instead of loading or waiting.",
        "guard",
        "cache",
        "service",
        "group",
    ),
    _counter("singleflight_shed_total", "Callers who were turned away.", "guard", "cache", "service", "group"),
    _counter("singleflight_errors_total", "Loader calls that failed.", "guard", "cache", "service", "group"),
    _counter("cache_refreshes_total", "Background refreshes.", "guard", "cache", "service", "group", "result"),
)
"""Counters of applications. Republished from reports they drop `cache`, which the target's label supplies."""

GUARD_GAUGES = (
    _gauge("singleflight_inflight", "Loads that run now.", "guard", "cache", "service"),
    _gauge("singleflight_waiters", "Callers who wait for a load now.", "guard", "cache", "service"),
    _gauge(
        "singleflight_enabled", "1 if every reporter of the service coalesces, else 0.", "guard", "cache", "service"
    ),
    _gauge("cache_warmup_target_keys", "Keys that the warm-up wants to load.", "guard", "cache", "service"),
    _gauge("cache_warmup_done_keys", "Keys that the warm-up has dealt with.", "guard", "cache", "service"),
    _gauge(
        "cache_warmup_active", "1 from the start of a warm-up until it writes its end.", "guard", "cache", "service"
    ),
)

GUARD_HISTOGRAMS = (
    Family(
        "cache_load_duration_seconds",
        "histogram",
        "Time that one loader call took.",
        "guard",
        ("cache", "service", "group"),
    ),
)
"""Scraped from applications only: a report carries no histogram."""

LOAD_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of cache_load_duration_seconds in seconds, from a lookup by primary key to the usual load timeout."""

HTTP_REJECTIONS = ("too_many", "too_slow", "too_large", "unauthorized")
"""The closed set of `herdwatch_http_rejected_total{reason}`."""

SELF = (
    Family("herdwatch_build", "info", "The exporter's own version.", "exporter", ("version",)),
    _counter(
        "herdwatch_config_reloads_total",
        "Reads of the configuration after the start: taken, or refused because it was wrong.",
        "exporter",
        "result",
    ),
    _gauge(
        "herdwatch_config_last_reload_successful",
        "1 if the configuration in force is the one that was read last, else 0.",
        "exporter",
    ),
    _gauge(
        "herdwatch_config_last_success_timestamp_seconds",
        "When the configuration in force was read, in Unix seconds.",
        "exporter",
    ),
    _gauge("herdwatch_http_connections", "Connections to the exporter that are open.", "exporter"),
    _counter(
        "herdwatch_http_rejected_total",
        "Connections and requests that the exporter turned away: one too many, too slow, too large, or not allowed.",
        "exporter",
        "reason",
    ),
    _counter(
        "herdwatch_reports_dropped_total",
        "Application reports that were not used.",
        "exporter",
        "cache",
        "reason",
    ),
)
"""The exporter's own families, on /metrics only."""

REPORT_DROP_REASONS = ("malformed", "version", "stale", "too_many")

REPUBLISHED = GUARD_COUNTERS + GUARD_GAUGES
FAMILIES = PROBE + REDIS + KEY_GROUPS + REPUBLISHED + GUARD_HISTOGRAMS + SELF
BY_NAME = {family.name: family for family in FAMILIES}
BY_SAMPLE = {family.sample: family for family in FAMILIES}
