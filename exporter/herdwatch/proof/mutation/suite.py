"""Rule tests as single cases, each of which can be played by itself."""

from __future__ import annotations

import glob
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from yaml import MappingNode, ScalarNode, SequenceNode

from herdwatch.errors import CheckFailed, UsageError
from herdwatch.proof.mutation.rulefile import (
    RuleFile,
    compose,
    items,
    read_text,
    scalar,
    sequence,
    text,
    value,
    with_field,
    written,
)
from herdwatch.proof.mutation.text import milliseconds

ALERTS, SAMPLES = "alert_rule_test", "promql_expr_test"
_FIELDS = (ALERTS, SAMPLES)
_MINUTE = 60_000


@dataclass(frozen=True, slots=True)
class Expectation:
    """One row: what an alert says, or what an expression gives, at `at` milliseconds."""

    node: MappingNode
    field: str
    at: int
    alert: str
    expr: str


@dataclass(frozen=True, slots=True)
class Case:
    """One test of a test file with the rule files that it plays. `node` lacks the expectations, which are beside it."""

    path: Path
    line: int
    name: str
    top: MappingNode
    node: MappingNode
    expectations: tuple[Expectation, ...]
    files: tuple[RuleFile, ...]
    order: tuple[str, ...]
    interval: int

    @property
    def where(self) -> str:
        """File, line and name, as messages begin."""
        return f"{self.path}:{self.line}: {self.name!r}"

    @property
    def end(self) -> int:
        """When the last expectation is due, in milliseconds; promtool evaluates up to then."""
        return max(expected.at for expected in self.expectations)

    def written(self, rule_files: Sequence[str], expectations: Sequence[Expectation]) -> str:
        """A test file with this case alone, these rule files and these expectations."""
        node = self.node
        for field in _FIELDS:
            rows = [one.node for one in expectations if one.field == field]
            if rows:
                node = with_field(node, field, sequence(rows))
        top = with_field(self.top, "rule_files", sequence([text(name) for name in rule_files]))
        top = with_field(top, "group_eval_order", sequence([text(name) for name in self.order]))
        return written(with_field(top, "tests", sequence([node])))


def found(patterns: Sequence[str]) -> list[Path]:
    """The test files that the patterns match; raises UsageError where one matches none."""
    paths: dict[Path, None] = {}
    for pattern in patterns:
        # pathlib's glob takes no absolute pattern.
        matched = [Path(name) for name in sorted(glob.glob(pattern, recursive=True)) if Path(name).is_file()]  # noqa: PTH207
        if not matched:
            raise UsageError(f"--tests {pattern}: matches no file; give test files of promtool, such as 'tests/*.yml'")
        paths |= dict.fromkeys(matched)
    return list(paths)


def load(path: Path, mutated: Sequence[Path], read: Callable[[Path], RuleFile]) -> list[Case]:
    """The cases of a test file; raises CheckFailed, naming file and line, where it tests nothing of `mutated`."""
    root = compose(read_text(path), path)
    if not isinstance(root, MappingNode):
        raise CheckFailed(f"{path}:1: a test file is a mapping with rule_files and tests")
    files = _rule_files(path, root)
    if not {file.resolve() for file in files} & {file.resolve() for file in mutated}:
        wanted = ", ".join(map(str, mutated))
        raise CheckFailed(f"{path}:{_line(root, 'rule_files')}: its rule_files do not name {wanted}")
    loaded = tuple(read(file) for file in files)
    nodes = list(items(value(root, "tests")))
    if not nodes:
        raise CheckFailed(f"{path}:{_line(root, 'tests')}: has no tests")
    top = root
    for field in ("rule_files", "group_eval_order", "tests"):
        top = with_field(top, field, None)
    given = value(root, "group_eval_order")
    order = [node.value for node in given.value] if isinstance(given, SequenceNode) else []
    # Groups that the list does not name run in random order.
    order += [rule.group for file in loaded for rule in file.rules]
    interval = milliseconds(scalar(root, "evaluation_interval")) or _MINUTE
    return [_case(path, top, node, loaded, tuple(dict.fromkeys(order)), interval) for node in nodes]


def _rule_files(path: Path, root: MappingNode) -> list[Path]:
    patterns = value(root, "rule_files")
    names = [node.value for node in patterns.value] if isinstance(patterns, SequenceNode) else []
    paths: dict[Path, None] = {}
    for pattern in names:
        matched = sorted(glob.glob(pattern, root_dir=path.parent))  # noqa: PTH207 - as promtool reads them
        if not matched:
            raise CheckFailed(f"{path}:{_line(root, 'rule_files')}: rule_files: {pattern} matches no file")
        paths |= dict.fromkeys(path.parent / name for name in matched)
    return list(paths)


def _case(
    path: Path,
    top: MappingNode,
    node: MappingNode,
    files: tuple[RuleFile, ...],
    order: tuple[str, ...],
    interval: int,
) -> Case:
    line = node.start_mark.line + 1
    name = scalar(node, "name") or f"the test of line {line}"
    rows = [
        Expectation(row, field, _due(path, row), scalar(row, "alertname"), scalar(row, "expr"))
        for field in _FIELDS
        for row in items(value(node, field))
    ]
    if not rows:
        raise CheckFailed(f"{path}:{line}: {name!r} expects nothing")
    for field in _FIELDS:
        node = with_field(node, field, None)
    return Case(path, line, name, top, node, tuple(rows), files, order, interval)


def _due(path: Path, row: MappingNode) -> int:
    found = value(row, "eval_time")
    at = milliseconds(found.value) if isinstance(found, ScalarNode) else 0
    if at is None:
        raise CheckFailed(f"{path}:{row.start_mark.line + 1}: eval_time: a duration such as 5m is wanted")
    return at


def _line(root: MappingNode, field: str) -> int:
    found = value(root, field)
    return 1 if found is None else found.start_mark.line + 1
