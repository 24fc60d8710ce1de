"""How many keys match each of some patterns, at a cost that does not grow with the number of keys.

A sample of random keys is matched on this side; its share times the number of keys is the estimate. Groups that are too
small for a sample can be counted exactly besides, see exact_pass.

Sources: the Redis command reference, RANDOMKEY; E. B. Wilson, "Probable inference, the law of succession, and
statistical inference", JASA 22, 1927.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from herdwatch.collector import glob
from herdwatch.collector.exact_pass import ExactPass
from herdwatch.collector.info import Sample
from herdwatch.collector.link import Ask
from herdwatch.collector.parts import expect
from herdwatch.collector.resp import Command
from herdwatch.config.model import SAMPLES

CHUNK = 100
"""Keys asked for in one write: Redis serves nobody else for the 0.3 ms that they take. Smaller writes were measured to
cost more, in waking up Redis and this process, than they spare others: 3 ms more of Redis for 50 writes of 20 keys."""
SPREAD_SECONDS = 0.5
"""Over which a scrape spreads its writes: less than one in a hundred commands of other clients comes upon one."""
_Z = 1.959964
"""Of a normal distribution, 95 % lie within so many standard deviations of its mean."""

_RANDOMKEY: Command = ("RANDOMKEY",)


class KeyGroups:
    """The key groups of one cache: `groups` is name -> Redis glob pattern, `exact` names those also counted exactly.

    `samples` is random keys per scrape; `budget` is seconds of Redis's time per second for the exact count. Whoever
    owns this runs `exact_pass`, which is None where no group is exact, and tells it which process the scrape sees.
    """

    def __init__(
        self,
        groups: Mapping[str, str],
        *,
        exact: Collection[str] = (),
        samples: int = SAMPLES,
        budget: float = 0.01,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._patterns = {name: glob.compiled(pattern) for name, pattern in groups.items()}
        self._samples = samples
        self._sleep = sleep
        counted = {name: pattern for name, pattern in groups.items() if name in exact}
        self.exact_pass = ExactPass(counted, budget=budget, clock=clock, sleep=sleep) if counted else None

    async def samples(self, ask: Ask, keys: int, *, spread: float = SPREAD_SECONDS) -> list[Sample]:
        """Samples of all groups; `keys` is the number of keys in the database that `ask` asks.

        It takes `spread` seconds besides the time of its answers; whoever has less should say so.

        A group that was counted exactly in the process of now shows that count with its age, the others an estimate
        with its 95 % half-width. Raises what Redis answers instead of a key, and what `ask` raises: then there are no
        samples at all, rather than wrong ones.
        """
        exact = self.exact_pass.counted if self.exact_pass is not None else None
        counted = exact.keys if exact is not None else {}
        sampled = [name for name in self._patterns if name not in counted]
        seen = await self._draw(ask, sampled, spread) if sampled and keys > 0 else dict.fromkeys(sampled, 0)
        found: list[Sample] = []
        for name in self._patterns:
            number, error = (counted[name], 0) if name in counted else estimate(seen[name], self._samples, keys)
            found += [("cache_key_group_keys", (name,), number), ("cache_key_group_error_keys", (name,), error)]
        if self.exact_pass is not None and exact is not None:
            age = self.exact_pass.age(exact)
            found += [("cache_key_group_age_seconds", (name,), age) for name in counted]
        return found

    async def _draw(self, ask: Ask, names: Collection[str], spread: float) -> dict[str, int]:
        """How many of the random keys each of these groups has."""
        seen = dict.fromkeys(names, 0)
        for left in range(self._samples, 0, -CHUNK):
            replies = await ask([_RANDOMKEY] * min(left, CHUNK))
            drawn = [key for key in map(_key, replies) if key is not None]
            for name in names:
                seen[name] += sum(1 for key in drawn if self._patterns[name].match(key))
            if left > CHUNK:
                await self._sleep(spread * CHUNK / self._samples)
        return seen


def _key(reply: Any) -> bytes | None:
    """The key that RANDOMKEY answered, None when there was none; raises it if it is an error."""
    return None if reply is None else expect(reply, bytes)


def estimate(seen: int, drawn: int, keys: int) -> tuple[float, float]:
    """How many of `keys` are in a group of which `seen` of `drawn` random keys were, and the 95 % half-width.

    The half-width is the distance to the farther end of the Wilson score interval: unlike the textbook's, which is 0
    for a group that the sample has not seen, it says then how large the group may be all the same.
    """
    share = seen / drawn
    weight = 1 + _Z**2 / drawn
    middle = (share + _Z**2 / (2 * drawn)) / weight
    half = _Z / weight * math.sqrt(share * (1 - share) / drawn + _Z**2 / (4 * drawn**2))
    return share * keys, max(middle + half - share, share - middle + half) * keys
