"""How a broken description of a dashboard is explained: with its file, row and panel, in one sentence."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from herdwatch.bundle.dashboards.grafana import build
from herdwatch.errors import CheckFailed, HerdwatchError, UsageError

PANEL = {
    "title": "P",
    "kind": "stat",
    "description": "d",
    "unit": "s",
    "runbook": "CacheDown",
    "size": {"width": 4, "height": 4},
    "queries": [{"expr": "x", "legend": "l"}],
}


def description(**change: Any) -> str:
    """A dashboard of one panel, with that panel's keys changed; None takes a key away."""
    panel = {key: value for key, value in {**PANEL, **change}.items() if value is not None}
    whole = {"title": "T", "uid": "u", "description": "d", "tags": [], "refresh": "10s", "since": "now-1h"}
    return yaml.safe_dump(whole | {"variables": [], "annotations": [], "rows": [{"title": "R", "panels": [panel]}]})


def test_the_small_description_itself_is_right() -> None:
    assert build(description(), "f.yml", runbook_base_url=None)


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("a: [", UsageError, "f.yml: line 1 once rendered: not valid YAML"),
        ("\0", UsageError, "f.yml: not valid YAML"),
        ("- 1", UsageError, "f.yml: a dashboard is a mapping .*, not list"),
        ("title: T", UsageError, "f.yml: uid: Field required"),
        (description(unit="seconds"), UsageError, "f.yml: row 'R', panel 'P', unit: .*'dtdurations'"),
        (description(unit=None), UsageError, "f.yml: row 'R', panel 'P', unit: Field required"),
        (description(description=None), UsageError, "panel 'P', description: Field required"),
        (description(kind="pie"), UsageError, "panel 'P', kind: .*'timeseries'"),
        (description(colour="red"), UsageError, "panel 'P', colour: Extra inputs"),
        (description(queries=[]), UsageError, "panel 'P', queries: .* at least 1"),
        (description(queries=[{"expr": "x"}]), UsageError, r"panel 'P', queries\[0\], legend: Field required"),
        (description(size={"width": 25, "height": 4}), UsageError, "panel 'P', size, width: .* 24"),
        (description(runbook="Cache Down"), UsageError, "panel 'P', runbook: "),
        (description(thresholds=[{"color": "green", "at": "soon"}]), UsageError, r"thresholds\[0\], at: 'soon' is nei"),
        (description(thresholds=[{"color": "red", "at": 1}]), UsageError, "thresholds: the first step has no `at`"),
        (
            description(thresholds=[{"color": "red"}, {"color": "blue"}]),
            UsageError,
            "thresholds: .* all others have one",
        ),
        (
            description(thresholds=[{"color": "red"}, {"color": "blue", "at": 2}, {"color": "red", "at": "1s"}]),
            UsageError,
            "panel 'P', thresholds: the steps rise, and these do not: 2, 1",
        ),
        (description(sort="Keys"), UsageError, "panel 'P': no column is called 'Keys'; there is: l"),
        (description(thresholds=[{"color": "mauve"}]), UsageError, r"thresholds\[0\], color: "),
        (description(title=None), UsageError, r"row 'R', panels\[0\], title: Field required"),
        (
            description(queries=[{"expr": "rate(x)", "legend": "l"}]),
            CheckFailed,
            "f.yml: row 'R', panel 'P': not valid PromQL: expected type matrix",
        ),
        (
            description(queries=[{"expr": 'x{cache=~"$cahce"}', "legend": "l"}]),
            CheckFailed,
            r"f.yml: row 'R', panel 'P': there is no variable \$cahce",
        ),
    ],
)
def test_a_broken_description_is_explained_with_its_file_and_panel(
    text: str, kind: type[HerdwatchError], message: str
) -> None:
    with pytest.raises(kind, match=message) as caught:
        build(text, "f.yml", runbook_base_url=None)
    assert str(caught.value).startswith("f.yml: ")
    assert "\n" not in str(caught.value)


def built(**change: Any) -> dict[str, Any]:
    [panel] = [
        one
        for one in json.loads(build(description(**change), "f.yml", runbook_base_url=None))["panels"]
        if one["type"] != "row"
    ]
    assert isinstance(panel, dict)
    return panel


def test_a_table_of_one_column_calls_its_value_by_the_heading() -> None:
    table = built(kind="table", columns={"cache": "Cache"})
    shown = next(one["options"] for one in table["transformations"] if one["id"] == "organize")
    assert shown["renameByName"] == {"cache": "Cache", "Value": "l"}


def test_a_table_without_columns_shows_labels_alone() -> None:
    [shown] = [one["options"] for one in built(kind="table")["transformations"]]
    assert shown["excludeByName"] == {"Time": True, "Value": True}
