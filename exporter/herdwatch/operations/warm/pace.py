"""When the next load may begin: batches with a pause, a rate, or as fast as the database answers in time."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from statistics import median

from herdwatch.errors import UsageError

_CATCH_UP = 0.01
"""Seconds of a rate that may be made up for at once: sleeping is not exact to less."""
_REMEMBERED = 100


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast, at most: `batch` loads every `pause` seconds, as in the seed.

    Where given, `rate` loads a second instead, or as many as keep their median below `latency` seconds, or both. Never
    more than `concurrency` at the same time.
    """

    batch: int = 100
    pause: float = 0.1
    rate: float | None = None
    latency: float | None = None
    concurrency: int = 100

    def __post_init__(self) -> None:
        for name in ("rate", "latency"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"{name} is {value!r}; it must be more than 0")
        if not 0 <= self.pause < math.inf or self.batch < 1 or self.concurrency < 1:
            raise UsageError(f"{self}: batch and concurrency must be 1 or more, and the pause not negative")

    @property
    def adaptive(self) -> bool:
        """Whether the database's answers decide, and not the clock alone."""
        return self.latency is not None

    def seconds(self, loads: int) -> float | None:
        """How long so many loads take at the least; None where the database decides alone."""
        if self.rate is not None:
            return loads / self.rate
        return None if self.adaptive else max(0, math.ceil(loads / self.batch) - 1) * self.pause

    def as_text(self) -> str:
        """In words."""
        parts = [] if self.rate is None else [f"at most {self.rate:g} loads a second"]
        if self.latency is not None:
            parts.append(f"as many as keep the median load below {self.latency * 1000:g} ms")
        return ", ".join(parts) or f"{self.batch} loads every {self.pause:g} s"


class Pace:
    """Lets loads begin: `enter` before each, `leave` after it. For one event loop."""

    def __init__(
        self,
        speed: Speed,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._speed, self._clock, self._sleep = speed, clock, sleep
        self._window = 1.0 if speed.adaptive else float(speed.concurrency)
        self._doubling = True
        self._round: list[float] = []
        self._running = 0
        self._begun = 0
        self._next = -math.inf
        self._free = asyncio.Event()
        self._recent: deque[float] = deque(maxlen=_REMEMBERED)

    @property
    def latency(self) -> float | None:
        """The median of the last loads that did not fail, in seconds; None before the first."""
        return median(self._recent) if self._recent else None

    @property
    def width(self) -> int:
        """How many loads may run at the same time now."""
        return int(self._window)

    async def enter(self) -> None:
        """Wait until one more load may begin, and begin it."""
        while self._running >= self.width:
            self._free.clear()
            await self._free.wait()
        await self._turn()
        self._running += 1

    def leave(self, seconds: float | None, *, failed: bool = False) -> None:
        """A load has ended; `seconds` is what the loader took, None when it was not called.

        One that `failed` is no quick answer, however soon it came: a database that refuses has too much to do.
        """
        self._running -= 1
        if failed:
            self._judge(math.inf)
        elif seconds is not None:
            self._recent.append(seconds)
            self._judge(seconds)
        self._free.set()

    async def _turn(self) -> None:
        """Wait for the clock."""
        now, speed = self._clock(), self._speed
        if speed.rate is not None:
            if self._next > now:
                await self._sleep(self._next - now)
            self._next = max(self._next, self._clock() - _CATCH_UP) + 1 / speed.rate
        elif not speed.adaptive:
            if self._begun % speed.batch == 0:
                if self._next > now:
                    await self._sleep(self._next - now)
                self._next = self._clock() + speed.pause
            self._begun += 1

    def _judge(self, seconds: float) -> None:
        """Additive increase, multiplicative decrease, once a round of as many loads as run at the same time.

        It doubles until the first round that is too slow, or in which a load failed. Source: Chiu and Jain, 1989.
        """
        if self._speed.latency is None:
            return
        self._round.append(seconds)
        if len(self._round) < self.width:
            return
        if math.inf in self._round or median(self._round) > self._speed.latency:
            self._window, self._doubling = max(1.0, self._window * 0.7), False
        else:
            self._window = min(self._window * 2 if self._doubling else self._window + 1, self._speed.concurrency)
        self._round.clear()
