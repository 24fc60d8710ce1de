"""Runs promtool. Its exit codes: 0 right, 1 failed, 3 lint; it tells most on stderr and some on stdout."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from herdwatch.errors import ToolError
from herdwatch.promtool import cases, failures, testfiles
from herdwatch.promtool.faults import Test
from herdwatch.promtool.testfiles import TestFile
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
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._stopped = False

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
        file = testfiles.read(path)
        return self._test(file, file.tests, None) if not file.problems else Result(file.expectations, file.problems)

    def test_case(self, file: TestFile, test: Test, *, always_firing: Collection[str] = ()) -> Result:
        """One test of a file by itself, in which only `always_firing` and what its rows mention may fire."""
        problems = (*file.faults, *test.faults)
        return self._test(file, (test,), always_firing) if not problems else Result(len(test.rows), problems)

    def answers(self, path: Path) -> str:
        """All that `promtool test rules` prints; for who asks questions by expectations that cannot hold."""
        return self._run("test", "rules", path)[1]

    def stop(self) -> None:
        """End what runs in other threads, at once; that and every later run raises ToolError."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.kill()

    def _test(self, file: TestFile, tests: tuple[Test, ...], always_firing: Collection[str] | None) -> Result:
        prepared = cases.prepare(file, tests, always_firing)
        with tempfile.TemporaryDirectory(prefix="herdwatch-rules-") as folder:
            path = Path(folder) / "rules.test.yml"
            path.write_text(prepared.text, encoding="utf-8")
            code, output = self._run("test", "rules", path)
        checked = sum(len(test.rows) for test in tests)
        if code == 0:
            return Result(checked)
        problems = tuple(failures.read(prepared, output))
        return Result(checked, problems or (f"{file.shown}: promtool ended with exit code {code}",))

    def _run(self, *args: str | Path, text: str = "") -> tuple[int, str]:
        try:
            process = self._start(args)
        except OSError as error:
            raise ToolError(f"{self._tool.path} cannot be started: {error.strerror}") from None
        try:
            stdout, stderr = process.communicate(text, timeout=self._timeout)
        except subprocess.TimeoutExpired:
            raise ToolError(f"{self._tool.path} did not end within {self._timeout:g} s") from None
        finally:
            self._end(process)
        if self._stopped:
            raise ToolError(f"{self._tool.path} was stopped")
        return process.returncode, f"{stdout}\n{stderr}"

    def _start(self, args: tuple[str | Path, ...]) -> subprocess.Popen[str]:
        with self._lock:
            if self._stopped:
                raise ToolError(f"{self._tool.path} was stopped")
            process = subprocess.Popen(
                self._tool.command(*args),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=self._tool.cwd,
                # promtool lives for a second: a fifth of its time went into collecting garbage.
                env={"GOGC": "400", **os.environ, **self._tool.env},
            )
            self._running.add(process)
            return process

    def _end(self, process: subprocess.Popen[str]) -> None:
        """Whatever happened, it is gone, and so are its pipes."""
        process.kill()
        with process:
            pass
        with self._lock:
            self._running.discard(process)


def _found(output: str) -> int:
    return sum(int(count) for count in _RULES_FOUND.findall(output))


def _counted(path: Path, code: int, output: str, checked: int, empty: str) -> Result:
    if code != 0:
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        telling = [line for line in lines if not line.startswith(("Checking", "SUCCESS", "Unit Testing"))]
        return Result(checked, tuple(telling) or (f"{path}: promtool ended with exit code {code}",))
    return Result(checked, () if checked else (f"{path}: {empty}",))
