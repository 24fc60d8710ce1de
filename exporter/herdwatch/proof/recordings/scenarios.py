"""What is recorded. A new incident is one function and one entry in SCENARIOS."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from dataclasses import replace

from herdwatch.guard import switches
from herdwatch.proof.recordings.scene import Scenario, Scene
from herdwatch.proof.recordings.traffic import Habits
from herdwatch.stack import RedisServer

BATCH = 500
OUTAGE_SECONDS = 60.0
LOOP_SECONDS = 20.0
LOOPS = 6
LOAD_MICROSECONDS = 40_000
"""What each key costs while the dataset loads: about a hundred seconds for two and a half thousand of them."""
PAGES = 400
PAGE_BYTES = 600_000
WARMED = 6_000


def cold_restart(scene: Scene) -> Iterator[float]:
    scene.restart(scene.redis)
    yield 0


def warm_restart(scene: Scene) -> Iterator[float]:
    scene.shut_down(scene.redis)
    scene.redis.restart()
    yield 0


def flush_all(scene: Scene) -> Iterator[float]:
    with scene.redis.client() as client:
        client.flushall()
    yield 0


def flush_the_larger_database(scene: Scene) -> Iterator[float]:
    with scene.redis.client(db=1) as client:
        client.flushdb()
    yield 0


def mass_expiry(scene: Scene) -> Iterator[float]:
    with scene.redis.client() as client:
        keys = list(client.scan_iter("users:*", count=BATCH))
        together = round((time.time() + 2) * 1000)
        for begin in range(0, len(keys), BATCH):
            pipe = client.pipeline(transaction=False)
            for key in keys[begin : begin + BATCH]:
                if hash(key) % 10:
                    pipe.pexpireat(key, together)
            pipe.execute()
    yield 0


def less_memory(scene: Scene) -> Iterator[float]:
    with scene.redis.client() as client:
        memory = client.info("memory")
        client.config_set("maxmemory", int(memory["used_memory"]) - round(0.25 * int(memory["used_memory_dataset"])))
    yield 0


def hung(scene: Scene) -> Iterator[float]:
    scene.redis.process.send(signal.SIGSTOP)
    yield OUTAGE_SECONDS
    scene.redis.process.send(signal.SIGCONT)


def down(scene: Scene) -> Iterator[float]:
    scene.redis.kill()
    yield OUTAGE_SECONDS
    scene.redis.restart()


def cold_crash_loop(scene: Scene) -> Iterator[float]:
    for _ in range(LOOPS):
        scene.restart(scene.redis)
        yield LOOP_SECONDS


def warm_crash_loop(scene: Scene) -> Iterator[float]:
    for _ in range(LOOPS):
        scene.shut_down(scene.redis)
        scene.redis.restart()
        yield LOOP_SECONDS


def long_load(scene: Scene) -> Iterator[float]:
    # While it loads, Redis looks at its connections every 2 MB only: without these that would be never.
    with scene.redis.client() as client:
        for number in range(PAGES):
            client.set(f"pages:{number}", "x" * PAGE_BYTES)
    yield scene.scenario.early
    scene.shut_down(scene.redis)
    slow = (*scene.scenario.options, "--key-load-delay", str(LOAD_MICROSECONDS))
    name = f"{scene.scenario.name}-1"
    scene.servers[0] = RedisServer(scene.supervisor, *slow, name=name, port=scene.redis.port)
    yield 0


def planned_failover(scene: Scene) -> Iterator[float]:
    with scene.redis.client() as client:
        client.execute_command("FAILOVER", "TO", "127.0.0.1", scene.servers[1].port, "TIMEOUT", 10_000)
    yield 0


def replica_lost(scene: Scene) -> Iterator[float]:
    scene.servers[1].kill()
    yield 0


def replica_restarted(scene: Scene) -> Iterator[float]:
    scene.restart(scene.servers[1])
    yield 0


def singleflight_off(scene: Scene) -> Iterator[float]:
    with scene.redis.client() as client:
        client.hset(switches.KEY, "singleflight", "off")
    yield 0


def exporter_restarted(scene: Scene) -> Iterator[float]:
    assert scene.watch is not None  # noqa: S101 - it is there before anything happens
    scene.watch.kill()
    scene.watch.restart()
    yield 0


def exporter_down(scene: Scene) -> Iterator[float]:
    assert scene.watch is not None  # noqa: S101 - it is there before anything happens
    scene.watch.kill()
    yield OUTAGE_SECONDS
    scene.watch.restart()


def statistics_reset(scene: Scene) -> Iterator[float]:
    with scene.redis.client() as client:
        client.config_resetstat()
    yield 0


def deploy(scene: Scene) -> Iterator[float]:
    for old, habits in zip(list(scene.applications), scene.scenario.habits, strict=True):
        scene.serve(replace(habits, fill=0))
        yield 5
        scene.retire(old)
        yield 15


def database_refuses(scene: Scene) -> Iterator[float]:
    scene.applications[0].send(signal.SIGUSR1)
    yield 0


def crawler(scene: Scene) -> Iterator[float]:
    scene.serve(Habits(rate=50, keys=1_000_000, spread=0, fill=0, service="crawler"))
    yield 0


def warm_up_that_stalls(scene: Scene) -> Iterator[float]:
    """Goes on until zero; then it moves no more, and after two minutes the warmer is gone too."""
    moves, stands = int(scene.scenario.early // 5), 24
    for step in range(moves + stands):
        done = min(step, moves) * 200
        with scene.redis.client() as client:
            if step <= moves:
                pipe = client.pipeline(transaction=False)
                for number in range(max(0, done - 200), done):
                    pipe.set(f"warm:{number}", "x" * 200, ex=600)
                pipe.execute()
        scene.warm_up(target=WARMED, done=done)
        yield 5


SCENARIOS = (
    Scenario(
        "cold-restart",
        "Redis is killed and starts again at once, empty; half of its keys are back within a minute.",
        cold_restart,
        ("CacheRestarted",),
    ),
    Scenario("warm-restart", "Redis saves, ends, and starts again with all of its keys.", warm_restart),
    Scenario(
        "cold-restart-slow-refill",
        "Redis restarts empty and needs minutes to refill, while the loads are more than the database takes.",
        cold_restart,
        ("CacheRestarted", "CacheStampede"),
        habits=(Habits(keys=12_000, ttl=3_600),),
        capacity=15,
    ),
    Scenario(
        "cold-restart-with-replica",
        "A primary restarts empty and wipes its replica; both are watched.",
        cold_restart,
        ("CacheRestarted",),
        servers=2,
        watched=2,
    ),
    Scenario("flushall", "Somebody calls FLUSHALL.", flush_all, ("CacheKeysLost",)),
    Scenario(
        "flushdb",
        "Somebody calls FLUSHDB on the larger of two databases.",
        flush_the_larger_database,
        ("CacheKeysLost",),
        habits=(Habits(keys=1_000, rate=25), Habits(db=1, service="search")),
    ),
    Scenario("mass-expiry", "Nine tenths of the keys expire in the same millisecond.", mass_expiry, ("CacheKeysLost",)),
    Scenario(
        "eviction",
        "maxmemory is set below what the keys need, and they are evicted from then on.",
        less_memory,
        ("CacheEvicting",),
        options=("--maxmemory-policy", "allkeys-lru"),
    ),
    Scenario("hung", "Redis is stopped by SIGSTOP for a minute and goes on with all keys.", hung, ("CacheDown",)),
    Scenario("down", "Redis is gone for a minute and comes back empty.", down, ("CacheDown", "CacheRestarted")),
    Scenario(
        "crash-loop-cold",
        "Redis is killed every 20 s, six times, and is empty each time.",
        cold_crash_loop,
        ("CacheRestarted", "CacheRestartLoop"),
    ),
    Scenario(
        "crash-loop-warm",
        "Redis restarts every 20 s, six times, with all of its keys.",
        warm_crash_loop,
        ("CacheRestartLoop",),
    ),
    Scenario(
        "failover",
        "A planned FAILOVER to a warm replica; both addresses are watched and the application follows.",
        planned_failover,
        servers=2,
        watched=2,
    ),
    Scenario(
        "replica-lost", "The only replica dies and stays away.", replica_lost, ("CacheReplicaMissing",), servers=2
    ),
    Scenario(
        "replica-restart",
        "The replica is killed, starts again and gets all keys from its primary; both are watched.",
        replica_restarted,
        servers=2,
        watched=2,
    ),
    Scenario(
        "singleflight-off",
        "Somebody switches singleflight off.",
        singleflight_off,
        ("SingleflightDisabled",),
        habits=(Habits(keys=200, ttl=60, load=40),),
    ),
    Scenario(
        "refresh-failing",
        "The database refuses every load: background refreshes fail and old values are given.",
        database_refuses,
        ("CacheRefreshFailing",),
        habits=(Habits(stale=900, refresh=0.05),),
    ),
    Scenario(
        "warm-up-stalled",
        "A warm-up moves for 40 s and then no more; after two minutes it does not report any more either.",
        warm_up_that_stalls,
        ("CacheWarmupStalled",),
        early=40,
    ),
    Scenario(
        "crawler",
        "A crawler asks for keys that nobody else wants: half of all lookups miss.",
        crawler,
        ("CacheHitRateLow",),
    ),
    Scenario("calm-resetstat", "Somebody calls CONFIG RESETSTAT; nothing else happens.", statistics_reset),
    Scenario(
        "calm-deploy",
        "Two applications are replaced one after the other, as a deploy does.",
        deploy,
        habits=(Habits(rate=25), Habits(rate=25)),
    ),
    Scenario(
        "long-load",
        "Redis restarts and takes well over a minute to load its keys.",
        long_load,
        ("CacheLoading",),
        options=("--rdbcompression", "no"),
        early=20,
    ),
    Scenario("exporter-restart", "The exporter is killed and starts again at once.", exporter_restarted, alone=True),
    Scenario(
        "exporter-down",
        "The exporter is gone for a minute, and the cache is well.",
        exporter_down,
        ("CacheExporterDown",),
        alone=True,
    ),
)
