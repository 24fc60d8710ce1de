"""Steps of a run, each with a deadline, printed when they happen with their time relative to the fault."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console

from herdwatch.errors import CheckFailed, StackError

Found = TypeVar("Found")
POLL_SECONDS = 0.1


class Timeline:
    """Waits for steps and prints them. Times before `fault()` are relative to the beginning."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stdout, highlight=False)
        self._zero = time.monotonic()

    def fault(self, text: str) -> None:
        """Mark the moment that all later times are relative to."""
        self._zero = time.monotonic()
        self.tell(text)

    def elapsed(self) -> float:
        """Seconds since the fault."""
        return time.monotonic() - self._zero

    def say(self, text: str = "") -> None:
        """A line without a time."""
        self._console.print(text, markup=False, soft_wrap=True)

    def tell(self, text: str, *, at: float | None = None) -> None:
        """A line with its time in seconds since the fault, now by default."""
        self.say(f"  {self.elapsed() if at is None else at:+7.1f} s  {text}")

    @contextmanager
    def working(self, text: str) -> Iterator[None]:
        """Show that something is going on."""
        if self._console.is_terminal:
            with self._console.status(text):
                yield
        else:
            self.say(f"             … {text}")
            yield

    def step(self, name: str, found: Callable[[], Found | None], *, seconds: float) -> Found:
        """Wait until `found` returns something, and return it; raises CheckFailed naming the step."""
        deadline = time.monotonic() + seconds
        trouble = ""
        with self.working(f"waiting for: {name}"):
            while time.monotonic() < deadline:
                try:
                    result = found()
                except StackError as error:
                    trouble = f" ({error})"
                else:
                    if result is not None:
                        return result
                time.sleep(POLL_SECONDS)
        raise CheckFailed(f"this step did not happen within {seconds:g} s: {name}{trouble}")
