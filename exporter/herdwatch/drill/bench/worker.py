"""A process that holds one candidate: requests come in on stdin, answers go out on stdout, a line of JSON each.

    python -m herdwatch.drill.bench.worker asyncio '{"candidate": "guard", "url": "redis://127.0.0.1:6379/0"}'

It says `{"ready": versions}` once the candidate is open. Standard library and redis alone, besides the candidate.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from importlib import metadata
from typing import Any, TextIO

from herdwatch.drill.bench import asyncio_candidates, asyncio_measures, parts, threads_candidates, threads_measures
from herdwatch.drill.bench.orders import Order

PACKAGES = ("redis", "hiredis", "cashews", "aiocache", "dogpile.cache")
GRACE = 5
ON_THE_LOOP = {**asyncio_measures.MEASURES, **parts.MEASURES}


def main(kind: str, order: Order, out: TextIO) -> None:
    """Serve until stdin ends."""
    say: Callable[[Any], None] = lambda answer: print(json.dumps(answer), file=out, flush=True)  # noqa: E731
    if kind == "asyncio":
        asyncio.run(_serve(order, say))
    else:
        _serve_in_threads(order, say)


async def _serve(order: Order, say: Callable[[Any], None]) -> None:
    async with asyncio_candidates.OPEN[order.candidate](order) as get:
        say({"ready": versions()})
        # The loop goes on between requests, as a server's would: what a candidate does in the background is done.
        while request := _parse(await asyncio.to_thread(sys.stdin.readline)):
            say(await ON_THE_LOOP[request.pop("do")](order, get, **request))
            signal.alarm(0)


def _serve_in_threads(order: Order, say: Callable[[Any], None]) -> None:
    with threads_candidates.OPEN[order.candidate](order) as get:
        say({"ready": versions()})
        while request := _parse(sys.stdin.readline()):
            say(threads_measures.MEASURES[request.pop("do")](order, get, **request))
            signal.alarm(0)


def versions() -> dict[str, str]:
    """The versions of what takes part, as far as it is installed here."""
    found = {distribution.name.lower(): distribution.version for distribution in metadata.distributions()}
    return {name: found[name] for name in PACKAGES if name in found}


def _parse(line: str) -> dict[str, Any]:
    """The request, empty at the end. Whoever asked may be gone: this process then ends itself after the deadline."""
    if not line:
        return {}
    request: dict[str, Any] = json.loads(line)
    signal.alarm(int(request.pop("seconds")) + GRACE)
    return request


def _only_answers_on_stdout() -> TextIO:
    """The stream for answers; whatever else is printed goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


if __name__ == "__main__":
    stream = _only_answers_on_stdout()
    main(sys.argv[1], Order(**json.loads(sys.argv[2])), stream)
