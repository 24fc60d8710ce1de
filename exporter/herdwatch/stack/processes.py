"""Processes that cannot outlive us: started in order, stopped in reverse, ended by the kernel should we die first."""

from __future__ import annotations

import atexit
import ctypes
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from herdwatch.errors import StackError

START_SECONDS = 30.0
STOP_SECONDS = 5.0
LOG_LINES = 8
MAX_RESERVED = 128
ENDINGS = (signal.SIGTERM, signal.SIGHUP)
_RESERVED: deque[socket.socket] = deque()
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on, kept for you on Linux until MAX_RESERVED more were asked for.

    There a socket that is bound and does not listen keeps the port from whoever takes any free one, and not from a
    server that asks for this one and sets SO_REUSEADDR, as servers do. Elsewhere somebody may take it before you do.
    """
    reservation = socket.socket()
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reservation.bind(("127.0.0.1", 0))
    port: int = reservation.getsockname()[1]
    _RESERVED.append(reservation)
    _keep(MAX_RESERVED if sys.platform == "linux" else 0)
    return port


def _keep(most: int) -> None:
    while len(_RESERVED) > most:
        _RESERVED.popleft().close()


atexit.register(_keep, 0)


def _die_with_parent(parent: int) -> Callable[[], None]:
    def in_child() -> None:
        # Between fork and exec only: a SIGKILL of this process must not leave servers behind.
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return in_child


class Process:
    """One child in a session of its own, its output in a log file. Made by a Supervisor."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None,
        cwd: Path | None,
        user: int | None = None,
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            try:
                self._child = subprocess.Popen(
                    list(command),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **(env or {})},
                    cwd=cwd,
                    start_new_session=True,
                    user=user,
                    group=user,
                    extra_groups=None if user is None else [],
                    preexec_fn=_die_with_parent(os.getpid()),
                )
            except OSError as error:
                raise StackError(f"{name} cannot be started: {error.strerror}: {command[0]}") from None

    @property
    def pid(self) -> int:
        """The process id."""
        return self._child.pid

    @property
    def running(self) -> bool:
        """True until it ended, for whatever reason."""
        return self._child.poll() is None

    @property
    def code(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._child.poll()

    def wait_until(self, ready: Callable[[], bool], *, seconds: float = START_SECONDS) -> None:
        """Wait until `ready` says so; raises StackError with the last log lines if it dies or the time is over."""
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.running:
                raise StackError(f"{self.name} ended with exit code {self._child.returncode}: {self.last_words()}")
            if time.monotonic() > deadline:
                raise StackError(f"{self.name} was not ready within {seconds:g} s: {self.last_words()}")
            time.sleep(0.05)

    def last_words(self) -> str:
        """The last lines of the log, on one line."""
        lines = self.log.read_text(errors="replace").strip().splitlines()[-LOG_LINES:]
        return " | ".join(line.strip() for line in lines) or "it wrote no log"

    def kill(self) -> None:
        """SIGKILL to its whole session, as a crash."""
        self._signal(signal.SIGKILL)
        self._child.wait(STOP_SECONDS)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for what is left after a few seconds."""
        if self.running:
            self._signal(signal.SIGCONT)
            self._signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(STOP_SECONDS)
        self._signal(signal.SIGKILL)
        self._child.wait(STOP_SECONDS)

    def send(self, number: int) -> None:
        """Send one signal to the process itself, such as SIGSTOP."""
        os.kill(self.pid, number)

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):  # all of them have ended
            os.killpg(self.pid, number)


class Supervisor:
    """Owns processes and their folder. Use as a context manager: on the way out everything is stopped and removed.

    SIGTERM, and SIGHUP unless it is ignored, are turned into an exception for its time, so that being ended politely,
    or by a terminal that is closed, stops everything too. It must be entered and left in the main thread.
    """

    def __init__(self) -> None:
        self._processes: list[Process] = []
        self._ending: list[Process] = []
        self._folder: Path | None = None
        self._elsewhere: list[Path] = []
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="herdwatch-"))
        for number in ENDINGS:
            if number == signal.SIGTERM or signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
                self._before[number] = signal.signal(number, _terminated)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not cut the stopping short
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)
        try:
            for process in reversed(self._processes):
                process.stop()
            for folder in (self.folder, *self._elsewhere):
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            signal.signal(signal.SIGINT, interrupt)
            for number, before in self._before.items():
                signal.signal(number, before)

    @property
    def folder(self) -> Path:
        """A temporary folder for data and logs, removed at the end."""
        if self._folder is None:
            raise StackError("a Supervisor owns a folder only while it is entered")
        return self._folder

    def folder_for_others(self) -> Path:
        """A temporary folder that other users may enter, removed at the end; raises StackError where there is none.

        It is in TMPDIR, or in /tmp where TMPDIR is somebody's own.
        """
        for place in (Path(tempfile.gettempdir()), Path("/tmp")):  # noqa: S108 - that is what it is for
            if all(path.stat().st_mode & stat.S_IXOTH for path in (place, *place.resolve().parents)):
                folder = Path(tempfile.mkdtemp(prefix="herdwatch-", dir=place))
                self._elsewhere.append(folder)
                folder.chmod(0o711)
                return folder
        raise StackError(
            "other users may enter neither TMPDIR nor /tmp; set TMPDIR to a folder that everybody may enter"
        )

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: int | None = None,
        ends: bool = False,
    ) -> Process:
        """Start a process; the log is `<name>.log` in the folder. It is stopped when the supervisor is left.

        `user` is the id of the user and group that it runs as, for what refuses to run as root. One that `ends` by
        itself, as a command does, is never found dead.
        """
        process = Process(name, command, log=self.folder / f"{name}.log", env=env, cwd=cwd, user=user)
        self._processes.append(process)
        if ends:
            self._ending.append(process)
        return process

    def dead(self) -> list[Process]:
        """Processes that have ended although nobody stopped them."""
        return [one for one in self._processes if one not in self._ending and not one.running]

    def forget(self, process: Process) -> None:
        """Leave a process that was ended on purpose out of `dead`."""
        self._processes.remove(process)


def _terminated(number: int, _: object) -> None:
    raise SystemExit(128 + number)
