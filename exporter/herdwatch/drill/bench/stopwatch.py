"""Adds up what took time: the wall's, and the CPU time of this process with all its threads; seconds."""

from __future__ import annotations

import time
from typing import Self


class Stopwatch:
    """Runs while it is entered, as often as one likes."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def __enter__(self) -> Self:
        self._began = time.process_time(), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        self.cpu += cpu - self._began[0]
        self.wall += wall - self._began[1]

    def per(self, count: int) -> list[float]:
        """Wall and CPU seconds of one of `count` calls."""
        return [self.wall / count, self.cpu / count]
