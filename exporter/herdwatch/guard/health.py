"""Says once in the log that Redis does not answer, and once that it does again, instead of once per request."""

from __future__ import annotations

import logging
import time

from herdwatch.guard.address import Address

_log = logging.getLogger("herdwatch.guard")
_SILENCE_SECONDS = 60.0


class Health:
    """What is known of one Redis from the calls to it."""

    def __init__(self, address: Address) -> None:
        host, port, path, *_ = address.identity
        self._where = str(path or f"{host}:{port}")
        self._told = float("-inf")
        self._warned = False
        self.up = True

    def failed(self, error: BaseException) -> None:
        """A call failed. Of what Redis said only the first word is logged: the rest may quote the application."""
        self.up = False
        now = time.monotonic()
        if now - self._told >= _SILENCE_SECONDS:
            self._told, self._warned = now, True
            said = str(error).split(" ", 1)[0] if type(error).__name__.endswith("ResponseError") else ""
            what = f"{type(error).__name__} {said}".strip()
            _log.warning("Redis at %s does not serve the guard (%s); loads go on without it", self._where, what)

    def answered(self) -> None:
        """A call worked after one that failed; told once a warning, also to one whose Redis comes and goes."""
        self.up = True
        if self._warned:
            self._warned = False
            _log.info("Redis at %s serves the guard again", self._where)
