"""What people write: one dashboard as its template describes it, read and validated."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args

import promql_parser
import yaml
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from herdwatch.bundle import promql
from herdwatch.config import Section
from herdwatch.errors import CheckFailed, UsageError

COLUMNS = 24
Unit = Literal[
    "none", "short", "percentunit", "reqps", "ops", "s", "dtdurations", "bytes", "bool", "bool_yes_no", "bool_on_off"
]
"""Ids from Grafana's own list of value formats; it shows an unknown id as a suffix and says nothing."""
UNITS = frozenset(get_args(Unit))


def _number(value: Any) -> Any:
    """A number, also from text such as 1e-05, which YAML takes for text; a PromQL duration such as 5m in seconds."""
    if not isinstance(value, str):
        return value
    try:
        return promql_parser.parse_duration(value).total_seconds() if value[-1:].isalpha() else float(value)
    except ValueError:
        raise ValueError(f"{value!r} is neither a number nor a duration such as 5m") from None


Text = Annotated[str, Field(min_length=1)]
Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]


class Step(Section):
    """A colour that holds from the value `at` upwards; the first step has no `at` and holds from below."""

    color: Literal["green", "yellow", "orange", "red", "blue", "text", "transparent"]
    at: Number | None = None


def _rising(steps: list[Step]) -> list[Step]:
    for number, step in enumerate(steps):
        if (step.at is None) is not (number == 0):
            raise ValueError("the first step has no `at`, all others have one")
    values = [step.at for step in steps if step.at is not None]
    if values != sorted(set(values)):
        raise ValueError(f"the steps rise, and these do not: {', '.join(f'{value:g}' for value in values)}")
    return steps


Steps = Annotated[list[Step], AfterValidator(_rising)]


class Query(Section):
    """One PromQL query and the name of its series; `{{label}}` in the legend is Grafana's.

    In a table of values each query is a column: `legend` is its heading, `unit` and `thresholds` are its own.
    """

    expr: Text
    legend: Text
    unit: Unit | None = None
    thresholds: Steps = Field(default_factory=list)


class Size(Section):
    """Width in columns of the 24, height in Grafana's rows of about 30 pixels."""

    width: Annotated[int, Field(ge=1, le=COLUMNS)]
    height: Annotated[int, Field(ge=2, le=30)]


class Panel(Section):
    """One panel. `runbook` names the alert whose page helps; `no_value` is what a stat shows without data.

    A table shows labels; with `columns`, its labels by their headings, it shows a row for each set of them and a
    column of values for each query, sorted by the column `sort`, the smallest first. `opens` is the uid of the
    dashboard to which the name of a cache leads. With `alerts` the name of an alert leads to its page.
    """

    title: Text
    kind: Literal["stat", "timeseries", "table"]
    description: Text
    unit: Unit
    runbook: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9]*$")]
    size: Size
    queries: Annotated[list[Query], Field(min_length=1, max_length=26)]
    thresholds: Steps = Field(default_factory=list)
    no_value: Text | None = None
    min: Number | None = None
    max: Number | None = None
    stack: bool = False
    columns: dict[str, Text] = Field(default_factory=dict)
    sort: Text | None = None
    opens: Text | None = None
    alerts: bool = False

    @model_validator(mode="after")
    def _sorts_by_a_column(self) -> Panel:
        headings = [query.legend for query in self.queries]
        if self.sort is not None and self.sort not in headings:
            raise ValueError(f"no column is called {self.sort!r}; there is: {', '.join(headings)}")
        return self


class Row(Section):
    """A heading and the panels under it, left to right; a panel that does not fit begins the next line."""

    title: Text
    panels: Annotated[list[Panel], Field(min_length=1)]


class Variable(Section):
    """A choice at the top of the dashboard: the values that the label `name` has on `series`."""

    name: Annotated[str, Field(pattern=r"^[a-z_]+$")]
    label: Text
    series: Text


class Annotation(Section):
    """Marks in every graph: each value of `expr` is the time of one, in Unix milliseconds."""

    name: Text
    color: Text
    expr: Text
    text: Text
    tags: list[str]


class Description(Section):
    """One dashboard as its template describes it."""

    title: Text
    uid: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")]
    description: Text
    tags: list[str]
    refresh: Text
    since: Text
    variables: list[Variable]
    annotations: list[Annotation]
    rows: Annotated[list[Row], Field(min_length=1)]


def read(text: str, source: str) -> Description:
    """The description in `text`, a rendered template; `source` is what errors call it.

    Raises UsageError where it is not as the models of this module say, CheckFailed where a query is no PromQL or uses a
    variable that does not exist.
    """
    description = _validated(text, source)
    _check(description, source)
    return description


def _validated(text: str, source: str) -> Description:
    try:
        data = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1} once rendered: " if error.problem_mark else ""
        raise UsageError(f"{source}: {line}not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{source}: not valid YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(data, dict):
        raise UsageError(f"{source}: a dashboard is a mapping of title, rows and so on, not {type(data).__name__}")
    try:
        return Description.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        message = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"{source}: {_place(data, first['loc'])}: {message}") from None


def _place(data: Any, location: tuple[int | str, ...]) -> str:
    """Where in the description an error is, by titles where there are any: row 'Herd', panel 'In flight', unit."""
    parts: list[str] = []
    for key in location:
        try:
            data = data[key]
        except (KeyError, TypeError):  # a key that is missing, or stands where none may
            data = None
        named = data.get("title") or data.get("name") if isinstance(data, dict) else None
        if isinstance(key, str):
            parts.append(key)
        elif named:
            parts[-1] = f"{parts[-1].removesuffix('s')} {named!r}"
        else:
            parts[-1] += f"[{key}]"
    return ", ".join(parts)


def _check(description: Description, source: str) -> None:
    known = {"datasource", *promql.GRAFANA_BUILTINS, *(variable.name for variable in description.variables)}
    for where, expr in _expressions(description):
        promql.parse(promql.without_grafana_variables(expr), f"{source}: {where}")
        unknown = sorted(promql.grafana_variables(expr) - known)
        if unknown:
            known_here = ", ".join(sorted(known))
            raise CheckFailed(f"{source}: {where}: there is no variable ${unknown[0]}; known here: {known_here}")


def _expressions(description: Description) -> Iterator[tuple[str, str]]:
    """Every PromQL of a description with the place where it stands."""
    yield from ((f"variable {variable.name!r}", variable.series) for variable in description.variables)
    yield from ((f"annotation {annotation.name!r}", annotation.expr) for annotation in description.annotations)
    for row in description.rows:
        for panel in row.panels:
            yield from ((f"row {row.title!r}, panel {panel.title!r}", query.expr) for query in panel.queries)
