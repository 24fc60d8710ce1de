"""Rule tests as pytest items: `-p herdwatch.promtool.plugin`, for the files that the ini option promtool_paths names.

    [pytest]
    addopts = -p herdwatch.promtool.plugin
    testpaths = tests alerts/tests
    promtool_paths = alerts/tests/*.test.yml
    promtool_always_firing = Watchdog

Every test of such a file is an item of its name and runs by itself; neighbouring items run at the same time, one a
processor, and none beside a test that is no rule test.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from itertools import takewhile
from pathlib import Path

import pytest

from herdwatch import tools
from herdwatch.errors import CheckFailed, HerdwatchError, ToolError
from herdwatch.promtool import testfiles
from herdwatch.promtool.ahead import Ahead
from herdwatch.promtool.faults import Test
from herdwatch.promtool.runner import TIMEOUT_SECONDS, Promtool, Result
from herdwatch.promtool.testfiles import TestFile

_PATHS = pytest.StashKey[frozenset[Path]]()
_AHEAD = pytest.StashKey[Ahead["RuleTest"]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("promtool", "rule tests of Prometheus")
    group.addoption(
        "--promtool", type=Path, metavar="FILE", help="run this promtool instead of the first that is found"
    )
    parser.addini("promtool_paths", "rule test files to collect: patterns relative to the root directory", type="args")
    parser.addini("promtool_always_firing", "alerts that may fire in a test that does not mention them", type="args")
    parser.addini("promtool_timeout", f"seconds that one test may take (default: {TIMEOUT_SECONDS:g})")


def pytest_configure(config: pytest.Config) -> None:
    path: Path | None = config.getoption("--promtool")
    try:
        if path is not None:
            tools.choose("promtool", path)
        config.stash[_PATHS] = frozenset(_files(config.rootpath, config.getini("promtool_paths")))
        _timeout(config)
    except ToolError as error:
        raise pytest.UsageError(f"--promtool: {error}") from None
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if file_path not in parent.config.stash[_PATHS]:
        return None
    return RuleTestFile.from_parent(parent, path=file_path)


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """However the session ends, nothing is left running."""
    always = frozenset(session.config.getini("promtool_always_firing"))
    ahead = Ahead[RuleTest](lambda item, promtool: item.check(promtool, always), timeout=_timeout(session.config))
    session.config.stash[_AHEAD] = ahead
    try:
        return (yield)
    finally:
        ahead.close()


class RuleTestFile(pytest.File):
    """A rule test file; what spoils it as a whole is an error of its collection."""

    def collect(self) -> Iterator[RuleTest]:
        file = testfiles.read(self.path, str(self.path.relative_to(self.config.rootpath)))
        if file.faults:
            raise self.CollectError("\n".join(file.faults))
        names: set[str] = set()
        for test in file.tests:
            # A node id is taken apart at each "::".
            name = test.name.replace("::", ": :") or f"the test at line {test.line}"
            name = f"{name} (line {test.line})" if name in names else name
            names.add(name)
            yield RuleTest.from_parent(self, name=name, file=file, test=test)


class RuleTest(pytest.Item):
    """One test of a rule test file."""

    def __init__(self, *, file: TestFile, test: Test, **rest: object) -> None:
        super().__init__(**rest)  # type: ignore[arg-type]
        self._file, self._test = file, test

    def check(self, promtool: Promtool, always_firing: frozenset[str]) -> Result:
        """What promtool and the wrapper say of this test."""
        return promtool.test_case(self._file, self._test, always_firing=always_firing)

    def runtest(self) -> None:
        """Wait for the result; raises CheckFailed with all its problems."""
        result = self.config.stash[_AHEAD].result(self, self._neighbours())
        if not result.ok:
            raise CheckFailed("\n".join(result.problems))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *_: object) -> object:  # type: ignore[override]
        """The sentences alone."""
        if isinstance(excinfo.value, HerdwatchError):
            return str(excinfo.value)
        return super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Path, int, str]:
        """The line where the test begins."""
        return self.path, self._test.line - 1, self.name

    def _neighbours(self) -> list[RuleTest]:
        """The rule tests right after this one: so none runs beside another kind of test, which may measure time."""
        # A worker of pytest-xdist is told one item after the other, and other workers have the rest.
        if hasattr(self.config, "workerinput"):
            return []
        following = self.session.items[self.session.items.index(self) + 1 :]
        return [
            item for item in takewhile(lambda item: isinstance(item, RuleTest), following) if isinstance(item, RuleTest)
        ]


def _files(root: Path, patterns: list[str]) -> Iterator[Path]:
    """Every file that a pattern matches; raises ValueError for a pattern that matches none."""
    for pattern in patterns:
        try:
            found = [path for path in root.glob(pattern) if path.is_file()]
        except (NotImplementedError, ValueError):
            raise ValueError(f"promtool_paths: {pattern!r} is no pattern relative to {root}") from None
        if not found:
            raise ValueError(f"promtool_paths: {pattern!r} matches no file below {root}")
        yield from found


def _timeout(config: pytest.Config) -> float:
    """Seconds for one test; raises ValueError where the option is no number of seconds."""
    given = config.getini("promtool_timeout") or TIMEOUT_SECONDS
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise ValueError(f"promtool_timeout: {given!r} is no number of seconds")
    return seconds
