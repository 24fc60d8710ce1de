"""The runbook's questions: what is answered from which sight, and what is seen of real servers."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from tests.redis.fakes import INFO as INFO_TEXT
from tests.redis.fakes import answering, bulk, serving
from tests.unit.a_prometheus import dripping
from tests.waiting import until

from herdwatch import cli, reports
from herdwatch.config import Cache
from herdwatch.guard import Reporter, SyncGuard, switches
from herdwatch.operations.verify import Answer, Sight, answers, see
from herdwatch.operations.verify.sight import Replica, Sample
from herdwatch.prometheus import Access, Prometheus
from herdwatch.reports import Report, Warmup
from herdwatch.stack import PrometheusServer, RedisServer, Supervisor, free_port

NOW = 1_700_000_000.0
JOB = "herdwatch-applications"
INFO = {
    "redis_version": "7.0.15",
    "role": "master",
    "uptime_in_seconds": "7500",
    "keyspace_hits": "900000",
    "keyspace_misses": "100000",
    "db0": "keys=900,expires=0,avg_ttl=0",
    "db1": "keys=100,expires=0,avg_ttl=0",
}


def report(service: str = "profiles", *, enabled: bool | None = True, at: float = NOW, **more: Any) -> Report:
    return Report(
        service=service, incarnation=f"{at}", start=NOW - 50, at=at, every=10, totals={}, enabled=enabled, **more
    )


def sight(**more: Any) -> Sight:
    return Sight("users", "h:1", NOW, **{"now": NOW, "info": INFO, **more})


def enabled(service: str, value: float, job: str = JOB) -> Sample:
    return Sample({"__name__": "singleflight_enabled", "service": service, "job": job}, value, NOW)


def keys(value: float, instance: str = "h:1") -> Sample:
    return Sample({"__name__": "cache_instance:keys:baseline", "instance": instance}, value, NOW)


def warming(done: int, *, active: bool, at: float = NOW) -> Report:
    return report("warmer", enabled=None, at=at, warmup=Warmup(1000, done, active))


ONLINE = Replica("h:2", "online", 12.0, 990)
ANSWERS: dict[str, tuple[Sight, str, str, str]] = {
    "all processes have it on": (
        sight(reports=(report(), report("orders"), report(at=NOW - 1))),
        *("singleflight", "good", "on in 3 of 3 processes (orders 1 of 1, profiles 2 of 2)"),
    ),
    "one has it off": (
        sight(reports=(report(), report("orders", enabled=False))),
        *("singleflight", "bad", "on in 1 of 2 processes (orders 0 of 1, profiles 1 of 1)"),
    ),
    "a process that is gone counts no more": (
        sight(reports=(report(), report("orders", enabled=False, at=NOW - 61))),
        *("singleflight", "good", "on in 1 of 1 processes (profiles 1 of 1)"),
    ),
    "a switch is off": (
        sight(reports=(report(),), switches={"orders/singleflight": "OFF ", "refresh": "on"}),
        *("singleflight", "bad", "herdwatch:switches says off for orders/singleflight"),
    ),
    "a switch is off for all but who has one of his own": (
        sight(reports=(report(),), switches={"singleflight": "off", "profiles/singleflight": "on"}),
        *(
            "singleflight",
            "good",
            "1 of 1); herdwatch:switches says off for singleflight and on for profiles/singleflight",
        ),
    ),
    "a switch is off for one, who would else have it on": (
        sight(reports=(report(),), switches={"singleflight": "on", "profiles/singleflight": "off"}),
        *("singleflight", "bad", "1 of 1); herdwatch:switches says off for profiles/singleflight"),
    ),
    "a switch is off for others than its owner": (
        sight(reports=(report(), report("orders")), switches={"singleflight": "off", "profiles/singleflight": "on"}),
        *("singleflight", "bad", "says off for singleflight and on for profiles/singleflight"),
    ),
    "switches of something else are off": (
        sight(
            reports=(report(),), switches={"refresh": "off", "profiles/limiter": "off", "tea\x1b": "off", "tea": "off"}
        ),
        *("singleflight", "good", "1 of 1); herdwatch:switches says off for profiles/limiter, refresh"),
    ),
    "a switch that reads otherwise": (
        sight(reports=(report(),), switches={"singleflight": "maybe"}),
        *("singleflight", "good", "on in 1 of 1 processes (profiles 1 of 1)"),
    ),
    "what Prometheus scrapes counts": (
        sight(past=(enabled("api", 1), enabled("api", 0), enabled("republished", 0, "herdwatch"))),
        *("singleflight", "bad", "on in 1 of 2 processes (api 1 of 2)"),
    ),
    "nobody tells": (sight(past=()), "singleflight", "unknown", "— no process reports"),
    "nobody tells and nobody can be asked": (
        sight(),
        *("singleflight", "unknown", "— no process reports; those that are scraped are not known: "),
    ),
    "a warm-up runs": (
        sight(reports=(warming(250, active=True),)),
        *("warm-up", "note", "running: warmer has dealt with 250 of 1,000 keys"),
    ),
    "a warm-up died": (
        sight(reports=(warming(250, active=True, at=NOW - 130),)),
        *(
            "warm-up",
            "bad",
            "died 2 min 10 s ago without an end: warmer has dealt with 250 of 1,000 keys; begin it again",
        ),
    ),
    "a warm-up has ended": (
        sight(reports=(warming(7, active=False, at=NOW - 70), warming(1000, active=False))),
        *("warm-up", "note", "none is running; the last one ended: warmer has dealt with 1,000 of 1,000 keys"),
    ),
    "no warm-up": (sight(), "warm-up", "note", "none is running"),
    "a warm replica": (
        sight(replicas=(ONLINE,)),
        *("replica", "good", "1 of 1 warm: h:2 online, 12 bytes behind, with 99% of the keys"),
    ),
    "a cold replica": (
        sight(replicas=(Replica("h:2", "online", None, 10),)),
        *("replica", "bad", "0 of 1 warm: h:2 online, with 1% of the keys"),
    ),
    "a replica that synchronises": (
        sight(replicas=(Replica("h:2", "wait_bgsave", None, 1000), ONLINE)),
        *("replica", "good", "1 of 2 warm: h:2 wait_bgsave, with 100% of the keys; h:2 online"),
    ),
    "a replica that does not answer": (
        sight(replicas=(Replica("h:2", "online", 0.0, None, "auth"),)),
        *("replica", "bad", "h:2 online, 0 bytes behind, could not be asked for its keys (auth)"),
    ),
    "no replica": (sight(), "replica", "note", "there is none: a restart begins with what is on disk, or with nothing"),
    "a replica with its link down": (
        sight(info=INFO | {"role": "slave", "master_host": "h", "master_port": "6", "master_link_status": "down"}),
        *("replica", "bad", "this is one of h:6; its link is down"),
    ),
    "as many keys as ever": (
        sight(past=(keys(1000), keys(9000, "h:9"), Sample({"__name__": "cache:hit_ratio:short"}, 0.97, NOW))),
        *(
            "how cold",
            "good",
            "1,000 keys, 100% of the most of the last 30m (1,000); hit ratio now 0.97; "
            "hit ratio since Redis started 0.90",
        ),
    ),
    "cold": (sight(past=(keys(10_000),)), "how cold", "bad", "1,000 keys, 10% of the most of the last 30m (10,000)"),
    "as cold as ever since it started, in a window that has only seen it": (
        sight(past=(keys(1000),), before=200_000.0, since=1000.0),
        *("how cold", "bad", "100% of the most of the last 30m (1,000), 0% of the most before it started (200,000)"),
    ),
    "fewer keys than once, long after it was warm again": (
        sight(past=(keys(1000),), before=3000.0, since=2900.0),
        *("how cold", "good", "33% of the most before it started (3,000)"),
    ),
    "warm, in a process that is young": (
        sight(past=(keys(1000),), info=INFO | {"uptime_in_seconds": "90"}, before=1000.0),
        *("how cold", "good", "100% of the most before it started (1,000)"),
    ),
    "a process that is young, with no past but its own": (
        sight(past=(keys(1000),), info=INFO | {"uptime_in_seconds": "1799"}),
        *("how cold", "note", "what there was before it started is not known"),
    ),
    "a past that is not known": (
        sight(no_past="no Prometheus is named", info=INFO | {"keyspace_hits": "0", "keyspace_misses": "0"}),
        *("how cold", "note", "normal is not known: no Prometheus is named; hardly a lookup so far"),
    ),
    "a ratio of a window in which there was another process": (
        sight(
            past=(keys(1000), Sample({"__name__": "cache:hit_ratio:short"}, 0.97, NOW)),
            info=INFO | {"uptime_in_seconds": "90"},
        ),
        *(
            "how cold",
            "note",
            "100% of the most of the last 30m (1,000); what there was before it started is not known; "
            "hit ratio since Redis started 0.90",
        ),
    ),
    "lookups of the exporter alone": (
        sight(info=INFO | {"keyspace_hits": "0", "keyspace_misses": "700"}),
        *("how cold", "note", "hardly a lookup so far"),
    ),
    "enough keys, and an alert that says otherwise": (
        sight(
            past=(
                keys(1000),
                Sample({"__name__": "ALERTS", "alertname": "CacheHitRateLow", "alertstate": "firing"}, 1, NOW),
            )
        ),
        *("how cold", "bad", "100% of the most of the last 30m"),
    ),
    "switches that this user may not read": (
        sight(reports=(report(enabled=False),), switches_hidden="may not be read by this user"),
        *("singleflight", "bad", "herdwatch:switches may not be read by this user"),
    ),
    "reports that this user may not read": (
        sight(past=(), reports_hidden="may not be read by this user"),
        *("singleflight", "unknown", "— herdwatch:reports may not be read by this user"),
    ),
    "reports that may not be read, beside those who are scraped": (
        sight(past=(enabled("api", 1),), reports_hidden="is no hash"),
        *(
            "singleflight",
            "unknown",
            "on in 1 of 1 processes (api 1 of 1); who reports is not known: herdwatch:reports",
        ),
    ),
    "a warm-up that cannot be seen": (
        sight(reports_hidden="is no hash"),
        *("warm-up", "unknown", "— herdwatch:reports is no hash"),
    ),
    "reporters that cannot be seen": (
        sight(past=(), reports_hidden="is no hash"),
        *("reports", "unknown", "— herdwatch:reports is no hash"),
    ),
    "singleflight is off for all, and nobody tells": (
        sight(past=(), switches={"singleflight": "off"}),
        *("singleflight", "bad", "— no process reports; herdwatch:switches says off for singleflight"),
    ),
    "an empty replica of an empty primary": (
        sight(info=INFO | {"db0": "keys=0", "db1": "keys=0"}, replicas=(Replica("h:2", "online", 0.0, 0),)),
        *("replica", "bad", "0 of 1 warm: h:2 online, 0 bytes behind, with 0 keys"),
    ),
    "a replica as cold as its primary": (
        sight(past=(keys(200_000),), replicas=(Replica("h:2", "online", 0.0, 1000),)),
        *("replica", "bad", "0 of 1 warm: h:2 online, 0 bytes behind, with 100% of the keys, 0% of what is normal"),
    ),
    "a replica as cold as its primary, when the window has passed": (
        sight(past=(keys(1000),), before=200_000.0, since=1000.0, replicas=(Replica("h:2", "online", 0.0, 1000),)),
        *("replica", "bad", "0 of 1 warm: h:2 online, 0 bytes behind, with 100% of the keys, 0% of what is normal"),
    ),
    "a ratio that is none": (
        sight(past=(Sample({"__name__": "cache:hit_ratio:short"}, float("nan"), NOW),)),
        *("how cold", "note", "1,000 keys; hit ratio since Redis started 0.90"),
    ),
    "a service that is scraped and reports": (
        sight(reports=(report(),), past=(enabled("profiles", 1), enabled("api", 1))),
        *("reports", "bad", "counted twice, scraped and by reports: profiles; keep one of the two"),
    ),
    "a service that reports, and whose report the exporter tells": (
        sight(reports=(report(),), past=(enabled("profiles", 1, job="herdwatch"), enabled("api", 1, job="anything"))),
        *("reports", "good", "no service counts twice; reporting: 1, scraped: 1"),
    ),
    "a valkey": (
        sight(info={**INFO, "redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "8.1.0"}),
        *("redis", "note", "Valkey 8.1.0, primary"),
    ),
    "each service once": (
        sight(reports=(report(),), past=(enabled("api", 1),), unreadable=2),
        *(
            "reports",
            "good",
            "no service counts twice; reporting: 1, scraped: 1; 2 entries of herdwatch:reports are no",
        ),
    ),
    "who is scraped is not known": (
        sight(reports=(report(),)),
        "reports",
        "unknown",
        "services that report: 1; who is scraped too is not known",
    ),
    "alerts": (
        sight(past=(Sample({"__name__": "ALERTS", "alertname": "CacheDown", "alertstate": "firing"}, 1, NOW),)),
        *("alerts", "bad", "CacheDown"),
    ),
    "no alert": (
        sight(past=(Sample({"__name__": "ALERTS", "alertname": "CacheDown", "alertstate": "pending"}, 1, NOW),)),
        *("alerts", "good", "none is firing"),
    ),
    "a redis that loads": (
        sight(info=INFO | {"loading": "1", "loading_loaded_perc": "41.70"}),
        *("redis", "bad", "Redis 7.0.15 is loading its dataset and refuses every lookup; 42 % is there"),
    ),
    "a redis that answers": (sight(), "redis", "note", "Redis 7.0.15, primary, started 2 h 5 min ago"),
}


@pytest.mark.parametrize("sentence", ANSWERS)
def test_from_what_is_seen_follows(sentence: str) -> None:
    seen, question, verdict, text = ANSWERS[sentence]
    (found,) = [one for one in answers(seen, cache_job="herdwatch") if one.question == question]
    assert (found.verdict, text in found.text) == (verdict, True), found


def test_without_a_redis_nothing_else_is_known() -> None:
    found = answers(sight(failure="Redis at h:1 does not answer"), cache_job="herdwatch")
    assert found[0] == Answer("redis", "bad", "Redis at h:1 does not answer", 0.0)
    assert {one.text for one in found[1:]} == {"—"}


def test_without_a_redis_what_prometheus_knows_is_told_all_the_same() -> None:
    firing = Sample({"__name__": "ALERTS", "alertname": "CacheDown", "alertstate": "firing"}, 1, NOW)
    found = answers(sight(failure="Redis is down", past=(enabled("api", 1), firing)), cache_job="herdwatch")
    assert [one.text for one in found if one.verdict != "unknown"] == [
        "Redis is down",
        "on in 1 of 1 processes (api 1 of 1)",
        "CacheDown",
    ]


RULES = """
groups:
  - name: past
    interval: 1s
    rules:
      - {{record: 'cache_instance:keys:baseline', expr: vector(4000), labels: {{cache: users, instance: '{instance}'}}}}
      - {{record: singleflight_enabled, expr: vector(1), labels: {{cache: users, service: api, job: {job}}}}}
      - {{record: singleflight_enabled, expr: vector(0), labels: {{cache: others, service: api, job: {job}}}}}
      - {{alert: CacheRestarted, expr: vector(1), labels: {{cache: users}}}}
