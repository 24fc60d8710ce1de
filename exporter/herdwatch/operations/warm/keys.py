"""Which keys are to be warm, hottest first, and what share of the lookups they carry."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

from herdwatch import journals
from herdwatch.errors import UsageError
from herdwatch.guard.hot_keys import is_text

MAX_KEYS = 5_000_000
MAX_KEY = 4096
_OURS = "herdwatch:"


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys of one group, hottest first, each once.

    From a journal, `lookups` has how often each was looked up, `total` all lookups of the group and `at` when the
    newest file was written, in Unix seconds; from elsewhere nothing is known of that. `source` is in words, `left_out`
    has a sentence for what of it is not used.
    """

    names: tuple[str, ...]
    source: str
    group: str = "default"
    lookups: tuple[int, ...] = ()
    total: int = 0
    at: float | None = None
    left_out: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def share(self, warm: set[str] | None = None) -> float | None:
        """The share of lookups that these keys carry, or those of them that are `warm`; None where nothing is known."""
        if not self.total:
            return None
        if warm is None:
            return sum(self.lookups) / self.total
        return sum(count for key, count in zip(self.names, self.lookups, strict=True) if key in warm) / self.total

    def first(self, count: int) -> Keys:
        """The hottest so many."""
        return replace(self, names=self.names[:count], lookups=self.lookups[:count])

    def until(self, ratio: float, *, without: Collection[str] = ()) -> Keys:
        """As few of the hottest as it takes to carry this share of the lookups: the hit ratio once they are warm.

        Those `without` a value carry nothing. All keys where even all do not. Raises UsageError where nothing is known
        of lookups.
        """
        if not self.total:
            raise UsageError(f"a hit ratio can be aimed at with a journal only; {self.source} has no counts")
        carried = (0 if key in without else count for key, count in zip(self.names, self.lookups, strict=True))
        sums = enumerate(accumulate(carried), 1)
        return self.first(next((n for n, sum_ in sums if reaches(sum_ / self.total, ratio)), len(self)))


def reaches(share: float, ratio: float) -> bool:
    """Whether a share is the one that was wanted, whatever floats have made of either."""
    return share >= ratio - 1e-9


def from_journal(path: Path, *, cache: str | None, group: str | None, services: Sequence[str] = ()) -> tuple[Keys, str]:
    """The keys of one group of a journal, and its cache; of some `services` alone where they are named.

    Raises UsageError where it is not clear whose: a loader is one group's, and one service's unless it is said.
    """
    found = journals.read(path, cache=cache, services=services)
    group = _group(found, group, path)
    counted_by = found.counted_by[group]
    if not services and len(counted_by) > 1:
        raise UsageError(f"{path}: {len(counted_by)} services, each with a loader of its own; name one of them, or"
                         f" those that share one, with --service: {', '.join(counted_by)}")  # fmt: skip
    hot = [one for one in found.keys if one.group == group and not one.key.startswith(_OURS)]
    sound = [one for one in hot if is_text(one.key)]
    left_out = found.left_out
    if len(sound) < len(hot):
        left_out += (f"keys that are no UTF-8: {len(hot) - len(sound):,}",)
    keys = Keys(
        tuple(one.key for one in sound),
        f"the journal of {', '.join(counted_by)}",
        group,
        tuple(one.lookups for one in sound),
        found.totals[group],
        found.at,
        left_out,
    )
    return keys, found.cache


def _group(found: journals.HotKeys, group: str | None, path: Path) -> str:
    groups = sorted(found.totals)
    if group is None and len(groups) > 1:
        raise UsageError(f"{path}: {len(groups)} groups, each with a loader of its own; name one of them with --group: "
                         f"{', '.join(groups)}")  # fmt: skip
    if group is None and groups:
        return groups[0]
    if group not in groups:
        raise UsageError(f"{path}: no group {group!r}; there is: {', '.join(groups) or 'none'}")
    return group


def from_file(path: Path, *, group: str | None) -> Keys:
    """One key a line, hottest first; `-` is standard input. Empty lines are passed over, and a key counts once.

    Raises UsageError naming the line of what can be no key.
    """
    name = "standard input" if str(path) == "-" else str(path)
    if name != str(path) and sys.stdin is None:
        raise UsageError(f"{name}: it is closed; give one key a line, hottest first")
    try:
        raw = path.read_bytes() if name == str(path) else sys.stdin.buffer.read()
    except OSError as error:
        raise UsageError(f"{name}: cannot be read: {error.strerror}") from None
    found: dict[str, None] = {}
    for number, line in enumerate(raw.split(b"\n"), 1):
        key = _key(line.rstrip(b"\r"), f"{name}:{number}")
        if key and not key.startswith(_OURS):
            found[key] = None
    if not found:
        raise UsageError(f"{name}: no keys; give one a line, hottest first")
    if len(found) > MAX_KEYS:
        raise UsageError(f"{name}: {len(found):,} keys; at most {MAX_KEYS:,} are warmed at once")
    return Keys(tuple(found), name, group or "default")


def _key(line: bytes, where: str) -> str:
    if len(line) > MAX_KEY:
        raise UsageError(f"{where}: {len(line):,} bytes; a key has at most {MAX_KEY:,}: is this a list of keys?")
    try:
        key = line.decode()
    except UnicodeDecodeError:
        raise UsageError(f"{where}: not UTF-8; give one key a line, as text") from None
    if "\0" in key:
        raise UsageError(f"{where}: a zero byte; give one key a line, as text")
    return key
