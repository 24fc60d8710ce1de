"""The console script. Standard library only, so that it can name the extra that a bare installation lacks."""

from __future__ import annotations

import importlib
import io
import sys

EXTRA_OF = {
    "grafana_foundation_sdk": "bundle",
    "jinja2": "bundle",
    "promql_parser": "bundle",
    "psycopg": "drill",
    "psycopg_pool": "drill",
}
"""Which extra brings a module; any other missing module comes with `exporter`."""


def main() -> int:
    """Run `herdwatch`; returns the exit code: 0 success, 1 a check failed, 2 wrong usage or configuration.

    130 for an interrupt.
    """
    if sys.version_info < (3, 11):  # noqa: UP036 - this line is for those who run an older one from a checkout
        found = ".".join(map(str, sys.version_info[:3]))
        print(f"herdwatch: this is Python {found}; install Python 3.11 or later", file=sys.stderr)
        return 2
    if isinstance(sys.stdout, io.TextIOWrapper):  # it may be closed
        sys.stdout.reconfigure(errors="replace")  # a character that this terminal cannot show is no reason to end
    try:
        code: int = importlib.import_module("herdwatch.cli").run(sys.argv[1:])
    except KeyboardInterrupt:  # while it was still being imported
        print("herdwatch: interrupted", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing in ("", "herdwatch"):
            raise
        print(missing_extra(missing), file=sys.stderr)
        return 2
    return code


def missing_extra(module: str) -> str:
    """The sentence for a module that is not installed."""
    extra = EXTRA_OF.get(module, "exporter")
    return f"herdwatch: the Python package {module} is missing; run: pip install 'herdwatch[{extra}]'"


if __name__ == "__main__":
    sys.exit(main())
