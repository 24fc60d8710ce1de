"""Which keys of a live Redis are hot: by OBJECT FREQ where its policy counts lookups, else by when they were touched.

Neither reads a value or changes when a key was touched, but Redis counts each question as a hit in its own statistics.
Both go through the keys with SCAN in small steps and rest after each, so that Redis spends at most a fifth of its time
on them, and end at a deadline.

Source: the Redis command reference, OBJECT FREQ, OBJECT IDLETIME and SCAN. FREQ is a counter that grows with the
logarithm of the lookups and loses one a minute (lfu-log-factor, lfu-decay-time). IDLETIME has steps of a second; so of
the keys touched last, which are looked at again and again, those are the hottest that are touched between most looks.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from herdwatch.collector import failures, glob, info
from herdwatch.collector.link import Link
from herdwatch.collector.parts import expect
from herdwatch.collector.resp import Command, ProtocolError, ReplyError
from herdwatch.config import Cache
from herdwatch.errors import OperationError, UsageError
from herdwatch.operations.hot_keys import OWN, Found, Listing, Wanted, ago

SHARE = 0.2
"""Of Redis's time, at most."""
COUNT = 100
_BEYOND = 3.0
"""What a command costs Redis with all that its own statistics leave out: to read it, and to write the reply."""
_STEPS = 100
"""After so many Redis is asked again what they cost it."""
STEP_SECONDS = 5.0
ROUND_SECONDS = 1.0
_MAX_PAUSE = 2.0
_MIN_CANDIDATES = 4000


def listing(cache: Cache, wanted: Wanted, *, seconds: float = 30.0) -> Listing:
    """The hottest keys of a live Redis, within so many seconds; an interrupt ends it with what was found until then.

    Raises OperationError when Redis does not answer or refuses, ConfigError for a password that is not where it is said
    to be, and UsageError for a group that the cache does not have.
    """
    if wanted.group is not None and wanted.group not in cache.groups:
        known = ", ".join(sorted(cache.groups)) or "none; a cache in herdwatch.yaml may have some"
        raise UsageError(f"cache {cache.name} has no group {wanted.group!r}; there is: {known}")
    return asyncio.run(_Search(cache, wanted, seconds).run())


class _Replaced(ConnectionError):
    """Another process answers than the one whose keys were looked at."""


@dataclass(slots=True)
class _Candidate:
    """A key that may be hot: when it was looked at last, how often, and what was seen."""

    value: int
    seen: float
    looks: int = 0
    touched: int = 0
    idle: int = 0

    def look(self, idle: int, now: float) -> None:
        """Whether it was touched since the last look, and how long ago."""
        self.looks += 1
        self.touched += idle < now - self.seen
        self.idle += idle
        self.value, self.seen = idle, now

    @property
    def share(self) -> float:
        return self.touched / self.looks if self.looks else 0.0

    @property
    def mean_idle(self) -> float:
        return self.idle / self.looks if self.looks else float(self.value)


