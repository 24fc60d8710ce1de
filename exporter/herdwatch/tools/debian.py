"""Fills the tools folder from Debian's packages: as any user, starting nothing, all of a program or nothing."""

from __future__ import annotations

import fcntl
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from herdwatch.tools.apt import Apt, FetchError, run, unpack
from herdwatch.tools.catalogue import PACKAGES, Program
from herdwatch.tools.relocate import relocate_alertmanager

_UNFINISHED = ".fetch-"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the tools folder, which is made if need be; waits while another process fetches into it.

    Raises FetchError if the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise FetchError(f"cannot write to {folder}: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"waiting for another process that fetches into {folder} ...")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def fetch(programs: Iterable[Program], folder: Path) -> None:
    """Download and unpack what holds `programs` into `folder`, which the caller has locked.

    Everything is prepared in a folder beside the final ones and renamed at the end: an interrupted fetch leaves nothing
    that looks like a tool. Raises FetchError.
    """
    wanted = list(programs)
    _say(f"fetching {', '.join(program.name for program in wanted)} from Debian into {folder} ...")
    for unfinished in folder.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(unfinished, ignore_errors=True)
    try:
        with TemporaryDirectory(prefix=_UNFINISHED, dir=folder, ignore_cleanup_errors=True) as work:
            _fetch(wanted, Path(work), folder)
    except OSError as error:
        raise FetchError(f"{error.filename or folder}: {error.strerror or error}") from error


def library_path(root: Path) -> str:
    """The shared library folders below `root` in the form of LD_LIBRARY_PATH, empty if it has none."""
    libraries = [library for lib in ("lib", "usr/lib") for library in root.glob(f"{lib}/*/*.so.*")]
    return ":".join(sorted({str(library.parent) for library in libraries}))


def _fetch(programs: list[Program], work: Path, folder: Path) -> None:
    apt = Apt(work / "apt")
    apt.update()
    roots = sorted({_root_of(program, apt) for program in programs})
    debs = apt.download(package for root in roots for package in PACKAGES[root])
    for root in roots:
        for package in PACKAGES[root]:
            unpack(debs[package], work / root)
        _add_libraries(work / root, PACKAGES[root], apt)
        _relocate(work / root)
    for root in roots:
        if (folder / root).exists():
            (folder / root).rename(work / f"{root}.replaced")
        (work / root).rename(folder / root)


def _root_of(program: Program, apt: Apt) -> str:
    """Debian 12 has promtool inside prometheus, later releases have it in a smaller package of its own."""
    *smaller, always = program.roots
    return next((root for root in smaller if all(map(apt.knows, PACKAGES[root]))), always)


def _add_libraries(root: Path, packages: Iterable[str], apt: Apt) -> None:
    """Add the shared libraries that this machine lacks for the programs in `root`."""
    known = set(packages)
    while missing := _missing_libraries(root):
        needed = apt.libraries(known) - known
        if not needed:
            raise FetchError(f"no Debian package brings {', '.join(sorted(missing))}")
        for deb in apt.download(needed).values():
            unpack(deb, root)
        known |= needed


def _missing_libraries(root: Path) -> set[str]:
    environment = {"LD_LIBRARY_PATH": library_path(root)}
    programs = sorted(str(path) for path in (root / "usr/bin").iterdir())
    # ldd exits with 1 for a script or a static program; neither lacks a library.
    linked = run(["ldd", *programs], timeout=30, env=environment, check=False)
    return {line.split()[0] for line in linked.splitlines() if line.endswith("=> not found")}


def _relocate(root: Path) -> None:
    try:
        relocate_alertmanager(root)
    except ValueError as error:
        raise FetchError(str(error)) from error


def _say(progress: str) -> None:
    print(f"herdwatch: {progress}", file=sys.stderr, flush=True)
