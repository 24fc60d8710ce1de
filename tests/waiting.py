"""Waiting for what comes when it comes, and not for ever."""

from __future__ import annotations

import time
from collections.abc import Callable

SECONDS = 60.0


def until(condition: Callable[[], object], what: str = "what was waited for", *, every: float = 0.02) -> None:
    """Until it holds; `what` names it in the failure, in words that follow "did not come"."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"did not come within {SECONDS:g} s: {what}"
        time.sleep(every)
