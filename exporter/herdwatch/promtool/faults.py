"""The tests of a rule test file, and what makes one of them test nothing although promtool would call it a success."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import yaml

from herdwatch.promtool import nodes, reading, silence
from herdwatch.promtool.rulefiles import Rule
from herdwatch.promtool.silence import BUILT_IN


@dataclass(frozen=True, slots=True)
class Row:
    """One expectation: of an alert where `alert` is given, else of the query `expr`. `line` is where it begins."""

    line: int
    eval_time: str
    alert: str | None = None
    expr: str | None = None
    empty: bool = False
    """It expects nothing to fire, or no sample."""


@dataclass(frozen=True, slots=True)
class Test:
    """One test group. `name` is empty where it has none; `faults` are sentences that start with file:line."""

    name: str
    line: int
    node: yaml.Node
    rows: tuple[Row, ...]
    mentioned: frozenset[str]
    """The alerts that a row asks for, by name or by a query of ALERTS."""
    faults: tuple[str, ...] = ()


def read_tests(shown: str, tests: Iterable[yaml.Node], rules: Sequence[Rule] | None) -> Iterator[Test]:
    """Every test of the file `shown`; without `rules` the names in it are not checked."""
    for node in tests:
        name = " ".join((nodes.text(nodes.value(node, "name")) or "").split())
        rows = tuple(_rows(node))
        found = list(_faults(node, rows, rules)) if rules is not None else []
        if not rows:
            found.append((nodes.line(node), "expects nothing: it has no row in alert_rule_test or promql_expr_test"))
        called = f"the test {name!r}" if name else "the test"
        sentences = tuple(f"{shown}:{line}: {called} {fault}" for line, fault in dict.fromkeys(found))
        yield Test(name, nodes.line(node), node, rows, _mentioned(rows, rules or ()), sentences)


def _rows(test: yaml.Node) -> Iterator[Row]:
    for node in nodes.items(nodes.value(test, "alert_rule_test")):
        alert = nodes.text(nodes.value(node, "alertname"))
        quiet = not nodes.items(nodes.value(node, "exp_alerts"))
        yield Row(nodes.line(node), _eval_time(node), alert=alert or "", empty=quiet)
    for node in nodes.items(nodes.value(test, "promql_expr_test")):
        expr = nodes.text(nodes.value(node, "expr"))
        nothing = not nodes.items(nodes.value(node, "exp_samples"))
        yield Row(nodes.line(node), _eval_time(node), expr=expr or "", empty=nothing)


def _eval_time(row: yaml.Node) -> str:
    return nodes.text(nodes.value(row, "eval_time")) or "0s"


def _mentioned(rows: Sequence[Row], rules: Iterable[Rule]) -> frozenset[str]:
    asked = {row.alert for row in rows if row.alert is not None}
    queries = [row.expr for row in rows if row.expr is not None and "ALERTS" in row.expr]
    shown = {
        rule.name
        for rule in rules
        if rule.is_alert and any(reading.asks(query, rule.name, rule.labels) for query in queries)
    }
    return frozenset(asked | shown)


def _faults(test: yaml.Node, rows: Sequence[Row], rules: Sequence[Rule]) -> Iterator[tuple[int, str]]:
    alerts = sorted({rule.name for rule in rules if rule.is_alert})
    given = [
        (nodes.line(node), nodes.text(nodes.value(node, "series")) or "")
        for node in nodes.items(nodes.value(test, "input_series"))
    ]
    for row in rows:
        if row.alert is not None and row.alert not in alerts:
            yield row.line, f"names the alert {row.alert!r}, which no rule file declares{_near(row.alert, alerts)}"
        if row.expr is not None:
            yield from _query_faults(row, rules, alerts, [series for _, series in given])
    unread = list(_unread(given, rows, rules))
    yield from unread
    if not unread:  # A name misspelt is why nothing is read, and told once.
        quiet = [(row.line, row.eval_time, row.alert) for row in rows if row.empty and row.alert in alerts]
        yield from silence.faults(test, quiet, rules)


def _query_faults(
    row: Row, rules: Iterable[Rule], alerts: Sequence[str], given: Iterable[str]
) -> Iterator[tuple[int, str]]:
    expr = row.expr or ""
    for matcher in reading.alert_names(expr):
        if not any(matcher.accepts(alert) for alert in alerts):
            name = matcher.pattern if isinstance(matcher.pattern, str) else getattr(matcher.pattern, "pattern", "")
            yield row.line, f"asks ALERTS for {name!r}, which no rule file declares{_near(name, alerts)}"
    if not row.empty:
        return  # It fails by itself where there is nothing to read.
    there = [{"__name__": name} for name in (*BUILT_IN, *(rule.name for rule in rules if not rule.is_alert))]
    series = [reading.series(text) for text in given]
    if None in series:
        return
    there += [dict(labels) for labels in series if labels is not None]
    for selector in reading.expression(expr).selectors:
        if not any(selector.accepts({"__name__": labels["__name__"]}, known_only=True) for labels in there):
            name = next((str(one.pattern) for one in selector.matchers if one.label == "__name__"), "")
            yield row.line, f"reads {name}, which no rule records and no input series gives, and so expects nothing"


def _unread(given: Sequence[tuple[int, str]], rows: Iterable[Row], rules: Sequence[Rule]) -> Iterator[tuple[int, str]]:
    reads = [reading.expression(rule.expr) for rule in rules]
    reads += [reading.templates(rule.templates) for rule in rules]
    reads += [reading.expression(row.expr) for row in rows if row.expr is not None]
    for line, text in given:
        labels = reading.series(text)
        if labels is not None and not any(read.takes(labels) for read in reads):
            yield line, f"gives the series {text}, which no rule and no query of the test reads"


def _near(name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, names, 1)
    return f"; did you mean {close[0]!r}?" if close else ""
