"""The plots of a drill's page: who is drawn with whom, on which axis, and whether the lines can be told apart."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from herdwatch.drill.replay import page
from herdwatch.drill.replay.page_plots import MOST, groups
from herdwatch.drill.replay.results import Counted, Curves, Drill, Result
from herdwatch.operations.report.axes import Relative
from herdwatch.operations.report.drawing import Limit, Line, Plot, svg
from herdwatch.operations.report.parts import values
from herdwatch.operations.report.words import latency

HOSTILE = "</svg><script>alert(1)</script>'\"&]]>\x00\ud800"
FIGURE = re.compile(r"<figure>.*?</figure>", re.DOTALL)


def run(name: str, scenario: str = "restart", curves: Curves | None = None, capacity: float = 100.0) -> Result:
    rest = {"p50": None, "p99": None, "p99_before": None, "lowest": None, "recovered": None, "paged": None}
    zero = {"requests": 0, "failed": 0, "shed": 0, "pages": 0, "late": 0.0, "peak": 0.0, "peak_sent": 0.0}
    given = {"rate": 2_000.0, "capacity": capacity, "seconds": 3.0, "alerts": (), "counted": Counted(0, 0, 0)}
    curves = Curves(-1, (5.0, 50.0, 20.0)) if curves is None else curves
    return Result(name=name, scenario=scenario, level="none", about=name, curves=curves, **rest, **zero, **given)  # type: ignore[arg-type]


def html(*results: Result, capacity: float = 100.0) -> str:
    return page.as_html(Drill(1, capacity, 20.0, 20.0, 15, {}, {}, list(results)))


class Figure:
    """One figure of a page, read as XML."""

    def __init__(self, text: str) -> None:
        root = ElementTree.fromstring(text)  # noqa: S314 - it is our own
        picture = root.find("svg[@class='plot']")
        assert picture is not None
        self.title, self.told = picture.findtext("title") or "", picture.findtext("desc") or ""
        labelled = picture.attrib["aria-labelledby"].split()
        assert picture.attrib["role"] == "img"
        assert [one.attrib["id"] for one in (*picture.findall("title"), *picture.findall("desc"))] == labelled
        self.lines = {one.attrib["class"]: one.attrib["d"] for one in picture.findall("svg/path[@d]")}
        self.drawn = [kind for kind in self.lines if kind.startswith("line ")]
        self.keys = ["".join(one.itertext()) for one in root.findall("figcaption/span[@class='key']")]
        self.times = [one.text for one in picture.findall("text[@class='time']")]
        self.limits = [one.text for one in picture.findall("text[@class='limited']")]
        rows = root.findall("details/div/table/tr")
        self.values = [["".join(cell.itertext()) for cell in row] for row in rows]


def figures(text: str) -> list[Figure]:
    return [Figure(one) for one in FIGURE.findall(text)]


def test_the_ladder_of_a_restart_comes_first_and_every_other_scenario_stands_by_itself() -> None:
    results = [run("a", "flush"), run("b"), run("c", "hang"), run("d"), run("e", "flush")]
    made = list(groups(results))
    assert [(one.title, [run.name for run in one.runs]) for one in made] == [
        ("restart", ["b", "d"]),
        ("flush", ["a", "e"]),
        ("hang", ["c"]),
    ]
    text = html(*results)
    assert re.findall(r"<h3 id=\"group-\d\">(.*?)</h3>", text) == [
        "Scenario restart",
        "Scenario flush",
        "Scenario hang",
    ]
    assert re.findall(r'<div class="(single|pairs)">', text) == ["single", "pairs", "pairs"]


@pytest.mark.parametrize(("count", "sizes"), [(1, [1]), (6, [6]), (7, [6, 1]), (20, [6, 6, 6, 2])])
def test_no_plot_has_more_lines_than_can_be_told_apart(count: int, sizes: list[int]) -> None:
    results = [run(f"run {number}", curves=Curves(-1, (1.0,) * (2 + number))) for number in range(count)]
    made = list(groups(results))
    assert [len(one.runs) for one in made] == sizes
    assert len({one.axis for one in made}) == 1
    assert [len(one.drawn) for one in figures(html(*results))] == sizes
    assert f"part 2 of {len(sizes)}" in html(*results) or len(sizes) == 1


def _declared(style: str, selector: str) -> str:
    return " ".join(re.findall(rf"(?<![\w-]){re.escape(selector)} {{([^}}]*)}}", style))


def test_six_lines_differ_in_their_dashes_and_each_has_a_colour_of_its_own() -> None:
    text = html(*(run(f"run {number}") for number in range(MOST)))
    style = text.split("<style>")[1].split("</style>")[0]
    assert figures(text)[0].drawn == [f"line c{number}" for number in range(MOST)]
    assert figures(text)[0].keys == [f"run {number}" for number in range(MOST)]
    dashes, colours = set(), set()
    for number in range(MOST):
        declared = _declared(style, f".c{number}")
        dashes.add(tuple(re.findall(r"stroke-dasharray: ([\d ]+)", declared)))
        colours.add(tuple(re.findall(r"stroke: (var\(--c\d\))", declared)))
    assert len(dashes) == len(colours) == MOST


@pytest.mark.parametrize(("place", "scheme"), [(0, "light"), (1, "dark")])
def test_every_line_stands_out_from_the_paper(place: int, scheme: str) -> None:
    style = html(run("a")).split("<style>")[1].split("</style>")[0]

    def colour(name: str) -> str:
        found = re.findall(rf"--{name}: (#[0-9a-f]+)", style)
        assert len(found) >= 3, "light, dark and print"
        assert found[-1] == found[0], "print is light"
        return found[place]

    names = [f"c{number}" for number in range(MOST)]
    assert {name: _contrast(colour(name), colour("paper")) >= 3 for name in (*names, "ink", "bad")} == dict.fromkeys(
        (*names, "ink", "bad"), True
    )
    assert len({colour(name) for name in names}) == MOST, scheme


def _contrast(one: str, other: str) -> float:
    """As WCAG 2.2 defines it."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_runs_of_different_length_share_the_axis_and_the_fault_is_where_it_is_for_all() -> None:
    long, short = Curves(-2, (1.0, 1.0, 4.0, 2.0)), Curves(-1, (1.0, 4.0), hit_ratio=(0.9, None, 0.5, 0.6, 0.7, 0.8))
    asked, ratio = figures(html(run("long", curves=long), run("short", curves=short), capacity=0.0))
    assert asked.lines["line c0"] == "M0 75H285.7V0H428.6V50H571.4"
    assert asked.lines["line c1"] == "M142.9 75H285.7V0H428.6"
    assert asked.lines["mark"] == "M285.7 0V100"
    assert asked.times == ratio.times == ["fault", "+5 s"]
    assert ratio.lines["line c0"] == ""
    assert ratio.lines["line c1"] == "M142.9 10H285.7M428.6 50H571.4V40H714.3V30H857.1V20H1000"
    assert [row[0] for row in asked.values] == [
        "after the fault",
        "-2 s",
        "-1 s",
        "+0 s",
        "+1 s",
        "+2 s",
        "+3 s",
        "+4 s",
    ]
    assert [row[2] for row in ratio.values] == ["short", "-", "90 %", "-", "50 %", "60 %", "70 %", "80 %"]


