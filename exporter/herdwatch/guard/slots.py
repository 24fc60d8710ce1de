"""A bounded number of places for threads: the connections and the load slots of a guard.

Not threading.Semaphore: a thread that is interrupted inside it (KeyboardInterrupt, a worker's timeout) can leave its
inner lock held, and with it everyone else outside for ever. The lock here is held by `with` alone.
"""

from __future__ import annotations

import threading

from herdwatch.guard.line import Crowd, Line, one


class Slots:
    """`size` places, first come first served among those who say nothing of a crowd."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._line: Line[threading.Lock] = Line()
        self._lock = threading.Lock()

    def take_if_free(self) -> bool:
        """Take a place if one is free."""
        with self._lock:
            taken = self._free > 0
            if taken:
                self._free -= 1
        return taken

    def take(self, within: float, crowd: Crowd = one) -> bool:
        """Take a place, if need be one that becomes free within that many seconds; the largest crowd goes first."""
        with self._lock:
            if self._free > 0:
                self._free -= 1
                return True
            turn = threading.Lock()
            turn.acquire()
            self._line.join(turn, crowd)
        try:
            return turn.acquire(timeout=max(0.0, within)) or not self._step_out(turn)
        except BaseException:
            if not self._step_out(turn):
                self.give()
            raise

    def give(self) -> None:
        """Give a place back: to the next in line, if there is one."""
        with self._lock:
            self._free += 1  # first: whoever is interrupted while the line is sorted loses no place
            while self._free > 0 and (turn := self._line.next()) is not None:
                self._free -= 1
                turn.release()

    def _step_out(self, turn: threading.Lock) -> bool:
        """Leave the line; False if it was this one's turn already."""
        with self._lock:
            return self._line.leave(turn)
