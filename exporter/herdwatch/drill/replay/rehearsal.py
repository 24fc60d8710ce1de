"""Before the runs: how much load this machine carries, and what two sentences of the seed are worth.

All of it happens to a cache of its own, which nobody watches.
"""

from __future__ import annotations

import socket
import time
from dataclasses import replace

from herdwatch.drill.replay import figures, loader, logs, users
from herdwatch.drill.replay.cast import Cast, soon
from herdwatch.drill.replay.frames import REPLY, REQUEST, Frames, Outcome
from herdwatch.drill.replay.levels import Level
from herdwatch.drill.replay.results import Claim
from herdwatch.drill.replay.scale import LEAST_MULTIPLE, Scale
from herdwatch.drill.replay.scenarios import HERDWATCH, ended
from herdwatch.drill.replay.stage import Behind, refuse_the_dead
from herdwatch.errors import StackError
from herdwatch.stack import RedisServer, Supervisor

HEADROOM = 1.5
"""A herd costs the application more than its hits; what it is to carry is tried with so much more."""
TRY_SECONDS = 3.0
TRY_AGAIN = 0.75
PATIENCE = 3
WORST_P99 = 0.25
"""Seconds. Where a warm cache answers more slowly, it is the machine that is slow."""
BURST = 1000
BURST_SECONDS = 10.0
SEED_KEYS, SEED_BATCH, SEED_PAUSE = 10_000, 100, 0.1
SEED_QUERY = 0.002
"""Seconds: queries as short as the seed's database must have had to take 2,500 a second over a few connections."""
SEED_SECONDS = SEED_KEYS / SEED_BATCH * SEED_PAUSE
SEED_TOLERANCE = 1.25


def allowed(supervisor: Supervisor, behind: Behind, scale: Scale, multiple: float, seed: int) -> float:
    """The largest multiple of the capacity, up to the one wanted, that the application carries from a warm cache.

    Raises StackError where that is less than makes an incident.
    """
    least, tries = min(multiple, LEAST_MULTIPLE), [multiple]
    while tries[-1] * TRY_AGAIN > least:
        tries.append(tries[-1] * TRY_AGAIN)
    # The least of all more than once: what holds a machine up for three seconds may be over after them.
    for number, one in enumerate([*tries, *[least] * PATIENCE], 1):
        cast = Cast.start(supervisor, f"rehearsal-{number}", Level.LIMITER, scale, dsn=behind.dsn, seed=seed)
        carried = _carries(cast, HEADROOM * one * behind.capacity)
        cast.end()
        if carried:
            return one
    raise StackError(
        f"this machine does not carry {least:g} times the database's capacity of {behind.capacity:.0f} "
        "queries a second; end what else runs on it, or use one with more cores"
    )


def _carries(cast: Cast, rate: float) -> bool:
    cast.load(rate, TRY_SECONDS, at=soon())
    cast.loaded()
    load = logs.Load.read(cast.output)
    # The first second is for connections that are opened.
    got = figures.users(load, load.at + 1.0, load.at + TRY_SECONDS)
    return not got.failed and got.p99 is not None and got.p99 <= WORST_P99


def one_query(supervisor: Supervisor, behind: Behind, scale: Scale, seed: int) -> Claim:
    """A thousand requests for one user at the same moment, over all processes of the application."""
    cast = Cast.start(supervisor, "burst", Level.SINGLEFLIGHT, scale, dsn=behind.dsn, seed=seed)
    with cast.redis.client() as client:
        client.delete(users.name(1))
    before = behind.users.queries()
    served = _burst(cast)
    cast.end()
    queries = behind.users.queries() - before
    return Claim(
        f"{BURST} concurrent requests for same user = 1 DB query",
        f"{served} of {BURST} were served by {queries} {'query' if queries == 1 else 'queries'}",
        f"{BURST} requests for a cold key at the same moment, over {scale.workers} processes; PostgreSQL's own count",
        holds=queries == 1 and served == BURST,
    )


def _burst(cast: Cast) -> int:
    lines = []
    try:
        for path in cast.sockets:
            line = socket.socket(socket.AF_UNIX)
            lines.append(line)
            line.settimeout(BURST_SECONDS)
            line.connect(path)
        share = BURST // len(lines)
        for line in lines:
            line.sendall(b"".join(REQUEST.pack(number, 1) for number in range(share)))
        return sum(_served(line, share) for line in lines)
    except OSError as error:
        raise StackError(f"the application did not answer {BURST} requests: {error}") from None
    finally:
        for line in lines:
            line.close()


def _served(line: socket.socket, wanted: int) -> int:
    frames, outcomes = Frames(REPLY), list[int]()
    while len(outcomes) < wanted:
        data = line.recv(1 << 16)
        if not data:
            break
        outcomes += [outcome for _, outcome in frames.feed(data)]
    return outcomes.count(Outcome.SERVED)


def seed_pace(supervisor: Supervisor, behind: Behind, scale: Scale) -> Claim:
    """`herdwatch warm` at the seed's pace, 100 keys each 100 ms, from a database as fast as the seed's."""
    redis = RedisServer(supervisor, name="seed-pace")
    folder = supervisor.folder
    keys, log = folder / "seed-pace.keys", folder / "seed-pace.queries"
    keys.write_text("".join(f"{users.name(number)}\n" for number in range(1, SEED_KEYS + 1)), encoding="ascii")
    short = replace(scale, query=SEED_QUERY)
    environment = loader.Job(behind.dsn, short.pool * short.workers, short.query, short.patience, str(log)).write(
        folder / "seed-pace.json"
    )
    command = [*HERDWATCH, "warm", "--loader", "herdwatch.drill.replay.loader:load"]
    command += ["--keys", str(keys), "--redis-url", redis.url, "--batch", str(SEED_BATCH), "--pause", str(SEED_PAUSE)]
    process = supervisor.start("seed-pace-warm-up", command, env=environment, ends=True)
    for pause in ended(process):
        refuse_the_dead(supervisor)
        time.sleep(pause)
    queries = logs.read(log).queries
    took = max(query.ended for query in queries) - min(query.asked for query in queries)
    with redis.client() as client:
        warm = sum(1 for _ in client.scan_iter(f"{users.name(0)[:-1]}*", count=1000))
    busiest = figures.busiest(query.asked for query in queries)
    return Claim(
        "10,000 keys warmed over ~10 seconds, not instantly",
        f"{warm:,} keys in {took:.1f} s, at most {busiest:,.0f} queries a second",
        f"herdwatch warm --batch {SEED_BATCH} --pause {SEED_PAUSE}, queries of {SEED_QUERY * 1000:g} ms in PostgreSQL",
        holds=warm >= SEED_KEYS and 1 / SEED_TOLERANCE <= took / SEED_SECONDS <= SEED_TOLERANCE,
    )
