"""One command, `herdwatch`; each verb is a thin call into a room."""

from __future__ import annotations

import sys
from typing import Any

import typer

from herdwatch.cli import (
    bundling,
    drilling,
    operating,
    planning,
    promoting,
    proving,
    reporting,
    verifying,
    warming,
    watching,
)
from herdwatch.cli.app import app
from herdwatch.errors import HerdwatchError

__all__ = [
    "app",
    "bundling",
    "drilling",
    "operating",
    "planning",
    "promoting",
    "proving",
    "reporting",
    "run",
    "verifying",
    "warming",
    "watching",
]

INTERRUPTED = 130

ORDER = (
    *("exporter", "acl", "render", "check"),
    *("verify", "hotkeys", "plan", "warm", "promote", "report"),
    *("score", "mutate", "backtest"),
    *("tools", "demo", "drill", "bench"),
)
"""How people meet the verbs: to watch, in an incident, to judge alerts, to try."""
app.registered_commands.sort(key=lambda one: ORDER.index(one.callback.__name__))  # type: ignore[union-attr]

# A ClickException: click's own, or that of the copy of click which newer typers carry and do not export.
_WrongUsage: Any = typer.BadParameter.__mro__[2]


def run(arguments: list[str]) -> int:
    """Run the command line; returns the exit code and shows no traceback for what herdwatch can explain."""
    command = typer.main.get_command(app)
    try:
        code = command.main(arguments, prog_name="herdwatch", standalone_mode=False)
    except HerdwatchError as error:
        print(f"herdwatch: {error}", file=sys.stderr)
        return error.exit_code
    except _WrongUsage as error:
        path = error.ctx.command_path if getattr(error, "ctx", None) else "herdwatch"
        print(f"herdwatch: {error.format_message().rstrip('.')}; see: {path} --help", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        return 1
    except OSError as error:  # a name too long, a folder that may not be searched
        print(f"herdwatch: {error.filename or 'cannot go on'}: {error.strerror or error}", file=sys.stderr)
        return 2
    if code == INTERRUPTED:  # typer may have made this code of the interrupt itself
        print("herdwatch: interrupted", file=sys.stderr)
    return code if isinstance(code, int) else 0
