"""A dashboard's description, which people edit, -> the JSON that Grafana reads (classic schema, version 42)."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeVar, get_args

import promql_parser
import yaml
from pydantic import BeforeValidator, Field, ValidationError

from herdwatch.bundle import promql
from herdwatch.config import Section
from herdwatch.errors import CheckFailed, UsageError

with warnings.catch_warnings():
    # The SDK prefers its v2 schema and warns while it is imported; file provisioning refuses bare v2.
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.builders import common as common_builders
    from grafana_foundation_sdk.builders import dashboard as dashboard_builders
    from grafana_foundation_sdk.builders import prometheus, stat, table, timeseries
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models import common, dashboard
    from grafana_foundation_sdk.models.prometheus import PromQueryFormat

COLUMNS = 24
Unit = Literal[
    "none", "short", "percentunit", "reqps", "ops", "s", "dtdurations", "bytes", "bool", "bool_yes_no", "bool_on_off"
]
"""Ids from Grafana's own list of value formats; it shows an unknown id as a suffix and says nothing."""
UNITS = frozenset(get_args(Unit))

_DATASOURCE = common.DataSourceRef(type_val="prometheus", uid="${datasource}")
_AnyPanel = TypeVar("_AnyPanel", stat.Panel, timeseries.Panel, table.Panel)


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


class Query(Section):
    """One PromQL query and the name of its series; `{{label}}` in the legend is Grafana's."""

    expr: Text
    legend: Text


class Step(Section):
    """A colour that holds from the value `at` upwards; the first step has no `at` and holds from below."""

    color: Literal["green", "yellow", "orange", "red", "blue", "text", "transparent"]
    at: Number | None = None


class Size(Section):
    """Width in columns of the 24, height in Grafana's rows of about 30 pixels."""

    width: Annotated[int, Field(ge=1, le=COLUMNS)]
    height: Annotated[int, Field(ge=2, le=30)]


class Panel(Section):
    """One panel. `runbook` names the alert whose page helps; `no_value` is what a stat shows without data."""

    title: Text
    kind: Literal["stat", "timeseries", "table"]
    description: Text
    unit: Unit
    runbook: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9]*$")]
    size: Size
    queries: Annotated[list[Query], Field(min_length=1, max_length=26)]
    thresholds: list[Step] = Field(default_factory=list)
    no_value: Text | None = None
    min: Number | None = None
    max: Number | None = None
    stack: bool = False


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


def build(text: str, source: str, *, runbook_base_url: str | None) -> str:
    """The Grafana JSON of the description in `text`, a rendered template; `source` is what errors call it.

    The same text gives the same bytes: keys sorted, indented by 2, `id` null, no version and no date. With
    `runbook_base_url` every panel links to the page of its alert. Raises UsageError where the description is not as
    the models of this module say, CheckFailed where a query is no PromQL or uses a variable that does not exist.
    """
    description = _read(text, source)
    _check(description, source)
    built = _dashboard(description, runbook_base_url)
    document = json.loads(json.dumps(built, cls=JSONEncoder))
    _out_of_the_menu(document)
    document["id"] = None
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def _read(text: str, source: str) -> Description:
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


