"""How many series there are before and after a hundred more types of commands have been called."""

from __future__ import annotations

import contextlib

from redis import Redis
from redis.exceptions import ResponseError
from rich.console import Console

from herdwatch.drill.bench import readings
from herdwatch.drill.bench.figures import verdict
from herdwatch.drill.bench.scrapes import Contender, scraping
from herdwatch.errors import StackError
from herdwatch.stack import RedisServer

TYPES = 100


def measure(redis: RedisServer, found: list[Contender], console: Console) -> list[str]:
    """Print both counts for each exporter; gives the verdict on ours, the first."""
    with contextlib.ExitStack() as stack:
        calls = [stack.enter_context(scraping(one)) for one in found]
        before = [readings.series(once()) for once in calls]
        call_more_types(stack.enter_context(redis.client()), TYPES)
        after = [readings.series(once()) for once in calls]
    for one, first, then in zip(found, before, after, strict=True):
        console.print(f"{one.name}: {first} series, {then} after {TYPES} more types of commands", markup=False)
    return [verdict("as many series after them as before", after[0] / before[0])]


def call_more_types(client: Redis, count: int) -> None:
    """Call commands that INFO commandstats does not name yet; raises StackError when there are not so many.

    Each needs an argument and is given none: Redis refuses it, which does nothing, and counts it.
    """
    known = {name.removeprefix("cmdstat_") for name in client.info("commandstats")}
    wanting = [name for name, about in client.command().items() if abs(about["arity"]) > 1]
    new = [name for name in wanting if name not in known][:count]
    if len(new) < count:
        raise StackError(f"this Redis has {len(new)} types of commands that were not called yet, not {count}")
    for name in new:
        with contextlib.suppress(ResponseError):
            client.execute_command(name)  # type: ignore[no-untyped-call]
