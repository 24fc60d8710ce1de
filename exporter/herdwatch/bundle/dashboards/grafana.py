"""A dashboard's description -> the JSON that Grafana reads (classic schema, version 42)."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from typing import Any, TypeVar

from herdwatch.bundle.dashboards.description import COLUMNS, Annotation, Description, Panel, Row, Step, Variable, read

with warnings.catch_warnings():
    # The SDK prefers its v2 schema and warns while it is imported; file provisioning refuses bare v2.
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.builders import common as common_builders
    from grafana_foundation_sdk.builders import dashboard as dashboard_builders
    from grafana_foundation_sdk.builders import prometheus, stat, table, timeseries
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models import common, dashboard
    from grafana_foundation_sdk.models.prometheus import PromQueryFormat

FAMILY_TAG = "herdwatch"
"""Dashboards with this tag lead to one another."""

_DATASOURCE = common.DataSourceRef(type_val="prometheus", uid="${datasource}")
_ALERT_COLOURS = {
    "severity": {"critical": "red", "warning": "orange", "info": "blue"},
    "alertstate": {"firing": "red", "pending": "yellow"},
}
_AnyPanel = TypeVar("_AnyPanel", stat.Panel, timeseries.Panel, table.Panel)


def build(text: str, source: str, *, runbook_base_url: str | None) -> str:
    """The Grafana JSON of the description in `text`, a rendered template; `source` is what errors call it.

    The same text gives the same bytes: keys sorted, indented by 2, `id` null, no version and no date. With
    `runbook_base_url` every panel links to the page of its alert. Raises UsageError and CheckFailed as
    `description.read` does.
    """
    built = _dashboard(read(text, source), runbook_base_url)
    document = json.loads(json.dumps(built, cls=JSONEncoder))
    _out_of_the_menu(document)
    document["id"] = None
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def _dashboard(description: Description, runbook_base_url: str | None) -> dashboard.Dashboard:
    builder = dashboard_builders.Dashboard(description.title).uid(description.uid).description(description.description)
    builder.tags(description.tags).refresh(description.refresh).time(description.since, "now").readonly()
    builder.tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
    others = dashboard_builders.DashboardLink("herdwatch").type(dashboard.DashboardLinkType.DASHBOARDS)
    builder.link(others.tags([FAMILY_TAG]).include_vars(True).keep_time(True))
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
        built = _table(_common(table.Panel(), panel, runbook_base_url), panel)
        return _alerts(built, runbook_base_url) if panel.alerts else built
    return _timeseries(_common(timeseries.Panel(), panel, runbook_base_url), panel)


def _common(builder: _AnyPanel, panel: Panel, runbook_base_url: str | None) -> _AnyPanel:
    builder.title(panel.title).description(panel.description).unit(panel.unit).datasource(_DATASOURCE)
    builder.thresholds(
        dashboard_builders.ThresholdsConfig()
        .mode(dashboard.ThresholdsMode.ABSOLUTE)
        .steps([dashboard.Threshold(value=step.at, color=step.color) for step in _steps(panel.thresholds)])
    )
    if panel.min is not None:
        builder.min(panel.min)
    if panel.max is not None:
        builder.max(panel.max)
    if runbook_base_url is not None:
        page = f"{runbook_base_url}/{panel.runbook}"
        # Not with the chosen cache: where all are chosen that is a pattern, and no page knows a cache of that name.
        builder.links([_link(f"Runbook: {panel.runbook}", page)])
        if panel.kind != "table" and all("{{cache}}" in query.legend for query in panel.queries):
            of_the_series = f"{page}?cache=${{__field.labels.cache}}"
            builder.data_links([_link(f"Runbook: {panel.runbook} of this cache", of_the_series)])
    return builder


def _link(title: str, url: str) -> dashboard_builders.DashboardLink:
    link = dashboard_builders.DashboardLink(title).type(dashboard.DashboardLinkType.LINK)
    return link.url(url).target_blank(True)


def _steps(steps: list[Step]) -> list[Step]:
    return steps or [Step(color="blue")]


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
    if panel.columns:
        return _columns(builder, panel)
    # A table without columns is for labels: the value of such a series is always 1.
    hidden = {"excludeByName": {"Time": True, "Value": True}, "indexByName": {}, "renameByName": {}}
    return builder.with_transformation(dashboard.DataTransformerConfig(id_val="organize", options=hidden))


def _alerts(builder: table.Panel, runbook_base_url: str | None) -> table.Panel:
    """From the name of an alert to its page, about the cache of its row; what is grave is red, what waits is yellow."""
    for column, colours in _ALERT_COLOURS.items():
        options = {value: {"color": color, "index": place} for place, (value, color) in enumerate(colours.items())}
        builder.override_by_name(
            column,
            [
                dashboard.DynamicConfigValue(id_val="mappings", value=[{"type": "value", "options": options}]),
                dashboard.DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-text"}),
            ],
        )
    if runbook_base_url is not None:
        url = f"{runbook_base_url}/${{__data.fields.alertname}}?cache=${{__data.fields.cache}}"
        opens = [{"title": "Runbook of this alert", "url": url, "targetBlank": True}]
        builder.override_by_name("alertname", [dashboard.DynamicConfigValue(id_val="links", value=opens)])
    return builder


def _columns(builder: table.Panel, panel: Panel) -> table.Panel:
    """One row for each set of labels, one column for each query: Grafana calls those `Value #A` and so on."""
    values = {f"Value #{chr(ord('A') + number)}": query.legend for number, query in enumerate(panel.queries)}
    names = {**panel.columns, **(values if len(values) > 1 else {"Value": panel.queries[0].legend})}
    order = {name: number for number, name in enumerate(names)}
    shown = {"excludeByName": {"Time": True}, "indexByName": order, "renameByName": names}
    builder.with_transformation(dashboard.DataTransformerConfig(id_val="merge", options={}))
    builder.with_transformation(dashboard.DataTransformerConfig(id_val="organize", options=shown))
    if panel.sort is not None:
        by = {"fields": {}, "sort": [{"field": panel.sort, "desc": False}]}
        builder.with_transformation(dashboard.DataTransformerConfig(id_val="sortBy", options=by))
    for query in panel.queries:
        builder.override_by_name(query.legend, _column(query.unit or panel.unit, query.thresholds))
    if panel.opens is not None:
        url = f"/d/{panel.opens}?var-datasource=${{datasource}}&var-cache=${{__value.raw}}&${{__url_time_range}}"
        opens = [{"title": "Open this cache", "url": url, "targetBlank": False}]
        builder.override_by_name(panel.columns["cache"], [dashboard.DynamicConfigValue(id_val="links", value=opens)])
    return builder


def _column(unit: str, steps: list[Step]) -> list[dashboard.DynamicConfigValue]:
    properties = [dashboard.DynamicConfigValue(id_val="unit", value=unit)]
    if steps:
        colours = [{"value": step.at, "color": step.color} for step in steps]
        thresholds = {"mode": "absolute", "steps": colours}
        properties.append(dashboard.DynamicConfigValue(id_val="thresholds", value=thresholds))
        cell = {"type": "color-background", "mode": "basic"}
        properties.append(dashboard.DynamicConfigValue(id_val="custom.cellOptions", value=cell))
    return properties


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
    own = [
        link
        for panel in document["panels"]
        for link in panel.get("fieldConfig", {}).get("defaults", {}).get("links", [])
    ]
    for item in document["annotations"].get("list", []) + document["links"] + linked + own:
        item.pop("placement", None)
