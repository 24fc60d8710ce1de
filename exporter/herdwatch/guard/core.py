"""What Guard and SyncGuard have in common: settings, counts, switches, and the judgement of what lies in Redis."""

from __future__ import annotations

import itertools
import os
import random
import time
import uuid
import weakref
from collections.abc import Callable
from typing import Any, Final, Literal

from prometheus_client import CollectorRegistry

from herdwatch.guard import exposition
from herdwatch.guard.counts import Counts, GroupCounts
from herdwatch.guard.settings import Settings
from herdwatch.guard.switches import Switches
from herdwatch.guard.values import HEADER_BYTES, pack, unpack
from herdwatch.reports import Warmup

MISS: Final = object()
_MISSED = (MISS, "", False)

Standing = Literal["warm", "cold", "foreign"]
"""A fresh value; none, or one that has ended; what this guard did not write, or cannot read."""

_COOLING_SECONDS = 1.0
_COOLING_KEYS = 4096


class Core:
    """State and rules that do no I/O."""

    def __init__(self, settings: Settings, *, cache: str, service: str, registry: CollectorRegistry | None) -> None:
        self.settings = settings
        self.counts = Counts(cache, service, hot_keys=settings.hot_keys)
        self.switches = Switches()
        self._clock = settings.clock
        self._loads, self._policy = settings.serializer.loads, settings.refresh
        self._cooling: dict[str, float] = {}
        self._name_tokens()
        self.began = time.monotonic()
        self.forked: list[Callable[[], None]] = []
        self.waiting: Callable[[], int] = int
        """How many callers wait for a load now."""
        self.warmup: Warmup | None = None
        """How far a warm-up is, in a process that exists for one: it answers no lookups."""
        if registry is not None:
            exposition.expose(registry, self)
        _alive.add(self)

    @property
    def cache(self) -> str:
        return self.counts.cache

    @property
    def service(self) -> str:
        return self.counts.service

    def token(self) -> str:
        """A token that no other load anywhere has."""
        return f"{self._incarnation}:{next(self._numbers)}"

    def judge(self, raw: bytes | None) -> tuple[Any, str, bool]:
        """The decoded value or MISS, the class under which its caller is counted, and whether a refresh is due.

        Foreign and undecodable bytes are a miss, and so is what is older than ttl + stale, or than ttl when nothing
        refreshes it.
        """
        if raw is None or (header := unpack(raw)) is None:
            return _MISSED
        negative, _, load_seconds, expires_at = header
        try:
            value = None if negative else self._loads(raw[HEADER_BYTES:])
        except Exception:
            return _MISSED
        policy = self._policy if self.switches.refresh else None
        now = self._clock()
        if now >= expires_at:
            late = policy is not None and now < expires_at + self.settings.stale
            return (value, "stale", True) if late else _MISSED
        due = policy is not None and policy.due(now, expires_at, load_seconds)
        return value, "negative" if negative else "hit", due

    def stands(self, raw: bytes | None) -> Standing:
        """What a warm-up finds; judge() says miss of what is cold and of what is foreign."""
        if raw is None:
            return "cold"
        header = unpack(raw)
        if header is None or not self._reads(header[0], raw):
            return "foreign"
        return "warm" if self._clock() < header[3] else "cold"

    def _reads(self, negative: bool, raw: bytes) -> bool:
        try:
            return negative or self._loads(raw[HEADER_BYTES:]) is not MISS
        except Exception:
            return False

    def usable(self, raw: bytes | None, seen: float | None) -> bool:
        """Whether a value that another process stored answers this load: decodable, and another than the one seen."""
        header = None if raw is None else unpack(raw)
        if raw is None or header is None:
            return False
        newer = header[3] > self._clock() if seen is None else header[1] != seen
        return newer and self.judge(raw)[0] is not MISS

    def pack(self, value: Any, *, ttl: float, seconds: float) -> tuple[bytes, float]:
        """A loaded value as bytes, and how long Redis is to keep them; 0 is not at all.

        Raises what the serializer raises for a value that it cannot store.
        """
        payload = None if value is None else self.settings.serializer.dumps(value)
        lives = self.settings.negative_ttl if value is None else ttl
        lives *= random.uniform(1 - self.settings.ttl_jitter, 1)  # noqa: S311  no secret
        now = self._clock()
        raw = pack(payload, loaded_at=now, load_seconds=seconds, expires_at=now + lives)
        return raw, lives + self.settings.stale if lives > 0 else 0.0

    def decode(self, raw: bytes) -> Any:
        """Everyone's own copy of a value that was just loaded."""
        return None if raw[3] else self._loads(raw[HEADER_BYTES:])

    def within_stale(self, raw: bytes | None) -> bool:
        """Whether an old value may still be given."""
        header = None if raw is None else unpack(raw)
        return header is not None and self._clock() < header[3] + self.settings.stale

    def cooling(self, key: str) -> bool:
        """Whether a refresh of this key failed just now: it is not tried again at the pace of the hits."""
        return bool(self._cooling) and self._cooling.get(key, 0.0) > time.monotonic()

    def cool(self, key: str) -> None:
        """Remember that a refresh of this key failed."""
        if len(self._cooling) >= _COOLING_KEYS:
            self._cooling.clear()
        self._cooling[key] = time.monotonic() + _COOLING_SECONDS

    def after_fork(self) -> None:
        """The child has counted nothing, holds no lease and shares no connection."""
        for forget in self.forked:
            forget()
        self.counts.reset()
        self.began = time.monotonic()
        self._cooling.clear()
        self._name_tokens()

    def _name_tokens(self) -> None:
        self._incarnation = uuid.uuid4().hex[:16]
        self._numbers = itertools.count(1)  # threads share it: a generator would refuse a second one


def check_ttl(ttl: float) -> None:
    """Raises ValueError unless `ttl` is a positive number of seconds."""
    if not isinstance(ttl, (int, float)) or not 0 < ttl < float("inf"):
        raise ValueError(f"ttl is {ttl!r}; it must be a positive number of seconds")


def count_one(counts: GroupCounts, name: str) -> None:
    """Count one caller under the named class."""
    setattr(counts, name, getattr(counts, name) + 1)


_alive: weakref.WeakSet[Core] = weakref.WeakSet()


def _after_fork() -> None:
    for core in list(_alive):
        core.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
