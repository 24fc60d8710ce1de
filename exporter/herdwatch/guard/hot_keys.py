"""Which keys are hot: counts of bounded size with a stated error, for next to nothing a lookup.

A lookup appends its key to a list. When that holds a thousand keys they are merged into a Misra-Gries summary.

Source: Misra and Gries, Finding repeated elements, 1982; Agarwal et al., Mergeable summaries, PODS 2012.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable

from herdwatch.journals import HALF_LIFE_SECONDS, Group

BATCH = 1000
"""Lookups between two merges."""
MAX_KEY = 1024
"""Characters of a key; a longer one is a lookup and is not remembered, nor is one that is no text to UTF-8."""


class HotKeys:
    """The hottest keys of one group. `keep` counters are left by a pruning, and twice as many there may be before.

    A count is never more than the lookups of its key, and at most `error` less; error <= total / (keep + 1) as long as
    nothing has been halved. All of it halves every hour by `clock`, in seconds: popularity is recent. Threads may look
    up while another one merges.
    """

    __slots__ = ("_clock", "_counts", "_error", "_keep", "_lock", "_since", "_total", "recent")

    def __init__(self, keep: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._keep, self._clock = keep, clock
        self.recent: list[str] = []
        """Keys looked up since the last merge; whoever appends merges once it holds BATCH of them."""
        self._counts: Counter[str] = Counter()
        self._total = self._error = 0
        self._since = clock()
        self._lock = threading.Lock()

    def look(self, keys: Iterable[str]) -> None:
        """Count a lookup of each key."""
        self.recent.extend(keys)
        if len(self.recent) >= BATCH:
            self.merge()

    def merge(self) -> None:
        """Take in what was looked up. A lookup does not wait for a merge in another thread: the next one does it."""
        if self._lock.acquire(blocking=False):
            try:
                self._merge()
            finally:
                self._lock.release()

    def group(self) -> Group:
        """A copy of what is known now."""
        with self._lock:
            self._merge()
            return Group(self._total, self._error, dict(self._counts))

    def _merge(self) -> None:
        self._halve()
        batch = self.recent[:]
        del self.recent[: len(batch)]  # what is appended meanwhile stays, and no list is ever replaced
        self._total += len(batch)
        self._counts.update(_remembered(batch))
        if len(self._counts) > 2 * self._keep:
            self._prune()

    def _prune(self) -> None:
        """Take the (keep + 1)-largest count off all: each time at least keep + 1 lookups a unit of error are gone."""
        least = sorted(self._counts.values(), reverse=True)[self._keep]
        self._counts = Counter({key: count - least for key, count in self._counts.items() if count > least})
        self._error += least

    def _halve(self) -> None:
        halvings = int((self._clock() - self._since) / HALF_LIFE_SECONDS)
        if halvings < 1:
            return
        self._since += halvings * HALF_LIFE_SECONDS
        left = Group(self._total, self._error, self._counts).aged(halvings)
        self._total, self._error, self._counts = left.total, left.error, Counter(left.counts)


def _remembered(batch: list[str]) -> list[str]:
    try:
        if max(map(len, batch), default=0) <= MAX_KEY and set(map(type, batch)) <= {str}:
            "".join(batch).encode()
            return batch
    except (TypeError, UnicodeEncodeError):
        pass  # a key without a length, whatever an application took for one; or half a surrogate pair
    return [key for key in batch if isinstance(key, str) and len(key) <= MAX_KEY and is_text(key)]


def is_text(key: str) -> bool:
    """Whether Redis can be asked for it."""
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True
