"""Sends what guards counted into their own Redis, for applications of several workers, and reads the switches there.

prometheus_client's multiprocess mode drops custom collectors, and a scrape reaches one worker of many. So each process
writes its totals into the hash that herdwatch.reports describes, and the exporter adds up what grew.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import random
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from herdwatch.guard import exposition, switches
from herdwatch.guard.address import Address
from herdwatch.guard.core import Core
from herdwatch.guard.guard import Guard
from herdwatch.guard.journal import Journals
from herdwatch.guard.store import StoreDown
from herdwatch.guard.sync_guard import SyncGuard
from herdwatch.guard.sync_store import SyncRedisStore
from herdwatch.reports import KEY, MalformedReport, Report, Totals, parse, render

_log = logging.getLogger("herdwatch.guard")
_CLEAN_SECONDS = 60.0
_FORK_SECONDS = 1.0


class Reporter:
    """One daemon thread that reports for the given guards every `every` seconds, from its construction on.

    It can neither block nor fail the application: what Redis does not take is left out, and the next report carries
    the totals anyway. A guard that reports is no longer exposed on its registry. After a fork the child reports
    under a name of its own and begins at zero. `close` writes a last report; so does the end of the interpreter, which
    a server that ends its workers by a signal may leave out.

    With `report=False` it only reads the switches, for an application that Prometheus scrapes.

    With `journal`, a folder, it also writes there which keys are hot, every `journal_every` seconds and at `close`: a
    file for each cache and service, readable for this user only, which `herdwatch hotkeys` and `herdwatch warm` read.

    Raises ValueError without a guard, for an `every` that is no positive number, for a guard without a Redis, and for a
    journal of guards whose `hot_keys` is 0.
    """

    def __init__(
        self,
        *guards: Guard | SyncGuard,
        every: float = 10.0,
        timeout: float = 1.0,
        report: bool = True,
        journal: str | os.PathLike[str] | None = None,
        journal_every: float = 60.0,
    ) -> None:
        if not guards:
            raise ValueError("a Reporter needs the guards to report for")
        if not 0 < every <= 3600:
            raise ValueError(f"every is {every!r}; it must be more than 0 and at most 3600 seconds")
        if not 0 < journal_every <= 3600:
            raise ValueError(f"journal_every is {journal_every!r}; it must be more than 0 and at most 3600 seconds")
        if journal is not None and not any(guard.core.settings.hot_keys for guard in guards):
            raise ValueError("a journal needs a guard that counts its hot keys; hot_keys is 0")
        self._every, self._timeout, self._report = every, timeout, report
        self._folder = None if journal is None else Path(journal).absolute()
        self._journal_every = journal_every
        self._cores: dict[tuple[Address, str], list[Core]] = {}
        for guard in guards:
            if guard.address is None:
                raise ValueError(f"the guard of cache {guard.core.cache} has no Redis to report to")
            self._cores.setdefault((guard.address, guard.core.service), []).append(guard.core)
        if report:
            for guard in guards:
                exposition.withdraw(guard.core)
        self._begin()
        _alive.add(self)

    def close(self) -> None:
        """Write a last report and end the thread; waits no longer than two timeouts a Redis.

        With a journal also a last one of that, and two seconds for it at most.
        """
        if self._stop.is_set():
            return
        _alive.discard(self)
        self._stop.set()
        if self._journals is not None:
            self._journals.close()
        self._thread.join(2 * self._timeout * len(self._posts))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def begin_anew(self) -> None:
        """After a fork: the thread stayed with the parent."""
        self._begin()

    @property
    def held(self) -> list[threading.Lock]:
        """What a fork waits for."""
        return [self.sending, *([self._journals.writing] if self._journals is not None else [])]

    def _begin(self) -> None:
        cores = [core for some in self._cores.values() for core in some]
        self._journals = Journals(self._folder, cores, every=self._journal_every) if self._folder else None
        self._posts = [
            Post(address, service, cores, every=self._every, timeout=self._timeout, report=self._report)
            for (address, service), cores in self._cores.items()
        ]
        self._stop = threading.Event()
        self.sending = threading.Lock()
        self._thread = threading.Thread(
            target=_work,
            args=(self._posts, self._stop, self._every, self.sending),
            name="herdwatch-reporter",
            daemon=True,
        )
        self._thread.start()


class Post:
    """The reports of one process about one service into one Redis."""

    def __init__(
        self, address: Address, service: str, cores: list[Core], *, every: float, timeout: float, report: bool
    ) -> None:
        self._service, self._cores, self._every, self._timeout = service, cores, every, timeout
        self._reports = report
        self._incarnation = uuid.uuid4().hex[:16]
        self._store = SyncRedisStore(address, connections=1)
        self._start: float | None = None
        self._clean_at = time.monotonic() + _CLEAN_SECONDS * random.uniform(0, 2)  # noqa: S311  no secret

    def send(self) -> None:
        """Read the switches and write one report; raises StoreDown."""
        with contextlib.suppress(StoreDown):  # something else may lie there: no reason to be silent
            fields = dict(_pairs(self._run("HGETALL", switches.KEY)))
            for core in self._cores:
                core.switches.apply(fields, self._service)
        if self._reports:
            self._write()

    def _write(self) -> None:
        seconds, microseconds = self._run("TIME")
        now = int(seconds) + int(microseconds) / 1e6
        if self._start is None:
            self._start = now - (time.monotonic() - min(core.began for core in self._cores))
        self._run("HSET", KEY, *render(self._report(now, self._start)))
        if time.monotonic() >= self._clean_at:
            self._clean_at = time.monotonic() + _CLEAN_SECONDS * random.uniform(0.5, 1.5)  # noqa: S311  no secret
            self._remove_dead(now)

    def close(self) -> None:
        """Close the connection."""
        self._store.close()

    def _report(self, now: float, start: float) -> Report:
        totals: Totals = {}
        for core in self._cores:
            for key, value in core.counts.totals().items():
                totals[key] = totals.get(key, 0) + value
        # A warmer comes and goes: were it to say that singleflight is on, its end would read as a service gone silent.
        warmup = next((core.warmup for core in self._cores if core.warmup), None)
        return Report(
            service=self._service,
            incarnation=self._incarnation,
            start=start,
            at=now,
            every=self._every,
            totals=totals,
            inflight=sum(core.counts.inflight for core in self._cores),
            waiters=sum(core.waiting() for core in self._cores),
            enabled=None if warmup else all(core.switches.singleflight for core in self._cores),
            warmup=warmup,
        )

    def _remove_dead(self, now: float) -> None:
        """Processes that are gone cannot remove their own reports."""
        dead = []
        for field, value in _pairs(self._run("HGETALL", KEY)):
            with contextlib.suppress(MalformedReport):
                if parse(field, value).stale(now):
                    dead.append(field)
        if dead:
            self._run("HDEL", KEY, *dead)

    def _run(self, *command: Any) -> Any:
        return self._store.run(command, self._timeout)


def _work(posts: list[Post], stop: threading.Event, every: float, sending: threading.Lock) -> None:
    """The thread: the first report at once, the last one after `stop`."""
    ended = False
    while True:
        for post in posts:
            try:
                with sending:
                    post.send()
            except StoreDown:
                pass  # its Health has said so
            except Exception as error:
                _log.warning("a report failed with %s; the next one carries the totals", type(error).__name__)
        if ended:
            break
        ended = stop.wait(every * random.uniform(0.9, 1.1))  # noqa: S311  no secret
    for post in posts:
        post.close()


def _pairs(flat: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)


# Strong: a reporter works whether or not somebody keeps it, and so it must after a fork and at the end.
_alive: set[Reporter] = set()


@atexit.register
def _at_exit() -> None:
    for reporter in list(_alive):
        reporter.close()


# A fork in the middle of a report would copy whatever lock the thread holds then, the resolver's or an import's.
_held: list[threading.Lock] = []


def _before_fork() -> None:
    locks = [lock for one in list(_alive) for lock in one.held]
    _held.extend(lock for lock in locks if lock.acquire(timeout=_FORK_SECONDS))


def _after_fork_in_parent() -> None:
    while _held:
        _held.pop().release()


def _after_fork() -> None:
    _held.clear()
    for reporter in list(_alive):
        reporter.begin_anew()


if hasattr(os, "register_at_fork"):
    # Registered after herdwatch.guard.core's, so that the guards have begun at zero when the reporters begin.
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork)
