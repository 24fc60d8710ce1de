"""Rule test files, and what is wrong with one although promtool would call it a success."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass
from pathlib import Path

import yaml

from herdwatch.errors import CheckFailed
from herdwatch.promtool import faults, nodes, rulefiles
from herdwatch.promtool.faults import Test
from herdwatch.promtool.rulefiles import RuleFile


@dataclass(frozen=True, slots=True)
class TestFile:
    """A rule test file. `shown` names it to the reader, `order` is that in which its groups are evaluated.

    `faults` are sentences on what spoils the file as a whole; a test's own are with the test. All start with file:line.
    """

    path: Path
    shown: str
    tests: tuple[Test, ...] = ()
    rules: tuple[RuleFile, ...] = ()
    order: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    root: yaml.Node | None = None

    @property
    def expectations(self) -> int:
        """How many rows it holds."""
        return sum(len(test.rows) for test in self.tests)

    @property
    def problems(self) -> tuple[str, ...]:
        """All that is wrong, of the file and of each test."""
        return (*self.faults, *(fault for test in self.tests for fault in test.faults))


def read(path: Path, shown: str | None = None) -> TestFile:
    """Read a test file and its rule files; `shown` is how sentences name it, its path if not given."""
    shown = shown or str(path)
    try:
        root = nodes.load(path, shown)
    except CheckFailed as error:
        return TestFile(path, shown, faults=(str(error),))
    if not isinstance(root, yaml.MappingNode):
        return TestFile(path, shown, faults=(f"{shown}:1: a test file is a mapping with rule_files and tests",))
    rules, problems = _rule_files(path, shown, root)
    order, disorder = _order(shown, root, rules)
    tests = nodes.value(root, "tests")
    if not nodes.items(tests):
        problems.append(f"{shown}:{nodes.line(tests or root)}: has no tests")
    # Without its rules every alert of a test would seem misspelt.
    known = [] if problems else [rule for file in rules for rule in file.rules]
    found = tuple(faults.read_tests(shown, nodes.items(tests), known or None))
    return TestFile(path, shown, found, tuple(rules), order, (*problems, *disorder), root)


def _rule_files(path: Path, shown: str, root: yaml.Node) -> tuple[list[RuleFile], list[str]]:
    """The rule files that the patterns match, and what is wrong with them."""
    at = nodes.value(root, "rule_files")
    patterns = nodes.items(at)
    if not patterns:
        return [], [f"{shown}:{nodes.line(at or root)}: names no rule_files"]
    files: dict[Path, RuleFile] = {}
    problems: list[str] = []
    for node in patterns:
        pattern = nodes.text(node) or ""
        found = _matching(path, pattern)
        if not found:
            problems.append(f"{shown}:{nodes.line(node)}: rule_files: {pattern} matches no file")
        for file in found:
            try:
                files.setdefault(file, rulefiles.load(file, _beside(shown, path, file)))
            except CheckFailed as error:
                problems.append(str(error))
    return list(files.values()), problems


def _matching(path: Path, pattern: str) -> list[Path]:
    # Path.glob raises for an absolute or an empty pattern, which promtool accepts or finds nothing for.
    names = sorted(glob.glob(pattern, root_dir=path.parent, include_hidden=True)) if pattern else []  # noqa: PTH207
    return [Path(os.path.normpath(path.absolute().parent / name)) for name in names]


def _beside(shown: str, path: Path, file: Path) -> str:
    """How to name a rule file where the test file is named `shown`: relative to the same folder, or absolute."""
    if Path(shown).is_absolute():
        return str(file)
    return os.path.normpath(Path(shown).parent / os.path.relpath(file, path.absolute().parent))


def _order(shown: str, root: yaml.Node, rules: list[RuleFile]) -> tuple[tuple[str, ...], list[str]]:
    """The order of evaluation: the file's own, else that in which the rule files declare the groups."""
    declared: dict[str, str] = {}
    problems: list[str] = []
    for file in rules:
        for name, line in file.groups:
            if name in declared:
                problems.append(
                    f"{file.shown}:{line}: the group {name} is at {declared[name]} too; no group_eval_order can tell "
                    "the two apart, so they would run in random order; rename one"
                )
            declared.setdefault(name, f"{file.shown}:{line}")
    at = nodes.value(root, "group_eval_order")
    if at is None:
        return tuple(declared), problems
    given = tuple(nodes.text(node) or "" for node in nodes.items(at))
    if rules and sorted(given) != sorted(declared):
        problems.append(
            f"{shown}:{nodes.line(at)}: group_eval_order must name every group and nothing else, or they run in "
            f"random order: {', '.join(declared)}"
        )
    return given, problems
