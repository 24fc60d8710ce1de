"""Waiting for what comes when it comes, and not for ever."""

from __future__ import annotations

import time
from collections.abc import Callable

SECONDS = 60.0


def until(
    condition: Callable[[], object],
    what: str = "what was waited for",
    *,
    every: float = 0.02,
    found: Callable[[], object] = str,
) -> None:
    """Until it holds. In the failure `what` names it, after "did not come", and `found` says what there is instead."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"did not come within {SECONDS:g} s: {what} {found()}"
        time.sleep(every)
