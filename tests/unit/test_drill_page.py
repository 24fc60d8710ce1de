"""A drill as a page: whole, safe, the same each time, and with everything on it that was measured."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from herdwatch.bundle.page_style import SHELL
from herdwatch.drill.replay import page
from herdwatch.drill.replay.results import Alert, Claim, Counted, Curves, Drill, Result, Verdict
from herdwatch.errors import UsageError

HOSTILE = "</td><script>alert(1)</script>'\"&\x00\ud800$body ${title}"
CAPACITY, RATE = 97.0, 1940.0
LADDER = ("none", "singleflight", "refresh", "limiter", "warm", "replica")
OTHERS = ("flush", "hang", "crash-loop", "mass-expiry", "singleflight-off", "deploy")


def run(scenario: str = "restart", level: str = "none", *, after: int = 32) -> Result:
    """A made-up run: the weaker the protection, the higher the peak, and the longer it takes."""
    weak = 1.0 - LADDER.index(level) / (len(LADDER) - 1)
    peak, slow, bad = CAPACITY * 20 * weak**3 + 40 * weak, 3 + 12 * weak, level == "none"
    asked = tuple([6.0] * 10 + [round(6 + peak * math.exp(-second / slow), 1) for second in range(after)])
    ratio = tuple(
        [0.995] * 10 + [max(0.0, round(0.995 - weak * math.exp(-second / slow), 4)) for second in range(after)]
    )
    p99 = tuple([0.004] * 10 + [round(0.004 + 2 * weak * math.exp(-second / slow), 4) for second in range(after)])
    failed = tuple([0.0] * 10 + [round(800 * math.exp(-second / slow)) if bad else 0.0 for second in range(after)])
    shed = [round(500 * math.exp(-second / 4)) if level in ("limiter", "warm") else 0.0 for second in range(after)]
    sent = tuple(min(value, CAPACITY * 0.98) for value in asked)
    total, ran = round(sum(asked)), round(sum(sent))
    curves = Curves(-10, asked, sent, ratio, p99, p99, failed, (*[0.0] * 10, *shed))
    return Result(
        name=f"{scenario}-{level}",
        scenario=scenario,
        level=level,
        about=f"what happens in {scenario}; how {level} protects",
        rate=RATE,
        capacity=CAPACITY,
        seconds=after,
        peak=max(asked),
        peak_sent=max(sent),
        counted=Counted(total, ran, ran) if bad else Counted(total, ran, ran, total, 9_000, 9_000),
        requests=round(RATE * after),
        failed=round(sum(failed)),
        shed=round(sum(shed)),
        p50=0.0012,
        p99=max(p99),
        p99_before=0.004,
        lowest=min(ratio),
        recovered=float(round(slow)) if weak else 0.0,
        alerts=() if level == "replica" else (Alert("CacheRestarted", "critical", 5.0),),
        paged=None if level == "replica" else 9.9,
        pages=int(level != "replica"),
        late=0.0123,
        curves=curves,
    )


def drill(*results: Result, **other: object) -> Drill:
    """A made-up drill, which holds."""
    return replace(
        Drill(
            seed=7,
            capacity=CAPACITY,
            multiple=20.0,
            multiple_wanted=20.0,
            scrape_interval=5,
            scale={"workers": 2, "query": 0.08},
            versions={"redis-server": "7.0.15", "PostgreSQL": "15.6"},
            results=list(results),
            verdicts=[Verdict("restart-none: users felt it", True), Verdict("restart-limiter: nobody failed", True)],
            claims=[Claim("20x capacity", "20.4 times", "busiest second over the capacity", True)],
            planned=[
                ("peak of loads", 1940, 1812.5, 0.07, "R * (1 - h)"),
                ("hit ratio", "95 %", None, None, "1 - C/R"),
            ],
        ),
        **other,  # type: ignore[arg-type]
    )


def everything() -> Drill:
    """Twelve runs: the ladder, and each other scenario once."""
    others = [run(name, "limiter", after=100 if name == "crash-loop" else 32) for name in OTHERS]
    return drill(*(run(level=level) for level in LADDER), *others)


class Page(HTMLParser):
    """What a page is made of; asserts that its tags are closed in order and that nothing in it runs."""

    VOID = frozenset({"meta", "link", "br", "path", "rect"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.titles: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self._rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        assert not any(name.startswith("on") for name in given)
        self.tags.append(tag)
        self.open += [] if tag in self.VOID else [tag]
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given[name] for name in ("href", "src", "action", "data") if name in given]
        if given.get("role") == "group":
            assert given["tabindex"] == "0"
            self._rows = self.tables.setdefault(given["aria-label"], [])
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")
        elif tag == "br":
            self._rows[-1][-1] += " / "
        elif tag in ("h1", "h2", "h3"):
            self.titles.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.titles[-1] += data
        elif {"td", "th"} & set(self.open):
            self._rows[-1][-1] += data


def read(made: Drill) -> Page:
    return Page(page.as_html(made))


def column(made: Drill, name: str) -> Sequence[str]:
    heads, *rows = read(made).tables["Runs"]
    return [row[heads.index(name)] for row in rows]


def test_all_of_a_drill_is_on_its_page_in_order() -> None:
    found = read(everything())
    assert found.titles == [
        "Drill: the incident, with and without the guards",
        "What the seed claims",
        "The runs, compared",
        "Second by second",
        *(f"Scenario {name}" for name in ("restart", *OTHERS)),
        "Verdicts",
        "The plan against the drill",
    ]
    assert [row[0] for row in found.tables["Runs"][1:7]] == [f"restart-{level}" for level in LADDER]
    assert len(set(found.ids)) == len(found.ids)
    assert {one[1:] for one in found.links if one.startswith("#")} <= set(found.ids)


def test_a_page_runs_nothing_and_fetches_nothing_whatever_the_names() -> None:
    one = replace(run(), name=HOSTILE, scenario=HOSTILE, about=HOSTILE, alerts=(Alert(HOSTILE, HOSTILE, 1.0),))
    made = drill(one, versions={HOSTILE: HOSTILE}, scale={HOSTILE: 1.0}, partial=HOSTILE)
    made.claims = [Claim(HOSTILE, HOSTILE, HOSTILE, False)]
    made.verdicts = [Verdict(HOSTILE, False)]
    made.planned = [(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE)]
    text = page.as_html(made)
    found = Page(text)
    assert not set(found.tags) & {"script", "img", "iframe", "object", "form", "base"}
    assert all(one.startswith("#") or one == "data:," for one in found.links)
    assert found.tables["Runs"][1][0] == HOSTILE.replace("\x00", "�").replace("\ud800", "�")
    assert not re.search(r"url\(|@import|https?:|<script|\x00", text)
    policy = re.search(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>", SHELL.template)
    assert policy is not None
    assert policy[0] in text
    assert text.encode()


def test_the_same_data_give_the_same_bytes() -> None:
    assert page.as_html(everything()) == page.as_html(everything())


def test_a_drill_that_holds_has_no_banner() -> None:
    assert 'class="banner"' not in page.as_html(everything())


@pytest.mark.parametrize(
    ("partial", "failing", "said"),
    [
        ("interrupted after 2 of 6 runs", 0, ["Partial</strong>: interrupted after 2 of 6 runs."]),
        ("", 1, ["1 of 3 verdicts does <a", "<li>fail 0</li>"]),
        ("it has not ended yet", 2, ["it has not ended yet.", "2 of 4 verdicts do <a", "<li>fail 1</li>"]),
    ],
)
def test_a_banner_says_what_is_missing_and_what_does_not_hold(partial: str, failing: int, said: list[str]) -> None:
    made = everything()
    made.partial = partial
    made.verdicts += [Verdict(f"fail {number}", False) for number in range(failing)]
    text = page.as_html(made)
    banner = text.split('<div class="banner"')[1].split("</div>")[0]
    for words in said:
        assert words in banner
    assert text.index('class="banner"') < text.index("requests a second,")
    assert text.count('<li><strong class="bad">NO</strong>') == failing


def test_the_first_paragraph_says_how_much_load_there_was_and_whether_it_was_what_was_wanted() -> None:
    words = "1,940 requests a second, 20 times what the database takes: its capacity is 97 queries a second. Seed 7; "
    words += "Prometheus scraped every 5 s. Versions: PostgreSQL 15.6, redis-server 7.0.15."
    assert words in page.as_html(everything())
    less = page.as_html(drill(run(), multiple=8.4375))
    assert "This is what the machine allowed; wanted were 20 times the capacity." in less
    assert "what the machine allowed" not in page.as_html(everything())


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("peak asked for, of the capacity", ["20.5 times", "0.062 times"]),
        ("peak sent to PostgreSQL, a second", ["95", "6"]),
        ("p50", ["1.2 ms", "1.2 ms"]),
        ("p99 before", ["4 ms", "4 ms"]),
        ("p99 after", ["2 s", "4 ms"]),
        ("lowest hit ratio", ["0 %", "99.5 %"]),
        ("95 % hits after", ["15.0 s", "never lower"]),
        ("alerts after", ["CacheRestarted 5.0 s", "none"]),
        ("page after", ["9.9 s", "-"]),
        ("pages", ["1", "0"]),
        ("the three counts agree", ["yes", "yes"]),
    ],
)
def test_runs_stand_beside_each_other(name: str, cells: list[str]) -> None:
    assert column(drill(run(), run(level="replica")), name) == cells


def test_counts_that_disagree_are_shown() -> None:
    one = replace(run(), counted=Counted(1_300, 1_200, 1_100))
    two = replace(run(level="limiter"), counted=Counted(1_300, 1_200, 1_200, 1_301, 50, None))
    assert column(drill(one, two), "the three counts agree") == [
        "NO / log 1,300, sent 1,200 / PostgreSQL 1,100",
        "NO / guard 1,301 / log 1,300, sent 1,200 / PostgreSQL 1,200 / requests 50, classes -",
    ]
    assert column(drill(one), "queries in total") == ["1,300 asked / 1,100 run"]


def test_requests_that_failed_or_were_shed_have_their_share() -> None:
    one = replace(run(), requests=2_000, failed=112, shed=0)
    assert column(drill(one, replace(one, requests=0)), "failed") == ["112 / 5.6 %", "112"]
    assert column(drill(one), "shed") == ["0"]


def test_the_plan_stands_beside_what_came() -> None:
    assert read(everything()).tables["Plan"] == [
        ["what", "planned", "measured", "error", "formula"],
        ["peak of loads", "1.94k", "1.81k", "7 %", "R * (1 - h)"],
        ["hit ratio", "95 %", "-", "-", "1 - C/R"],
    ]


def test_claims_say_how_they_were_measured_and_whether_they_hold() -> None:
    made = drill(run(), claims=[Claim("a", "b", "c", True), Claim("d", "e", "f", False)])
    assert read(made).tables["Claims"][1:] == [["a", "b", "c", "yes"], ["d", "e", "f", "NO"]]


def test_a_drill_of_which_nothing_is_known_yet_is_a_page_too() -> None:
    made = drill(claims=[], verdicts=[], planned=[], versions={}, scale={}, partial="nothing ran", capacity=0.0)
    text = page.as_html(made)
    assert Page(text).titles == ["Drill: the incident, with and without the guards", "The runs, compared"]
    assert "No run has come to its end." in text
    assert text.split("<nav")[1].split("</nav>")[0].count("<a ") == 1


def test_a_run_of_which_nothing_was_measured_is_a_row_of_dashes() -> None:
    unknown = replace(run(), p50=None, p99=None, p99_before=None, lowest=None, recovered=None, paged=None, alerts=())
    empty = replace(unknown, capacity=0.0, requests=0, failed=0, shed=0, counted=Counted(0, 0, 0), curves=Curves(0))
    _, row = read(drill(empty, capacity=0.0)).tables["Runs"]
    assert row[1] == "-"
    assert row[4:7] == ["-", "-", "-"]
    assert row[9:13] == ["-", "not while watched", "none", "-"]


def test_a_page_is_written_and_written_again_and_never_over_anything_else(tmp_path: Path) -> None:
    path = tmp_path / "drill.html"
    page.write(path, drill(run(), partial="it has not ended yet"))
    page.write(path, everything())
    assert path.read_text(encoding="utf-8") == page.as_html(everything())
    path.write_text("<title>Drill</title> my own notes")
    with pytest.raises(
        UsageError, match=r"^--html: .*drill\.html exists and is no page of a drill; give another path$"
    ):
        page.write(path, everything(), "--html")
    with pytest.raises(UsageError, match="exists and is no page of a drill"):
        page.check(path)
    assert path.read_text() == "<title>Drill</title> my own notes"
    assert [one.name for one in tmp_path.iterdir()] == ["drill.html"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("folder", r"is no file; .* as in drill\.html"),
        ("no/drill.html", "is no folder"),
        ("a" * 300, "cannot be written"),
    ],
)
def test_a_place_that_takes_no_page_is_refused_and_nothing_is_left_behind(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match=f"^--out: .*{said}"):
        page.write(tmp_path / name, everything())
    assert [one.name for one in tmp_path.iterdir()] == ["folder"]


def test_a_disk_that_fills_up_leaves_the_page_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "drill.html"
    page.write(path, drill(run()))
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", full)
    with pytest.raises(UsageError, match="cannot be written: No space left on device"):
        page.write(path, everything())
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["drill.html"]
