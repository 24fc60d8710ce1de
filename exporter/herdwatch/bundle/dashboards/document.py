"""A rendered dashboard as the checks see it: what they ask for, by name, out of JSON that anybody may have edited."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import promql_parser

from herdwatch.bundle import promql
from herdwatch.errors import CheckFailed

RATE_INTERVAL = "7919s"
"""What stands in for $__rate_interval: nobody writes this prime number of seconds by hand."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: the rule that says so, the place inside the dashboard, a sentence."""

    rule: str
    where: str
    message: str

    def told(self, file: str) -> str:
        """One line: file, place, sentence and, for whoever wants to know why, the rule."""
        place = f"{self.where}: " if self.where else ""
        return f"{file}: {place}{self.message} ({self.rule})"


@dataclass(frozen=True, slots=True)
class Target:
    """One query of a panel or an annotation."""

    ref: str
    expr: str
    legend: str
    kind: str
    source: str


@dataclass(frozen=True, slots=True)
class Link:
    """One link of a panel or of one of its fields."""

    title: str
    url: str


@dataclass(frozen=True, slots=True)
class Place:
    """A place on the grid of 24 columns."""

    x: int
    y: int
    w: int
    h: int


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel or heading. `units` and `steps` are those of the panel and of each column that has its own.

    `raw` is the JSON, for what only one check asks about.
    """

    id: int
    kind: str
    title: str
    description: str
    source: str
    targets: tuple[Target, ...]
    units: tuple[str, ...]
    steps: tuple[tuple[Any, ...], ...]
    links: tuple[Link, ...]
    place: Place | None
    raw: dict[str, Any]

    @property
    def where(self) -> str:
        """How a sentence calls it."""
        return f"panel {self.title!r}" if self.title else f"panel {self.id}"


@dataclass(frozen=True, slots=True)
class Variable:
    """One choice at the top of a dashboard."""

    name: str
    label: str
    kind: str
    query: str
    source: str
    multi: bool
    all_value: str
    refresh: int

    @property
    def where(self) -> str:
        """How a sentence calls it."""
        return f"variable {self.name!r}"


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One dashboard; `panels` are all of them, those inside collapsed rows as well."""

    title: str
    uid: str
    panels: tuple[Panel, ...]
    variables: tuple[Variable, ...]
    annotations: tuple[dict[str, Any], ...]
    raw: dict[str, Any]

    @property
    def with_queries(self) -> list[Panel]:
        """All panels that are no headings."""
        return [panel for panel in self.panels if panel.kind != "row"]

    @property
    def kind_of_source(self) -> str:
        """What the first data source that can be chosen is: prometheus, loki; empty where none can be chosen."""
        return next((variable.query for variable in self.variables if variable.kind == "datasource"), "")


def load(text: str, file: str) -> Dashboard:
    """The dashboard in `text`; raises CheckFailed naming `file`, and the line where there is one, for what is none."""
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise CheckFailed(f"{file}:{getattr(error, 'lineno', 1)}: not valid JSON: {error}") from None
    if not isinstance(raw, dict):
        raise CheckFailed(f"{file}:1: a dashboard is a JSON object")
    if not isinstance(raw.get("panels"), list):
        raise CheckFailed(f"{file}:1: a dashboard has a list of panels")
    return Dashboard(
        title=_text(raw, "title"),
        uid=_text(raw, "uid"),
        panels=tuple(_panels(raw)),
        variables=tuple(_variable(item) for item in _dicts(_dict(raw, "templating"), "list")),
        annotations=tuple(_dicts(_dict(raw, "annotations"), "list")),
        raw=raw,
    )


def _panels(raw: dict[str, Any]) -> Iterator[Panel]:
    for item in _dicts(raw, "panels"):
        yield _panel(item)
        yield from _panels(item)


