"""The error tree. A message says what was found, where, and what would be right.

Standard library only: the guard, which applications import, stands on this module.
"""

from __future__ import annotations


class HerdwatchError(Exception):
    """Any failure that herdwatch explains in one sentence; commands exit with `exit_code` and show no traceback."""

    exit_code = 1


class UsageError(HerdwatchError):
    """What the user asked for cannot be done as asked: a wrong option, an output folder that refuses."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration value is wrong; the message starts with the file, the line and the path of the value."""


class ToolError(UsageError):
    """An external program is missing or too old; the message says what to install."""


class CheckFailed(HerdwatchError):
    """A check ran to its end and found something wrong."""


class OperationError(HerdwatchError):
    """Work on a running system that did not come through; the message says what state was left."""


class StackError(HerdwatchError):
    """A supervised server did not start, did not answer in time, or died; the message ends with its last log lines."""


class GuardError(HerdwatchError):
    """What a guard raises by itself; a loader's own exception is passed on as it is."""


class Shed(GuardError):
    """No load slot became free in time, and there was no old value to give."""


class LoadTimeout(GuardError):
    """A load took longer than `load_timeout`."""


class LoadCancelled(GuardError):
    """A load ended without an outcome: its guard was closed, or its loader was cancelled or interrupted."""


class CacheUnavailable(GuardError):
    """Redis did not answer, so that what a warm-up loads has no place; `refused` if it answered and does not let us."""

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


class RemoteLoadError(GuardError):
    """The load that this caller waited for failed in another process; `kind` is the type of that exception."""

    def __init__(self, key: str, kind: str) -> None:
        super().__init__(f"the load of {key!r} failed in another process with {kind}")
        self.key, self.kind = key, kind
