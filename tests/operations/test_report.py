"""The parts of a report by themselves: what is asked, the verdict's arithmetic, the page, and the file it becomes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from herdwatch import metrics
from herdwatch.bundle import rules
from herdwatch.bundle.location import bundle_root
from herdwatch.bundle.page_style import SHELL
from herdwatch.bundle.promql import selectors
from herdwatch.errors import UsageError
from herdwatch.operations import report as telling
from herdwatch.operations.report.asked import Asked, matcher
from herdwatch.operations.report.curves import QUESTIONS, Curve, on_grid
from herdwatch.operations.report.happened import Firing, Flush, Restart
from herdwatch.operations.report.page import MAX_EVENTS, NOTES
from herdwatch.operations.report.story import Event, Report, Story
from herdwatch.operations.report.verdict import Peak, Verdict, verdict

NOW = 1_780_000_000
HOSTILE = "</td><script>alert(1)</script>'\"&\x00"
GRID = tuple(range(0, 600, 60))


@pytest.mark.parametrize(
    ("since", "until", "period"),
    [
        ("1h", None, (NOW - 3_600, NOW)),
        ("6h", "90m", (NOW - 21_600, NOW - 5_400)),
        ("2026-05-28T12:00", "2026-05-28T14:00+01:00", (1_779_969_600, 1_779_973_200)),
    ],
)
def test_times_are_ages_or_times(since: str, until: str | None, period: tuple[int, int]) -> None:
    assert telling.period(since, until, now=NOW) == period


@pytest.mark.parametrize(
    ("since", "until", "said"),
    [
        ("yesterday", None, "--since: 'yesterday' is no age such as 30d"),
        ("2h", "soon", "--until: 'soon' is no age"),
        ("1h", "2h", "--since: it must lie before --until"),
        ("8d", None, "--since: a week is the most that one report takes; give the hours of the incident"),
        ("1h", "2026-05-29", "--until: lies in the future"),
    ],
)
def test_times_that_are_none_are_refused_with_the_option(since: str, until: str | None, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        telling.period(since, until, now=NOW)


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_question_reads_what_is_exported_or_recorded(name: str) -> None:
    recorded = {rule.name for rule in rules.load((bundle_root() / "alerts/herdwatch.rules.yml").read_text(), "rules")}
    found = selectors(QUESTIONS[name].replace("%s", matcher("cache", ['a"b'])))
    assert found
    for one in found:
        assert one.metric in {*metrics.BY_SAMPLE, *recorded, "herdwatch:capacity", "herdwatch:threshold"}
        of_all = (name, one.metric) == ("database_loads", "cache_database:loads:rate")
        assert of_all != any(own.label == "cache" and own.value == 'a"b' for own in one.matchers)


def test_a_name_is_no_pattern_and_ends_no_string() -> None:
    assert matcher("cache", ["a.b", 'c"d|e\\']) == 'cache=~"a\\\\.b|c\\"d\\\\|e\\\\\\\\"'
    assert matcher("cache", ["🔥"]) == 'cache=~"🔥"'
    assert matcher("cache", []) == 'cache=~".+"'


def test_samples_that_are_missing_or_no_numbers_are_gaps() -> None:
    values = [[0, "1"], [15, "NaN"], [45.0, "+Inf"], [60.001, "2.5"], [75, "-Inf"], [600, "9"]]
    assert on_grid(values, Asked(0, 75)) == (1.0, None, None, None, 2.5, None)
    assert on_grid([], Asked(0, 15)) == (None, None)


def judged(sign: float | None, **curves: Curve) -> Verdict:
    return verdict(sign, GRID, curves)


def test_a_verdict_says_how_low_how_long_and_how_much() -> None:
    ratio = (0.9, 1.0, 0.8, 0.9, 0.1, 0.1, 0.5, 0.86, 0.9, 0.9)
    found = judged(
        170.0,
        hit_ratio=ratio,
        keys=(100.0, 100.0, 120.0, 0.0, None, 20.0, 60.0, 90.0, 95.0, None),
        loads=(10.0, 9_000.0, 10.0, 10.0, 600.0, 700.0, 700.0, 50.0, 10.0, 10.0),
        capacity=(200.0,) * 10,
    )
    assert found.ratio_before == pytest.approx(0.9)
    assert found.ratio_lowest == Peak(0.1, 240)
    assert found.recovered == 420
    assert found.loads == Peak(700.0, 300)
    assert found.overload == 3.5
    assert found.database_loads is None
    assert (found.keys_before, found.keys_lowest, found.keys_after) == (120.0, Peak(0.0, 180), 95.0)


def test_a_database_is_overloaded_by_all_of_its_caches_together() -> None:
    loads = {"loads": (0.0, 600.0, 600.0), "database_loads": (2_000.0, 900.0, 1_200.0), "capacity": (1_000.0,) * 3}
    found = judged(10.0, **loads)
    assert (found.loads, found.database_loads, found.overload) == (Peak(600.0, 60), Peak(1_200.0, 120), 1.2)
    long = {name: curve + (None,) * (len(ASKED.grid) - 3) for name, curve in loads.items()}
    shared = replace(story(), curves=long, verdict=verdict(NOW + 15.0, ASKED.grid, long))
    said = "600 at +0s all caches of its database: 1.2k at +15s 1.2 times the capacity of 1k"
    assert said in telling.as_text(report(shared))
    assert "loads of all its caches" in telling.as_html(report(shared))


@pytest.mark.parametrize(
    ("ratio", "dented", "recovered"),
    [
        ((0.9, 0.9, 0.1, 0.9, 0.1, 0.9, 0.9, 0.9, 0.9, 0.1), True, 300),
        ((0.9, 0.9, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8), True, None),
        ((0.9, 0.9, 0.1, None, None, None, None, None, None, 0.9), True, 540),
        ((0.9, 0.9, 0.1, None, None, None, None, None, None, None), True, None),
        ((0.9, 0.9, 0.88, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9), False, None),
        ((None, None, 0.1, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9), False, None),
    ],
    ids=["short rise", "not in this time", "at the last point", "nothing after it", "never lower", "nothing before it"],
)
def test_a_ratio_is_back_when_it_is_at_95_percent_of_before_and_stays(
    ratio: Curve, dented: bool, recovered: int | None
) -> None:
    found = judged(119.0, hit_ratio=ratio)
    assert (found.dented, found.recovered) == (dented, recovered)


def test_what_there_is_no_sample_of_is_unknown() -> None:
    assert judged(100.0) == Verdict(100.0)
    assert judged(None, hit_ratio=(None,) * 10) == Verdict(None)
    assert judged(100.0, loads=(None, None, 5.0)).overload is None
    one = verdict(0.0, (0,), {"hit_ratio": (0.5,), "keys": (3.0,)})
    assert (one.ratio_before, one.ratio_lowest, one.keys_lowest, one.keys_after) == (
        None,
        Peak(0.5, 0),
        Peak(3.0, 0),
        3.0,
    )


def test_without_a_first_sign_the_extremes_are_those_of_the_whole_time() -> None:
    found = judged(None, hit_ratio=(0.2, 0.9), loads=(7.0, 5.0))
    assert (found.ratio_lowest, found.loads, found.ratio_before) == (Peak(0.2, 0), Peak(7.0, 0), None)


def story(cache: str = "users", *, sign: float | None = NOW + 60.0, firings: tuple[Firing, ...] = ()) -> Story:
    restart = Restart(cache, f"{cache}:6379", NOW + 60.0, NOW + 57.0)
    flush = Flush(cache, f"{cache}:6379", "flushall", NOW + 90.0, 2)
    events = () if sign is None else (Event(sign, cache, f"Redis {cache} is a new process", "critical"),)
    curves = {"hit_ratio": (0.9,) * 4 + (None, 0.1) + (0.9,) * 31, "keys": (5.0,) * 37, "warmed": (0.0,) * 37}
    return Story(cache, firings, (restart,), (flush,), curves, verdict(sign, ASKED.grid, curves), events)


ASKED = Asked(NOW, NOW + 540)


def report(*stories: Story, wide: tuple[Firing, ...] = (), left_out: tuple[str, ...] = ()) -> Report:
    signs = [one.verdict.sign for one in stories if one.verdict.sign is not None]
    return Report("http://127.0.0.1:9090", ASKED, min(signs, default=None), stories, wide, left_out)


def firing(cache: str = "users", **other: object) -> Firing:
    given: dict[str, object] = {"alert": "CacheRestarted", "severity": "critical", "where": f"{cache}:6379"}
    times: dict[str, object] = {"start": NOW + 65.0, "end": NOW + 200.0}
    return Firing(cache=cache, **{**given, **times, **other})  # type: ignore[arg-type]


class Page(HTMLParser):
    """Tags that were not closed, ids, and what would be fetched or run."""

    VOID = frozenset({"meta", "link", "br", "path", "rect"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.told: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.open += [] if tag in self.VOID else [tag]
        for name, value in attrs:
            self.ids += [value or ""] if name == "id" else []
            self.links += [value or ""] if name in ("href", "src", "action", "data") else []
            assert not name.startswith("on")

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.told.append(data)


def test_a_page_is_whole_runs_nothing_and_fetches_nothing_whatever_the_names() -> None:
    hostile = report(
        story(HOSTILE, firings=(firing(HOSTILE, alert=HOSTILE, severity=HOSTILE), firing(HOSTILE, alert=HOSTILE))),
        story("users"),
        wide=(firing("", alert=HOSTILE),),
        left_out=(HOSTILE,),
    )
    text = telling.as_html(hostile)
    page = Page(text)
    assert page.open == []
    assert len(set(page.ids)) == len(page.ids)
    assert {one[1:] for one in page.links if one.startswith("#")} <= set(page.ids)
    assert all(one.startswith("#") or one == "data:," for one in page.links)
    assert not page.tags & {"script", "img", "iframe", "object", "form", "base"}
    assert "url(" not in text
    assert "\x00" not in text
    assert "<script" not in text
    policy = re.search(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>", SHELL.template)
    assert policy is not None
    assert policy[0] in text
    assert {"Impact", "What helped", "What to change"} <= set(page.told)


def test_the_same_data_give_the_same_bytes() -> None:
    assert telling.as_html(report(story())) == telling.as_html(report(story()))
    assert telling.as_json(report(story())) == telling.as_json(report(story()))


def test_a_page_says_what_was_and_was_not_and_draws_what_has_something_to_show() -> None:
    still = firing(alert="CacheReplicaMissing", severity="warning", start=NOW + 300.0, end=None)
    text = telling.as_html(report(story(firings=(firing(), still))))
    told = Page(text).told
    assert "Incident of 2026\u201105\u201128 20:27:40 UTC" in told
    assert "CacheRestarted: 20:27:45 to 20:30:00, 2m 15s" in told
    assert "still firing" in told
    assert "at least 4m" in told
    assert "1, 2" in told
    assert "10 % at +15s" in told
    assert "after 30s" in told
    assert text.count("<figure>") == 2
    assert (
        "Not drawn, because there was nothing to show: lookups a second, loads a second that reached the database"
        in (" ".join(told))
    )
    assert "warm-up, keys.</p>" in text


@pytest.mark.parametrize("count", [1, 3, 4])
def test_a_verdict_names_each_cache_once_in_a_column_or_a_row(count: int) -> None:
    text = telling.as_html(report(*(story(f"cache-{n}") for n in range(count))))
    table = text.split('aria-label="Verdict"')[1].split("</table>")[0]
    rows = table.count("<tr>")
    assert rows == (9 if count <= 3 else 1 + count)
    assert [table.count(f">cache-{n}</a>") for n in range(count)] == [1] * count


def test_no_incident_is_a_report_that_says_so() -> None:
    quiet = report(story(sign=None))
    text = telling.as_html(quiet)
    assert "<h1>No incident</h1>" in text
    assert "No alert above info fired in this time" in text
    assert 'id="verdict"' not in text
    assert telling.as_text(quiet) == (
        "no incident: from 2026-05-28 20:26:40 to 2026-05-28 20:35:40 UTC no alert above info fired, "
        "no Redis became a new process, and nothing was flushed"
    )
    assert json.loads(telling.as_json(quiet))["first_sign"] is None


def test_a_hit_ratio_that_never_was_lower_is_told_in_a_sentence() -> None:
    even = report(replace(story(), verdict=verdict(NOW + 60.0, ASKED.grid, {"hit_ratio": (0.9,) * 37})))
    assert "back at 95 % of before: the hit ratio never was below that" in telling.as_text(even)


def test_a_place_with_a_long_name_may_break_and_pushes_no_column_out() -> None:
    text = telling.as_html(report(story(firings=(firing(where="/run/" + "a" * 100),))))
    assert f'<td class="where">/run/{"a" * 100}</td>' in text
    assert "td.where { min-width: 8rem; overflow-wrap: anywhere; }" in text


def test_a_list_of_events_has_an_end() -> None:
    many = tuple(Event(NOW + n / 10, "users", "something") for n in range(MAX_EVENTS + 7))
    whole = story()
    long = Story("users", (), whole.restarts, (), whole.curves, whole.verdict, many)
    text = telling.as_html(report(long))
    assert text.count('<td class="where">something</td>') == MAX_EVENTS
    assert "<p>7 more are left out.</p>" in text


def test_a_report_is_written_and_written_again_until_somebody_has_filled_in_its_notes(tmp_path: Path) -> None:
    path = tmp_path / "incident.html"
    page = telling.as_html(report(story()))
    telling.write(path, page)
    telling.write(path, page)
    assert path.read_text() == page
    path.write_text(page.replace('<div class="fill"></div>', '<div class="fill">All of it.</div>', 1))
    assert NOTES not in path.read_text()
    with pytest.raises(UsageError, match=r"incident\.html exists and is no report, or one whose notes are filled in"):
        telling.write(path, page)
    assert "All of it." in path.read_text()
    assert [one.name for one in tmp_path.iterdir()] == ["incident.html"]


@pytest.mark.parametrize(
    ("name", "said"),
    [("folder", "is no file"), ("nowhere/incident.html", "nowhere is no folder"), ("a" * 300, "cannot be written")],
)
def test_a_place_that_takes_no_report_is_refused_and_nothing_is_left_behind(
    tmp_path: Path, name: str, said: str
) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match=f"--out: .*{said}"):
        telling.write(tmp_path / name, "page")
    assert [one.name for one in tmp_path.iterdir()] == ["folder"]


def test_a_disk_that_fills_up_leaves_no_half_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "incident.html"
    telling.write(path, f"old {NOTES}")
    monkeypatch.setattr("os.replace", full)
    with pytest.raises(UsageError, match="cannot be written: No space left on device"):
        telling.write(path, "new")
    assert path.read_text() == f"old {NOTES}"
    assert [one.name for one in tmp_path.iterdir()] == ["incident.html"]
