"""promtool runs, several at a time, each with a deadline, of which none outlives the trials."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from types import TracebackType

from yaml import MappingNode

from herdwatch.errors import ToolError
from herdwatch.proof.mutation.plan import Nodes
from herdwatch.proof.mutation.rulefile import mapping, sequence, text, written
from herdwatch.proof.mutation.suite import Case, Expectation
from herdwatch.tools import Tool


class Outcome(StrEnum):
    """How a run of promtool ended."""

    PASSED = "passed"
    FAILED = "failed"
    TIMED_OUT = "timed out"


class Stopped(Exception):
    """The trials are over; nothing is started any more."""


class Trials:
    """Runs of one promtool in a temporary folder; use it as a context. Its methods may be called from many threads."""

    def __init__(self, tool: Tool, *, deadline: float) -> None:
        self._tool = tool
        self._deadline = deadline
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._stopped = False
        self._folder = Path()
        # A run has one processor, since several go on at a time, and trades memory for a quarter of its time.
        self._env = {"GOGC": "400", **os.environ, "GOMAXPROCS": "1", **tool.env}

    def __enter__(self) -> Trials:
        self._folder = Path(mkdtemp(prefix="herdwatch-mutate-"))
        self._env["TMPDIR"] = str(self._folder)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def stop(self) -> None:
        """End what runs, and start nothing any more."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.kill()

    def play(self, case: Case, rules: Sequence[Nodes], expectations: Sequence[Expectation]) -> tuple[Outcome, str]:
        """Play a case with these rules in its rule files; what promtool said comes with the outcome."""
        with TemporaryDirectory(dir=self._folder) as name:
            folder = Path(name)
            names = [f"{number}.rules.yml" for number in range(len(case.files))]
            for target, file, nodes in zip(names, case.files, rules, strict=True):
                (folder / target).write_text(file.written(nodes), encoding="utf-8")
            path = folder / "case.test.yml"
            path.write_text(case.written(names, expectations), encoding="utf-8")
            return self._run("test", "rules", path)

    def refused(self, path: Path) -> str:
        """What promtool says of a rule file that it does not take, naming it as it was given; else empty."""
        outcome, said = self._run("check", "rules", "--lint=none", path.resolve())
        lines = [line for line in said.splitlines() if not line.startswith("Checking ")]
        return "" if outcome is Outcome.PASSED else "\n".join(lines).replace(str(path.resolve()), str(path))

    def accepts(self, rules: Sequence[MappingNode]) -> bool:
        """Whether promtool takes all of these for rules."""
        with TemporaryDirectory(dir=self._folder) as name:
            group = mapping({"name": text("mutants"), "rules": sequence(rules)})
            path = Path(name) / "rules.yml"
            path.write_text(written(mapping({"groups": sequence([group])})), encoding="utf-8")
            return self._run("check", "rules", "--lint=none", path)[0] is Outcome.PASSED

    def _run(self, *arguments: str | Path) -> tuple[Outcome, str]:
        process = self._start(arguments)
        try:
            output, _ = process.communicate(timeout=self._deadline)
        except subprocess.TimeoutExpired:
            return Outcome.TIMED_OUT, f"promtool did not end within {self._deadline:g} s"
        finally:
            process.kill()
            process.communicate()
            with self._lock:
                self._running.discard(process)
        if self._stopped:
            raise Stopped
        if process.returncode not in (0, 1):
            raise ToolError(f"{self._tool.path} ended with exit code {process.returncode}: {output.strip()[-300:]}")
        return Outcome.FAILED if process.returncode else Outcome.PASSED, output

    def _start(self, arguments: Sequence[str | Path]) -> subprocess.Popen[str]:
        with self._lock:
            if self._stopped:
                raise Stopped
            try:
                process = subprocess.Popen(
                    self._tool.command(*arguments),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    errors="replace",
                    env=self._env,
                    cwd=self._tool.cwd,
                    # Ctrl-C is for whoever runs the trials: a run that it ended would look like a test that failed.
                    start_new_session=True,
                )
            except OSError as error:
                raise ToolError(f"{self._tool.path} cannot be started: {error.strerror}") from None
            self._running.add(process)
            return process
