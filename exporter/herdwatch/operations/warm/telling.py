"""A warm-up in words: the bar while it runs, and what came of it."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from herdwatch.guard import Guard
from herdwatch.operations.warm.keys import Keys
from herdwatch.operations.warm.pace import Speed
from herdwatch.operations.warm.warming import Outcome, State, Warmer, warm

_LINE_SECONDS = 10.0


def shown(warmer: Warmer, guard: Guard) -> Outcome:
    """Run a warm-up on the terminal: a bar there, a line now and then elsewhere. Ctrl-C ends it after the loads in the
    air; a second one at once.
    """

    # Its one line, "loads go on without it", is for applications.
    logging.getLogger("herdwatch.guard").setLevel(logging.ERROR)

    async def run() -> Outcome:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, interrupt)
        loop.add_signal_handler(signal.SIGTERM, warmer.stop)
        with _watching(warmer.state.target) as watch:
            async with guard:
                return await warm(warmer, guard, watch=watch)

    def interrupt() -> None:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)
        warmer.stop()

    return asyncio.run(run())


@contextmanager
def _watching(target: int) -> Iterator[Callable[[State], None]]:
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[now]}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("warming", total=target, now="")
        yield lambda state: progress.update(task, completed=state.done, now=_now(state))


def _lines() -> Callable[[State], None]:
    calls = 0

    def tell(state: State) -> None:
        nonlocal calls
        calls += 1
        if calls % round(_LINE_SECONDS * 5) == 0:
            print(f"{state.done:,} of {state.target:,} keys{_now(state)}", file=sys.stderr, flush=True)

    return tell


def _now(state: State) -> str:
    if state.waiting:
        return "  Redis does not answer"
    latency = "" if state.latency is None else f"  a load takes {state.latency * 1000:.3g} ms"
    return latency + (f"  {state.failed:,} failed" if state.failed else "")


def plan_of(keys: Keys, speed: Speed) -> str:
    """What is about to be done, in a line."""
    share = keys.share()
    carry = "" if share is None else f", which carry {share:.1%} of the lookups"
    return f"{len(keys):,} keys from {keys.source}{carry}; {speed.as_text()}"


def dry_run(warmer: Warmer, guard: Guard, *, as_json: bool) -> str:
    """What is cold, and how long the loads would take; nothing is loaded. Raises OperationError without Redis."""

    async def look() -> list[str]:
        async with guard:
            return await warmer.cold()

    cold = asyncio.run(look())
    seconds = warmer.speed.seconds(len(cold))
    warm_now = warmer.keys.share(set(warmer.keys.names) - set(cold))
    if as_json:
        return json.dumps(
            {"target": len(warmer.keys), "cold": len(cold), "seconds": seconds, "share_of_lookups_now": warm_now}
        )
    lines = [f"{len(cold):,} of {len(warmer.keys):,} keys are cold"]
    if warm_now is not None:
        lines.append(f"the warm ones carry {warm_now:.1%} of the lookups now")
    how_long = "as long as the database needs" if seconds is None else f"{seconds:.1f} s at the least"
    lines.append(f"to load them takes {how_long}; nothing was loaded")
    return "\n".join(lines)


def as_text(outcome: Outcome) -> str:
    """What came of it in a few lines, and what to do next."""
    state, lines = outcome.state, []
    parts = [
        f"{count:,} {words}"
        for count, words in (
            (state.loaded, "loaded"),
            (state.shared, "loaded by another process meanwhile"),
            (state.warm, "warm already"),
            (state.absent, "without a value"),
            (state.failed, "failed"),
        )
        if count
    ]
    lines.append(f"{state.done:,} of {state.target:,} keys in {outcome.seconds:.1f} s: {', '.join(parts) or 'none'}")
    if outcome.share is not None:
        lines.append(f"the warm ones carry {outcome.share:.1%} of the lookups in {outcome.keys.source}")
    if state.failed:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in state.failures.most_common())
        lines.append(f"what the loader raised: {kinds}; the first of these keys: {', '.join(state.first_failed)}")
    if state.lost:
        lines.append(f"{state.lost:,} keys were lost while it ran and were loaded anew: a restart, or a full cache")
    if outcome.stopped:
        lines.append(f"not to its end: {outcome.stopped}; the same command goes on from here")
    return "\n".join(lines)


def as_json(outcome: Outcome) -> str:
    """The same as one JSON object."""
    state = outcome.state
    return json.dumps(
        {
            "target": state.target,
            "loaded": state.loaded,
            "shared": state.shared,
            "warm": state.warm,
            "absent": state.absent,
            "failed": dict(state.failures),
            "lost": state.lost,
            "seconds": round(outcome.seconds, 3),
            "share_of_lookups": outcome.share,
            "stopped": outcome.stopped,
        }
    )
