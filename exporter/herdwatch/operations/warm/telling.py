"""A warm-up in words: the bar while it runs, and what came of it."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from herdwatch.guard import Guard
from herdwatch.guard.core import Standing
from herdwatch.operations.hot_keys import ago
from herdwatch.operations.hot_keys import shown as key_shown
from herdwatch.operations.warm.keys import Keys, reaches
from herdwatch.operations.warm.outcome import Outcome, State
from herdwatch.operations.warm.pace import Speed
from herdwatch.operations.warm.warming import Warmer, warm

_LINE_SECONDS = 10.0
_FOREIGN = "{:,} are no values of this guard and {} left alone; name the guard of their application with --guard"


def shown(warmer: Warmer, guard: Guard) -> Outcome:
    """Run a warm-up on the terminal: a bar there, a line now and then elsewhere. Ctrl-C ends it after the loads in the
    air; a second one at once.
    """

    # Its one line, "loads go on without it", is for applications.
    logging.getLogger("herdwatch.guard").setLevel(logging.ERROR)

    async def run() -> Outcome:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, interrupt)
        loop.add_signal_handler(signal.SIGTERM, stop)
        with _watching(warmer.state.target) as watch:
            async with guard:
                return await warm(warmer, guard, watch=watch)

    def stop() -> None:
        count = warmer.in_the_air
        loads = f", {count:,} {'load' if count == 1 else 'loads'} in the air" if count else ""
        print(f"stopping{loads}; Ctrl-C again ends it now", file=sys.stderr, flush=True)
        warmer.stop()

    def interrupt() -> None:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)
        stop()

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
        yield lambda state: progress.update(task, total=state.target, completed=state.done, now=_now(state))


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


def plan_of(
    keys: Keys,
    speed: Speed,
    *,
    until: float | None = None,
    silence: float = 0.0,
    clock: Callable[[], float] = time.time,
) -> str:
    """What is about to be done, in a line, and in more of them what may be wrong with it.

    `until` is the share of lookups that is wanted, `silence` the seconds for which alerts are to be silenced: 0, not.
    """
    share = keys.share()
    carry = "" if share is None else f", which carry {share:.1%} of the lookups"
    lines = [f"{len(keys):,} keys from {keys.source}{carry}; {speed.as_text()}"]
    if keys.at is not None:
        lines.append(f"the journal was written {ago(max(0.0, clock() - keys.at))} ago")
    lines += [f"left out: {one}" for one in keys.left_out]
    if until is not None and share is not None and not reaches(share, until):
        lines.append(f"{until:g} is wanted and cannot be reached: all these keys together carry {share:.1%}")
    planned = speed.seconds(len(keys))
    if silence and planned is not None and planned > silence:
        lines.append(f"this takes {ago(planned)} at the least, and the silence ends after {ago(silence)}")
    return "\n".join(lines)


def dry_run(warmer: Warmer, guard: Guard, *, as_json: bool) -> str:
    """What is cold, and how long the loads would take; nothing is loaded. Raises OperationError without Redis."""

    async def look() -> dict[str, Standing]:
        async with guard:
            return await warmer.look()

    standing = asyncio.run(look())
    found = Counter(standing.values())
    cold, foreign, target = found["cold"], found["foreign"], len(warmer.keys)
    seconds = warmer.speed.seconds(cold)
    warm_now = warmer.keys.share({key for key, stands in standing.items() if stands == "warm"})
    if as_json:
        told = {"target": target, "cold": cold, "foreign": foreign, "seconds": seconds}
        return json.dumps(told | {"share_of_lookups_now": warm_now})
    lines = [f"{cold:,} of {target:,} keys are cold"]
    if foreign:
        lines.append(_FOREIGN.format(foreign, "are"))
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
            (state.foreign, "left alone"),
            (state.failed, "failed"),
        )
        if count
    ]
    lines.append(f"{state.done:,} of {state.target:,} keys in {outcome.seconds:.1f} s: {', '.join(parts) or 'none'}")
    if outcome.share is not None:
        wanted = f"; {outcome.wanted:g} was wanted" if outcome.short else ""
        lines.append(f"the warm ones carry {outcome.share:.1%} of the lookups in {outcome.keys.source}{wanted}")
    if state.foreign:
        lines.append(_FOREIGN.format(state.foreign, "were"))
    for what, came, kinds in (
        ("what the loader raised", "failures", state.failures),
        ("what the guard raised for values that it cannot store", "unstorable", state.unstorable),
    ):
        if kinds:
            counts = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
            first = ", ".join(key_shown(key.encode()) for key in state.first(came))
            lines.append(f"{what}: {counts}; the first of these keys: {first}")
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
            "foreign": state.foreign,
            "failed": dict(state.failures),
            "unstorable": dict(state.unstorable),
            "lost": state.lost,
            "seconds": round(outcome.seconds, 3),
            "share_of_lookups": outcome.share,
            "share_wanted": outcome.wanted,
            "short": outcome.short,
            "problems": outcome.problems,
            "stopped": outcome.stopped,
        }
    )