class _Search:
    """One search of one Redis."""

    def __init__(
        self, cache: Cache, wanted: Wanted, seconds: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._cache, self._wanted, self._clock = cache, wanted, clock
        self._link = Link(cache)
        self._began = clock()
        self._until, self._seconds = self._began + seconds, seconds
        self._groups = {name: glob.compiled(pattern).match for name, pattern in cache.groups.items()}
        self._fits = wanted.pattern
        self._keep = max(4 * wanted.top, _MIN_CANDIDATES)
        self._candidates: dict[bytes, _Candidate] = {}
        self._word, self._policy, self._run_id, self._replica = "IDLETIME", "", "", False
        self._there = self._looked_at = self._refused = self._rounds = 0
        self._complete, self._owed, self._steps = False, 0.0, 0
        self._cost = float("inf")

    async def run(self) -> Listing:
        interrupted, failure = False, ""
        try:
            await self._search()
        except asyncio.CancelledError:
            interrupted = True
            if not self._candidates:
                raise
        except (OSError, ReplyError, ProtocolError) as error:
            failure = self._sentence(error)
            if not self._candidates:
                raise OperationError(failure) from None
        finally:
            self._link.hang_up()
        return self._listing(interrupted, failure)

    async def _search(self) -> None:
        await self._meet()
        frequency = self._word == "FREQ"
        await self._pass(self._until if frequency else self._began + self._seconds / 2)
        self._prune(self._keep)
        if self._refused and not self._candidates:
            raise ReplyError("NOPERM")
        while not frequency and self._candidates and self._clock() < self._until:
            await self._round()
        fields = await self._info()
        if fields.get("run_id") != self._run_id:
            raise _Replaced

    async def _info(self, *section: str) -> info.Fields:
        async with asyncio.timeout(STEP_SECONDS):
            [reply] = await self._link.ask([("INFO", *section)])
        return info.parse(expect(reply, bytes))

    async def _meet(self) -> None:
        fields = await self._info()
        if fields.get("loading", "0") != "0":
            raise ReplyError("LOADING")
        self._run_id, self._policy = fields.get("run_id", ""), fields.get("maxmemory_policy", "unknown")
        self._replica = fields.get("role") == "slave"
        self._there = info.keys(fields, self._cache.logical_database)
        if self._policy.endswith("-lfu"):
            self._word = "FREQ"

    async def _pass(self, until: float) -> None:
        """All keys once, as far as the time goes: each step asks for more keys, and about those of the last."""
        cursor, keys = 0, list[bytes]()
        scanned = False
        while not scanned or keys:
            pending = [key for key in keys if self._asked_for(key)]
            more: list[Command] = [] if scanned else [("SCAN", cursor, "COUNT", COUNT)]
            replies = await self._step([*self._about(pending), *more], until)
            now = self._clock()
            for key, reply in zip(pending, replies, strict=False):
                if (value := self._value(reply)) is not None:
                    self._candidates[key] = _Candidate(value, now)
            self._looked_at += len(keys)
            cursor, keys = _scanned(replies[-1]) if more else (0, [])
            scanned = cursor == 0
            self._prune(2 * self._keep)
            if now >= until:
                return
        self._complete = True

    async def _round(self) -> None:
        """Look at all candidates again; one that was touched since is hotter than one that was not."""
        began, keys = self._clock(), list(self._candidates)
        for start in range(0, len(keys), COUNT):
            some = keys[start : start + COUNT]
            replies = await self._step(self._about(some), self._until)
            now = self._clock()
            for key, reply in zip(some, replies, strict=True):
                if (value := self._value(reply)) is not None:
                    self._candidates[key].look(value, now)
                elif reply is None:
                    del self._candidates[key]
            if now >= self._until:
                return
        self._rounds += 1
        await asyncio.sleep(max(0.0, min(began + ROUND_SECONDS, self._until) - self._clock()))

    async def _step(self, commands: Sequence[Command], until: float) -> list[Any]:
        """Ask, after the rest that the step before has earned Redis."""
        await asyncio.sleep(max(0.0, min(self._owed, until - self._clock())))
        self._steps += 1
        if self._steps % _STEPS == _STEPS // 10:
            self._cost = _cost(await self._info("commandstats"))
        began = self._clock()
        async with asyncio.timeout(STEP_SECONDS):
            replies = await self._link.ask(commands)
        took = self._clock() - began  # the most that Redis can have spent on it, our own reading included
        self._owed = min(max(min(took, self._cost) / SHARE - took, 0.0), _MAX_PAUSE)
        return replies

    def _about(self, keys: Sequence[bytes]) -> list[Command]:
        return [("OBJECT", self._word, key) for key in keys]

    def _value(self, reply: object) -> int | None:
        """What is known of a key; None when it is gone or this user may not ask."""
        if isinstance(reply, ReplyError) and reply.code == "NOPERM":
            self._refused += 1
            return None
        return None if reply is None else expect(reply, int)

    def _asked_for(self, key: bytes) -> bool:
        if key.startswith(OWN) or not self._fits(key):
            return False
        return self._wanted.group is None or self._group(key) == self._wanted.group

    def _group(self, key: bytes) -> str:
        return next((name for name, fits in self._groups.items() if fits(key)), "")

    def _prune(self, most: int) -> None:
        if len(self._candidates) > most:
            best = heapq.nsmallest(self._keep, self._candidates.items(), key=self._order)
            self._candidates = dict(best)

    def _order(self, item: tuple[bytes, _Candidate]) -> tuple[float, float, bytes]:
        key, one = item
        return (-one.value, 0.0, key) if self._word == "FREQ" else (-one.share, one.mean_idle, key)

    def _listing(self, interrupted: bool, failure: str) -> Listing:
        best = heapq.nsmallest(self._wanted.top, self._candidates.items(), key=self._order)
        frequency = self._word == "FREQ"
        method = "frequency" if frequency else "idle"
        names = ("frequency",) if frequency else ("touched", "idle_seconds")
        keys = [
            Found(key, self._group(key), (one.value,) if frequency else (one.share, one.mean_idle)) for key, one in best
        ]
        seconds = self._clock() - self._began
        facts = {
            "cache": self._cache.name,
            "instance": self._cache.instance,
            "database": self._cache.logical_database,
            "policy": self._policy,
            "keys_there": self._there,
            "keys_looked_at": self._looked_at,
            "keys_refused": self._refused,
            "complete": self._complete and not failure,
            "rounds": self._rounds,
            "seconds": seconds,
            "replica": self._replica,
            "share": None,
        }
        return Listing(method, names, tuple(keys), self._said(len(keys), seconds), facts, interrupted, failure)

    def _said(self, found: int, seconds: float) -> tuple[str, ...]:
        coverage = "all" if self._complete else f"{min(1.0, self._looked_at / max(1, self._there)):.0%} of"
        said = [
            f"The {found:,} hottest keys at {self._cache.instance} db {self._cache.logical_database}: "
            f"{coverage} {max(self._there, self._looked_at):,} keys looked at in {ago(seconds)}, with at most "
            f"{SHARE:.0%} of Redis's time."
        ]
        if self._word == "FREQ":
            said.append(
                f"By OBJECT FREQ ({self._policy}), which grows with the logarithm of the lookups, and by chance: the "
                "order is rough, and what share of traffic they carry is not known."
            )
        else:
            said.append(
                f"By OBJECT IDLETIME ({self._policy}): in what share of {self._rounds} rounds over the "
                f"{len(self._candidates):,} keys touched last a key had been touched again. What is touched every "
                "second looks alike, and what share of traffic they carry is not known."
            )
        said.append("Redis counts each look as a hit, so for a while its own hit ratio reads too high.")
        if not self._complete:
            said.append("Not all keys were looked at: give it more --seconds. What is missing may be as hot.")
        if self._refused:
            said.append("Its user may not ask about some of the keys: those are left out.")
        if self._replica:
            said.append("It is a replica: what is read from its primary does not count here.")
        return tuple(said)

    def _sentence(self, error: Exception) -> str:
        why, where = failures.reason(error), f"cache {self._cache.name}: Redis at {self._cache.instance}"
        if isinstance(error, _Replaced):
            return f"{where} was restarted meanwhile; what is listed is of before and after"
        if why == "loading":
            return f"{where} loads its dataset and answers nothing else; ask again when it is done, or take the journal"
        if why == "permission":
            return f"{where} refuses: its user needs +info +scan +object and ~*; values are never read"
        return failures.sentence(self._cache, why, failures.detail(self._cache, error))


def _cost(fields: info.Fields) -> float:
    """Seconds of Redis that a step costs, by its own statistics; infinite where it has none of both commands."""
    known = {name: info.number(info.pairs(text), "usec_per_call") for name, text in fields.items()}
    about = max((each or 0.0 for name, each in known.items() if name.startswith("cmdstat_object")), default=0.0)
    step = known.get("cmdstat_scan") or 0.0
    return _BEYOND * (step + COUNT * about) / 1e6 if step and about else float("inf")


def _scanned(reply: object) -> tuple[int, list[bytes]]:
    """The cursor and the keys; raises the reply if it is an error, and ProtocolError if it is no reply of SCAN."""
    pair = expect(reply, list)
    try:
        cursor, keys = pair
        return int(cursor), [expect(key, bytes) for key in keys]
    except (TypeError, ValueError):
        raise ProtocolError("what answers to SCAN is no cursor and list of keys") from None
