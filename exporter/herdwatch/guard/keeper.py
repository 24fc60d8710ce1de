"""Holds a lease while its load runs: extended every third of it, never beyond load_timeout."""

from __future__ import annotations

import asyncio
import contextlib
import time

from herdwatch.guard import commands
from herdwatch.guard.settings import Settings
from herdwatch.guard.store import Store, StoreDown


class Keeper:
    """The extensions of one lease; most loads end before the first of them."""

    def __init__(self, store: Store, key: str, token: str, settings: Settings) -> None:
        self._store, self._key, self._token, self._settings = store, key, token, settings
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; the first extension is a third of the lease away."""
        self._until = time.monotonic() + self._settings.load_timeout
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._settings.lease / 3, self._begin)

    def stop(self) -> None:
        """End; the lease is left to whoever ends the load. An extension on its way finds it gone, or its own."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._extend())

    async def _extend(self) -> None:
        pace = self._settings.lease / 3
        while (left := self._until - time.monotonic()) > 0:
            command = commands.extend(self._key, self._token, min(self._settings.lease, left))
            with contextlib.suppress(StoreDown):
                # Tried again after a failure: a Redis that was away for a moment may still have the lease.
                if not await self._store.run(command, min(pace, self._settings.timeout)):
                    return
            await asyncio.sleep(pace)
