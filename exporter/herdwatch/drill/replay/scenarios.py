"""What can happen to a cache in a drill. A new scenario is one function and one entry in SCENARIOS."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from herdwatch.drill.replay import loader
from herdwatch.drill.replay.cast import Cast
from herdwatch.drill.replay.frames import Control
from herdwatch.drill.replay.levels import Level
from herdwatch.errors import StackError
from herdwatch.guard import switches
from herdwatch.stack import Process, RedisServer

HANG_SECONDS = 60.0
LOOPS, LOOP_SECONDS = 4, 18.0
SWITCH_SECONDS = 6.0
"""Until every process of the application has read a switch."""
EXPIRY_SECONDS = 3.0
COMMAND_SECONDS = 120.0
HERDWATCH = (sys.executable, "-m", "herdwatch")
WARM_SHARE = 0.9
"""Of the database's capacity, for the warm-up."""
RESTARTED = "CacheRestarted"


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a scenario happens. `capacity` is that of the database, queries a second; `config` is herdwatch.yaml."""

    cast: Cast
    config: Path
    capacity: float


Act = Callable[[Scene], Iterator[float]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """`act` does it, at the fault, and yields seconds to wait; it goes on for `watch` seconds altogether.

    `told` are the alerts that should fire, by level where that matters; `level` is the one where nothing else is asked
    for. `replicas` says how many there are. `overruns` means that it overruns the database whatever protects it.
    """

    name: str
    about: str
    act: Act
    told: tuple[str, ...] = ()
    told_unprotected: tuple[str, ...] = ()
    level: Level = Level.LIMITER
    watch: float = 36.0
    overruns: bool = False


def restart(scene: Scene) -> Iterator[float]:
    cast = scene.cast
    if cast.level == Level.REPLICA:
        yield from _promoted_restart(scene)
    elif cast.level == Level.WARM:
        yield from _warm_restart(scene)
    else:
        _kill_and_start(cast)
        yield 0


def flush(scene: Scene) -> Iterator[float]:
    with scene.cast.redis.client() as client:
        client.flushall()
    yield 0


def hang(scene: Scene) -> Iterator[float]:
    process = scene.cast.redis.process
    process.send(signal.SIGSTOP)
    yield HANG_SECONDS
    process.send(signal.SIGCONT)


def crash_loop(scene: Scene) -> Iterator[float]:
    for _ in range(LOOPS):
        _kill_and_start(scene.cast)
        yield LOOP_SECONDS


def mass_expiry(scene: Scene) -> Iterator[float]:
    # Everything was loaded together once, and nothing spread the ends.
    scene.cast.fill(ends=time.time() + EXPIRY_SECONDS)
    yield EXPIRY_SECONDS


def singleflight_off(scene: Scene) -> Iterator[float]:
    with scene.cast.redis.client() as client:
        client.hset(switches.KEY, "singleflight", "off")
    yield SWITCH_SECONDS
    _kill_and_start(scene.cast)


def deploy(scene: Scene) -> Iterator[float]:
    cast = scene.cast
    for path in cast.sockets:
        cast.retire(path)
        cast.hire(path)
        cast.wait_until_open([path])
        yield 2.0


def _kill_and_start(cast: Cast) -> None:
    cast.redis.kill()
    cast.redis.restart()


def _warm_restart(scene: Scene) -> Iterator[float]:
    cast = scene.cast
    cast.control(Control.CLOSE)
    _kill_and_start(cast)
    yield from ended(_warm_up(scene))
    cast.control(Control.OPEN)


def _warm_up(scene: Scene) -> Process:
    """`herdwatch warm`, as the runbook has it, with the application's own journal and loader."""
    cast, scale = scene.cast, scene.cast.scale
    environment = loader.Job(
        cast.dsn, scale.pool * scale.workers, scale.query, scale.patience, str(cast.log("worker-warm"))
    ).write(cast.log("warm").with_suffix(".json"))
    command = [*HERDWATCH, "warm", "--loader", "herdwatch.drill.replay.loader:load"]
    command += ["--journal", str(cast.journal), "--config", str(scene.config), "--cache", cast.name]
    command += ["--until-hit-ratio", "capacity", "--max-rate", f"{WARM_SHARE * scene.capacity:.1f}"]
    command += ["--ttl", f"{scale.ttl:g}", "--concurrency", str(scale.pool * scale.workers)]
    return cast.supervisor.start(f"{cast.name}-warm-up", command, env=environment, ends=True)


def _promoted_restart(scene: Scene) -> Iterator[float]:
    """`herdwatch promote`, and the old primary restarts as a replica when nobody asks it any more."""
    cast = scene.cast
    old, new = cast.servers
    command = ["promote", "--primary", old.url, "--replica", new.url, "--yes"]
    yield from ended(cast.supervisor.start(f"{cast.name}-promotion", [*HERDWATCH, *command], ends=True))
    yield 1.0
    old.kill()
    follows = ("--replicaof", "127.0.0.1", str(new.port))
    cast.servers[0] = RedisServer(cast.supervisor, *follows, name=f"{cast.name}-redis-1", port=old.port)


def ended(process: Process) -> Iterator[float]:
    """Wait for a command; raises StackError when it fails, or does not end."""
    deadline = time.monotonic() + COMMAND_SECONDS
    while process.code is None:
        if time.monotonic() > deadline:
            raise StackError(f"{process.name} did not end within {COMMAND_SECONDS:g} s: {process.last_words()}")
        yield 0.1
    if process.code:
        raise StackError(f"{process.name} failed: {process.last_words()}")


SCENARIOS: Mapping[str, Scenario] = {
    one.name: one
    for one in (
        Scenario("restart", "Redis is killed and comes back empty", restart, (RESTARTED,), (RESTARTED,)),
        Scenario("flush", "somebody runs FLUSHALL", flush, ("CacheKeysLost",), ("CacheKeysLost",)),
        Scenario("hang", "Redis does not answer for a minute", hang, ("CacheDown",), ("CacheDown",), watch=80.0),
        Scenario(
            "crash-loop",
            "Redis is killed four times in a minute, and comes back empty each time",
            crash_loop,
            (RESTARTED, "CacheRestartLoop"),
            (RESTARTED, "CacheRestartLoop"),
            watch=100.0,
        ),
        Scenario("mass-expiry", "all values end at the same moment", mass_expiry, (), ("CacheKeysLost",)),
        Scenario(
            "singleflight-off",
            "singleflight is switched off, and Redis restarts",
            singleflight_off,
            ("SingleflightDisabled", RESTARTED),
            level=Level.REFRESH,
            overruns=True,
            watch=100.0,
        ),
        Scenario("deploy", "the application is replaced process by process", deploy),
    )
}
