"""Runs the rule tests, and those of the wrapper and the plugin, with promtool 2.42, 2.53 and 3: one line for each.

`python -m tests.every_promtool [PYTEST ARGUMENT ...]`, as in `-k plugin`. Which promtools: the paths in
HERDWATCH_PROMTOOLS, separated as in PATH; else the one of this machine or Debian, and those of VERSIONS, built with Go
into .tools the first time, which takes minutes. Exits with 1 if the tests fail with one of them, or if one is not to
be had.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.suite import passes

from herdwatch import tools
from herdwatch.errors import ToolError
from herdwatch.tools import Tool

MODULE = "github.com/prometheus/prometheus"
VERSIONS = {"2.53.3": "v0.53.3", "3.5.1": "v0.305.1"}
"""Prometheus's version -> that of its Go module: 2.53 and 3.5 are maintained for years."""

TESTS = (
    "alerts/tests",
    "tests/rules/test_promtool.py",
    "tests/rules/test_promtool_faults.py",
    "tests/rules/test_plugin.py",
)
NO_GO = (
    "Go is needed to build it and is not installed; install it (https://go.dev/doc/install), or name promtools in "
    "HERDWATCH_PROMTOOLS"
)
SECONDS = 1800.0
"""Deadline of one build."""


def main(arguments: Sequence[str]) -> int:
    """Run them with each promtool, telling each outcome as soon as it is known; returns the exit code."""
    failed, ran = False, 0
    for found in promtools():
        if isinstance(found, str):
            failed = True
            print(found, flush=True)
            continue
        passed, outcome = passes([f"--promtool={found.path}", *TESTS, *arguments])
        failed, ran = failed or not passed, ran + 1
        print(f"promtool {found.version} ({found.path}): {outcome}", flush=True)
    return 1 if failed or not ran else 0


def promtools() -> Iterator[Tool | str]:
    """Each promtool, or a sentence on why there is none."""
    named = os.environ.get("HERDWATCH_PROMTOOLS")
    if named:
        yield from (chosen(Path(path)) for path in named.split(os.pathsep) if path)
        return
    found, problem = tools.every("promtool")
    yield from found
    if problem:
        yield f"promtool: {problem}"
    for version, module in VERSIONS.items():
        path = tools.tools_folder() / f"promtool-{version}" / "promtool"
        problem = "" if path.is_file() else build(module, version, path)
        yield f"promtool {version}: {problem}" if problem else chosen(path)


def chosen(path: Path) -> Tool | str:
    """The promtool at a path, or what is wrong with it."""
    try:
        return tools.choose("promtool", path)
    except ToolError as error:
        return str(error)


def build(module: str, version: str, path: Path) -> str:
    """Build a promtool from Prometheus's Go module; returns why it could not be, empty if it was."""
    if shutil.which("go") is None:
        return NO_GO
    print(f"promtool {version}: building {MODULE}@{module} with Go, which takes some minutes", flush=True)
    with tempfile.TemporaryDirectory(prefix="herdwatch-go-") as folder:
        built = Path(folder) / "promtool"
        stamp = f"-s -w -X github.com/prometheus/common/version.Version={version}"
        try:
            told = go(folder, "mod", "download", "-json", f"{MODULE}@{module}")
            # As the main module, so that its own replace and exclude lines count; `go install` refuses it for them.
            source = json.loads(told)["Dir"]
            go(source, "build", "-trimpath", "-buildvcs=false", "-ldflags", stamp, "-o", str(built), "./cmd/promtool")
        except (ToolError, OSError, subprocess.TimeoutExpired) as error:
            return f"cannot be built: {error}"
        path.parent.mkdir(parents=True, exist_ok=True)
        # Whole or not at all, however this ends.
        shutil.copy2(built, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)
    return ""


def go(folder: str, *arguments: str) -> str:
    """What a go command prints; raises ToolError with the end of what it says if it fails."""
    done = subprocess.run(
        [shutil.which("go") or "go", *arguments],
        cwd=folder,
        env={**os.environ, "GOFLAGS": "", "GOWORK": "off"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if done.returncode:
        raise ToolError(f"go {arguments[0]} failed: {' '.join((done.stdout + done.stderr).split())[-500:]}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