"""


@pytest.fixture
def pair(supervisor: Supervisor) -> Iterator[tuple[RedisServer, RedisServer]]:
    """A primary with a replica that has its thousand keys."""
    primary = RedisServer(supervisor, name="primary")
    with primary.client() as client:
        client.mset({f"user:{number}": number for number in range(1000)})
    replica = RedisServer(supervisor, "--replicaof", "127.0.0.1", str(primary.port), name="replica")
    with primary.client() as client, replica.client() as other:
        until(lambda: client.info("replication").get("slave0", {}).get("state") == "online")
        until(lambda: other.dbsize() == 1000)
        yield primary, replica


def test_a_command_tells_all_of_it_about_real_servers(
    pair: tuple[RedisServer, RedisServer],
    supervisor: Supervisor,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    primary, replica = pair
    (tmp_path / "past.yml").write_text(RULES.format(instance=primary.address, job=JOB))
    (tmp_path / "prometheus.yml").write_text("global: {evaluation_interval: 1s}\nrule_files: [past.yml]\n")
    prometheus = PrometheusServer(supervisor, tmp_path / "prometheus.yml")
    until(lambda: prometheus.value('ALERTS{alertname="CacheRestarted"}') == 1)
    (tmp_path / "herdwatch.yaml").write_text(
        f"caches: [{{name: users, url: 'redis://{primary.address}'}}]\nprometheus: {{url: '{prometheus.url}'}}\n"
    )
    client = redis.Redis(port=primary.port)
    with SyncGuard(client, cache="users", service="profiles", registry=None) as guard, Reporter(guard):
        until(lambda: client.hlen(reports.KEY) == 1)
        code = cli.run(["verify", "--cache", "users", "--config", str(tmp_path / "herdwatch.yaml")])
    client.close()
    out, err = capsys.readouterr()
    lines = {line[3:15].strip(): line for line in out.splitlines()[1:]}
    assert lines["singleflight"].startswith("ok singleflight  on in 2 of 2 processes (api 1 of 1, profiles 1 of 1)")
    assert f"0 of 1 warm: {replica.address} online" in lines["replica"]
    assert lines["replica"].endswith("with 100% of the keys, 25% of what is normal")
    assert lines["how cold"].startswith("!! how cold      1,001 keys, 25% of the most of the last 30m (4,000)")
    assert lines["reports"].startswith("ok reports")
    assert lines["alerts"] == "!! alerts        CacheRestarted"
    assert (code, err) == (1, "herdwatch: cache users: see to replica, how cold, alerts\n")


def test_nothing_that_does_not_answer_is_waited_for_longer_than_asked(
    supervisor: Supervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped = RedisServer(supervisor)
    stopped.process.send(signal.SIGSTOP)
    code = cli.run(["verify", "--redis-url", stopped.url, "--seconds", "0.2", "--json"])
    stopped.process.send(signal.SIGCONT)
    told = json.loads(capsys.readouterr().out)
    assert code == 1
    assert told["answers"][0]["verdict"] == "bad"
    assert "(timeout)" in told["answers"][0]["text"]


ODD = {"a number": b":1\r\n", "a list": b"*1\r\n:1\r\n", "nothing": b"$-1\r\n"}


@pytest.mark.parametrize("sentence", ODD)
def test_what_gives_no_info_is_no_redis(sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(answering({b"INFO": ODD[sentence]})) as port:
        code = cli.run(["verify", "--redis-url", f"redis://127.0.0.1:{port}"])
    out, err = capsys.readouterr()
    assert f"!! redis         Redis at 127.0.0.1:{port} does not answer (protocol)" in out
    assert (code, err) == (1, "herdwatch: cache cache: see to redis\n")


@pytest.mark.parametrize("sentence", [*ODD, "a hash of numbers", "a hash of nothing", "a hash of lists"])
def test_hashes_that_are_none_could_not_be_read(sentence: str) -> None:
    odd = (
        ODD.get(sentence)
        or {
            "a hash of numbers": b"*2\r\n:1\r\n:2\r\n",
            "a hash of nothing": b"*2\r\n$-1\r\n$-1\r\n",
            "a hash of lists": b"*2\r\n*0\r\n*0\r\n",
        }[sentence]
    )
    asked = {f"HGETALL {key}".upper().encode(): odd for key in (reports.KEY, switches.KEY)}
    with serving(answering(asked)) as port:
        seen = asyncio.run(see(Cache(name="users", url=f"redis://127.0.0.1:{port}")))
    assert (seen.failure, seen.reports, seen.switches) == ("", (), {})
    assert (seen.reports_hidden, seen.switches_hidden) == ("could not be read", "could not be read")


@pytest.mark.parametrize(
    ("line", "right"),
    [
        (
            "ip=::ffff:127.0.0.1,port={port},state=online,offset=890",
            "1 of 1 warm: [::ffff:127.0.0.1]:{port} online, 10 b",
        ),
        (
            "ip=127.0.0.1,port={port},state=online,offset=900",
            "1 of 1 warm: 127.0.0.1:{port} online, 0 bytes behind, with 1",
        ),
        ("ip=no such host,port={port},state=online,offset=0", "for its keys (its address cannot be used)"),
        ("ip=127.0.0.1,port=0,state=online,offset=0", "for its keys ("),
    ],
    ids=["IPv6", "IPv4", "no host", "no port"],
)
def test_a_replica_is_asked_at_whatever_address_it_has(line: str, right: str) -> None:
    with serving(answering({})) as replica:
        info = INFO_TEXT + f"slave0:{line.format(port=replica)}\r\n".encode()
        with serving(answering({b"INFO": bulk(info)})) as port:
            seen = asyncio.run(see(Cache(name="users", url=f"redis://127.0.0.1:{port}")))
    (found,) = [one for one in answers(seen, cache_job="herdwatch") if one.question == "replica"]
    assert right.format(port=replica) in found.text


def test_a_prometheus_that_drips_its_headers_is_not_waited_for(shared: RedisServer) -> None:
    """Its questions are in threads that are waited for at the end."""
    ended: list[bool] = []

    def behave(connection: socket.socket) -> None:
        dripping(b"HTTP/1.1 200 OK\r\n", b"X: " + b"y" * 50)(connection)
        ended.append(True)

    with serving(behave) as port:
        api = Prometheus(Access.of(f"http://127.0.0.1:{port}"), seconds=0.3, pause=None)
        seen = asyncio.run(see(Cache(name="users", url=shared.url), api, seconds=0.3))
        assert not ended
    assert "did not answer within 0.3 s" in seen.no_past


def test_a_prometheus_that_is_not_there_is_said_and_the_rest_is_answered(shared: RedisServer) -> None:
    nowhere = Prometheus(Access.of(f"http://127.0.0.1:{free_port()}"), seconds=0.5, pause=None)
    seen = asyncio.run(see(Cache(name="users", url=shared.url), nowhere))
    assert seen.past is None
    assert "cannot be reached" in seen.no_past
    assert seen.info["role"] == "master"


def test_what_lies_at_the_names_of_herdwatch_and_is_none_of_it_is_left_out(shared: RedisServer) -> None:
    with shared.client() as client:
        client.set(reports.KEY, "no hash")
        client.hset("herdwatch:switches", "singleflight", b"\xff")
        seen = asyncio.run(see(Cache(name="users", url=shared.url)))
        client.delete(reports.KEY)
        client.hset(reports.KEY, "x", "no report")
        again = asyncio.run(see(Cache(name="users", url=shared.url)))
        client.flushall()
    assert (seen.failure, seen.reports, seen.reports_hidden) == ("", (), "is no hash")
    assert (again.reports, again.unreadable) == ((), 1)
