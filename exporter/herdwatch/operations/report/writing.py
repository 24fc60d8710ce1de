"""A page becomes a file: whole or not at all, and never over what somebody has written."""

from __future__ import annotations

import contextlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from herdwatch.errors import UsageError
from herdwatch.operations.report.page import NOTES


@dataclass(frozen=True, slots=True)
class Kind:
    """Which files may be written over: those that hold `mark`. Of others is said what they are not.

    `option` is that by which the path was given, `example` what it could be.
    """

    mark: str
    others: str
    example: str
    option: str = "--out"


REPORT = Kind(NOTES, "is no report, or one whose notes are filled in", "incident.html")


def check(path: Path, kind: Kind = REPORT) -> None:
    """Raise UsageError where a page could not be written to this path, before anything is asked of anyone."""
    try:
        if path.exists() and not path.is_file():
            raise UsageError(f"{kind.option}: {path} is no file; give the path of one, as in {kind.example}")
        if not path.parent.is_dir():
            raise UsageError(f"{kind.option}: {path.parent} is no folder; make it first, or give another path")
        if path.is_file() and kind.mark.encode() not in path.read_bytes():
            raise UsageError(f"{kind.option}: {path} exists and {kind.others}; give another path")
    except OSError as error:
        raise _refused(path, kind, error) from None


def write(path: Path, page: str, kind: Kind = REPORT) -> None:
    """Write it beside its place and move it there; raises UsageError with nothing changed."""
    check(path, kind)
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name[:50]}.", dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(page)
        Path(temporary).chmod(0o644)
        os.replace(temporary, path.resolve())  # noqa: PTH105 - Path.replace is the same call
    except OSError as error:
        raise _refused(path, kind, error) from None
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                Path(temporary).unlink(missing_ok=True)


def _refused(path: Path, kind: Kind, error: OSError) -> UsageError:
    return UsageError(f"{kind.option}: {path} cannot be written: {error.strerror or error}")
