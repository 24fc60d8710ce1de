"""Holds the leases of a SyncGuard while their loads run: one daemon thread, begun with the first lease."""

from __future__ import annotations

import contextlib
import threading
import time

from herdwatch.guard import commands
from herdwatch.guard.settings import Settings
from herdwatch.guard.store import StoreDown
from herdwatch.guard.sync_store import SyncStore


class SyncKeeper:
    """Extends every lease that is held, every third of it, for no longer than load_timeout each."""

    def __init__(self, store: SyncStore, settings: Settings) -> None:
        self._store, self._settings = store, settings
        self.abandon()

    def abandon(self) -> None:
        """After a fork: no lease is ours, and the thread is the parent's."""
        self._held: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()
        self._rest = threading.Lock()  # held, but for the moment that wakes the thread
        self._rest.acquire()
        self._resting = False
        self._thread: threading.Thread | None = None
        self._closed = False

    def close(self) -> None:
        """End the thread; leases that are still held end by themselves."""
        with self._lock:
            self._closed = True
            self._wake()

    def hold(self, key: str, token: str, until: float) -> None:
        """Extend this lease from now on, until it is dropped or time.monotonic() says `until`."""
        with self._lock:
            self._held[token] = key, until
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="herdwatch-guard-leases", daemon=True)
                thread.start()
                self._thread = thread
            self._wake()

    def drop(self, token: str) -> None:
        """Leave this lease to whoever ends the load."""
        self._held.pop(token, None)

    def _run(self) -> None:
        pace = self._settings.lease / 3
        while not self._closed:
            time.sleep(pace)
            for token, (key, until) in list(self._held.items()):
                self._extend(key, token, until - time.monotonic())
            with self._lock:
                if self._held or self._closed:
                    continue
                self._resting = True
            self._rest.acquire()

    def _wake(self) -> None:
        if self._resting:
            self._resting = False
            self._rest.release()

    def _extend(self, key: str, token: str, left: float) -> None:
        if left <= 0:
            self.drop(token)
            return
        command = commands.extend(key, token, min(self._settings.lease, left))
        with contextlib.suppress(StoreDown):
            # Tried again after a failure: a Redis that was away for a moment may still have the lease.
            if token in self._held and not self._store.run(command, self._settings.lease / 3):
                self.drop(token)
