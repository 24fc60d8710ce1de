"""A password from the file that holds it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_LONGEST = 4096


def read(path: Path) -> str | None:
    """The one line of the file, None where it is empty. Raises OSError or ValueError with words of what is wrong.

    It never waits: opened as usual, a pipe that nobody writes into would hold up every cache.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ValueError("it is no regular file")
        data = os.read(handle, _LONGEST + 1)
    finally:
        os.close(handle)
    try:
        text = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise ValueError("it is not text") from None
    if len(data) > _LONGEST or len(text.splitlines()) > 1:
        raise ValueError("it has more than one line, or a very long one")
    return text or None
