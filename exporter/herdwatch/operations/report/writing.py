"""A report becomes a file: whole or not at all, and never over what somebody has written."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from herdwatch.errors import UsageError
from herdwatch.operations.report.page import NOTES


def check(path: Path) -> None:
    """Raise UsageError where a report could not be written to this path, before anything is asked of anyone."""
    try:
        if path.exists() and not path.is_file():
            raise UsageError(f"--out: {path} is no file; give the path of one, as in incident.html")
        if not path.parent.is_dir():
            raise UsageError(f"--out: {path.parent} is no folder; make it first, or give another path")
        if path.is_file() and NOTES.encode() not in path.read_bytes():
            raise UsageError(
                f"--out: {path} exists and is no report, or one whose notes are filled in; give another path"
            )
    except OSError as error:
        raise _refused(path, error) from None


def write(path: Path, page: str) -> None:
    """Write it beside its place and move it there; raises UsageError with nothing changed."""
    check(path)
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name[:50]}.", dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(page)
        Path(temporary).chmod(0o644)
        os.replace(temporary, path.resolve())  # noqa: PTH105 - Path.replace is the same call
    except OSError as error:
        raise _refused(path, error) from None
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                Path(temporary).unlink(missing_ok=True)


def _refused(path: Path, error: OSError) -> UsageError:
    return UsageError(f"--out: {path} cannot be written: {error.strerror or error}")
