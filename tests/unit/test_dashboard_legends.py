"""Which labels of a legend are blank: told where the query surely leaves none of that name, and only there."""

from __future__ import annotations

import pytest

from herdwatch.bundle.dashboards.legends import blank_labels

LEGEND = "{{cache}} {{ service }} {{instance}}"


@pytest.mark.parametrize(
    ("expr", "blank"),
    [
        ("sum by (cache, service) (x)", ["instance"]),
        ("sum(x)", ["cache", "service", "instance"]),
        ("sum without (instance) (x)", []),
        ("x", []),
        ("rate(x[5m])", []),
        ("topk(3, sum by (cache) (x))", ["service", "instance"]),
        ("histogram_quantile(0.9, sum by (cache, service, le) (rate(x[5m])))", ["instance"]),
        ("clamp_max(sum by (cache) (x), 1)", ["service", "instance"]),
        ("time() - max by (cache) (x)", ["service", "instance"]),
        ("-(sum by (cache) (x)) * 2", ["service", "instance"]),
        ("sum by (cache) (x) or sum by (service) (y)", ["instance"]),
        ("sum by (cache) (x) or y", []),
        ("count(x) or vector(0)", ["cache", "service", "instance"]),
        ("sum by (cache) (x) and on (cache) y", ["service", "instance"]),
        ("sum by (cache) (x) / on (cache) group_left (service) y", ["instance"]),
        ("sum by (cache) (x) * on (cache) group_right () sum by (cache, service) (y)", ["instance"]),
        ('count_values by (cache) ("service", x)', []),
        ("cache_service:loads:rate", ["instance"]),
        ("max_over_time(cache:loads:rate[5m])", []),
        ("deriv(cache:loads:rate[5m])", ["service", "instance"]),
        ("herdwatch:capacity", []),
        ("sum by (", []),
    ],
)
def test_a_label_is_blank_where_the_query_surely_leaves_none(expr: str, blank: list[str]) -> None:
    assert blank_labels(LEGEND, expr) == blank


def test_a_legend_without_labels_is_never_blank() -> None:
    assert blank_labels("firing", "count(x)") == []
