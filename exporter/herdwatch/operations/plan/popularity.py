"""Zipf's exponent of real traffic, from the counts of a journal, and how well the law fits them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from herdwatch import journals
from herdwatch.errors import UsageError
from herdwatch.operations.hot_keys import OWN
from herdwatch.operations.plan.zipf import MAX_EXPONENT, Zipf

MIN_COUNT = 20
"""A key that was looked up less often has its rank by chance."""
MIN_RANKS = 10
_ERRORS = 2
"""A count is used where it is at least so many times what it may be too low by."""
_GRID = 50
_STEPS = 40


@dataclass(frozen=True, slots=True)
class Fit:
    """An exponent, and what it rests on.

    `ranks` of the hottest keys were used, which carry the share `observed` of `lookups`. What the first 1, 2, … of them
    carry differs from the law's share by `distance` at most (Kolmogorov's and Smirnov's, over these ranks).
    """

    exponent: float
    ranks: int
    lookups: int
    observed: float
    distance: float

    @property
    def good(self) -> bool:
        """Whether the law describes these keys well enough to plan with."""
        return self.distance < 0.05

    def as_text(self) -> str:
        """How well it fits, in a sentence."""
        verdict = (
            "it fits" if self.good else "it fits badly, so trust the shares of herdwatch hotkeys more than this plan"
        )
        return (
            f"from the {self.ranks:,} hottest keys, {self.observed:.1%} of {self.lookups:,} lookups; "
            f"their shares lie within {100 * self.distance:.1f} points of the law's: {verdict}"
        )


@dataclass(frozen=True, slots=True)
class Popularity:
    """A fit to one group of one cache of a journal; `left_out` has a sentence for each file that was no journal."""

    fit: Fit
    cache: str
    group: str
    services: tuple[str, ...]
    left_out: tuple[str, ...]

    def as_text(self) -> str:
        """Where it is from, and how well it fits."""
        whose = f"group {self.group} of cache {self.cache}, the journal of {', '.join(self.services)}"
        return f"of {whose}: {self.fit.as_text()}"


def exponent(counts: Sequence[int], total: int, keys: int, *, error: int = 0) -> Fit:
    """The exponent that makes these counts of the hottest keys, hottest first, and the rest of `total` most likely.

    Each count may be `error` too low; a key that was hot all the time has lost just that, so it is added. Ranks whose
    counts are small, or not much more than the error, say nothing and are left out. Raises UsageError where too little
    is left, or more keys were counted than `keys`. Source: Clauset, Shalizi and Newman, Power-Law Distributions in
    Empirical Data, 2009.
    """
    if len(counts) > keys:
        raise UsageError(f"{len(counts):,} keys were looked up, and --keys is {keys:,}; give how many there are")
    least = max(MIN_COUNT, _ERRORS * error)
    used = [count + error for count in sorted(counts, reverse=True) if count >= least]
    if len(used) < min(MIN_RANKS, keys):
        raise UsageError(
            f"only {len(used)} keys were looked up {least:,} times or more, and an exponent takes {MIN_RANKS}; "
            "let the journal grow, or give --zipf"
        )
    total = max(total, sum(used))
    best = _most_likely(used, total, keys)
    law = Zipf(keys, best)
    shares = [part / total for part in accumulate(used)]
    distance = max(abs(share - law.mass(rank)) for rank, share in enumerate(shares, 1))
    return Fit(best, len(used), total, shares[-1], distance)


def _most_likely(used: Sequence[int], total: int, keys: int) -> float:
    """A grid, then a golden section around its best point: that there is a single top is not sure everywhere."""
    of_ranks = math.fsum(count * math.log(rank) for rank, count in enumerate(used, 1))
    rest = total - sum(used)

    def unlikely(at: float) -> float:
        law = Zipf(keys, at)
        tail = rest * math.log(max(1e-300, 1 - law.mass(len(used)))) if rest else 0.0
        return at * of_ranks - sum(used) * math.log(law.mass(1)) - tail

    grid = [MAX_EXPONENT * step / _GRID for step in range(_GRID + 1)]
    middle = min(grid, key=unlikely)
    low, high = max(0.0, middle - MAX_EXPONENT / _GRID), min(MAX_EXPONENT, middle + MAX_EXPONENT / _GRID)
    golden = (math.sqrt(5) - 1) / 2
    for _ in range(_STEPS):
        left, right = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, right) if unlikely(left) < unlikely(right) else (left, high)
    return (low + high) / 2


def from_journal(path: Path, keys: int, *, cache: str | None = None, group: str | None = None) -> Popularity:
    """The exponent of one group of a journal, or of a folder of them. Raises UsageError where it is not clear which."""
    found = journals.read(path, cache=cache)
    groups = sorted(name for name, total in found.totals.items() if total)
    if not groups:
        raise UsageError(f"{path}: a journal without a lookup; let the application write one under traffic")
    if group is None and len(groups) > 1:
        raise UsageError(f"{path}: {len(groups)} groups; name one of them with --group: {', '.join(groups)}")
    group = groups[0] if group is None else group
    if group not in groups:
        raise UsageError(f"{path}: no group {group!r} with lookups; there is: {', '.join(groups)}")
    counts = [one.lookups for one in found.keys if one.group == group and not one.key.startswith(OWN.decode())]
    try:
        fit = exponent(counts, found.totals[group], keys, error=found.errors[group])
    except UsageError as error:
        raise UsageError(f"{path}: group {group}: {error}") from None
    return Popularity(fit, found.cache, group, found.services, found.left_out)
