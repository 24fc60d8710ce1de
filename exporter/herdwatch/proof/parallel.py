"""Work that waits for other programs, in as many threads as there are processors; it ends as one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def parallel(
    one: Callable[[Item], Answer],
    items: Iterable[Item],
    *,
    give_up: Sequence[Callable[[], None]],
    done: Callable[[Answer], None],
    workers: int | None = None,
) -> list[Answer]:
    """What each item gives, in their order; `done` hears of each as it comes.

    The first failure, or an interrupt, ends all: what waits is not begun, and `give_up` ends what runs.
    """
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        futures = [pool.submit(one, item) for item in items]
        try:
            for future in as_completed(futures):
                done(future.result())
        except BaseException:
            for stop in give_up:
                stop()
            pool.shutdown(cancel_futures=True)
            raise
    return [future.result() for future in futures]
