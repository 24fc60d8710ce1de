"""What verbs share that are planned work: nobody is to be paged for it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from herdwatch.cli.app import load
from herdwatch.errors import CheckFailed, UsageError

if TYPE_CHECKING:
    from herdwatch.operations.silence import Silence

SilenceOption = Annotated[
    str | None,
    typer.Option(
        "--silence",
        metavar="TIME",
        help="Silence the cache's alerts for so long, as in 15m, in the Alertmanagers of herdwatch.yaml.",
    ),
]

_UNITS = {"s": 1, "m": 60, "h": 3600}


def silencing(time: str | None, cache: str | None, config: Path | None) -> tuple[float, tuple[str, ...]]:
    """For how many seconds, and where (HOST:PORT each); raises UsageError. To be asked before people are."""
    from herdwatch.operations import silence

    if time is None:
        return 0.0, ()
    number, unit = time[:-1], time[-1:]
    seconds = int(number) * _UNITS[unit] if unit in _UNITS and number.isascii() and number.isdigit() else 0
    if not 0 < seconds <= silence.LONGEST_SECONDS:
        raise UsageError(f"--silence {time}: it must be a time such as 90s, 15m or 1h, at most 4h")
    if cache is None:
        raise UsageError("--silence needs the name of the cache, which is its label in alerts: give --cache NAME")
    alertmanagers = load(config).prometheus.alertmanagers
    if not alertmanagers:
        raise UsageError("--silence: prometheus.alertmanagers of herdwatch.yaml names none; write HOST:PORT there")
    return float(seconds), tuple(alertmanagers)


def silenced(time: str | None, cache: str | None, config: Path | None, *, why: str) -> Silence | None:
    """Create the silence that was asked for, before anything else is done; raises UsageError and OperationError."""
    from herdwatch.operations import silence

    seconds, alertmanagers = silencing(time, cache, config)
    if not seconds or cache is None:
        return None
    made = silence.silence(alertmanagers, cache, seconds=seconds, why=why)
    print(made.as_text(), file=sys.stderr, flush=True)
    return made


@contextmanager
def ending(made: Silence | None) -> Iterator[None]:
    """The work of a silence: where a check refuses it ends, as nothing was changed; where the work fails it is told."""
    try:
        yield
    except CheckFailed:
        if made is not None:
            print(made.end(), file=sys.stderr, flush=True)
        raise
    except BaseException:
        if made is not None:
            print(made.still(), file=sys.stderr, flush=True)
        raise
