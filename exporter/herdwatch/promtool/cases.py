"""Writes tests of a rule test file as a file for promtool, which asks one thing more: what fired unmentioned."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import yaml

from herdwatch.promtool import nodes
from herdwatch.promtool.faults import Test
from herdwatch.promtool.silence import milliseconds
from herdwatch.promtool.testfiles import TestFile

_OWN = ("rule_files", "group_eval_order", "tests")
_ROWS = "promql_expr_test"


@dataclass(frozen=True, slots=True)
class Prepared:
    """The text of a file for promtool, the tests in it, and the query that was added to each to watch the alerts."""

    file: TestFile
    tests: tuple[Test, ...]
    text: str
    root: yaml.Node
    watch: dict[str, Test]

    def lines(self) -> dict[int, int]:
        """Which line of the test file each line of the text was written from."""
        return dict(_lines(yaml.compose(self.text, yaml.SafeLoader) or self.root, self.root, set()))


def prepare(file: TestFile, tests: Sequence[Test], always_firing: Collection[str] | None) -> Prepared:
    """These tests of the file alone, with absolute rule_files and every group in group_eval_order.

    Alerts other than `always_firing` that fire unmentioned by the rows of their test make it fail; None lets all fire.
    """
    pairs = file.root.value if isinstance(file.root, yaml.MappingNode) else []
    watch: dict[str, Test] = {}
    every = nodes.text(nodes.value(file.root, "evaluation_interval")) or "1m"
    written = []
    for test in tests:
        query = None if always_firing is None else watched(test, always_firing, every)
        written.append(test.node if query is None else _with_row(test, query))
        if query is not None:
            watch[query] = test
    root = yaml.MappingNode(
        "tag:yaml.org,2002:map",
        [
            (_scalar("rule_files"), _sequence([_scalar(_literal(str(rules.path))) for rules in file.rules])),
            (_scalar("group_eval_order"), _sequence([_scalar(name) for name in file.order])),
            *((key, held) for key, held in pairs if key.value not in _OWN),
            (_scalar("tests"), _sequence(written)),
        ],
        flow_style=False,
    )
    text = yaml.serialize(root, Dumper=yaml.SafeDumper, width=1_000_000, allow_unicode=True)
    return Prepared(file, tuple(tests), str(text), root, watch)


def watched(test: Test, always_firing: Collection[str], every: str) -> str:
    """The query that has a sample, its first time in seconds, for each alert that fires in a test unmentioned."""
    span = milliseconds(last(test)) + 1_000
    quiet = "".join(f",alertname!={json.dumps(name, ensure_ascii=False)}" for name in _quiet(test, always_firing))
    return f'min by (alertname) (min_over_time(timestamp(ALERTS{{alertstate="firing"{quiet}}})[{span}ms:{every}]))'


def last(test: Test) -> str:
    """The latest time at which a row of the test asks."""
    return max((row.eval_time for row in test.rows), key=milliseconds, default="0s")


def _quiet(test: Test, always_firing: Collection[str]) -> list[str]:
    return sorted(test.mentioned | set(always_firing))


def _with_row(test: Test, query: str) -> yaml.Node:
    row = yaml.MappingNode(
        "tag:yaml.org,2002:map",
        [(_scalar("expr"), _scalar(query)), (_scalar("eval_time"), _scalar(last(test)))],
        flow_style=False,
    )
    pairs = [pair for pair in test.node.value if pair[0].value != _ROWS]
    rows = nodes.value(test.node, _ROWS)
    if rows is not None and not isinstance(rows, yaml.SequenceNode) and nodes.text(rows) not in ("", "~", "null"):
        return test.node  # promtool says what is wrong with it
    return yaml.MappingNode(
        test.node.tag, [*pairs, (_scalar(_ROWS), _sequence([*nodes.items(rows), row]))], flow_style=False
    )


def _literal(path: str) -> str:
    """A path as a pattern that matches it alone."""
    return re.sub(r"([*?\[\\])", r"\\\1", path)


def _scalar(text: str) -> yaml.ScalarNode:
    return yaml.ScalarNode("tag:yaml.org,2002:str", text, style='"')


def _sequence(held: list[yaml.Node]) -> yaml.SequenceNode:
    return yaml.SequenceNode("tag:yaml.org,2002:seq", held, flow_style=False)


def _lines(written: yaml.Node, source: yaml.Node, seen: set[int]) -> Iterator[tuple[int, int]]:
    if id(source) in seen:
        return
    seen.add(id(source))
    if source.start_mark is not None:
        yield nodes.line(written), nodes.line(source)
    for below, origin in zip(nodes.children(written), nodes.children(source), strict=True):
        yield from _lines(below, origin, seen)
