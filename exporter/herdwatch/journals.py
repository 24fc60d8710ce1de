"""The journal: the keys that were looked up most, in a file that a restart of Redis cannot take along.

A process of the application writes `<cache>.<service>.<incarnation>.hotkeys` now and then, whole each time. It is
text, one JSON value a line: what it is, then one line a key, hottest first, then the number of lines in the file, so
that one that was cut off is noticed::

    {"herdwatch_journal": 1, "cache": "users", "service": "profiles", "at": 1700000000.0,
     "groups": {"default": {"total": 1200000, "error": 66, "keys": 2}}}        (in one line)
    ["default", "user:42", 38000]
    ["default", "user:7", 19000]
    {"end": 4}

`at` is Unix seconds by the writer's clock. All counts halve every hour, so that they tell what is popular now. A count
may be `error` too low and is never too high; so what a key that is not there has is `error` at most. Keys longer than
1,024 characters are in the total alone.

Standard library only: the guard, which writes them, and the operations, which read them, stand on this module.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from herdwatch.errors import UsageError
from herdwatch.reports import check_name

VERSION = 1
SUFFIX = ".hotkeys"
HALF_LIFE_SECONDS = 3600.0
MAX_BYTES = 256 * 1024 * 1024
_MAX_HEADER = 64 * 1024
_MAX_COUNT = 2**63


class MalformedJournal(UsageError):
    """A file that is no journal, or not a whole one; the message names the file, the line and what is wrong."""


@dataclass(frozen=True, slots=True)
class Group:
    """Lookups of one group: all of them, by how much a count may be too low, and the counts of the hottest keys."""

    total: int = 0
    error: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)

    def aged(self, halvings: float) -> Group:
        """What is left of it after so many half-lives; counts are rounded down, and the error says so."""
        if halvings <= 0:
            return self
        share = 0.5 ** min(halvings, 64.0)
        left = ((key, int(count * share)) for key, count in self.counts.items())
        counts = {key: count for key, count in left if count}
        return Group(max(int(self.total * share), sum(counts.values())), int(self.error * share) + 2, counts)


@dataclass(frozen=True, slots=True)
class Journal:
    """What one process knows of one cache; `at` is Unix seconds."""

    cache: str
    service: str
    at: float
    groups: Mapping[str, Group]


class HotKey(NamedTuple):
    """A key, its group, and how often it was looked up lately, at least."""

    key: str
    group: str
    lookups: int


@dataclass(frozen=True, slots=True)
class HotKeys:
    """Several journals of one cache as one. `keys` is hottest first, `at` the time of the newest file in Unix seconds.

    By group, `totals` has all lookups, `errors` by how much a count may be too low, and `counted_by` the services that
    counted there. `left_out` has a sentence for each file of a folder that could not be used.
    """

    cache: str
    services: tuple[str, ...]
    at: float
    totals: Mapping[str, int]
    errors: Mapping[str, int]
    keys: tuple[HotKey, ...]
    files: int
    left_out: tuple[str, ...] = ()
    counted_by: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """All lookups."""
        return sum(self.totals.values())

    def share(self, top: int) -> float:
        """The share of all lookups that the hottest `top` keys carry, at least; 0 without lookups."""
        return sum(one.lookups for one in self.keys[:top]) / self.total if self.total else 0.0


def lines(journal: Journal) -> Iterator[str]:
    """The lines of the file that `parse` reads as this journal, each with its end."""
    groups = {
        name: {"total": group.total, "error": group.error, "keys": len(group.counts)}
        for name, group in journal.groups.items()
    }
    header = {"herdwatch_journal": VERSION, "cache": journal.cache, "service": journal.service, "at": journal.at}
    yield json.dumps(header | {"groups": groups}) + "\n"
    found = [(count, name, key) for name, group in journal.groups.items() for key, count in group.counts.items()]
    found.sort(key=lambda one: -one[0])
    named = {name: json.dumps(name) for name in groups}
    for count, name, key in found:
        yield f"[{named[name]},{json.dumps(key)},{count}]\n"
    yield json.dumps({"end": len(found) + 2}) + "\n"


def parse(raw: bytes, source: str = "the journal") -> Journal:
    """Read a whole file; raises MalformedJournal, which calls it `source`."""
    first, *rest = raw.removesuffix(b"\n").split(b"\n")
    header = _header(first, source)
    sizes = _mapping(header.get("groups"), f"{source}:1: groups")
    counts: dict[str, dict[str, int]] = {name: {} for name in sizes}
    end = _json(rest.pop(), f"{source}:{len(rest) + 2}") if rest else None
    if not isinstance(end, dict) or end.get("end") != len(rest) + 2:
        raise MalformedJournal(f"{source}:{len(rest) + 2}: cut off: the last line does not give the number of lines")
    for number, line in enumerate(rest, 2):
        _take(line, counts, f"{source}:{number}")
    groups = {name: _group(size, counts[name], f"{source}:1: group {name!r}") for name, size in sizes.items()}
    return Journal(header["cache"], header["service"], float(header["at"]), groups)


def read(path: Path, *, cache: str | None = None, services: Collection[str] = ()) -> HotKeys:
    """One journal, or all `*.hotkeys` of a folder as one; with `cache` those of that cache alone, and so with services.

    A file that counts for less because it is older than the newest one is aged by the half-life. Raises UsageError when
    there is none of these or they are of several caches, and MalformedJournal for a file that is named and no journal;
    of a folder such files are left out as long as another one is left.
    """
    files = sorted(path.glob("*" + SUFFIX)) if path.is_dir() else [path]
    if not files:
        raise UsageError(f"{path}: no journal there, *{SUFFIX}; an application writes one with Reporter(…, journal=…)")
    journals, left_out = _all(files, alone=files == [path])
    if not journals and left_out:
        raise MalformedJournal(left_out[0])
    caches = sorted({one.cache for one in journals})
    if cache is not None and cache not in caches:
        raise UsageError(f"{path}: no journal of cache {cache!r}; there is: {', '.join(caches)}")
    if cache is None and len(caches) > 1:
        raise UsageError(f"{path}: journals of {len(caches)} caches; name one of them: {', '.join(caches)}")
    of_cache = [one for one in journals if cache in (None, one.cache)]
    known = sorted({one.service for one in of_cache})
    for service in services:
        if service not in known:
            raise UsageError(f"{path}: no journal of service {service!r}; there is: {', '.join(known)}")
    return merged([one for one in of_cache if not services or one.service in services], tuple(left_out))


def merged(journals: list[Journal], left_out: tuple[str, ...] = ()) -> HotKeys:
    """Journals of one cache, at least one, as one: what is older than the newest is aged, then counts add up."""
    newest = max(one.at for one in journals)
    groups: dict[str, list[Group]] = {}
    for one in journals:
        for name, group in one.groups.items():
            groups.setdefault(name, []).append(group.aged((newest - one.at) / HALF_LIFE_SECONDS))
    added = {name: together(parts) for name, parts in groups.items()}
    keys = [HotKey(key, name, count) for name, group in added.items() for key, count in group.counts.items()]
    keys.sort(key=lambda one: (-one.lookups, one.group, one.key))
    return HotKeys(
        cache=journals[0].cache,
        services=tuple(sorted({one.service for one in journals})),
        at=newest,
        totals={name: group.total for name, group in added.items()},
        errors={name: group.error for name, group in added.items()},
        keys=tuple(keys),
        files=len(journals),
        left_out=left_out,
        counted_by={name: tuple(sorted({one.service for one in journals if name in one.groups})) for name in groups},
    )


def together(groups: Iterable[Group]) -> Group:
    """Lookups that several counted, as one: totals, errors and counts add up."""
    total = error = 0
    counts: dict[str, int] = {}
    for group in groups:
        total, error = total + group.total, error + group.error
        for key, count in group.counts.items():
            counts[key] = counts.get(key, 0) + count
    return Group(total, error, counts)


def _all(files: list[Path], *, alone: bool) -> tuple[list[Journal], list[str]]:
    journals, left_out = [], []
    for file in files:
        try:
            journals.append(parse(_content(file), str(file)))
        except MalformedJournal as error:
            if alone:
                raise
            left_out.append(str(error))
    return journals, left_out


def _content(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise MalformedJournal(f"{path}: neither a file nor a folder of journals")
        if status.st_size > MAX_BYTES:
            raise MalformedJournal(f"{path}: {status.st_size} bytes; a journal has at most {MAX_BYTES}")
        return path.read_bytes()
    except OSError as error:
        raise MalformedJournal(f"{path}: cannot be read: {error.strerror}") from None


def _header(line: bytes, source: str) -> dict[str, Any]:
    where = f"{source}:1"
    header = _json(line, where) if line.startswith(b"{") and len(line) <= _MAX_HEADER else None
    if not isinstance(header, dict) or "herdwatch_journal" not in header:
        raise MalformedJournal(f"{where}: no journal of herdwatch: it does not begin as one")
    if header["herdwatch_journal"] != VERSION:
        found = repr(header["herdwatch_journal"])[:40]
        raise MalformedJournal(f"{where}: a journal of version {found}; this herdwatch reads version {VERSION}")
    for name in ("cache", "service", *_mapping(header.get("groups"), f"{where}: groups")):
        _check_name(header.get(name) if name in ("cache", "service") else name, where)
    at = header.get("at")
    if isinstance(at, bool) or not isinstance(at, (int, float)) or not 0 <= at < 2**53:
        raise MalformedJournal(f"{where}: at is {at!r}; it must be Unix seconds")
    return header


def _check_name(text: Any, where: str) -> None:
    try:
        check_name(text if isinstance(text, str) else "")
    except ValueError as error:
        raise MalformedJournal(f"{where}: {error}") from None


def _take(line: bytes, counts: dict[str, dict[str, int]], where: str) -> None:
    """One line of a key."""
    row = _json(line, where)
    if not isinstance(row, list) or len(row) != 3:
        raise MalformedJournal(f"{where}: not [group, key, count]")
    group, key, count = row
    if not isinstance(group, str) or group not in counts:
        raise MalformedJournal(f"{where}: a group that the first line does not name")
    if not isinstance(key, str) or key in counts[group]:
        raise MalformedJournal(f"{where}: {'a key that was there before' if isinstance(key, str) else 'a key is text'}")
    if not _is_count(count) or not count:
        raise MalformedJournal(f"{where}: {str(count)[:40]} is no count")
    counts[group][key] = count


def _group(size: Any, counts: dict[str, int], where: str) -> Group:
    size = _mapping(size, where)
    for name in ("total", "error", "keys"):
        if not _is_count(size.get(name)):
            raise MalformedJournal(f"{where}: {name} is no count")
    if size["keys"] != len(counts) or size["total"] < sum(counts.values()):
        raise MalformedJournal(f"{where}: its keys are other than the first line says")
    return Group(size["total"], size["error"], counts)


def _json(line: bytes, where: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise MalformedJournal(f"{where}: not JSON: cut off, or no journal") from None


def _mapping(data: Any, where: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise MalformedJournal(f"{where}: not an object")
    return data


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MAX_COUNT
