"""pytest once more, as a program of its own: for those who run a part of the tests on several external programs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
SECONDS = 1800.0
"""Deadline of one run, which takes minutes at most."""


def passes(arguments: Sequence[str]) -> tuple[bool, str]:
    """Whether pytest passes with these arguments, and its last line; if it fails, all that it said is printed first."""
    command = [sys.executable, "-m", "pytest", "-q", *arguments]
    try:
        done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return False, f"not done within {SECONDS:.0f} s"
    said = (done.stdout + done.stderr).strip()
    if done.returncode:
        print(said, flush=True)
    return done.returncode == 0, said.rpartition("\n")[2]