def test_the_axis_is_in_seconds_and_0_is_the_fault() -> None:
    (one,) = figures(html(run("a", curves=Curves(-10, (1.0,) * 42)), capacity=0.0))
    assert one.times == ["-10 s", "fault", "+10 s", "+20 s", "+30 s"]
    assert one.told == "a: from 1 to 1, 1 at the end. Behind the lines: the fault."
    late = figures(html(run("a", curves=Curves(5, (1.0,) * 10))))[0]
    assert "mark" not in late.lines


def test_what_was_asked_is_held_against_the_capacity_and_drawn_again_where_one_run_hides_the_others() -> None:
    wild, tame = Curves(-1, (5.0, 2_000.0), sent=(5.0, 99.0)), Curves(-1, (5.0, 80.0), sent=(5.0, 80.0))
    whole, near, sent = figures(html(run("wild", curves=wild), run("tame", curves=tame)))
    assert [whole.title, near.title, sent.title] == [
        "Queries a second asked for",
        "Queries a second asked for, up to twice the capacity",
        "Queries a second sent to the database",
    ]
    assert whole.limits == near.limits == sent.limits == ["capacity 100"]
    assert [one.lines["limit"] for one in (whole, near, sent)] == ["M0 95H1000", "M0 50H1000", "M0 0H1000"]
    assert near.lines["line c0"] == "M0 97.5H500V0H1000"
    assert near.lines["line c1"] == "M0 97.5H500V60H1000"
    assert "Against capacity 100." in whole.told
    assert [one.title for one in figures(html(run("tame", curves=tame)))] == [whole.title, sent.title]


def test_the_capacity_is_in_the_picture_however_little_was_asked() -> None:
    (one,) = figures(html(run("idle", curves=Curves(-1, (0.0, 0.0)))))
    assert one.lines["limit"] == "M0 0H1000"
    assert one.lines["line c0"] == "M0 100H1000"


