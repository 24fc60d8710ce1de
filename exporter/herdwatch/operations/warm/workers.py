"""A loader that blocks, in threads: as many as loads may run, each used again, and none waited for at the end."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import queue
import threading
from collections.abc import Awaitable, Callable
from typing import Any

Loader = Callable[[str], Awaitable[Any]]
Outcome = tuple[Any, BaseException | None]


class Workers:
    """Threads that carry out jobs, at most `most`, each begun when none of the others is idle.

    A job that hangs keeps its thread, whoever has stopped waiting for it: what the threads ask of a database stays
    bounded. They are daemons, which keep no process from ending, as those of concurrent.futures do.
    """

    def __init__(self, most: int) -> None:
        self._most, self._begun = most, 0
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)

    def submit(self, job: Callable[[], None]) -> None:
        """Carry it out as soon as a thread is free; it must not raise. For one thread."""
        self._jobs.put(job)
        if not self._idle.acquire(blocking=False) and self._begun < self._most:
            self._begun += 1
            threading.Thread(target=self._work, name="herdwatch-load", daemon=True).start()

    def _work(self) -> None:
        while True:
            self._jobs.get()()
            self._idle.release()


def in_threads(function: Callable[[str], Any], most: int) -> Loader:
    """A function as an async loader. Who stops waiting before its turn has come is not asked for."""
    workers = Workers(most)

    async def load(key: str) -> Any:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Outcome] = loop.create_future()

        def settle(outcome: Outcome) -> None:
            if not future.done():
                future.set_result(outcome)

        def work() -> None:
            if future.done():
                return
            outcome: Outcome
            try:
                outcome = (function(key), None)
            except BaseException as error:
                outcome = (None, error)
            with contextlib.suppress(RuntimeError):  # the warm-up has ended without waiting for this one
                loop.call_soon_threadsafe(settle, outcome)

        workers.submit(work)
        value, error = await future
        if isinstance(error, KeyboardInterrupt):  # nobody's Ctrl-C: that comes to the main thread
            raise SystemExit from error
        if error is not None:
            raise error
        return await value if inspect.isawaitable(value) else value

    return load
