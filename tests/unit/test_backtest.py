"""The parts of a backtest by themselves: times, look-back, the clock in rules, markers, pieces and pages."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdwatch.errors import CheckFailed, UsageError
from herdwatch.proof.backtest import pieces, samples, times
from herdwatch.proof.backtest.clock import shifted
from herdwatch.proof.backtest.history import History
from herdwatch.proof.backtest.needs import Needs
from herdwatch.proof.backtest.pages import pages
from herdwatch.proof.backtest.report import span
from herdwatch.proof.backtest.samples import Window
from herdwatch.proof.parallel import parallel
from herdwatch.proof.plays import Firing

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("since", "until", "period"),
    [
        ("30d", None, (int(NOW) - 30 * 86_400, int(NOW))),
        ("12h", "90m", (int(NOW) - 12 * 3600, int(NOW) - 5_400)),
        ("2026-05-01T12:00", "2026-05-02T12:00+02:00", (1_777_636_800, 1_777_716_000)),
    ],
)
def test_a_period_is_given_by_ages_or_by_times(since: str, until: str | None, period: tuple[int, int]) -> None:
    assert times.period(since, until, now=NOW) == period


@pytest.mark.parametrize(
    ("since", "until", "right"),
    [
        ("yesterday", None, "--since: 'yesterday' is no age such as 30d, 12h or 90m, and no time such as"),
        ("12h", "1d", "--since: it must lie before --until"),
        ("0s", None, "--since: '0s' is no age"),
        ("12h", "2030-01-01", "--until: lies in the future"),
        ("3y", None, "--since: a year is the most"),
    ],
)
def test_a_period_that_is_none_is_told_by_the_option(since: str, until: str | None, right: str) -> None:
    with pytest.raises(UsageError, match=f"^{right}"):
        times.period(since, until, now=NOW)


@pytest.mark.parametrize("text", ["1s", "1h", "often", "7500ms", ""])
def test_an_evaluation_is_whole_seconds_within_bounds(text: str) -> None:
    assert times.evaluation("5s") == 5
    with pytest.raises(UsageError, match=r"^--evaluation: "):
        times.evaluation(text)


@pytest.mark.parametrize(
    ("expr", "moved"),
    [
        ("time() - x > 3", "(time() + 60) - x > 3"),
        ("a * timestamp(x{y='time()'})", "a * (timestamp(x{y='time()'}) + 60)"),
        ("time ( ) - timestamp(max(x))", "(time ( ) + 60) - (timestamp(max(x)) + 60)"),
        ("hour() > 3 and minute(x) < 2", "hour(vector(time() + 60)) > 3 and minute(x) < 2"),
        ('sum by (time) (hour{a="\\"hour()"}) # time()', 'sum by (time) (hour{a="\\"hour()"}) # time()'),
    ],
)
def test_what_reads_the_clock_reads_the_one_of_the_history(expr: str, moved: str) -> None:
    assert shifted(expr, 60) == moved


def needs(*rules: str) -> Needs:
    listed = "".join(f"      - {{{rule}}}\n" for rule in rules)
    return Needs.of(f"groups:\n  - name: g\n    rules:\n{listed}", "mine.yml")


LOOKS_BACK: dict[str, tuple[Sequence[str], int]] = {
    "a sample holds for five minutes": (["alert: A, expr: x > 1"], 300),
    "range, offset and both waits add up": (
        ["alert: A, expr: 'rate(x[10m] offset 1h)', for: 2m, keep_firing_for: 3m"],
        600 + 3_600 + 300 + 300,
    ),
    "a subquery is a range": (["alert: A, expr: 'max_over_time(rate(x[5m])[1h:1m] offset 1m)'"], 3_960 + 300),
    "so do recording rules": (
        ["record: 'a:b', expr: 'rate(x[5m])'", "alert: A, expr: 'max_over_time(a:b[1h])', for: 1m"],
        60 + 3_600 + 300 + 300,
    ),
    "of two rules the longer counts": (["alert: A, expr: 'x > 1 or rate(y[20m])'"], 1_500),
    "a circle is followed twice": (
        ["record: 'a:b', expr: 'x or max_over_time(a:b[1h])'", "alert: A, expr: 'a:b > 1'"],
        2 * 3_600,
    ),
    "the state of an alert is read like any other": (
        ["alert: A, expr: 'rate(x[20m]) > 1', for: 5m", "alert: B, expr: 'ALERTS{alertname=\"A\"} and y'"],
        1_200 + 300 + 300,
    ),
    "what is too long is bounded": (["alert: A, expr: 'rate(x[5m] offset 1w)'"], 43_200),
}


@pytest.mark.parametrize("sentence", LOOKS_BACK)
def test_the_past_of_a_piece_is_what_its_rules_look_back(sentence: str) -> None:
    rules, seconds = LOOKS_BACK[sentence]
    assert needs(*rules).past == seconds


def test_what_a_bound_leaves_out_is_said() -> None:
    assert needs(*LOOKS_BACK["what is too long is bounded"][0]).notes == (
        "the rules look back 10090m, of which they are given 12h",
    )
    assert needs(*LOOKS_BACK["a circle is followed twice"][0]).notes == (
        "a:b: rules read here what they said before, of which a piece follows 2 rounds",
    )


def test_raw_series_are_fetched_once_and_what_rules_make_is_not() -> None:
    read = needs(
        'record: \'a:b\', expr: \'x{job="j"} + x{job="j",db=~"0|1"}\'',
        "alert: A, expr: 'a:b > 1 and on (c) herdwatch:threshold'",
        "alert: B, expr: 'absent(y)'",
    )
    assert [wanted.selector() for wanted in read.wanted] == ['x{job="j"}', "y{}"]
    assert [wanted.selector() for wanted in read.narrower] == ['x{db=~"0|1",job="j"}']
    assert [read.selected[wanted] for wanted in read.narrower] == ["mine.yml:4: a:b"]
    assert read.readers == {"x": ("A",), "y": ("B",)}
    assert read.places["x"] == "mine.yml:4: a:b"


@pytest.mark.parametrize(
    ("rule", "right"),
    [
        ("alert: A, expr: '{job=\"x\"} > 1'", "mine.yml:4: A: reads series without naming a metric"),
        ("alert: A, expr: 'x @ 100 > 1'", "mine.yml:4: A: @ and a negative offset look out of the piece"),
        ("alert: A, expr: 'x offset -5m > 1'", "mine.yml:4: A: @ and a negative offset look out of the piece"),
        ("alert: A, expr: 'x >> 1'", "mine.yml:4: A: not valid PromQL: "),
        ("record: 'a:b', expr: x", "mine.yml: declares no alert"),
    ],
)
def test_rules_that_cannot_be_played_are_told_with_file_and_line(rule: str, right: str) -> None:
    with pytest.raises(CheckFailed, match=f"^{right}"):
        needs(rule)


SCRAPES = range(7_000, 307_000, 15_000)


def marked(
    missing: Sequence[int], scrapes: Sequence[int] | None = SCRAPES, alive: Sequence[int] = SCRAPES
) -> list[int]:
    """When a series is marked as ended that is in all scrapes but some; all in seconds."""
    times = [at for n, at in enumerate(SCRAPES) if n not in missing]
    return [at // 1000 for at in samples.ends(times, scrapes, alive, 310_000)]


def test_a_series_ends_at_the_first_scrape_without_it() -> None:
    assert marked([]) == []
    assert marked([3]) == [52]
    assert marked([3, 4, 9]) == [52, 142]
    assert marked([18, 19]) == [277]


def test_a_series_of_a_target_that_is_gone_ends_an_interval_later_while_others_are_scraped() -> None:
    """Its own scrapes are missing as well: for a while, or for good."""
    gone = [at for n, at in enumerate(SCRAPES) if not 5 <= n < 9]
    assert marked([5, 6, 7, 8], gone) == [82]
    assert marked(range(5, 20), SCRAPES[:5]) == [82]
    assert marked([5, 6, 7, 8], None) == [82]


def test_no_series_ends_because_prometheus_was_away() -> None:
    slept = [at for n, at in enumerate(SCRAPES) if not 5 <= n < 9]
    assert marked([5, 6, 7, 8], slept, slept) == []
    assert marked([5, 6, 7, 8, 9], slept, slept) == []
    assert marked(range(5, 20), SCRAPES[:5], SCRAPES[:5]) == []


@given(
    st.lists(st.integers(0, 120_000), unique=True, min_size=1),
    st.lists(st.integers(0, 120_000), unique=True),
    st.integers(5, 60),
)
def test_points_are_in_order_never_early_and_never_on_the_grid(
    times: list[int], ends: list[int], evaluation: int
) -> None:
    window = Window(0, 130, evaluation)
    found = samples.points([(at, float(at)) for at in sorted(times)], sorted(ends), window)
    assert all(earlier < later for (earlier, _), (later, _) in pairwise(found))
    assert all(second % evaluation for second, _ in found)
    for second, value in found:
        assert value is None or value <= second * 1000 < value + 2_000
    newest = max(times)
    assert (window.second(newest), float(newest)) in found


KEYS = st.sampled_from(["users", "carts"])
STEP = 15


@st.composite
def firings(draw: st.DrawFn) -> list[Firing]:
    """Firings of two caches up to second 3000, on the grid and with a pause between two of the same cache."""
    made = []
    for cache in ("users", "carts"):
        edges = sorted(draw(st.lists(st.integers(0, 200), unique=True, max_size=12)))
        for start, end in zip(edges[::2], edges[1::2], strict=False):
            made.append(Firing("A", {"cache": cache}, start * STEP, None if end == 200 else end * STEP))
    return sorted(made, key=lambda one: (one.start, one.labels["cache"]))


@given(firings(), st.integers(40, 3_000), st.integers(0, 900))
def test_the_pieces_of_a_time_joined_are_the_time_in_one_piece(whole: list[Firing], length: int, past: int) -> None:
    parts = pieces.cut(0, 0, 3_000, past=past, series=1, evaluation=STEP, length=length)
    assert [parts[0].start, parts[-1].end] == [0, 3_000]
    assert all(one.end == following.start for one, following in pairwise(parts))
    assert all(part.window.start == max(0, part.start - -(-past // STEP) * STEP) for part in parts)
    told = [(part, list(pieces.clipped(played(whole, part.window), part))) for part in parts]
    assert pieces.joined(told) == whole


def played(whole: Sequence[Firing], window: Window) -> list[Firing]:
    """What a play of a window says, in its own seconds; it cannot know an end that lies behind it."""
    inside = []
    for one in whole:
        start, end = max(one.start, window.start), one.end
        if start < window.end and (end is None or end > window.start):
            known = None if end is None or end >= window.end else end - window.start
            inside.append(Firing(one.alert, one.labels, start - window.start, known))
    return inside


def test_a_piece_is_shorter_where_there_are_many_series_and_there_is_an_end_to_that() -> None:
    assert len(pieces.cut(0, 0, 86_400, past=600, series=100, evaluation=15)) == 4
    assert len(pieces.cut(0, 0, 86_400, past=600, series=10_000, evaluation=15)) > 20
    with pytest.raises(CheckFailed, match="the rules read 50000 series at once, and 35555 can be played; name some"):
        pieces.cut(0, 0, 86_400, past=600, series=50_000, evaluation=15)


def test_what_began_while_prometheus_slept_counts_only_if_it_lasts() -> None:
    sleeps = pieces.asleep([(90, 250), (250, 600), (900, 1_000)])
    assert sleeps == [(90, 600)]
    before, blip, lasting, after = (
        Firing("A", {}, start, end) for start, end in [(30, 120), (405, 615), (410, None), (615, 630)]
    )
    heard = list(pieces.awake([before, blip, lasting, after], sleeps, settled=75, evaluation=15))
    assert heard == [before, Firing("A", {}, 600, None), after]


def test_what_began_before_a_cache_had_any_data_is_left_out() -> None:
    told = [Firing("A", {"cache": cache}, 100, None) for cache in ("old", "young", "never")] + [Firing("A", {}, 5, 9)]
    assert list(pieces.of_seen(told, {"old": 50, "young": 200})) == [told[0], told[3]]


def test_a_group_that_fires_again_is_a_new_page_and_one_that_goes_on_is_not() -> None:
    labels = {"severity": "critical", "cache": "users", "team": "web"}
    told = [
        Firing("Down", labels, 1_000_000, 1_000_300),
        Firing("Cold", labels, 1_000_200, 1_000_600),
        Firing("Cold", labels, 1_005_000, None),
        Firing("Watchdog", {"severity": "none"}, 1_000_000, None),
    ]
    first, second = pages(told, None, 1_000_000, 1_010_000)
    assert (first.start, first.end, first.alerts) == (1_000_000, 1_000_600, ("Down", "Cold"))
    assert (second.start, second.end, second.cache, second.team) == (1_005_000, None, "users", "web")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59, "59s"), (870, "14m 30s"), (90_000, "1d 1h"), (86_401, "1d")]
)
def test_a_length_of_time_is_told_in_its_two_largest_units(seconds: int, text: str) -> None:
    assert span(seconds) == text


def test_an_interrupt_gives_up_what_runs_and_begins_nothing_more() -> None:
    given_up = threading.Event()
    begun: list[int] = []

    def one(number: int) -> None:
        begun.append(number)
        if number:
            assert given_up.wait(20)

    def interrupted(_: None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        parallel(one, range(10), workers=2, give_up=[given_up.set], done=interrupted)
    assert given_up.is_set()
    assert len(begun) <= 3


class Since:
    """A Prometheus whose series begin at a second."""

    def __init__(self, first: int) -> None:
        self._first = first

    def query_range(self, _: str, start: int, end: int, step: int) -> list[dict[str, Any]]:
        return [{"values": [(at, "1") for at in range(start, end + 1, step) if at >= self._first]}]

    def series(self, *_: object) -> list[dict[str, str]]:
        return []


def test_a_history_is_found_to_begin_where_it_does_also_right_before_a_coarse_step() -> None:
    needs = Needs.of("groups: [{name: g, rules: [{alert: A, expr: x > 1}]}]", "rules.yml")
    begins = History(Since(1_035), needs).extent(0, 0, 52_000).begins  # type: ignore[arg-type]
    assert 1_035 <= begins < 1_050