def test_what_has_nothing_to_show_is_named_instead_of_drawn() -> None:
    curves = Curves(-1, (5.0, 5.0), (5.0, 5.0), (None, None), (None, None), (None, 2.5), (0.0, 0.0), (0.0, 3.0))
    text = html(run("a", curves=curves))
    assert [one.title for one in figures(text)][2:] == ["Latency, 99th percentile", "Requests a second that were shed"]
    assert "nothing to show: hit ratio, requests a second that failed.</p>" in text
    assert figures(text)[2].values[1:] == [["-1 s", "-"], ["+0 s", "2.5 s"]]


@pytest.mark.parametrize("curves", [Curves(0), Curves(-10, hit_ratio=(None,) * 30, p99=(None,) * 30)])
def test_a_run_without_a_value_has_no_plots(curves: Curves) -> None:
    text = html(run("a", curves=curves))
    assert figures(text) == []
    assert "<strong>a</strong>" in text
    assert "nothing to show: queries a second asked for, " in text


def test_what_is_no_number_is_a_gap() -> None:
    curves = Curves(0, (float("nan"), 10.0, float("inf")))
    (one,) = figures(html(run("a", curves=curves), capacity=float("nan")))
    assert one.lines["line c0"] == "M333.3 0H666.7"
    assert one.limits == []


def test_names_are_text_in_a_plot() -> None:
    one = figures(html(run(HOSTILE)))[0]
    shown = HOSTILE.replace("\x00", "�").replace("\ud800", "�")
    assert one.keys == [shown]
    assert one.told.startswith(shown)


NUMBERS: some.SearchStrategy[float | None] = some.none() | some.floats(allow_nan=True)


@given(some.lists(some.tuples(some.integers(-50, 50), some.lists(NUMBERS, max_size=40)), max_size=8), some.floats())
@settings(max_examples=60, deadline=None)
def test_any_curves_are_drawn_inside_their_pictures(
    made: Sequence[tuple[int, list[float | None]]], capacity: float
) -> None:
    results = [
        run(f"{number}", curves=Curves(first, given, given, given, given, given, given, given))  # type: ignore[arg-type]
        for number, (first, given) in enumerate(made)
    ]
    for group in FIGURE.findall(html(*results, capacity=1.0 if capacity != capacity else capacity)):
        one = Figure(group)
        assert len(one.drawn) == len(one.keys) <= MOST
        for drawn in one.lines.values():
            assert re.fullmatch(r"(?:M[\d.]+ [\d.]+|[HV][\d.]+)*", drawn), drawn
            assert all(float(number) <= 1000 for number in re.findall(r"[\d.]+", drawn))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((0.0, "0 s"), (0.0004, "0.4 ms"), (0.0812, "81.2 ms"), (0.8, "800 ms"), (0.9996, "1 s"), (1.25, "1.25 s")),
        *((None, "-"), (float("nan"), "-"), (float("inf"), "-")),
    ],
)
def test_latencies_are_in_milliseconds_up_to_a_second(value: float | None, text: str) -> None:
    assert latency(value) == text


def test_a_plot_says_a_value_its_own_way_and_is_as_tall_as_it_should_be() -> None:
    plot = Plot("x", [Line("a", (0.5, 1.0))], limits=[Limit(2.0, "<limit>")], written=latency, tall=200)
    root = ElementTree.fromstring(svg(plot, Relative(0, 2), "p", lambda at, step: f"<{at} {step}>"))  # noqa: S314 - our own
    assert [one.text for one in root.findall("text[@class='level']")] == ["0 s", "500 ms", "1 s", "1.5 s", "2 s"]
    assert [one.text for one in root.findall("text[@class='time']")] == ["<0 60>"]
    assert [one.text for one in root.findall("text[@class='limited']")] == ["<limit>"]
    inner = root.find("svg")
    assert inner is not None
    assert (root.attrib["height"], inner.attrib["height"]) == ("240", "200")


@pytest.mark.parametrize(("most", "rows", "every"), [(3, 3, "4s"), (10, 10, "1s")])
def test_a_table_of_values_has_an_end(most: int, rows: int, every: str) -> None:
    plot = Plot("x", [Line("a", tuple(float(number) for number in range(10)))])
    text = values(plot, Relative(-5, 5), "when", lambda at: f"<{at}>", most)
    assert text.count("<tr><td") == rows
    assert f'aria-label="x, a value every {every}"' in text
    assert '<td class="when">&lt;-5&gt;</td><td class="number">0</td>' in text
