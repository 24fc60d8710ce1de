"""Which keys are hot, from the journal or from a live Redis, and how sure that is: one listing for both."""

from __future__ import annotations

import json
import time
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from herdwatch import journals
from herdwatch.collector import glob
from herdwatch.errors import UsageError

OWN = b"herdwatch:"
"""What keys of herdwatch itself begin with: they are left out."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which keys are asked for: how many, of which group, of which pattern as Redis's KEYS takes it."""

    top: int = 100
    group: str | None = None
    match: str | None = None

    @property
    def pattern(self) -> Callable[[bytes], object]:
        """Says whether a key is one of them, the group aside."""
        return glob.compiled(self.match if self.match is not None else "*").match


@dataclass(frozen=True, slots=True)
class Found:
    """A key and how hot it is; the figures are those that the listing names."""

    key: bytes
    group: str
    figures: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """Keys, hottest first. `said` is for people: the method, its coverage and error, how fresh; `facts` is the same.

    `figures` are the names of what is known of each key. `interrupted` when somebody stopped it, `failure` is why it
    broke off; what was found until then is there.
    """

    method: str
    figures: tuple[str, ...]
    keys: tuple[Found, ...]
    said: tuple[str, ...]
    facts: Mapping[str, Any]
    interrupted: bool = False
    failure: str = ""

    def as_text(self) -> str:
        """What it is, then a table; nothing that a key holds can move the cursor."""
        rows = [(*self.figures, "group", "key")]
        rows += [(*map(_figure, one.figures), one.group or "-", shown(one.key)) for one in self.keys]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
        right = len(self.figures)
        table = [
            "  ".join(
                [
                    *(
                        c.rjust(w) if n < right else c.ljust(w)
                        for n, (c, w) in enumerate(zip(row, widths, strict=False))
                    ),
                    row[-1],
                ]
            )
            for row in rows
        ]
        return "\n".join([*self.said, *(["", *table] if self.keys else [])])

    def as_json(self) -> str:
        """Everything as one JSON object."""
        keys = [
            {**_named(one.key), "group": one.group, **dict(zip(self.figures, one.figures, strict=True))}
            for one in self.keys
        ]
        about = {"method": self.method, **self.facts, "interrupted": self.interrupted, "failure": self.failure or None}
        return json.dumps({**about, "keys": keys}, indent=2)

    def as_keys(self) -> tuple[list[str], int]:
        """The keys alone, as one line each, and how many cannot be that: no UTF-8, or with a control character."""
        plain = [text for one in self.keys if (text := _plain(one.key)) is not None]
        return plain, len(self.keys) - len(plain)


def from_journal(
    path: Path, wanted: Wanted, *, cache: str | None = None, clock: Callable[[], float] = time.time
) -> Listing:
    """The hottest keys of a journal or a folder of them; raises UsageError and MalformedJournal as `journals.read`."""
    hot = journals.read(path, cache=cache)
    if wanted.group is not None and wanted.group not in hot.totals:
        known = ", ".join(sorted(hot.totals)) or "none"
        raise UsageError(f"{path}: no group {wanted.group!r} in the journal; there is: {known}")
    fits = wanted.pattern
    asked = (one for one in hot.keys if wanted.group in (None, one.group) and not one.key.startswith(OWN.decode()))
    pool = [one for one in asked if fits(_bytes(one.key))]
    top = pool[: wanted.top]
    total = hot.total if wanted.group is None else hot.totals[wanted.group]
    error = max((error for name, error in hot.errors.items() if wanted.group in (None, name)), default=0)
    share = sum(one.lookups for one in top) / total if total else 0.0
    age = max(0.0, clock() - hot.at)
    journal = "1 journal" if hot.files == 1 else f"{hot.files} journals"
    said = [
        f"The {len(top):,} hottest of {len(pool):,} keys of cache {hot.cache}, from {journal} of "
        f"{', '.join(hot.services)}, the newest written {ago(age)} ago.",
        f"They carry at least {share:.1%} of {total:,} lookups, of which an hour's age takes half; a count is "
        f"{f'at most {error:,} too low' if error else 'exact'}.",
    ]
    facts = {
        "cache": hot.cache,
        "services": list(hot.services),
        "files": hot.files,
        "left_out": list(hot.left_out),
        "written_at": hot.at,
        "age_seconds": age,
        "keys_known": len(pool),
        "lookups": total,
        "error": error,
        "share": share,
    }
    keys = tuple(Found(_bytes(one.key), one.group, (one.lookups,)) for one in top)
    return Listing("journal", ("lookups",), keys, (*said, *(f"Left out: {one}" for one in hot.left_out)), facts)


def shown(key: bytes) -> str:
    """A key for people: what is no UTF-8 or not printable is escaped, and backslashes then too."""
    text = _plain(key)
    return text if text is not None else _escaped(key)


def ago(seconds: float) -> str:
    """A time in its own unit."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def _named(key: bytes) -> dict[str, Any]:
    try:
        return {"key": key.decode()}
    except UnicodeDecodeError:
        return {"key": _escaped(key), "escaped": True}


def _plain(key: bytes) -> str | None:
    try:
        text = key.decode()
    except UnicodeDecodeError:
        return None
    # A space that is not the usual one is not printable to Python, and harms nobody.
    return text if all(one.isprintable() or unicodedata.category(one) == "Zs" for one in text) else None


def _escaped(key: bytes) -> str:
    text = key.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")


def _figure(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"
