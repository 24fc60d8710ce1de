"""Runs the tests that face Redis on every redis-server and valkey-server that is to be had, one line each.

`python tests/every_server.py [PYTEST ARGUMENT ...]`, as in `-k replica`. Exits with 1 if the
tests fail on one of them, or if none is to be had.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from herdwatch import tools
from herdwatch.tools import Tool

CHECKOUT = Path(__file__).parents[1]
SECONDS = 1800.0
"""Deadline of one server's tests, which take well under a minute."""


def main(arguments: Sequence[str]) -> int:
    """Run them all on each server, telling each outcome as soon as it is known; returns the exit code."""
    failed, ran = False, 0
    for name in tools.SERVERS:
        found, problem = tools.every(name)
        for tool in found:
            passed, outcome = run_on(tool, arguments)
            failed, ran = failed or not passed, ran + 1
            print(f"{name} {tool.version} ({tool.origin}): {outcome}", flush=True)
        if problem:
            print(f"{name}: {problem}", flush=True)
    return 1 if failed or not ran else 0


def run_on(tool: Tool, arguments: Sequence[str]) -> tuple[bool, str]:
    """Whether pytest passes with this server, and its last line; if it fails, all that it said is printed first."""
    command = [sys.executable, "-m", "pytest", "-q", "--redis-server", str(tool.path), "tests/redis", *arguments]
    try:
        done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return False, f"not done within {SECONDS:.0f} s"
    said = (done.stdout + done.stderr).strip()
    if done.returncode:
        print(said, flush=True)
    return done.returncode == 0, said.rpartition("\n")[2]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
