"""One cache: one round trip to its Redis per scrape, and the families it yields."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.core import Metric
from redis import exceptions as errors

from herdwatch import reports
from herdwatch.collector import info, replication
from herdwatch.collector.accumulator import ReportAccumulator
from herdwatch.collector.client import Command, Link, reason
from herdwatch.collector.families import families
from herdwatch.collector.info import Fields, ProcessMemory, Sample
from herdwatch.config import Cache
from herdwatch.errors import ConfigError

_COMMANDS: tuple[Command, ...] = (("INFO",), ("INFO", "commandstats"), ("HGETALL", reports.KEY))

_log = logging.getLogger("herdwatch.exporter")


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
        self, cache: Cache, *, timeout: float, protocol: int = 2, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._cache = cache
        self._timeout = timeout
        self._clock = clock
        self._link = Link(cache, protocol=protocol)
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
        try:
            async with asyncio.timeout(self.bound(deadline)), self._turn:
                answers = await self._link.ask(_COMMANDS)
                if isinstance(answers[0], Exception):
                    raise answers[0]
        except (errors.RedisError, OSError, ConfigError) as error:
            return self.failed(reason(error), self._clock() - began)
        return self._read(answers, self._clock() - began)

    def bound(self, deadline: float | None) -> float:
        """How many seconds a scrape may take that is given `deadline` by whoever asks for it."""
        return self._timeout if deadline is None else min(deadline, self._timeout)

    def failed(self, why: str, seconds: float) -> Scrape:
        """What a scrape says when Redis did not answer for this reason, known after so many seconds."""
        parts = [_Part(name, seconds, why) for name in self._parts]
        return Scrape([("cache_up", (), 0), ("cache_failure", (why,), 1), *_told(parts)], failure=why)

    async def aclose(self) -> None:
        """Close the connection; the collector can be used again and then makes a new one."""
        await self._link.hang_up()

    @property
    def _parts(self) -> tuple[str, ...]:
        return ("info", "commandstats", "reports")

    def _read(self, answers: list[Any], seconds: float) -> Scrape:
        fields = info.parse(answers[0])
        self._memory.observe(fields)
        scrape = Scrape([("cache_up", (), 1), *info.samples(fields, self._memory), *replication.samples(fields)])
        parts = [_Part("info", seconds)]
        for name, answer, read in (
            ("commandstats", answers[1], lambda answer: info.flushes(info.parse(answer))),
            ("reports", answers[2], lambda answer: self._reported(fields, answer)),
        ):
            part = _Part(name, seconds)
            parts.append(part)
            found = part.of(answer, read)
            (scrape.guard if name == "reports" else scrape.samples).extend(found)
        scrape.samples.extend(_told(parts))
        return scrape

    def _reported(self, fields: Fields, answer: Any) -> Iterator[Sample]:
        now = info.server_time(fields)
        # RESP2 has no maps: there it is a list of names and values in turn.
        pairs = answer if isinstance(answer, dict) else dict(zip(answer[::2], answer[1::2], strict=True))
        self._accumulator.update(pairs, time.time() if now is None else now)
        return self._accumulator.samples()


@dataclass(slots=True)
class _Part:
    """One part of a scrape: when its answer was there, in seconds, and why it has none."""

    name: str
    seconds: float
    why: str | None = None

    def of(self, answer: Any, read: Callable[[Any], Iterable[Sample]]) -> list[Sample]:
        """What `read` makes of an answer; nothing, and the reason kept, when it is an error or makes one."""
        try:
            if isinstance(answer, Exception):
                raise answer
            return list(read(answer))
        except errors.RedisError as error:
            self.why = reason(error)
        except Exception as error:
            # Ours to mend, but not at the price of the scrape.
            _log.error("part %s of a scrape failed with %s", self.name, type(error).__name__)
            self.why = "protocol"
        return []


def _told(parts: Iterable[_Part]) -> Iterator[Sample]:
    for part in parts:
        yield "cache_collector_success", (part.name,), part.why is None
        yield "cache_collector_duration_seconds", (part.name,), part.seconds
        if part.why is not None:
            yield "cache_collector_failure", (part.name, part.why), 1
