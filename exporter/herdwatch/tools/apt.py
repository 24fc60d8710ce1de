"""apt-get with lists, cache and configuration of its own: works for an ordinary user and leaves the system's alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from herdwatch.errors import ToolError

_HOOKS = ("Pre-Invoke", "Post-Invoke", "Post-Invoke-Success")
_SYSTEM_CONFIGURATION = Path("/etc/apt/apt.conf")


class FetchError(ToolError):
    """Fetching failed; the message is the reason alone, without what to install instead."""


def available() -> bool:
    """Whether this machine has what fetching takes."""
    return all(shutil.which(program) for program in ("apt-get", "apt-cache", "dpkg"))


class Apt:
    """apt-get working in one folder; what it knows and downloads is gone when the folder is.

    The machine's sources, keys, proxies and preferences apply. Its hooks after an update do not: they may clean the
    system's cache or wake a desktop's package manager.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._warning = ""
        for needed in ("lists/partial", "cache/archives/partial", "debs"):
            (folder / needed).mkdir(parents=True)
        # apt reads APT_CONFIG first and the main file last, so only the main file can clear what apt.conf.d set.
        system = f'#include "{_SYSTEM_CONFIGURATION}";\n' if _SYSTEM_CONFIGURATION.is_file() else ""
        (folder / "main.conf").write_text(system + "".join(f"#clear APT::Update::{hook};\n" for hook in _HOOKS))
        (folder / "first.conf").write_text(f'Dir::Etc::main "{folder / "main.conf"}";\n')

    def update(self) -> None:
        """Read the package lists of all sources; one source that does not answer is no failure yet."""
        try:
            self._apt("apt-get", "-o", "APT::Update::Error-Mode=any", "update", timeout=300)
        except FetchError as error:
            self._warning = str(error)

    def knows(self, package: str) -> bool:
        """Whether some source offers `package`."""
        listed = self._apt("apt-cache", "pkgnames", package, timeout=60)
        return package in listed.split()

    def download(self, packages: Iterable[str]) -> dict[str, Path]:
        """Package -> its .deb file. Raises FetchError with apt's own last words."""
        folder = self._folder / "debs"
        wanted = sorted(packages)
        try:
            self._apt("apt-get", "download", *wanted, timeout=900, cwd=folder)
        except FetchError as error:
            raise FetchError(f"{error} (apt-get update: {self._warning})" if self._warning else str(error)) from error
        # A file name is PACKAGE_VERSION_ARCHITECTURE.deb, and a package name has no underscore.
        debs = {deb.name.partition("_")[0]: deb for deb in folder.glob("*.deb")}
        return {package: debs[package] for package in wanted}

    def libraries(self, packages: Iterable[str]) -> set[str]:
        """The library packages that `packages` depend on directly and that are not installed."""
        listed = self._apt("apt-cache", "depends", *sorted(packages), timeout=60)
        needed = set(re.findall(r"^ *\|?(?:Pre)?Depends: (lib\S+)$", listed, re.MULTILINE))
        return {package for package in needed if not _installed(package)}

    def _apt(self, program: str, *args: str, timeout: float, cwd: Path | None = None) -> str:
        options = {
            "Dir::State::lists": self._folder / "lists",
            "Dir::Cache": self._folder / "cache",
            # As root, apt would change to a user who may not write here.
            "APT::Sandbox::User": "",
            "Acquire::Languages": "none",
            "Acquire::Retries": 2,
            "Acquire::http::Timeout": 20,
            "Acquire::https::Timeout": 20,
        }
        settings = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        environment = {"APT_CONFIG": str(self._folder / "first.conf")}
        return run([program, "-q", "-q", *settings, *args], timeout=timeout, env=environment, cwd=cwd)


def unpack(deb: Path, root: Path) -> None:
    """Put the files of a package under `root`, running none of its scripts."""
    root.mkdir(parents=True, exist_ok=True)
    run(["dpkg", "-x", str(deb), str(root)], timeout=120)


def run(
    command: list[str],
    *,
    timeout: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    check: bool = True,
) -> str:
    """What `command` printed; `timeout` is in seconds. Raises FetchError with its last error line if it fails."""
    environment = {**os.environ, "LC_ALL": "C", **(env or {})}
    try:
        done = subprocess.run(
            command, timeout=timeout, env=environment, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
    except subprocess.TimeoutExpired as error:
        raise FetchError(f"{command[0]} took more than {timeout:.0f} s") from error
    except OSError as error:
        raise FetchError(f"{command[0]} did not start: {error.strerror}") from error
    if check and done.returncode:
        raise FetchError(_last_error(done.stderr) or f"{command[0]} exited with {done.returncode}")
    return done.stdout


def _last_error(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    # After these apt sums up that "some index files failed", which says neither which nor why.
    causes = [line for line in lines if "Failed to fetch" in line]
    return (causes or lines or [""])[-1]


def _installed(package: str) -> bool:
    try:
        return run(["dpkg-query", "-W", "-f=${db:Status-Status}", package], timeout=30) == "installed"
    except FetchError:
        return False
