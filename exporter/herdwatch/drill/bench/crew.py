"""The workers as the benchmark sees them: each a process that is asked and answers, within a deadline or not at all."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from herdwatch.errors import StackError

START_SECONDS = 30.0
_END_SECONDS = 2.0


class Worker:
    """One process that speaks JSON, a line for a request and a line for its answer. Killed on the way out."""

    def __init__(self, name: str, command: Sequence[str], *, env: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.versions: dict[str, str] = {}
        self._log = log
        self._read = b""
        with log.open("wb") as errors:
            try:
                self._child = subprocess.Popen(
                    list(command),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    env={**os.environ, **env},
                    cwd=log.parent,
                    start_new_session=True,  # Ctrl-C ends the benchmark, which then ends its workers
                )
            except OSError as error:
                raise StackError(f"{name} cannot be started: {error.strerror}: {command[0]}") from None

    def __enter__(self) -> Self:
        try:
            self.versions = self.answer(seconds=START_SECONDS)["ready"]
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ask(self, do: str, *, seconds: float, **request: Any) -> dict[str, Any]:
        """One request and its answer. Raises StackError, one sentence, when there is none within `seconds`."""
        self.tell(do, seconds=seconds, **request)
        return self.answer(seconds=seconds)

    def tell(self, do: str, *, seconds: float, **request: Any) -> None:
        """Only the request, so that several can work at once."""
        line = json.dumps({"do": do, "seconds": seconds, **request}).encode() + b"\n"
        with suppress(BrokenPipeError):  # it died: the answer that does not come says so with its last words
            self._stdin.write(line)
            self._stdin.flush()

    def answer(self, *, seconds: float) -> dict[str, Any]:
        """The answer to what it was told."""
        line = self._line(time.monotonic() + seconds, seconds)
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise StackError(f"the worker of {self.name} answered {line[:100]!r}, which is no JSON object")
        return answer

    def close(self) -> None:
        """End it: politely by the end of its input, and with SIGKILL when that does not help."""
        with suppress(OSError):
            self._stdin.close()
        try:
            self._child.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait(_END_SECONDS)
        self._stdout.close()

    def _line(self, deadline: float, seconds: float) -> bytes:
        with selectors.DefaultSelector() as selector:
            selector.register(self._stdout, selectors.EVENT_READ)
            while b"\n" not in self._read:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    self._child.kill()
                    raise StackError(f"the worker of {self.name} did not answer within {seconds:g} s")
                chunk = os.read(self._stdout.fileno(), 1 << 16)
                if not chunk:
                    raise StackError(f"the worker of {self.name} ended with exit code {self._ended()}: {self._said()}")
                self._read += chunk
        line, _, self._read = self._read.partition(b"\n")
        return line

    @property
    def _stdin(self) -> Any:
        return self._child.stdin

    @property
    def _stdout(self) -> Any:
        return self._child.stdout

    def _ended(self) -> int:
        try:
            return self._child.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:  # it closed its stdout and lives on
            self._child.kill()
            return self._child.wait(_END_SECONDS)

    def _said(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else "it wrote no log"
