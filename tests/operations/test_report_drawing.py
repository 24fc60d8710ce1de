"""Plots whatever the numbers: well-formed, finite, inside the picture, with gaps where there was no sample."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as some

from herdwatch.operations.report import drawing
from herdwatch.operations.report.asked import POINTS, Asked
from herdwatch.operations.report.drawing import Band, Line, Mark, Plot, svg
from herdwatch.operations.report.words import percent, relative, safe, si

HOSTILE = "</svg><script>alert(1)</script>'\"&]]>\x00\x1b\ud800\uffff"
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
VALUES = (
    some.none() | some.floats(allow_nan=False, allow_infinity=False) | some.sampled_from([0.0, 1.0, 5e-324, 1.7e308])
)
TIMES = some.floats(min_value=-1e12, max_value=1e12)


@some.composite
def plots(draw: some.DrawFn) -> tuple[Plot, Asked]:
    since = draw(some.integers(0, 4_000_000_000))
    asked = Asked(since, since + draw(some.integers(1, 7 * 86_400)), interval=draw(some.sampled_from([5, 7.5, 60])))
    curves = draw(some.lists(some.lists(VALUES, max_size=40), min_size=1, max_size=3))
    texts = some.text(max_size=20) | some.just(HOSTILE)
    lines = [Line(draw(texts), tuple(curve)) for curve in curves]
    edges = [sorted((draw(TIMES), draw(TIMES))) for _ in range(draw(some.integers(0, 3)))]
    bands = [Band(start, end, draw(texts), draw(texts)) for start, end in edges]
    marks = [Mark(draw(TIMES), draw(texts)) for _ in range(draw(some.integers(0, 3)))]
    return Plot(draw(texts), lines, draw(some.booleans()), bands, marks), asked


@given(plots())
def test_a_plot_is_well_formed_and_all_of_it_lies_in_the_picture(made: tuple[Plot, Asked]) -> None:
    plot, asked = made
    root = ElementTree.fromstring(svg(plot, asked, "p"))  # noqa: S314 - it is our own
    assert root.find("title") is not None
    assert root.find("desc") is not None
    inner = root.find("svg")
    assert inner is not None
    for shape in inner:
        if shape.tag == "rect":
            x, wide = float(shape.attrib["x"]), float(shape.attrib["width"])
            assert 0 <= x < x + wide <= drawing.WIDTH + 0.001
        else:
            _inside(shape.attrib["d"])
    assert len(inner.findall("path[@class]")) >= len(plot.lines)
    assert {child.tag for child in root.iter()} <= {"svg", "title", "desc", "rect", "path", "text"}
    for text in root.findall("text"):
        share = float(text.attrib["x"].rstrip("%"))
        assert 0 <= share <= 100
        assert 0 <= float(text.attrib["y"]) <= drawing.TOP + drawing.TALL + drawing.BELOW


def _inside(path: str) -> None:
    assert re.fullmatch(r"(?:M[\d.]+ [\d.]+|H[\d.]+|V[\d.]+)*", path), path
    for command, first, second in re.findall(r"([MHV])([\d.]+)(?: ([\d.]+))?", path):
        assert math.isfinite(float(first))
        assert 0 <= float(first) <= (drawing.HEIGHT if command == "V" else drawing.WIDTH)
        assert command != "M" or 0 <= float(second) <= drawing.HEIGHT


@given(some.integers(1, 7 * 86_400), some.sampled_from([5.0, 7.5, 15.0, 60.0]))
def test_a_curve_has_a_thousand_points_at_most_and_none_closer_than_two_scrapes(seconds: int, interval: float) -> None:
    asked = Asked(1_000, 1_000 + seconds, interval=interval)
    assert asked.step >= interval
    assert 1 <= len(asked.grid) <= POINTS + 1
    assert asked.grid[0] == asked.since
    assert asked.until - asked.step < asked.grid[-1] <= asked.until


def path(*values: float | None, ratio: bool = True) -> str:
    asked = Asked(0, 100, interval=10)
    root = ElementTree.fromstring(svg(Plot("x", [Line("a", values)], ratio), asked, "p"))  # noqa: S314 - our own
    line = root.find("svg/path[@class='line c0']")
    assert line is not None
    return line.attrib["d"]


@pytest.mark.parametrize(
    ("values", "drawn"),
    [
        ((1.0, 1.0, 0.5), "M0 0H200V50H300"),
        ((1.0, None, 0.5), "M0 0H100M200 50H300"),
        ((None, None, None), ""),
        ((), ""),
        ((None, 0.25), "M100 75H200"),
        ((0.5, 0.5, 0.5, 0.5), "M0 50H400"),
        ((0.0,) * 11, "M0 100H1000"),
        ((2.0, -1.0), "M0 0H100V100H200"),
    ],
)
def test_a_line_has_steps_where_it_changes_and_a_gap_where_there_was_no_sample(
    values: tuple[float | None, ...], drawn: str
) -> None:
    assert path(*values) == drawn


@pytest.mark.parametrize(
    ("most", "levels"),
    [
        (200_000, ["0", "50k", "100k", "150k", "200k"]),
        (900, ["0", "250", "500", "750", "1k"]),
        (0.07, ["0", "0.02", "0.04", "0.06", "0.08"]),
        (1, ["0", "0.25", "0.5", "0.75", "1"]),
        (0, ["0", "0.5", "1"]),
    ],
)
def test_the_levels_are_round_numbers_up_to_the_largest_value(most: float, levels: list[str]) -> None:
    plot = Plot("x", [Line("a", (0.0, most, None))])
    root = ElementTree.fromstring(svg(plot, Asked(0, 100), "p"))  # noqa: S314 - it is our own
    assert [one.text for one in root.findall("text[@class='level']")] == levels


@pytest.mark.parametrize(
    ("since", "seconds", "times"),
    [
        (36_000, 3_600, ["10:00", "10:15", "10:30", "10:45", "11:00"]),
        (36_007, 60, ["10:00:15", "10:00:30", "10:00:45", "10:01:00"]),
        (36_000, 3 * 86_400, ["01-02", "01-03", "01-04"]),
    ],
)
def test_the_axis_of_time_has_a_few_round_times(since: int, seconds: int, times: list[str]) -> None:
    root = ElementTree.fromstring(svg(Plot("x", []), Asked(since, since + seconds), "p"))  # noqa: S314 - it is our own
    assert [one.text for one in root.findall("text[@class='time']")] == times


def test_what_is_drawn_is_told_in_words_too() -> None:
    lines = [Line("hit ratio", (0.95, None, 0.1, 0.9)), Line("limit", (None,))]
    plot = Plot("Hit ratio", lines, True, [Band(10, 20, "critical", "CacheDown fired")], [Mark(10, "a new process")])
    root = ElementTree.fromstring(svg(plot, Asked(0, 60), "p"))  # noqa: S314 - it is our own
    assert root.findtext("title") == "Hit ratio"
    assert root.findtext("desc") == (
        "hit ratio: from 10 % to 95 %, 90 % at the end. Behind the lines: CacheDown fired, a new process."
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((0, "0"), (0.0004, "0"), (-0.0001, "0"), (0.05, "0.05"), (0.999, "1"), (1, "1"), (12.34, "12.3")),
        *((99.97, "100"), (999.4, "999"), (999.6, "1k"), (1_234, "1.23k"), (200_000, "200k"), (999_950, "1M")),
        *((3.2e6, "3.2M"), (7e9, "7G"), (2e12, "2T"), (None, "-"), (math.nan, "-"), (math.inf, "-"), (-1500, "-1.5k")),
    ],
)
def test_numbers_have_three_digits_and_a_prefix(value: float | None, text: str) -> None:
    assert si(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.9421, "94.2 %"), (0, "0 %"), (1, "100 %"), (0.0012, "0.12 %"), (None, "-"), (math.nan, "-")]
)
def test_ratios_are_in_percent(value: float | None, text: str) -> None:
    assert percent(value) == text


@pytest.mark.parametrize(("seconds", "text"), [(0, "+0s"), (65.4, "+1m 5s"), (-30, "-30s"), (-0.4, "+0s")])
def test_distances_in_time_carry_their_sign(seconds: float, text: str) -> None:
    assert relative(seconds) == text


@given(some.text())
def test_any_text_is_safe_in_an_element_and_in_an_attribute(text: str) -> None:
    root = ElementTree.fromstring(f'<a b="{safe(text)}">{safe(text)}</a>')  # noqa: S314 - it is our own
    assert len(root) == 0
    assert set(root.attrib) == {"b"}
