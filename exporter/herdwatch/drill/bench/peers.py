"""The peers' environment: made once, beside the fetched tools, and made anew when the pins or Python change."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from herdwatch.errors import ToolError
from herdwatch.tools import tools_folder

PINS = Path(__file__).with_name("peers.txt")
_STAMP = "herdwatch-pins.txt"
_SECONDS = 300


def python(folder: Path | None = None) -> Path:
    """The interpreter that has the peers; `folder` is where, by default `bench-peers` in the tools folder.

    Raises ToolError: one sentence why there is none.
    """
    where = folder or tools_folder() / "bench-peers"
    interpreter, stamp = where / "bin" / "python", where / _STAMP
    if interpreter.exists() and stamp.is_file() and stamp.read_text(encoding="utf-8") == contents():
        return interpreter
    shutil.rmtree(where, ignore_errors=True)
    run([sys.executable, "-m", "venv", str(where)])
    pip = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, "-r", str(PINS)])
    stamp.write_text(contents(), encoding="utf-8")
    return interpreter


def contents() -> str:
    """What an environment that is up to date has: this Python, and the pins."""
    return f"# Python {sys.version}\n{PINS.read_text(encoding='utf-8')}"


def run(command: Sequence[str]) -> None:
    """One step of it; raises ToolError with the last line of what it said."""
    what = "pip install" if "pip" in command else "python -m venv"
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise ToolError(f"{what} was not done within {_SECONDS} s") from None
    except OSError as error:
        raise ToolError(f"{what} cannot be run: {error.strerror}: {command[0]}") from None
    if done.returncode:
        lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        said = [line for line in lines if line.startswith("ERROR")] or lines or ["it said nothing"]
        raise ToolError(f"{what} failed with exit code {done.returncode}: {said[-1]}")
