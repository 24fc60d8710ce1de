"""What verbs share that are planned work: nobody is to be paged for it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from herdwatch.cli.app import load
from herdwatch.errors import UsageError

SilenceOption = Annotated[
    str | None,
    typer.Option(
        "--silence",
        metavar="TIME",
        help="Silence the cache's alerts for so long, as in 15m, in the Alertmanagers of herdwatch.yaml.",
    ),
]

_UNITS = {"s": 1, "m": 60, "h": 3600}


def silenced(time: str | None, cache: str | None, config: Path | None, *, why: str) -> None:
    """Create the silence that was asked for, before anything else is done; raises UsageError and OperationError."""
    from herdwatch.operations import silence

    if time is None:
        return
    number, unit = time[:-1], time[-1:]
    seconds = int(number) * _UNITS[unit] if unit in _UNITS and number.isascii() and number.isdigit() else 0
    if not 0 < seconds <= silence.LONGEST_SECONDS:
        raise UsageError(f"--silence {time}: it must be a time such as 90s, 15m or 1h, at most 4h")
    if cache is None:
        raise UsageError("--silence needs the name of the cache, which is its label in alerts: give --cache NAME")
    print(
        silence.silence(load(config).prometheus.alertmanagers, cache, seconds=seconds, why=why).as_text(),
        file=sys.stderr,
        flush=True,
    )
