"""`python -m herdwatch.proof.recordings`: record the scenarios anew, all or those that are named."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from herdwatch.errors import HerdwatchError, UsageError
from herdwatch.proof.recordings.load import FOLDER, write
from herdwatch.proof.recordings.record import Session
from herdwatch.proof.recordings.scenarios import SCENARIOS
from herdwatch.stack import Supervisor


def run(arguments: list[str]) -> None:
    """Record into a folder, about eight minutes; raises HerdwatchError."""
    parser = argparse.ArgumentParser(prog="python -m herdwatch.proof.recordings", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to record; everything if none is given")
    parser.add_argument("--out", type=Path, default=FOLDER, metavar="DIR", help="default: %(default)s")
    options = parser.parse_args(arguments)
    known = {scenario.name for scenario in SCENARIOS}
    for name in options.names:
        if name not in known:
            raise UsageError(f"there is no scenario {name!r}; there is: {', '.join(sorted(known))}")
    chosen = [scenario for scenario in SCENARIOS if not options.names or scenario.name in options.names]
    with Supervisor() as supervisor:
        for recording in Session(supervisor, chosen).run():
            try:
                path = write(recording, options.out)
            except OSError as error:
                raise UsageError(f"{options.out}: cannot be written to: {error.strerror}") from None
            print(f"{path.stat().st_size:6,} bytes  {path}")


def main() -> int:
    """Run; returns the exit code."""
    try:
        run(sys.argv[1:])
    except HerdwatchError as error:
        print(f"herdwatch: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
