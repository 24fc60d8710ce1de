"""Expressions taken apart and written again: the same tree comes out, and places are found in what somebody wrote."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdwatch.bundle import rules
from herdwatch.bundle.location import bundle_root
from herdwatch.bundle.promql import Matcher, Operator
from herdwatch.errors import CheckFailed
from herdwatch.proof.mutation.text import clipped, line_of_change, milliseconds, render, span
from herdwatch.proof.mutation.tree import (
    Aggregate,
    Binary,
    Call,
    Labels,
    Negative,
    Node,
    Number,
    Paren,
    Selector,
    Subquery,
    parse,
    places,
    replaced,
)

SHIPPED = [
    rule.expr
    for rule in rules.load((bundle_root() / "alerts" / "herdwatch.rules.yml").read_text(), "herdwatch.rules.yml")
]
FOREIGN = [
    'up{job=~"api|web",instance!~"test.*"} offset -5m',
    "x @ 1609746000.123",
    "x[5m] @ end() offset 1m",
    "max_over_time(rate(x[1m30s])[1h:30s] @ start() offset 1w)",
    "sum(x) without (a, b,)",
    "sum by () (x)",
    "topk by (job) (3, x)",
    'count_values("v", x)',
    "histogram_quantile(0.99, sum by (le) (rate(http_bucket[5m])))",
    "a / on (x, y) group_left (team) b",
    "a * ignoring(x) group_right b",
    "a == bool on () b",
    "a + on (x) fill (0) b",
    "-x ^ 2",
    "2 ^ 3 ^ 2",
    "(2 ^ 3) ^ 2",
    "a - (b - c)",
    "-1 - -x",
    "-(x)",
    "a unless b or c and d",
    "((a or b)) and c",
    "a atan2 b % c",
    '{__name__=~"job:.*",a=""}',
    '{"http.requests", a="b"}',
    'label_replace(x, "a", "$1", "b", `(.*)\\d`)',
    'x{a="\\"q\\" \\\\ \\n é"}',
    "1e20 > bool .5",
    "x > -Inf",
    "vector(0x1F)",
    "time() - timestamp(x)",
    "absent(x{a='b'}) or vector(1)",
]


@pytest.mark.parametrize("expr", [*SHIPPED, *FOREIGN])
def test_what_is_written_parses_to_the_same_tree(expr: str) -> None:
    tree = parse(expr)
    assert parse(render(tree)) == tree


NAMES = st.sampled_from(["a", "b", "job:x:rate"])
LABELS = st.lists(st.sampled_from(["cache", "instance", "le"]), unique=True).map(tuple)
OPERATORS: list[Operator] = ["=", "!="]
MATCHERS = st.lists(
    st.builds(Matcher, st.sampled_from(["cache", "db"]), st.sampled_from(OPERATORS), st.text(max_size=4)), max_size=2
).map(tuple)
SPANS = st.integers(1, 10**9)
VECTORS = st.builds(Selector, NAMES, MATCHERS, offset=st.integers(-(10**6), 10**6))
NUMBERS = st.floats(allow_nan=False).map(Number)


def _grouping(*keywords: str) -> st.SearchStrategy[Labels | None]:
    return st.none() | st.builds(Labels, st.sampled_from(keywords), LABELS)


def _larger(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    arithmetic = st.sampled_from(["+", "-", "*", "/", "%", "^", "atan2", ">", "<=", "=="])
    sets = st.sampled_from(["and", "or", "unless"])
    vectors = inner.filter(lambda node: any(isinstance(one, Selector) for _, one in places(node)))
    return st.one_of(
        st.builds(Paren, inner),
        st.builds(Negative, vectors),
        st.builds(Binary, arithmetic, vectors, inner),
        st.builds(Binary, sets, vectors, vectors, matching=_grouping("on", "ignoring")),
        st.builds(Aggregate, st.sampled_from(["sum", "max"]), vectors, _grouping("by", "without")),
        st.builds(lambda node, width: Call("max_over_time", (Subquery(node, width),)), vectors, SPANS),
    )


@given(st.recursive(VECTORS | NUMBERS, _larger, max_leaves=8))
def test_any_tree_is_written_so_that_its_operators_bind_as_they_should(tree: Node) -> None:
    once = parse(render(tree))
    assert _bare(once) == _bare(tree)
    assert parse(render(once)) == once


def _bare(node: Node) -> Node:
    """Without parentheses; with numbers as they are read, a minus before a number being part of it."""
    while isinstance(node, Paren):
        node = node.inner
    for number, child in enumerate(_children(node)):
        node = replaced(node, (number,), _bare(child))
    return node


def _children(node: Node) -> list[Node]:
    return [child for place, child in places(node) if len(place) == 1]


@pytest.mark.parametrize(
    ("text", "length"),
    [("5m", 300_000), ("1m30s", 90_000), ("1d12h5ms", 129_600_005), ("2w", 1_209_600_000), ("0s", 0)],
)
def test_durations_are_read_and_written(text: str, length: int) -> None:
    assert milliseconds(text) == length
    assert span(length) == text


@pytest.mark.parametrize(("text", "length"), [("0", 0), ("1y", 31_536_000_000), ("5", None), ("m", None), ("", None)])
def test_durations_that_are_written_otherwise_are_read_too(text: str, length: int | None) -> None:
    assert milliseconds(text) == length


SOURCE = """|
  (
    sum(rate(x[60s])) by (cache)  # a comment with rate(x[60s]) > 5
      > 5
  )
    and on (cache)
  y{a="b"} == 0
"""


@pytest.mark.parametrize(
    ("change", "line"),
    [(("> 5", ">= 5"), 3), (("> 5", "> 7.5"), 3), (("rate", "increase"), 2), (("== 0", "!= 0"), 6), (("and", "or"), 5)],
)
def test_the_line_of_a_change_is_found_in_what_somebody_wrote(change: tuple[str, str], line: int) -> None:
    before = render(parse(SOURCE.removeprefix("|")))
    assert line_of_change(SOURCE, before, before.replace(*change)) == line


def test_only_what_changes_is_shown_of_a_long_expression() -> None:
    before = " and ".join(f"some_metric_{number} > {number}" for number in range(20))
    old, new = clipped(before, before.replace("_9 > 9", "_9 < 9"))
    assert old == "… > 8 and some_metric_9 > 9 and some_metric_10 > 10 and …"
    assert new == "… > 8 and some_metric_9 < 9 and some_metric_10 > 10 and …"


def test_a_short_expression_is_shown_as_it_is() -> None:
    assert clipped("up == 0", "up != 0") == ("up == 0", "up != 0")


def test_a_long_part_that_is_dropped_is_shown_by_its_ends() -> None:
    before = " and ".join(f"some_metric_{number}" for number in range(20))
    old, new = clipped(before, "some_metric_19")
    assert old.startswith("some_metric_0 and")
    assert " … " in old
    assert len(old) < 160
    assert "some_metric_19" in new


def test_an_expression_that_is_none_is_an_error_that_says_where() -> None:
    with pytest.raises(CheckFailed, match=r"rules\.yml:3: not valid PromQL"):
        parse("sum(", "rules.yml:3")