def _dashboard(description: Description, runbook_base_url: str | None) -> dashboard.Dashboard:
    builder = dashboard_builders.Dashboard(description.title).uid(description.uid).description(description.description)
    builder.tags(description.tags).refresh(description.refresh).time(description.since, "now").readonly()
    builder.tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
    builder.with_variable(dashboard_builders.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    for variable in description.variables:
        builder.with_variable(_variable(variable))
    for annotation in description.annotations:
        builder.annotation(_annotation(annotation))
    for number, (item, place) in enumerate(_laid_out(description.rows), start=1):
        if isinstance(item, Row):
            builder.with_row(dashboard_builders.Row(item.title).id(number).grid_pos(place))
        else:
            builder.with_panel(_panel(item, runbook_base_url).id(number).grid_pos(place))
    return builder.build()


def _laid_out(rows: list[Row]) -> Iterator[tuple[Row | Panel, dashboard.GridPos]]:
    """Headings and panels in reading order, each with its place on the grid."""
    top = 0
    for row in rows:
        yield row, dashboard.GridPos(x=0, y=top, w=COLUMNS, h=1)
        left, top, tallest = 0, top + 1, 0
        for panel in row.panels:
            if left + panel.size.width > COLUMNS:
                left, top, tallest = 0, top + tallest, 0
            yield panel, dashboard.GridPos(x=left, y=top, w=panel.size.width, h=panel.size.height)
            left, tallest = left + panel.size.width, max(tallest, panel.size.height)
        top += tallest


def _variable(variable: Variable) -> dashboard_builders.QueryVariable:
    query = f"label_values({variable.series}, {variable.name})"
    builder = dashboard_builders.QueryVariable(variable.name).label(variable.label).datasource(_DATASOURCE)
    builder.query(query).definition(query).sort(dashboard.VariableSort.ALPHABETICAL_ASC)
    # A cache that vanished inside the time range can still be chosen.
    builder.refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
    everything = dashboard.VariableOption(selected=True, text=["All"], value=["$__all"])
    return builder.multi(True).include_all(True).all_value(".+").current(everything)


def _annotation(annotation: Annotation) -> dashboard_builders.AnnotationQuery:
    builder = dashboard_builders.AnnotationQuery().name(annotation.name).datasource(_DATASOURCE)
    builder.enable(True).icon_color(annotation.color).use_value_for_time(True)
    builder.title_format(annotation.name).text_format(annotation.text).tag_keys(",".join(annotation.tags))
    return builder.target(_target(annotation.expr, "{{cache}}", "Anno").range())


def _panel(panel: Panel, runbook_base_url: str | None) -> stat.Panel | timeseries.Panel | table.Panel:
    if panel.kind == "stat":
        return _stat(_common(stat.Panel(), panel, runbook_base_url), panel)
    if panel.kind == "table":
        return _table(_common(table.Panel(), panel, runbook_base_url), panel)
    return _timeseries(_common(timeseries.Panel(), panel, runbook_base_url), panel)


def _common(builder: _AnyPanel, panel: Panel, runbook_base_url: str | None) -> _AnyPanel:
    builder.title(panel.title).description(panel.description).unit(panel.unit).datasource(_DATASOURCE)
    steps = panel.thresholds or [Step(color="blue")]
    builder.thresholds(
        dashboard_builders.ThresholdsConfig()
        .mode(dashboard.ThresholdsMode.ABSOLUTE)
        .steps([dashboard.Threshold(value=step.at, color=step.color) for step in steps])
    )
    if panel.min is not None:
        builder.min(panel.min)
    if panel.max is not None:
        builder.max(panel.max)
    if runbook_base_url is not None:
        link = dashboard_builders.DashboardLink(f"Runbook: {panel.runbook}").type(dashboard.DashboardLinkType.LINK)
        builder.links([link.url(f"{runbook_base_url}/{panel.runbook}?cache=${{cache}}").target_blank(True)])
    return builder


def _stat(builder: stat.Panel, panel: Panel) -> stat.Panel:
    for target in _targets(panel):
        # The last value of a range would go on showing what a dead exporter said an hour ago.
        builder.with_target(target.instant())
    builder.reduce_options(common_builders.ReduceDataOptions().values(False).calcs(["lastNotNull"]).fields(""))
    builder.graph_mode(common.BigValueGraphMode.NONE).color_mode(common.BigValueColorMode.BACKGROUND)
    return builder.no_value(panel.no_value) if panel.no_value is not None else builder


def _table(builder: table.Panel, panel: Panel) -> table.Panel:
    for target in _targets(panel):
        builder.with_target(target.instant().format(PromQueryFormat.TABLE))
    # A table is for labels: the value of such a series is always 1.
    hidden = {"excludeByName": {"Time": True, "Value": True}, "indexByName": {}, "renameByName": {}}
    return builder.with_transformation(dashboard.DataTransformerConfig(id_val="organize", options=hidden))


def _timeseries(builder: timeseries.Panel, panel: Panel) -> timeseries.Panel:
    for target in _targets(panel):
        builder.with_target(target.range())
    legend = common_builders.VizLegendOptions().display_mode(common.LegendDisplayMode.LIST).show_legend(True)
    builder.legend(legend.placement(common.LegendPlacement.BOTTOM).calcs([]))
    tooltip = common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI)
    builder.tooltip(tooltip.sort(common.SortOrder.DESCENDING)).line_width(1).axis_soft_min(0)
    if panel.thresholds:
        dashed = common.GraphThresholdsStyleMode.DASHED
        builder.thresholds_style(common_builders.GraphThresholdsStyleConfig().mode(dashed))
    if panel.stack:
        builder.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
        builder.fill_opacity(30)
    return builder


def _targets(panel: Panel) -> Iterator[prometheus.Dataquery]:
    for number, query in enumerate(panel.queries):
        yield _target(query.expr, query.legend, chr(ord("A") + number))


def _target(expr: str, legend: str, ref_id: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(expr).legend_format(legend).ref_id(ref_id).datasource(_DATASOURCE)


def _out_of_the_menu(document: dict[str, Any]) -> None:
    """The SDK puts annotations and links into a drop-down menu and has no way to say no."""
    linked = [link for panel in document["panels"] for link in panel.get("links", [])]
    for item in document["annotations"].get("list", []) + linked:
        item.pop("placement", None)
