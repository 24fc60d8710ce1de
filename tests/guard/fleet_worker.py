"""One process of a fleet: reads its job from the command line, and answers each line of stdin with a line of JSON."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from typing import Any

import redis
import redis.asyncio

from herdwatch.guard import Guard


class Worker:
    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.ledger = redis.Redis.from_url(job["ledger"], protocol=2, socket_timeout=5)
        client = redis.asyncio.Redis.from_url(job["url"])
        self.guard = Guard(client, cache="users", service="profiles", registry=None, **job.get("options", {}))

    async def load(self, key: str) -> dict[str, Any]:
        number = self.ledger.incr("loads")
        await asyncio.sleep(self.job.get("seconds", 0.3))
        if "error" in self.job:
            raise ZeroDivisionError(self.job["error"])
        return {"key": key, "load": number, "by": os.getpid()}

    async def ask(self, key: str) -> dict[str, Any]:
        """The distinct answers of all callers, and the counters so far."""
        callers = (self.guard.get(key, load=self.load, ttl=60) for _ in range(self.job.get("callers", 3)))
        found = await asyncio.gather(*callers, return_exceptions=True)
        answers = Counter(
            f"{type(one).__name__}: {one}" if isinstance(one, BaseException) else json.dumps(one) for one in found
        )
        return {"answers": answers, "counts": self.counts(), "pid": os.getpid()}

    def counts(self) -> dict[str, int]:
        totals = self.guard.core.counts.totals()
        return {f"{family} {label}".strip(): number for (family, _, label), number in totals.items()}


def say(answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


async def fork(worker: Worker, key: str) -> None:
    """The same question in a child, and meanwhile and afterwards in this process; its loop is running at the fork."""
    child = os.fork()
    if child == 0:
        say(asyncio.run(asyncio.wait_for(worker.ask(key), 10)))
        os._exit(0)
    answer = await worker.ask(key)
    _, status = os.waitpid(child, 0)
    say(answer | {"status": status})


def main() -> None:
    worker = Worker(json.loads(sys.argv[1]))
    with asyncio.Runner() as runner:
        say("ready")
        for line in sys.stdin:
            word, key = line.split()
            if word == "fork":
                runner.run(fork(worker, key))
            else:
                say(runner.run(worker.ask(key)))
        runner.run(worker.guard.aclose())


if __name__ == "__main__":
    main()
