"""What a command leaves behind."""

from __future__ import annotations

import contextlib
from pathlib import Path


def processes_in(folder: str) -> list[str]:
    """Running processes whose command line names the folder, as `pid command`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if folder in command:
                found.append(f"{process.name} {command}")
    return found
