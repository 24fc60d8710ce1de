"""A bounded number of places for threads, first come first served: the connections and the load slots of a guard.

Not threading.Semaphore: a thread that is interrupted inside it (KeyboardInterrupt, a worker's timeout) can leave its
inner lock held, and with it everyone else outside for ever. The lock here is held by `with` alone.
"""

from __future__ import annotations

import threading
from collections import deque


class Slots:
    """`size` places."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._line: deque[threading.Lock] = deque()
        self._lock = threading.Lock()

    def take_if_free(self) -> bool:
        """Take a place if one is free."""
        with self._lock:
            taken = self._free > 0
            if taken:
                self._free -= 1
        return taken

    def take(self, within: float) -> bool:
        """Take a place, if need be one that becomes free within that many seconds."""
        with self._lock:
            if self._free > 0:
                self._free -= 1
                return True
            turn = threading.Lock()
            turn.acquire()
            self._line.append(turn)
        try:
            return turn.acquire(timeout=max(0.0, within)) or not self._step_out(turn)
        except BaseException:
            if not self._step_out(turn):
                self.give()
            raise

    def give(self) -> None:
        """Give a place back: to the first in line, if there is one."""
        with self._lock:
            if self._line:
                self._line.popleft().release()
            else:
                self._free += 1

    def _step_out(self, turn: threading.Lock) -> bool:
        """Leave the line; False if it was this one's turn already."""
        with self._lock:
            try:
                self._line.remove(turn)
            except ValueError:
                return False
        return True
