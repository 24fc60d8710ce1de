"""The parts of one scrape: each has its answer or its reason, and none takes another with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import cache
from typing import TypeVar

from herdwatch.collector.failures import reason
from herdwatch.collector.info import Sample
from herdwatch.collector.resp import ProtocolError, ReplyError
from herdwatch.errors import ConfigError

T = TypeVar("T")

_log = logging.getLogger("herdwatch.exporter")


class Parts:
    """What the parts of a scrape told. `clock` counts seconds; at `until` a part that still waits is given up."""

    def __init__(self, *, clock: Callable[[], float], began: float, until: float) -> None:
        self._clock, self._began, self._until = clock, began, until
        self._samples: list[Sample] = []
        self.failed: dict[str, str] = {}

    @property
    def left(self) -> float:
        """Seconds that there still are."""
        return self._until - self._clock()

    def read(self, name: str, work: Callable[[], list[Sample]]) -> list[Sample]:
        """The same as `take` for a part whose answer is there already: nothing of it waits."""
        try:
            found = work()
        except Exception as error:
            self.told(name, error)
            return []
        self.told(name)
        return found

    async def take(self, name: str, work: Awaitable[list[Sample]]) -> list[Sample]:
        """What the work of one part gives; nothing, and the reason told, when it fails or takes too long."""
        try:
            async with asyncio.timeout(self.left):
                found = await work
        except Exception as error:
            self.told(name, error)
            return []
        self.told(name)
        return found

    def told(self, name: str, error: Exception | None = None) -> None:
        """A part is done: it has worked, or this is why not."""
        why = None if error is None else why_not(name, error)
        if why is not None:
            self.failed[name] = why
        self._samples += told(name, self._clock() - self._began, why)

    def samples(self) -> Iterable[Sample]:
        """How every part did."""
        return self._samples


def told(name: str, seconds: float, why: str | None) -> Iterator[Sample]:
    """Whether a part worked, after how long that was known, and why it did not."""
    yield "cache_collector_success", (name,), why is None
    yield "cache_collector_duration_seconds", (name,), seconds
    if why is not None:
        yield "cache_collector_failure", (name, why), 1


def why_not(name: str, error: Exception) -> str:
    """The reason. What no Redis and no network can have caused is ours to mend, but not at the price of a scrape."""
    if not isinstance(error, (ReplyError, ProtocolError, OSError, ConfigError)):
        _complain(name, type(error).__name__)
    return reason(error)


@cache
def _complain(name: str, kind: str) -> None:
    """Once for each kind: a server that does it at every scrape shall not fill the log."""
    _log.error("part %s of a scrape failed with %s; please report this", name, kind)


def expect(reply: object, kind: type[T]) -> T:
    """The reply, of that kind; raises it when it is an error, and ProtocolError when it is anything else."""
    if isinstance(reply, Exception):
        raise reply
    if not isinstance(reply, kind):
        raise ProtocolError("a reply of another kind than the command has")
    return reply
