"""The capacity of a database goes into herdwatch.yaml: whole or not at all, and nothing else changes."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from herdwatch import config as configuration
from herdwatch.config import Config
from herdwatch.config.fields import Name
from herdwatch.errors import ConfigError, UsageError
from herdwatch.operations.plan.editing import Database, edited, plain


@dataclass(frozen=True, slots=True)
class Written:
    """What stands in the file now; `changed` says whether it had to be written.

    `caches` are those that name this database, `overriding` those of them that have a threshold of their own.
    """

    path: Path
    database: Database
    changed: bool
    caches: tuple[str, ...]
    overriding: tuple[str, ...]

    @property
    def said(self) -> tuple[str, ...]:
        """What was done, and what follows from it, a sentence each."""
        name, capacity, peak = self.database
        numbers = f"capacity: {plain(capacity)}, peak: {plain(peak)}"
        done = f"wrote databases.{name} to {self.path}: {numbers}"
        lines = [done if self.changed else f"{self.path} says of databases.{name} already: {numbers}"]
        if not self.caches:
            return (*lines, f"no cache uses it: thresholds follow once a cache of {self.path} has database: {name}")
        lines.append(f"behind cache {', '.join(self.caches)}: CacheHitRateLow fires under {1 - capacity / peak:.4g}")
        if self.overriding:
            lines.append(f"cache {', '.join(self.overriding)} overrides CacheHitRateLow, and that stays")
        return tuple(lines)

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "path": str(self.path), "database": self.database._asdict()}


def check(name: str, capacity: float, peak: float) -> Database:
    """What is to be written; raises UsageError where herdwatch.yaml could not hold it."""
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        raise UsageError(f"--database {name}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None
    if peak <= capacity:
        raise UsageError(
            f"--write: a database that takes {plain(capacity)} needs no cache at a peak of {plain(peak)}, "
            "so that there is no threshold to write; --peak-rps must exceed --db-capacity"
        )
    return Database(name, float(capacity), float(peak))


def write(path: Path, wanted: Database) -> Written:
    """Set this database in a herdwatch.yaml; raises UsageError or ConfigError with nothing changed."""
    raw, before = _read(path)
    text = raw.decode()
    after = edited(text, str(path), wanted)
    _nothing_else(after, before, path, wanted)
    if after != text:
        _replace(path, raw, after.encode())
    caches = [cache for cache in before.caches if cache.database == wanted.name]
    overriding = tuple(cache.name for cache in caches if cache.overrides.CacheHitRateLow is not None)
    return Written(path, wanted, after != text, tuple(cache.name for cache in caches), overriding)


def _read(path: Path) -> tuple[bytes, Config]:
    """Its bytes, because reading as text loses how lines end, and what they mean."""
    if path.exists() and not path.is_file():
        raise UsageError(f"{path}: no file; give the herdwatch.yaml to write to with --config")
    configuration.read(path, missing="give one with --config, or start from the commented default")
    raw = path.read_bytes()
    return raw, configuration.parse(raw.decode(), str(path), folder=path.parent)


def _nothing_else(after: str, before: Config, path: Path, wanted: Database) -> None:
    """Raise UsageError unless the new text is a configuration that differs in this database alone."""
    name, capacity, peak = wanted
    try:
        found = configuration.parse(after, str(path), folder=path.parent)
    except ConfigError:
        found = None
    numbers = None if found is None or name not in found.databases else found.databases[name]
    others = None if found is None else {key: one for key, one in found.databases.items() if key != name}
    same = found is not None and found.model_copy(update={"databases": before.databases}) == before
    if (
        numbers is None
        or (numbers.capacity, numbers.peak) != (capacity, peak)
        or others != {key: one for key, one in before.databases.items() if key != name}
        or not same
    ):
        raise UsageError(
            f"{path}:1: not edited, because it is written in a way in which that cannot be done safely; set "
            f"databases.{name} by hand, to capacity: {plain(capacity)} and peak: {plain(peak)}"
        )


def _replace(path: Path, expected: bytes, data: bytes) -> None:
    """Write beside the file and move there, with its mode; a file that somebody else changed meanwhile stays."""
    place, temporary = path.resolve(), None
    try:
        status = place.stat()
        if not status.st_mode & 0o222 or not os.access(place, os.W_OK):
            raise UsageError(f"{path}: cannot be written: it is read-only")
        handle, temporary = tempfile.mkstemp(prefix=f".{place.name[:50]}.", dir=place.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(stat.S_IMODE(status.st_mode))
        with contextlib.suppress(OSError):
            os.chown(temporary, status.st_uid, status.st_gid)
        if place.read_bytes() != expected:
            raise UsageError(f"{path}: somebody else changed it meanwhile; run the same command again")
        Path(temporary).replace(place)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                Path(temporary).unlink(missing_ok=True)
