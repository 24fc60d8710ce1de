"""A new configuration while scrapes go on: SIGHUP and POST /-/reload come here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from herdwatch.collector.info import Sample
from herdwatch.config import Config
from herdwatch.errors import ConfigError
from herdwatch.server.fleet import Fleet
from herdwatch.server.log import say
from herdwatch.server.web import Web


class Reloads:
    """Reads herdwatch.yaml and the web configuration again, both or neither, and counts how that went.

    `read` gives the configuration, or raises ConfigError.
    """

    def __init__(self, fleet: Fleet, web: Web, *, read: Callable[[], Config]) -> None:
        self._fleet, self._web, self._read = fleet, web, read
        self._turn = asyncio.Lock()
        self._counts = {"ok": 0, "refused": 0}
        self._taken_at, self._is_latest = time.time(), True

    async def reload(self) -> list[str]:
        """Take the new files; raises ConfigError, and everything goes on as before, when one of them is wrong.

        Gives what to know about it: the address to listen on stays as it was until a restart, and a password that
        cannot be read is noticed at the next connection only.
        """
        async with self._turn:
            try:
                config = self._read()
                self._web.reload()
            except ConfigError as error:
                self._counts["refused"] += 1
                self._is_latest = False
                say(f"the new configuration is refused, the old one stays: {error}")
                raise
            listen = self._fleet.config.exporter.listen
            await self._fleet.adopt(config)
            self._counts["ok"] += 1
            self._taken_at, self._is_latest = time.time(), True
            notes = [f"reloaded: {len(config.caches)} caches", *_unreadable(config)]
            if config.exporter.listen != listen:
                notes.append(f"exporter.listen is {config.exporter.listen} now; the old address stays until a restart")
            for note in notes:
                say(note)
            return notes

    async def on_signal(self) -> None:
        """The same for a signal, which nobody answers: the log and the metrics tell."""
        with suppress(ConfigError):
            await self.reload()

    def samples(self) -> Iterator[Sample]:
        """Every family about the configuration."""
        for result, count in self._counts.items():
            yield "herdwatch_config_reloads_total", (result,), count
        yield "herdwatch_config_last_reload_successful", (), self._is_latest
        yield "herdwatch_config_last_success_timestamp_seconds", (), self._taken_at


def _unreadable(config: Config) -> Iterator[str]:
    for cache in config.caches:
        try:
            cache.password()
        except ConfigError as error:
            yield str(error)
