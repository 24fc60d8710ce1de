"""Writes what is hot into a folder, where a restart of Redis cannot take it along; herdwatch.journals has the format.

One daemon thread a Reporter, beside the one that reports: a disk that hangs holds up no report. Whatever goes wrong is
said once in the log and never raised.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
import os
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import quote

from herdwatch import journals
from herdwatch.guard.core import Core

_log = logging.getLogger("herdwatch.guard")
MAX_FILES = 64
"""Of one cache and service: the newest, and the largest, which a crash loop of processes with little to say leaves."""
MAX_AGE_SECONDS = 7 * 86_400.0
_TORN_SECONDS = 600.0
"""After which a temporary file is what a killed process left."""
_CLOSE_SECONDS = 2.0
_LINES = 500


class JournalFile:
    """The file of this process about one cache and service. `clock` gives Unix seconds."""

    def __init__(
        self, folder: Path, cache: str, service: str, cores: list[Core], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._folder, self._cache, self._service, self._cores, self._clock = folder, cache, service, cores, clock
        self._prefix = f"{_safe(cache)}.{_safe(service)}."
        self.path = folder / f"{self._prefix}{uuid.uuid4().hex[:16]}{journals.SUFFIX}"

    def write(self) -> None:
        """Replace the file, all at once, and remove what is too old; nothing without a lookup. Raises OSError."""
        groups = self._groups()
        if not any(group.total for group in groups.values()):
            return
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = self._folder / f".{self.path.name}.tmp"
        try:
            self._fill(temporary, journals.Journal(self._cache, self._service, self._clock(), groups))
            temporary.replace(self.path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        self._sync_folder()
        self._remove_old()

    def _groups(self) -> dict[str, journals.Group]:
        found: dict[str, list[journals.Group]] = {}
        for core in self._cores:
            for name, counts in list(core.counts.items()):
                if counts.hot is not None:
                    found.setdefault(name, []).append(counts.hot.group())
        return {name: journals.together(parts) for name, parts in found.items()}

    def _fill(self, temporary: Path, journal: journals.Journal) -> None:
        """Keys may be personal data, so nobody else may read it; and nobody's link is followed."""
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:  # noqa: PTH123  a descriptor
            lines = journals.lines(journal)
            while text := "".join(itertools.islice(lines, _LINES)):
                file.write(text)
                time.sleep(0)  # other threads wait for this one no longer than for a few lines
            file.flush()
            os.fsync(descriptor)

    def _sync_folder(self) -> None:
        with contextlib.suppress(OSError):  # not every file system can
            descriptor = os.open(self._folder, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _remove_old(self) -> None:
        now = self._clock()
        files = sorted(self._files(self._prefix + "*" + journals.SUFFIX), reverse=True)  # newest first
        largest = max(files, key=lambda one: one[1], default=None)
        for number, one in enumerate(files):
            written, _, path = one
            crowded = number >= MAX_FILES - 1 and one is not largest
            if path != self.path and (crowded or now - written > MAX_AGE_SECONDS):
                _unlink(path)
        for written, _, path in self._files("." + self._prefix + "*.tmp"):
            if now - written > _TORN_SECONDS:
                _unlink(path)

    def _files(self, pattern: str) -> Iterable[tuple[float, int, Path]]:
        """When they were written, their bytes, their path."""
        for path in list(self._folder.glob(pattern)):
            with contextlib.suppress(OSError):
                status = path.lstat()
                yield status.st_mtime, status.st_size, path


class Journals:
    """All files of one Reporter, written every `every` seconds by a thread of their own, and once more by `close`."""

    def __init__(self, folder: Path, cores: Iterable[Core], *, every: float) -> None:
        by_name: dict[tuple[str, str], list[Core]] = {}
        for core in cores:
            by_name.setdefault((core.cache, core.service), []).append(core)
        self._files = [JournalFile(folder, *name, mine) for name, mine in by_name.items()]
        self._folder, self._every, self._warned = folder, every, False
        self._stop = threading.Event()
        self.writing = threading.Lock()
        """Held while files are written; a fork waits for it."""
        self._thread = threading.Thread(target=self._work, name="herdwatch-journal", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write once more and end the thread; waits two seconds at most."""
        self._stop.set()
        self._thread.join(_CLOSE_SECONDS)

    def _work(self) -> None:
        ended = False
        while not ended:
            ended = self._stop.wait(self._every * random.uniform(0.9, 1.1))  # noqa: S311  no secret
            with self.writing:
                for file in self._files:
                    self._attempt(file)

    def _attempt(self, file: JournalFile) -> None:
        try:
            file.write()
        except Exception as error:
            if not self._warned:
                self._warned = True
                why = error.strerror if isinstance(error, OSError) else type(error).__name__
                _log.warning("no journal of hot keys can be written to %s: %s", self._folder, why)
        else:
            if self._warned:
                self._warned = False
                _log.info("the journal of hot keys is written to %s again", self._folder)


def _safe(name: str) -> str:
    """A name of a cache or service as a part of a file's name, without a dot, different for different names."""
    quoted = quote(name, safe="").replace(".", "%2E")
    if len(quoted) <= 80:
        return quoted
    return f"{quoted[:60]}~{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def _unlink(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
