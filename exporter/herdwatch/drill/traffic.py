"""An application of the demo as a process of its own: reads through the cache, loads what it misses, and reports.

Each tick is a batch of concurrent callers. Callers of one batch who miss the same key share one load, which is what
singleflight does; the guard's own telemetry is not needed to report it: one HSET is.
"""

from __future__ import annotations

import argparse
import json
import random
import time
import uuid
from collections import Counter

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from herdwatch import reports

SERVICE = "demo-app"
GROUP = "users"
TICK_SECONDS = 0.05
REPORT_SECONDS = 2.0
TTL_SECONDS = 3600
SKEW = 3.0
"""Popularity: key number = keys * u**SKEW for uniform u, so an eighth of the keys takes half of the reads."""


def key(number: int) -> str:
    """The key of one user."""
    return f"user:{number}"


def value(number: int) -> str:
    """What the database would say of one user."""
    return json.dumps({"id": number, "name": f"user {number}", "about": "x" * 40})


def fill(redis: Redis, numbers: range, *, batch: int, pause: float) -> None:
    """Load keys in batches with `pause` seconds between them: a gradual warm-up; raises RedisError."""
    for begin in range(0, len(numbers), batch):
        pipe = redis.pipeline(transaction=False)
        for number in numbers[begin : begin + batch]:
            pipe.set(key(number), value(number), ex=TTL_SECONDS)
        pipe.execute()
        time.sleep(pause)


class Application:
    """One process life: its counters, and the reads that move them."""

    def __init__(self, redis: Redis, *, keys: int, rate: float, seed: int) -> None:
        self._redis = redis
        self._keys = keys
        self._callers = max(1, round(rate * TICK_SECONDS))
        self._random = random.Random(seed)  # noqa: S311 - traffic, not secrets
        self._incarnation = uuid.uuid4().hex
        self._start = self._now()
        self._counts: Counter[str] = Counter()

    def _now(self) -> float:
        seconds, microseconds = self._redis.time()
        return float(seconds) + microseconds / 1e6

    def tick(self) -> None:
        """One batch of callers; raises RedisError when the cache does not answer."""
        wanted = Counter(int(self._keys * self._random.random() ** SKEW) for _ in range(self._callers))
        numbers = list(wanted)
        pipe = self._redis.pipeline(transaction=False)
        # One GET per caller, as each of them would send.
        for number in wanted.elements():
            pipe.get(key(number))
        answers = iter(pipe.execute())
        missed = [number for number in numbers if None in [next(answers) for _ in range(wanted[number])]]
        callers = sum(wanted[number] for number in missed)
        self._counts.update(hit=self._callers - callers, miss=callers, executions=len(missed))
        pipe = self._redis.pipeline(transaction=False)
        for number in missed:
            pipe.set(key(number), value(number), ex=TTL_SECONDS)
        pipe.execute()

    def report(self) -> None:
        """Write this process's report, as reports.py documents it."""
        counts = self._counts
        group = {
            "lookups": {"hit": counts["hit"], "miss": counts["miss"]},
            "requests": counts["miss"],
            "executions": {"miss": counts["executions"]},
            "coalesced": {"process": counts["miss"] - counts["executions"]},
        }
        report = {"v": reports.VERSION, "start": self._start, "at": self._now(), "every": REPORT_SECONDS}
        text = json.dumps({**report, "enabled": 1, "groups": {GROUP: group}})
        self._redis.hset(reports.KEY, f"{SERVICE}/{self._incarnation}", text)


def main() -> None:
    """Read until ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--keys", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True, help="reads per second")
    options = parser.parse_args()
    redis = Redis(
        port=options.port, socket_timeout=2, socket_connect_timeout=2, retry=Retry(NoBackoff(), 0), driver_info=None
    )
    application = Application(redis, keys=options.keys, rate=options.rate, seed=1)
    next_report = 0.0
    while True:
        began = time.monotonic()
        try:
            application.tick()
            if began >= next_report:
                application.report()
                next_report = began + REPORT_SECONDS
        except RedisError:
            pass  # the cache is down: this demo's database is imaginary, so there is nothing else to ask
        time.sleep(max(0.0, TICK_SECONDS - (time.monotonic() - began)))


if __name__ == "__main__":
    main()