def _panel(raw: dict[str, Any]) -> Panel:
    field_config = _dict(raw, "fieldConfig")
    defaults = _dict(field_config, "defaults")
    own = [one for override in _dicts(field_config, "overrides") for one in _dicts(override, "properties")]
    links = _dicts(raw, "links") + _dicts(defaults, "links")
    links += [link for one in own if one.get("id") == "links" for link in _dicts(one, "value")]
    grid = _dict(raw, "gridPos")
    numbers = [number for side in "xywh" if isinstance(number := grid.get(side), int)]
    return Panel(
        id=_number(raw, "id"),
        kind=_text(raw, "type"),
        title=_text(raw, "title"),
        description=_text(raw, "description"),
        source=_source(raw)[1],
        targets=tuple(target(item) for item in _dicts(raw, "targets")),
        units=(_text(defaults, "unit"), *(str(one.get("value")) for one in own if one.get("id") == "unit")),
        steps=tuple(
            tuple(step.get("value") for step in _dicts(thresholds, "steps"))
            for thresholds in [
                _dict(defaults, "thresholds"),
                *(_dict(one, "value") for one in own if one.get("id") == "thresholds"),
            ]
        ),
        links=tuple(Link(_text(link, "title"), _text(link, "url")) for link in links),
        place=Place(*numbers) if len(numbers) == 4 else None,
        raw=raw,
    )


def target(raw: dict[str, Any]) -> Target:
    """One query as JSON -> what the checks ask of it."""
    kind, source = _source(raw)
    return Target(_text(raw, "refId"), _text(raw, "expr"), _text(raw, "legendFormat"), kind, source)


def _variable(raw: dict[str, Any]) -> Variable:
    query = raw.get("query")
    return Variable(
        name=_text(raw, "name"),
        label=_text(raw, "label"),
        kind=_text(raw, "type"),
        query=_text(query, "query") if isinstance(query, dict) else _text(raw, "query"),
        source=_source(raw)[1],
        multi=raw.get("multi") is True,
        all_value=_text(raw, "allValue"),
        refresh=_number(raw, "refresh"),
    )


def _source(raw: dict[str, Any]) -> tuple[str, str]:
    """Type and uid of the data source; an old dashboard gives the uid alone."""
    source = raw.get("datasource")
    return (_text(source, "type"), _text(source, "uid")) if isinstance(source, dict) else ("", _text(raw, "datasource"))


def _dict(raw: dict[str, Any], key: str) -> dict[str, Any]:
    value = raw.get(key)
    return value if isinstance(value, dict) else {}


def _dicts(raw: dict[str, Any], key: str) -> list[dict[str, Any]]:
    value = raw.get(key)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _text(raw: dict[str, Any], key: str) -> str:
    value = raw.get(key)
    return value if isinstance(value, str) else ""


def _number(raw: dict[str, Any], key: str) -> int:
    value = raw.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def readable(expr: str) -> str:
    """The expression as PromQL: the built-ins have stand-ins, other variables stay, as they do inside quotes."""
    for name in sorted(promql.GRAFANA_BUILTINS, key=len, reverse=True):
        own = RATE_INTERVAL if name == "__rate_interval" else promql.without_grafana_variables(f"${name}")
        expr = expr.replace(f"${{{name}}}", own).replace(f"${name}", own)
    return expr


@lru_cache(maxsize=2048)
def selectors(expr: str) -> tuple[promql.Selector, ...]:
    """Every selector of a query with the variables as written; none where the query is no PromQL."""
    try:
        return tuple(promql.selectors(readable(expr)))
    except CheckFailed:
        return ()


def rate_windows(expr: str) -> Iterator[str]:
    """The windows of all rate() and irate() of a query as they are written, `$__rate_interval` for Grafana's own."""
    try:
        tree = promql.parse(readable(expr), "")
    except CheckFailed:
        return
    for call in _calls(tree):
        for argument in call.args:
            if call.func.name in ("rate", "irate") and isinstance(argument, promql_parser.MatrixSelector):
                seconds = argument.range.total_seconds()
                yield "$__rate_interval" if f"{seconds:g}s" == RATE_INTERVAL else f"{seconds:g}s"


def _calls(node: Any) -> Iterator[Any]:
    if isinstance(node, promql_parser.Call):
        yield node
        for argument in node.args:
            yield from _calls(argument)
        return
    for name in ("lhs", "rhs", "expr", "param"):
        inner = getattr(node, name, None)
        if inner is not None:
            yield from _calls(inner)
