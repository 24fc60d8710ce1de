"""One cache: one round trip to its Redis per scrape, and the families it yields."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.core import Metric
from redis import exceptions as errors
from redis.asyncio import Redis

from herdwatch import reports
from herdwatch.collector import info, replication
from herdwatch.collector.accumulator import ReportAccumulator
from herdwatch.collector.client import connect, reason
from herdwatch.collector.families import families
from herdwatch.collector.info import Fields, ProcessMemory, Sample
from herdwatch.config import Cache
from herdwatch.errors import ConfigError

PARTS = ("info", "commandstats", "reports")
"""Values of `cache_collector_success{collector}`, in the order in which they are asked for."""


@dataclass(slots=True)
class Scrape:
    """What one scrape of one cache gave. `failure` is None when Redis answered INFO."""

    samples: list[Sample] = field(default_factory=list)
    guard: list[Sample] = field(default_factory=list)
    failure: str | None = None

    def metrics(self) -> list[Metric]:
        """The families; republished guard families leave the label `cache` to the target."""
        return families(self.samples) + families(self.guard, drop=("cache",))


class CacheCollector:
    """Scrapes one cache. Remembers which process answered, which databases exist, and what its reporters told.

    A new connection is made by the first scrape and after a failure; between scrapes it is kept.
    """

    def __init__(
        self,
        cache: Cache,
        *,
        timeout: float,
        client: Callable[..., Redis] = connect,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cache = cache
        self._timeout = timeout
        self._connect = client
        self._clock = clock
        self._redis: Redis | None = None
        self._answered = False
        self._memory = ProcessMemory()
        self._accumulator = ReportAccumulator()
        # Answers must be taken in one after the other, or a restart between two scrapes would be seen twice.
        self._turn = asyncio.Lock()

    @property
    def cache(self) -> Cache:
        """The cache that it scrapes."""
        return self._cache

    @property
    def dropped(self) -> dict[str, int]:
        """Reports that were not used, by reason, since this process began."""
        return dict(self._accumulator.dropped)

    async def scrape(self, deadline: float | None = None) -> Scrape:
        """Ask Redis once; returns within `deadline` seconds, or the configured timeout if that is less."""
        began = self._clock()
        bound = self._timeout if deadline is None else min(deadline, self._timeout)
        try:
            async with asyncio.timeout(bound), self._turn:
                answers = await self._ask()
        except (errors.RedisError, OSError, ConfigError) as error:
            await self._drop_connection()
            return self._failed(reason(error), self._clock() - began)
        return self._read(answers, self._clock() - began)

    async def aclose(self) -> None:
        """Close the connection; the collector can be used again and then makes a new one."""
        await self._drop_connection()

    async def _ask(self) -> list[Any]:
        fresh = self._redis is None
        if self._redis is None:
            self._redis = self._connect(self._cache, timeout=self._timeout)
        try:
            return await self._round_trip(self._redis)
        except (errors.ConnectionError, ConnectionError) as error:
            # A kept connection that Redis has closed since says nothing about Redis now: one new attempt.
            if fresh or isinstance(error, errors.AuthenticationError):
                raise
            await self._drop_connection()
            self._redis = self._connect(self._cache, timeout=self._timeout)
            return await self._round_trip(self._redis)

    async def _round_trip(self, redis: Redis) -> list[Any]:
        infos = (("INFO",), ("INFO", "commandstats"))
        try:
            answers = await _pipelined(redis, *infos, ("HGETALL", reports.KEY))
        except errors.BusyLoadingError as error:
            # While it loads, Redis answers INFO and refuses the rest, which the client takes for a broken connection.
            answers = [*await _pipelined(redis, *infos), error]
        if isinstance(answers[0], Exception):
            raise answers[0]
        return answers

    async def _drop_connection(self) -> None:
        redis, self._redis = self._redis, None
        if redis is not None:
            with suppress(errors.RedisError, OSError, TimeoutError):
                async with asyncio.timeout(1):
                    await redis.aclose(close_connection_pool=True)

    def _failed(self, why: str, seconds: float) -> Scrape:
        samples: list[Sample] = [("cache_up", (), 0), ("cache_failure", (why,), 1)]
        for part in PARTS:
            samples.append(("cache_collector_success", (part,), 0))
            samples.append(("cache_collector_duration_seconds", (part,), seconds))
        return Scrape(samples, failure=why)

    def _read(self, answers: list[Any], seconds: float) -> Scrape:
        fields = info.parse(answers[0])
        self._memory.observe(fields)
        scrape = Scrape([("cache_up", (), 1), *info.samples(fields, self._memory), *replication.samples(fields)])
        succeeded = {"info": True, "commandstats": False, "reports": False}
        if isinstance(answers[1], bytes):
            succeeded["commandstats"] = True
            scrape.samples += info.flushes(info.parse(answers[1]))
        if not isinstance(answers[2], Exception):
            succeeded["reports"] = True
            scrape.guard += self._reported(fields, answers[2])
        for part in PARTS:
            scrape.samples.append(("cache_collector_success", (part,), succeeded[part]))
            scrape.samples.append(("cache_collector_duration_seconds", (part,), seconds))
        return scrape

    def _reported(self, fields: Fields, answer: Any) -> Iterator[Sample]:
        now = info.server_time(fields)
        self._accumulator.update(answer, time.time() if now is None else now)
        return self._accumulator.samples()


async def _pipelined(redis: Redis, *commands: tuple[str, ...]) -> list[Any]:
    pipe = redis.pipeline(transaction=False)
    for command in commands:
        pipe.execute_command(*command)
    answers: list[Any] = await pipe.execute(raise_on_error=False)
    return answers
