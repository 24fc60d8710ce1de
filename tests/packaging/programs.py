"""Programs that the tests of this folder run: in an environment of their own, and never for ever."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
SECONDS = 120.0
"""Deadline of every program."""


def run(
    *command: str | Path, cwd: Path, path: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program and keep what it said; `path` is its PYTHONPATH, `env` is added to the environment."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | dict(env or {})
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
