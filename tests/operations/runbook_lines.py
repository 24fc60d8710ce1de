"""What runbook pages tell people to type, taken from the pages, and a bash that runs one such line with a deadline."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from herdwatch.bundle.pages import code_blocks

SECONDS = 30.0
"""Deadline of one line; the slowest takes a few."""
_ENDLESS_SECONDS = 1.0
_INLINE = re.compile(r"`([^`\n]+)`")
_PROGRAMS = ("systemctl", "journalctl", "kubectl", "docker", "redis-cli", "herdwatch", "promtool", "amtool", "curl")


@dataclass(frozen=True, slots=True)
class Line:
    """One command line of a page, and the `export` lines that stand above it there."""

    page: str
    text: str
    exports: tuple[str, ...]

    @property
    def variables(self) -> set[str]:
        """Those that it uses; one that is made of another brings that along."""
        used = set(re.findall(r"\$\{?([A-Z_]+)", self.text))
        return used | {name for line in self.exports if used & _set_by(line) for name in _used_by(line)}

    @property
    def identity(self) -> tuple[str, ...]:
        """The same for two lines that do the same."""
        relevant = (line.partition("  #")[0] for line in self.exports if _set_by(line) & self.variables)
        return (self.text, *relevant)

    def script(self, values: Mapping[str, str]) -> str:
        """The page's own lines down to this one; what `values` names is set anew where the page sets it."""
        lines = ["set -u -o pipefail"]
        for export in self.exports:
            lines += [export, *(f"export {name}='{values[name]}'" for name in _set_by(export) if name in values)]
        return "\n".join([*lines, self.text])


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a line."""

    code: int
    out: str
    err: str


def lines(page: str, markdown: str) -> Iterator[Line]:
    """The command lines of a page's bash blocks, continuation lines joined; an `export` belongs to those below it."""
    exports: list[str] = []
    for language, block in code_blocks(markdown):
        for text in block.replace("\\\n", "").splitlines() if language == "bash" else ():
            if text.startswith("export "):
                exports.append(text)
            elif text.strip() and not text.startswith("#"):
                yield Line(page, text, tuple(exports))


def inline(markdown: str) -> set[str]:
    """The commands in the sentences of a page: a program with what follows it."""
    prose = re.sub(r"^ *```.*?^ *```", "", markdown, flags=re.MULTILINE | re.DOTALL)
    found = {" ".join(text.split()) for text in _INLINE.findall(prose)}
    return {text for text in found if " " in text and text.split()[0] in _PROGRAMS}


def run(line: Line, values: Mapping[str, str], *, env: Mapping[str, str], cwd: Path) -> Done:
    """Run a line as the page has it; what is not done in time is ended, and AssertionError says so."""
    command = ["bash", "-c", line.script(values)]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=env, cwd=cwd, text=True, start_new_session=True, **pipes) as process:
        try:
            out, err = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            raise AssertionError(f"not done within {SECONDS:g} s: {line.text}: {out}{err}") from None
    return Done(process.returncode, out, err)


def run_endless(line: Line, values: Mapping[str, str], *, env: Mapping[str, str], cwd: Path) -> Done:
    """Run a line that goes on until Ctrl-C, and end it so. What it prints is kept back where there is no terminal."""
    command = ["bash", "-c", line.script(values)]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=env, cwd=cwd, text=True, start_new_session=True, **pipes) as process:
        time.sleep(_ENDLESS_SECONDS)
        running = process.poll() is None
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=SECONDS)
    assert running, f"it has ended by itself: {line.text}: {out}{err}"
    return Done(0, "it ran until Ctrl-C", err)


def _set_by(export: str) -> set[str]:
    return set(re.findall(r"\b([A-Z_]+)=", export.partition("#")[0]))


def _used_by(export: str) -> set[str]:
    return set(re.findall(r"\$\{?([A-Z_]+)", export))
