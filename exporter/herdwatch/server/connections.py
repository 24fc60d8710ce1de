"""Who is connected, for how long each may keep us waiting, and who goes when there are too many.

uvicorn waits for ever for a request that does not end, for a first byte, and for a reader that does not read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from math import inf

from herdwatch.server.stats import HttpStats

MAX_CONNECTIONS = 1024
"""Open connections, those in a TLS handshake among them."""

RESPONSE_SECONDS = 30.0
"""How long a peer may take to read an answer."""

SWEEP_SECONDS = 1.0


class Seat:
    """The place of one open connection in the table.

    A connection either waits for its peer (for a handshake, a request, the next request) until `deadline`, or it works
    on an answer. `transports` are what its bytes pass: the socket's, and that of TLS.
    """

    __slots__ = ("_overdue", "_table", "_unread_until", "deadline", "transports")

    def __init__(self, table: Connections, transport: asyncio.Transport) -> None:
        self._table = table
        self.transports = [transport]
        self._unread_until = inf
        self.works()

    def waits(self, seconds: float, overdue: Callable[[], None]) -> None:
        """From now on it waits for its peer; `overdue` is called when the peer does nothing for that long."""
        self.deadline = self._table.clock() + seconds
        self._overdue = overdue
        self._table.waiting.pop(self, None)
        self._table.waiting[self] = None

    def works(self) -> None:
        """From now on the peer waits for us."""
        self.deadline = inf
        self._table.waiting.pop(self, None)

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for its peer."""
        return self in self._table.waiting

    def leaves(self) -> None:
        """The connection is gone."""
        self.works()
        self._table.forget(self)

    def close(self) -> None:
        """End the connection at once, whatever is unread."""
        self.transports[0].abort()

    def sweep(self, now: float) -> None:
        """End what is overdue."""
        if not self.unread:
            self._unread_until = inf
        elif self._unread_until == inf:
            self._unread_until = now + RESPONSE_SECONDS
        elif now > self._unread_until:
            self._table.stats.rejected["too_slow"] += 1
            self.close()
            return
        if now > self.deadline:
            self.deadline = inf
            self._overdue()

    @property
    def unread(self) -> bool:
        """Whether bytes wait here for the peer to read."""
        return any(transport.get_write_buffer_size() for transport in self.transports)


class Connections:
    """The table of open connections, at most `limit`. `clock` counts seconds, like `time.monotonic`."""

    def __init__(
        self, stats: HttpStats, *, limit: int = MAX_CONNECTIONS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.stats = stats
        self.clock = clock
        self.waiting: dict[Seat, None] = {}
        """Those that wait for their peer, the one that has waited longest first."""
        self._limit = limit
        self._seats: set[Seat] = set()

    def admit(self, transport: asyncio.Transport) -> Seat | None:
        """A seat for a new connection. When all are taken, whoever has kept us waiting longest makes room.

        Refusing the new one instead would let anybody lock Prometheus out by connecting and doing nothing. Only if
        none waits, so that every seat is being served, there is none to give.
        """
        if len(self._seats) >= self._limit:
            self.stats.rejected["too_many"] += 1
            longest = next(iter(self.waiting), None)
            if longest is None:
                return None
            longest.leaves()
            longest.close()
        seat = Seat(self, transport)
        self._seats.add(seat)
        self.stats.connections = len(self._seats)
        return seat

    def forget(self, seat: Seat) -> None:
        """Give the seat to others."""
        self._seats.discard(seat)
        self.stats.connections = len(self._seats)

    def sweep(self) -> None:
        """End every connection whose deadline is over; to be called every SWEEP_SECONDS."""
        now = self.clock()
        for seat in list(self._seats):
            seat.sweep(now)

    @property
    def unread(self) -> bool:
        """Whether anybody has an answer to read."""
        return any(seat.unread for seat in self._seats)

    def close(self) -> None:
        """End every connection at once."""
        for seat in list(self._seats):
            seat.close()
