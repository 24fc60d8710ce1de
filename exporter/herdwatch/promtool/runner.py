"""Runs promtool. Its exit codes: 0 right, 1 failed, 3 lint; it tells most on stderr and some on stdout."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from herdwatch.errors import ToolError
from herdwatch.promtool import testfiles
from herdwatch.tools import Tool, find

TIMEOUT_SECONDS = 120.0
_RULES_FOUND = re.compile(r"(\d+) rules found")


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one run. `problems` are sentences, empty exactly when it passed.

    `checked` counts rules (check rules, check config), expectations (test rules) or sample lines (check metrics).
    """

    checked: int
    problems: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """True when something was checked and all of it is right."""
        return not self.problems


class Promtool:
    """One promtool binary; found or fetched when none is given. Raises ToolError where there is none."""

    def __init__(self, tool: Tool | None = None, *, timeout: float = TIMEOUT_SECONDS) -> None:
        self._tool = tool or find("promtool")
        self._timeout = timeout

    @property
    def version(self) -> str:
        """The version that the binary says it is, such as 2.42.0."""
        return self._tool.version

    def check_rules(self, path: Path) -> Result:
        """`promtool check rules`; a file without any rule has failed."""
        code, output = self._run("check", "rules", "--lint-fatal", path)
        return _counted(path, code, output, _found(output), "holds no rule")

    def check_config(self, path: Path) -> Result:
        """`promtool check config`, with the rule files that the configuration names."""
        code, output = self._run("check", "config", "--lint-fatal", path)
        return _counted(path, code, output, _found(output), "leads to no rule")

    def check_metrics(self, text: str) -> Result:
        """`promtool check metrics` on an exposition in text format; one without a sample has failed."""
        code, output = self._run("check", "metrics", text=text)
        samples = sum(1 for line in text.splitlines() if line.strip() and not line.startswith("#"))
        return _counted(Path("metrics"), code, output, samples, "holds no sample")

    def test_rules(self, path: Path) -> Result:
        """`promtool test rules` on one file, and what promtool would not notice: a test that tests nothing."""
        read = testfiles.read(path)
        if read.problems:
            return Result(read.expectations, read.problems)
        code, output = self._run("test", "rules", path)
        return _counted(path, code, output, read.expectations, "expects nothing")

    def answers(self, path: Path) -> str:
        """All that `promtool test rules` prints; for who asks questions by expectations that cannot hold."""
        return self._run("test", "rules", path)[1]

    def _run(self, *args: str | Path, text: str = "") -> tuple[int, str]:
        try:
            done = subprocess.run(
                self._tool.command(*args),
                input=text,
                capture_output=True,
                text=True,
                timeout=self._timeout,
                check=False,
                cwd=self._tool.cwd,
                env={**os.environ, **self._tool.env},
            )
        except subprocess.TimeoutExpired:
            raise ToolError(f"{self._tool.path} did not end within {self._timeout:g} s") from None
        except OSError as error:
            raise ToolError(f"{self._tool.path} cannot be started: {error.strerror}") from None
        return done.returncode, f"{done.stdout}\n{done.stderr}"


def _found(output: str) -> int:
    return sum(int(count) for count in _RULES_FOUND.findall(output))


def _counted(path: Path, code: int, output: str, checked: int, empty: str) -> Result:
    if code != 0:
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        telling = [line for line in lines if not line.startswith(("Checking", "SUCCESS", "Unit Testing"))]
        return Result(checked, tuple(telling) or (f"{path}: promtool ended with exit code {code}",))
    return Result(checked, () if checked else (f"{path}: {empty}",))
