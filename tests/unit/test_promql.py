"""promql: what an expression selects, how a wrong one is explained, what Grafana's variables become."""

from __future__ import annotations

import pytest

from herdwatch.bundle.promql import (
    GRAFANA_BUILTINS,
    Matcher,
    Selector,
    grafana_variables,
    parse,
    selectors,
    without_grafana_variables,
)
from herdwatch.errors import CheckFailed


def shapes(expr: str) -> list[tuple[str, str | None, bool]]:
    return [(found.metric, found.function, found.is_range) for found in selectors(expr)]


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        ("x", [("x", None, False)]),
        ("rate(x[5m])", [("x", "rate", True)]),
        ("sum by (cache) (rate(x[5m]))", [("x", "rate", True)]),
        ("sum(x)", [("x", None, False)]),
        ("clamp_max(sum(rate(x[5m])), 1)", [("x", "rate", True)]),
        ("clamp_max(sum(x), 1)", [("x", "clamp_max", False)]),
        ("x / on (cache) (y > 0)", [("x", None, False), ("y", None, False)]),
        ("rate(x[5m]) > -y", [("x", "rate", True), ("y", None, False)]),
        ("max_over_time(rate(x[5m])[1h:])", [("x", "rate", True)]),
        ("rate(sum(x)[5m:1m])", [("x", "rate", False)]),
        ("topk(scalar(n), x)", [("n", "scalar", False), ("x", None, False)]),
        ("x[5m] offset 1h", [("x", None, True)]),
        ("a:b:c @ end()", [("a:b:c", None, False)]),
        ('{__name__="x", cache="c"}', [("x", None, False)]),
        ('{__name__=~"x.*"}', [("", None, False)]),
        ("time() - 5", []),
    ],
)
def test_selectors_are_found_wherever_they_stand_with_the_function_around_them(
    expr: str, expected: list[tuple[str, str | None, bool]]
) -> None:
    assert shapes(expr) == expected


def test_matchers_keep_their_operator_value_and_order() -> None:
    [found] = selectors('x{a="1", b!="2", c=~"3|4", d!~"5"}')
    expected = (Matcher("a", "=", "1"), Matcher("b", "!=", "2"), Matcher("c", "=~", "3|4"), Matcher("d", "!~", "5"))
    assert found == Selector("x", expected, None, False)


def test_alternatives_joined_by_or_are_matchers_too() -> None:
    [found] = selectors('x{a="1" or b="2"}')
    assert [matcher.label for matcher in found.matchers] == ["a", "b"]


def test_a_matcher_is_found_by_its_label() -> None:
    [found] = selectors('x{cache="users"}')
    assert found.matcher("cache") == Matcher("cache", "=", "users")
    assert found.matcher("team") is None


@pytest.mark.parametrize(
    ("expr", "reason"),
    [
        ("rate(x[5m]", "unclosed left parenthesis"),
        ("rate(x)", "expected type matrix"),
        ("nosuch(x)", "unknown function"),
        ("", "no expression"),
        ('x{a=~"("}', "illegal regex"),
        ("rate(x[$__rate_interval])", "unexpected character"),
    ],
)
def test_a_wrong_expression_is_explained_in_one_line_that_names_the_place(expr: str, reason: str) -> None:
    with pytest.raises(CheckFailed, match=reason) as caught:
        parse(expr, "alerts/x.yml: CacheDown")
    assert str(caught.value).startswith("alerts/x.yml: CacheDown: not valid PromQL: ")
    with pytest.raises(CheckFailed):
        selectors(expr)


def test_a_long_expression_over_many_lines_is_shown_shortened_on_one() -> None:
    with pytest.raises(CheckFailed) as caught:
        parse("sum(\n" + "  x +\n" * 500, "here")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        ("rate(x[$__rate_interval])", "rate(x[5m])"),
        ("max_over_time(x[${__range}])", "max_over_time(x[5m])"),
        ("x * $__interval_ms > ${__from}", "x * 300 > 300"),
        ('x{cache=~"$cache", job=~"${job:regex}"}', 'x{cache=~"cache", job=~"job"}'),
        ('x{cache=~"$cache|"}', 'x{cache=~"cache|"}'),
        ('label_replace(x, "a", "$1", "b", "(c)$")', 'label_replace(x, "a", "$1", "b", "(c)$")'),
    ],
)
def test_grafana_variables_become_values_that_parse(expr: str, expected: str) -> None:
    assert without_grafana_variables(expr) == expected
    parse(expected, "here")


@pytest.mark.parametrize("name", sorted(GRAFANA_BUILTINS))
def test_every_built_in_becomes_a_duration_or_a_number(name: str) -> None:
    value = without_grafana_variables(f"${{{name}}}")
    spans = {"__interval", "__rate_interval", "__range"}
    assert value == ("5m" if name in spans else "300")
    parse(f"x[{value}]" if name in spans else f"x > {value}", name)


def test_the_variables_of_an_expression_are_listed_without_their_format() -> None:
    assert grafana_variables('x{a=~"$a", b="${b:csv}", c="$1", d="e$"}[$__range]') == {"a", "b", "__range"}
