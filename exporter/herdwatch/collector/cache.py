"""One cache: one round trip to its Redis per scrape, and the families it yields."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.core import Metric

from herdwatch import reports
from herdwatch.collector import info, replication
from herdwatch.collector.accumulator import ReportAccumulator
from herdwatch.collector.exact_pass import ExactPass
from herdwatch.collector.failures import detail
from herdwatch.collector.families import families
from herdwatch.collector.info import Fields, ProcessMemory, Sample
from herdwatch.collector.key_groups import SPREAD_SECONDS, KeyGroups
from herdwatch.collector.link import Ask, Link
from herdwatch.collector.parts import Parts, expect, told, why_not
from herdwatch.collector.resp import Command
from herdwatch.config import Cache
from herdwatch.config.model import SAMPLES

_COMMANDS: tuple[Command, ...] = (("INFO",), ("INFO", "commandstats"), ("HGETALL", reports.KEY))

_LAST_SECONDS = 0.05
"""What is left of a scrape's time when it gives up counting keys, so that the rest is told in time."""


@dataclass(slots=True)
class Scrape:
    """What one scrape of one cache gave.

    `failure` is None when Redis answered INFO; `detail` is what to tell people instead of it. `parts` are those that
    failed all the same, with their reasons.
    """

    samples: list[Sample] = field(default_factory=list)
    guard: list[Sample] = field(default_factory=list)
    failure: str | None = None
    detail: str = ""
    parts: dict[str, str] = field(default_factory=dict)

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
        samples: int = SAMPLES,
        scan_budget: float = 0.01,
        protocol: int = 2,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cache = cache
        self._timeout = timeout
        self._clock = clock
        self._link = Link(cache, protocol=protocol)
        self._groups = KeyGroups(cache.groups, exact=cache.exact_groups, samples=samples, budget=scan_budget)
        self._pass_link = Link(cache, protocol=protocol)
        self._pass: asyncio.Task[None] | None = None
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
        began, bound = self._clock(), self.bound(deadline)
        parts = Parts(clock=self._clock, began=began, until=began + bound - _LAST_SECONDS)
        try:
            async with asyncio.timeout(bound) as limit, self._turn:
                answers = await self._link.ask(_COMMANDS, patience=bound / 2, within=parts.left)
                limit.reschedule(None)  # Redis has answered; from here on each part has its own
                fields = info.parse(expect(answers[0], bytes))
                self._memory.observe(fields)
                return await self._read(fields, answers, parts)
        except Exception as error:
            return self.failed(why_not("info", error), self._clock() - began, detail(self._cache, error))

    def bound(self, deadline: float | None) -> float:
        """How many seconds a scrape may take that is given `deadline` by whoever asks for it."""
        return self._timeout if deadline is None else min(deadline, self._timeout)

    def failed(self, why: str, seconds: float, detail: str = "") -> Scrape:
        """What a scrape says when Redis did not answer for this reason, known after so many seconds."""
        parts = [sample for name in self._parts for sample in told(name, seconds, why)]
        return Scrape([("cache_up", (), 0), ("cache_failure", (why,), 1), *parts], failure=why, detail=detail)

    async def aclose(self) -> None:
        """Close the connections; the collector can be used again and then makes new ones."""
        exact, self._pass = self._pass, None
        if exact is not None:
            exact.cancel()
            await asyncio.wait([exact])
        self._link.hang_up()

    @property
    def _parts(self) -> tuple[str, ...]:
        exact = ("exact_pass",) if self._cache.exact_groups else ()
        return ("info", "commandstats", "reports", *exact, *(("key_groups",) if self._cache.groups else ()))

    async def _read(self, fields: Fields, answers: list[Any], parts: Parts) -> Scrape:
        samples = [*info.samples(fields, self._memory), *replication.samples(fields)]
        scrape = Scrape([("cache_up", (), 1), *samples])
        parts.told("info")
        scrape.samples += parts.read("commandstats", lambda: _flushes(answers[1]))
        scrape.guard += await parts.take("reports", self._reported(fields, answers[2]))
        if self._groups.exact_pass is not None:
            await parts.take("exact_pass", self._see_to(self._groups.exact_pass, fields))
        if self._cache.groups:
            scrape.samples += await parts.take("key_groups", self._counted(fields, parts.left))
        scrape.samples += parts.samples()
        scrape.parts = parts.failed
        return scrape

    async def _reported(self, fields: Fields, answer: Any) -> list[Sample]:
        now = info.server_time(fields)
        names_and_values = expect(answer, list)
        pairs = zip(names_and_values[::2], names_and_values[1::2], strict=True)
        reports = {expect(name, bytes): expect(value, bytes) for name, value in pairs}
        for _ in self._accumulator.steps(reports, time.time() if now is None else now):
            await asyncio.sleep(0)  # hundreds of reports must not hold up the scrapes of other caches
        return list(self._accumulator.samples())

    async def _counted(self, fields: Fields, left: float) -> list[Sample]:
        keys = info.keys(fields, self._cache.logical_database)
        return await self._groups.samples(self._link.ask, keys, spread=min(SPREAD_SECONDS, left / 4))

    async def _see_to(self, exact: ExactPass, fields: Fields) -> list[Sample]:
        """See that the exact count runs; raises what went wrong with it last."""
        exact.observe(fields.get("run_id"))
        if self._pass is None:
            self._pass = asyncio.create_task(exact.run(self._passing))
        if exact.failure is not None:
            raise exact.failure
        return []

    @asynccontextmanager
    async def _passing(self) -> AsyncIterator[Ask]:
        """A connection of its own for the exact count, so that it never holds up a scrape."""
        try:
            yield self._pass_link.ask
        finally:
            self._pass_link.hang_up()


def _flushes(answer: Any) -> list[Sample]:
    return list(info.flushes(info.parse(expect(answer, bytes))))
