"""Runs the tests that face Redis on every redis-server and valkey-server that is to be had, one line each.

`python -m tests.every_server [PYTEST ARGUMENT ...]`, as in `-k replica`. Exits with 1 if the
tests fail on one of them, or if none is to be had.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tests.suite import passes

from herdwatch import tools

TESTS = ("tests/redis", "tests/operations")


def main(arguments: Sequence[str]) -> int:
    """Run them all on each server, telling each outcome as soon as it is known; returns the exit code."""
    failed, ran = False, 0
    for name in tools.SERVERS:
        found, problem = tools.every(name)
        for tool in found:
            passed, outcome = passes(["--redis-server", str(tool.path), *TESTS, *arguments])
            failed, ran = failed or not passed, ran + 1
            print(f"{name} {tool.version} ({tool.origin}): {outcome}", flush=True)
        if problem:
            print(f"{name}: {problem}", flush=True)
    return 1 if failed or not ran else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
