"""Frees a private copy of Debian's alertmanager from a folder that only root could create."""

from __future__ import annotations

import re
from pathlib import Path

TEMPLATES = Path("usr/share/prometheus/alertmanager")
"""Where the package keeps default.tmpl and email.tmpl."""

_HARD_WIRED = b"/" + str(TEMPLATES).encode()
_RELATIVE = b"./".ljust(len(_HARD_WIRED), b"/")


def relocate_alertmanager(root: Path) -> None:
    """Let the alertmanager unpacked in `root` read its templates from its working directory.

    Upstream embeds the templates in the binary. Debian's build opens them in /usr/share/prometheus/alertmanager, which
    exists only where the package is installed; unpacked elsewhere it ends with "failed to parse templates". herdwatch
    writes nothing outside its tools folder, so the path in the private copy is overwritten: `Tool.cwd` says
    where the program must then be started. Debian's amtool does not read the folder and stays as it is.

    A package without default.tmpl has embedded it, and is left alone. Raises ValueError as `relative_templates` does.
    """
    if not (root / TEMPLATES / "default.tmpl").is_file():
        return
    program = root / "usr/bin/prometheus-alertmanager"
    program.write_bytes(relative_templates(program.read_bytes()))


def relative_templates(program: bytes) -> bytes:
    """The same program, of the same length, with `.` and slashes in place of the hard-wired template folder.

    The longer paths below that folder, of the web pages, are other strings and stay. Raises ValueError unless the
    folder is there exactly once: then this is not the build we know, and nothing is safe to overwrite.
    """
    places = [match.start() for match in re.finditer(re.escape(_HARD_WIRED) + rb"(?!/)", program)]
    if len(places) != 1:
        raise ValueError(f"alertmanager names its template folder {len(places)} times, expected once")
    start = places[0]
    return program[:start] + _RELATIVE + program[start + len(_HARD_WIRED) :]
