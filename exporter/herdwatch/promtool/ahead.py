"""Runs rule tests ahead of the one that is waited for, in as many threads as there are processors."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as Late
from typing import Generic, TypeVar

from herdwatch.errors import ToolError
from herdwatch.promtool.runner import Promtool, Result

Job = TypeVar("Job")


class Ahead(Generic[Job]):
    """Results of jobs: when the first of some is asked for, all of them are on their way, in their order."""

    def __init__(self, run: Callable[[Job, Promtool], Result], *, timeout: float, workers: int | None = None) -> None:
        self._run = run
        self._timeout = timeout
        self._pool = ThreadPoolExecutor(workers or _processors(), thread_name_prefix="promtool")
        self._promtool: Promtool | ToolError | None = None
        self._results: dict[Job, Future[Result]] = {}

    def result(self, job: Job, following: Sequence[Job]) -> Result:
        """The result of one job; if none is on its way yet, those `following` are started with it.

        Raises ToolError without a promtool, or if it does not end in time.
        """
        promtool = self._found()
        if job not in self._results:
            for one in (job, *following):
                self._results[one] = self._pool.submit(self._run, one, promtool)
        # All that was started before it has its own deadline in promtool, and then this one.
        seconds = 2 * self._timeout + 10
        try:
            return self._results.pop(job).result(seconds)
        except Late:
            raise ToolError(f"no promtool became free and ended within {seconds:g} s") from None

    def close(self) -> None:
        """End whatever still runs, and start nothing that waits."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        if isinstance(self._promtool, Promtool):
            self._promtool.stop()
        self._pool.shutdown(wait=True)

    def _found(self) -> Promtool:
        """The promtool, looked for once: a search that fails may have tried to fetch it."""
        if self._promtool is None:
            try:
                self._promtool = Promtool(timeout=self._timeout)
            except ToolError as error:
                self._promtool = error
        if isinstance(self._promtool, ToolError):
            raise self._promtool
        return self._promtool


def _processors() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
