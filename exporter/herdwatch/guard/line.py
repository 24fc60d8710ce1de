"""The line for a bounded number of places: the next is whom most callers wait for; among equals, who came first."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)
Crowd = Callable[[], int]
"""How many callers wait for one ticket now. Asked at every sort: cheap, and without a lock."""

BATCH = 64
"""Turns that one sort decides: a thousand in line and a place every 80 microseconds would else be mostly sorting."""
MAX_AGE = 0.05
"""Seconds after which a sort decides no more: where places become free slowly, each sees the crowds as they are."""


def one() -> int:
    """The crowd of a ticket in a line of equals, which is first come, first served."""
    return 1


class Line(Generic[T]):
    """Tickets that wait. Not locked: it belongs to an event loop, or to who holds the lock around it."""

    def __init__(self) -> None:
        self._crowds: dict[T, Crowd] = {}
        self._order: Iterator[T] = iter(())
        self._until = 0.0

    def __len__(self) -> int:
        return len(self._crowds)

    def join(self, ticket: T, crowd: Crowd) -> None:
        """Get in line."""
        self._crowds[ticket] = crowd

    def leave(self, ticket: T) -> bool:
        """Get out of line; False if it was this one's turn already."""
        return self._crowds.pop(ticket, None) is not None

    def next(self) -> T | None:
        """Take out the ticket whose turn it is; None when nobody waits.

        Who joined, or whose crowd grew, since the last sort is seen after BATCH turns or MAX_AGE seconds.
        """
        if not self._crowds:
            return None
        ticket = self._take() if time.monotonic() < self._until else None
        if ticket is None:
            self._sort()
            ticket = self._take()
        return ticket

    def _take(self) -> T | None:
        for ticket in self._order:
            if ticket in self._crowds:
                del self._crowds[ticket]  # no call: nothing interrupts a thread from here to its caller
                return ticket
        return None

    def _sort(self) -> None:
        sizes = {ticket: crowd() for ticket, crowd in self._crowds.items()}
        # In reverse, sorted() still keeps equals in the order in which they came.
        self._order = iter(sorted(sizes, key=sizes.__getitem__, reverse=True)[:BATCH])
        self._until = time.monotonic() + MAX_AGE
