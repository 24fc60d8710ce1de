"""A real Prometheus that remembers an incident: what a report says of it, and what the command does with bad input."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from tests.stack.test_backtest import write_blocks

from herdwatch import cli
from herdwatch.drill import demo
from herdwatch.drill.timeline import Timeline
from herdwatch.errors import CheckFailed
from herdwatch.operations import report as telling
from herdwatch.operations.report import Asked, Report, story
from herdwatch.operations.report.curves import QUESTIONS
from herdwatch.operations.report.happened import Firing, Flush, Restart
from herdwatch.operations.report.verdict import Peak
from herdwatch.prometheus import Access, Api, Prometheus, TooMuch
from herdwatch.proof.plays import Play, Point, Series
from herdwatch.stack import PrometheusServer, Supervisor

BEGAN = (int(time.time()) - 6 * 3600) // 3600 * 3600
"""When the hour began in which it all happened; on the grid of every step."""
HOUR = 3600
USERS = 'users <"&>|.*\\'
CALM = "calm"
CARTS = "carts"
KILLED = 1_211
"""The second of the first scrape that shows the new process."""


def scraped(value: float, *changes: tuple[int, float], until: int = HOUR) -> list[Point]:
    """A sample every 15 s; from each second of `changes` on another value."""
    points: list[Point] = []
    for at in range(11, until, 15):
        value = next((new for second, new in reversed(changes) if at >= second), value)
        points.append((at, value))
    return points


def alert(name: str, severity: str, state: str, begins: int, ends: int, every: int, **labels: str) -> Series:
    """ALERTS as a Prometheus keeps it: a sample at each evaluation, from the first to the last."""
    named = {"alertname": name, "alertstate": state, "severity": severity, **labels}
    return Series("ALERTS", named, [(at, 1.0) for at in range(begins, ends + 1, every)])


def incident() -> Iterator[Series]:
    users = {"cache": USERS, "team": "a"}
    process = {**users, "instance": "10.0.0.1:6379"}
    yield Series("herdwatch:cache", users, scraped(1))
    yield Series("herdwatch:capacity", {**users, "database": "main"}, scraped(500))
    yield Series("cache:requests:rate", users, scraped(1_000))
    yield Series("cache:hits:rate", users, scraped(950, (KILLED, 100), (1_500, 500), (1_800, 950)))
    yield Series("cache:misses:rate", users, scraped(50, (KILLED, float("nan")), (1_500, 500), (1_800, 50)))
    yield Series("cache_database:loads:rate", {**users, "database": "main"}, scraped(50, (KILLED, 900), (1_800, 50)))
    yield Series("cache_service:singleflight_executions:rate", {"cache": USERS, "service": "web"}, scraped(7_777))
    for shard in ("1", "2"):
        name = {**users, "instance": f"10.0.0.{shard}:6379"}
        keys = scraped(100_000, *((KILLED, 0.0), (1_800, 90_000.0)) if shard == "1" else ())
        yield Series("cache_instance:keys:current", name, keys)
        yield Series("cache_instance:keys:baseline", name, scraped(100_000))
    warmed = {"cache": USERS, "service": "web"}
    yield Series("cache_service:warmup_active:max", warmed, scraped(0, (1_500, 1), (1_800, 0)))
    yield Series("cache_service:warmup_done:sum", warmed, scraped(0, (1_500, 40), (1_800, 100)))
    yield Series("cache_service:warmup_target:sum", warmed, scraped(0, (1_500, 100)))
    for replica in ("a", "b"):
        own, behind = {**process, "replica": replica, "job": "herdwatch"}, 15 if replica == "b" else 0
        start, jitter = float(BEGAN - 9_000), float(BEGAN + 1_208)
        changes = ((KILLED + behind, jitter), (2_000, jitter + 1), (2_100, jitter))
        yield Series("cache_start_time_seconds", own, scraped(start, *changes))
        for command in ("flushall", "flushdb"):
            flushed = (
                (KILLED + behind, 0.0),
                *(((2_500 + behind, 2.0), (2_530 + behind, 3.0)) if command == "flushall" else ()),
            )
            yield Series("cache_flushes_total", {**own, "command": command}, scraped(3, *flushed))
    where = {**users, "instance": "10.0.0.1:6379"}
    yield alert("CacheRestarted", "critical", "firing", 1_215, 1_500, 5, **where)
    yield alert("CacheHitRateLow", "warning", "pending", 1_230, 1_335, 15, **users)
    yield alert("CacheHitRateLow", "warning", "firing", 1_350, 1_695, 15, **users)
    yield alert("CacheEvicting", "warning", "pending", 600, 660, 15, **users)
    yield alert("SingleflightDisabled", "warning", "pending", 1_065, 1_350, 15, service="web", **users)
    yield alert("SingleflightDisabled", "warning", "firing", 1_365, 1_695, 15, service="web", **users)
    yield alert("HighCoalescingRate", "info", "firing", 900, 3_300, 15, **users)
    yield alert("CacheReplicaMissing", "warning", "firing", 3_000, HOUR, 15, **where)
    yield alert("Mine", "", "firing", 0, 60, 15, **users)
    yield from others()


def others() -> Iterator[Series]:
    """A cache with a new process and no alert, one with nothing, and alerts that are about no cache."""
    carts = {"cache": CARTS, "team": "b", "instance": "10.0.0.9:6379"}
    yield Series("herdwatch:cache", {"cache": CARTS, "team": "b"}, scraped(1))
    yield Series("cache_start_time_seconds", carts, scraped(BEGAN - 50.0, (2_700, BEGAN + 2_690.0)))
    # The database of carts is its own; that of users has loads of a calm cache too.
    behind = {"team": "b", "database": "other"}
    yield Series("herdwatch:capacity", {"cache": CARTS, **behind}, scraped(20))
    yield Series("cache_database:loads:rate", {"cache": CARTS, **behind}, scraped(5, (2_711, 30)))
    yield Series("herdwatch:capacity", {"cache": CALM, "team": "b", "database": "main"}, scraped(500))
    calm = scraped(100, (1_400, 300), (2_000, 0))
    yield Series("cache_database:loads:rate", {"cache": CALM, "team": "b", "database": "main"}, calm)
    yield Series("cache:requests:rate", {"cache": CARTS, "team": "b"}, scraped(10, until=1_500))
    yield Series("cache:hits:rate", {"cache": CARTS, "team": "b"}, scraped(9, until=1_500))
    for cache, rate in ((CALM, 5.0), ("restful", 0.0)):
        yield Series("cache:requests:rate", {"cache": cache, "team": "b"}, scraped(rate))
        yield Series("cache:hits:rate", {"cache": cache, "team": "b"}, scraped(rate))
        yield Series("cache_start_time_seconds", {"cache": cache, "instance": f"{cache}:1"}, scraped(BEGAN - 50.0))
    yield alert("HighCoalescingRate", "info", "firing", 500, 600, 15, cache=CALM, team="b")
    yield alert("CacheExporterDown", "critical", "firing", 2_000, 2_030, 5, job="herdwatch-exporter")
    yield alert("HerdwatchWatchdog", "none", "firing", 0, HOUR, 15)
    yield alert("DiskFull", "critical", "firing", 0, HOUR, 15)


@pytest.fixture(scope="module")
def past() -> Iterator[str]:
    """The URL of the Prometheus."""
    with Supervisor() as supervisor:
        write_blocks(supervisor.folder, [(BEGAN, Play("incident", list(incident()), HOUR))])
        configuration = supervisor.folder / "prometheus.yml"
        configuration.write_text("global: {}\n")
        yield PrometheusServer(supervisor, configuration).url


def told(url: str, *caches: str, begin: int = 0, end: int = HOUR) -> Report:
    return telling.tell(Prometheus(Access.of(url)), url, Asked(BEGAN + begin, BEGAN + end, caches))


def after(at: float | None) -> float | None:
    return None if at is None else at - BEGAN


@pytest.fixture(scope="module")
def whole(past: str) -> Report:
    return told(past)


def test_caches_with_an_alert_or_a_new_process_are_told_and_no_others(whole: Report) -> None:
    assert [one.cache for one in whole.stories] == [USERS, CARTS]
    assert after(whole.sign) == KILLED
    assert whole.left_out == ()


def test_alerts_have_a_beginning_and_an_end(whole: Report) -> None:
    users, where = whole.stories[0], "10.0.0.1:6379"
    assert users.firings == (
        Firing("Mine", "", USERS, "", BEGAN, BEGAN + 75, earlier=True),
        Firing("HighCoalescingRate", "info", USERS, "", BEGAN + 900, BEGAN + 3_315),
        Firing("CacheRestarted", "critical", USERS, where, BEGAN + 1_215, BEGAN + 1_505),
        Firing("CacheHitRateLow", "warning", USERS, "", BEGAN + 1_350, BEGAN + 1_710, pending=BEGAN + 1_230),
        Firing("SingleflightDisabled", "warning", USERS, "web", BEGAN + 1_365, BEGAN + 1_710, pending=BEGAN + 1_065),
        Firing("CacheReplicaMissing", "warning", USERS, where, BEGAN + 3_000, None),
    )
    assert [one.alert for one in users.pages] == ["CacheRestarted"]
    assert whole.wide == (Firing("CacheExporterDown", "critical", "", "", BEGAN + 2_000, BEGAN + 2_035),)


def test_a_new_process_is_told_once_however_many_exporters_see_it_and_jitter_is_none(whole: Report) -> None:
    users, carts = whole.stories
    assert users.restarts == (Restart(USERS, "10.0.0.1:6379", BEGAN + KILLED, BEGAN + 1_208),)
    assert carts.restarts == (Restart(CARTS, "10.0.0.9:6379", BEGAN + 2_711, BEGAN + 2_690),)


def test_flushes_are_told_once_each_and_a_counter_that_a_restart_reset_is_none(whole: Report) -> None:
    where = (USERS, "10.0.0.1:6379", "flushall")
    assert whole.stories[0].flushes == (Flush(*where, BEGAN + 2_501, 2), Flush(*where, BEGAN + 2_531, 1))


def test_the_verdict_says_how_bad_it_was(past: str) -> None:
    [users] = told(past, USERS).stories
    found = users.verdict
    assert after(found.sign) == KILLED
    assert found.ratio_before == pytest.approx(0.95)
    assert (found.ratio_lowest, found.loads) == (Peak(0.1, BEGAN + 1_215), Peak(900.0, BEGAN + 1_215))
    assert (after(found.recovered), found.overload) == (1_815, 2.4)
    assert (found.keys_before, found.keys_lowest) == (200_000, Peak(100_000, BEGAN + 1_215))
    assert found.keys_after == 190_000


def test_a_database_has_a_curve_of_its_own_where_other_caches_load_it_too(whole: Report) -> None:
    users, carts = whole.stories
    assert "database_loads" not in carts.curves
    assert users.curves["database_loads"][::40] == (None, 150.0, 150.0, 1_200.0, 50.0, 50.0, 50.0)
    assert users.curves["loads"][::40] == (None, 50.0, 50.0, 900.0, 50.0, 50.0, 50.0)
    assert set(carts.curves["capacity"]) == {None, 20.0}


def test_curves_have_gaps_where_there_was_no_sample_or_no_number(whole: Report, past: str) -> None:
    users, carts = whole.stories
    at = {second: place for place, second in enumerate(range(0, HOUR + 1, 15))}
    assert users.curves["misses"][at[1_200] : at[1_245]] == (50.0, None, None)
    assert users.curves["misses"][at[1_515]] == 500
    assert users.curves["hit_ratio"][0] is None
    assert carts.curves["requests"][at[3_000]] is None
    assert carts.curves["hit_ratio"][at[1_200]] == 0.9
    assert told(past, "restful").stories[0].curves.get("hit_ratio") == (None,) * 241
    assert set(users.curves) - {"hit_ratio"} < set(QUESTIONS)


def test_an_alert_that_fired_already_is_the_first_sign_only_where_nothing_else_is(past: str) -> None:
    late = told(past, begin=3_100)
    assert (after(late.sign), [one.earlier for one in late.stories[0].firings]) == (3_105, [True, True])


def test_a_warning_is_the_sign_of_a_cache_that_has_no_graver_one_and_information_is_none(past: str) -> None:
    grave, slight = told(past, begin=1_290, end=1_480), told(past, begin=1_520, end=1_600)
    assert (after(grave.sign), [one.already for one in grave.stories[0].pages]) == (1_290, [True])
    assert (after(slight.sign), slight.stories[0].pages) == (1_530, ())
    assert after(told(past, begin=2_600, end=2_690).sign) is None
    assert not told(past, CALM, begin=400, end=700).incident


def test_an_alert_that_was_about_to_fire_when_the_time_begins_does_not_move_the_beginning(past: str) -> None:
    [users] = told(past, USERS, begin=1_140, end=2_400).stories
    waited = next(one for one in users.firings if one.alert == "SingleflightDisabled")
    assert (after(waited.pending), waited.earlier, waited.already) == (1_140, True, False)
    assert (after(users.verdict.sign), after(users.verdict.recovered)) == (KILLED, 1_815)
    assert users.verdict.keys_before == 200_000
    page = telling.as_html(told(past, USERS, begin=1_140, end=2_400))
    assert "SingleflightDisabled is about to fire already when the time begins, web" in page


def test_each_cache_counts_from_its_own_first_sign(whole: Report) -> None:
    rows = telling.as_html(whole).split('<h2 id="events">')[1].split("<tr>")
    [carts] = [row for row in rows if "Redis 10.0.0.9:6379 is a new process" in row]
    [exporter] = [row for row in rows if "CacheExporterDown fires" in row]
    assert '<td class="when">+0s</td><td>carts</td>' in carts
    assert '<td class="when">+13m 9s</td><td>all</td>' in exporter


def test_events_come_in_order_with_what_the_curves_say(whole: Report) -> None:
    events = [(after(one.at), one.text) for one in whole.events]
    assert events == sorted(events, key=lambda one: one[0] or 0)
    texts = [text for _, text in events]
    assert (2_501, "Redis 10.0.0.1:6379: FLUSHALL was called 2 times") in events
    assert (1_230, "CacheHitRateLow is about to fire") in events
    assert (1_710, "CacheHitRateLow is over after 6m") in events
    assert (1_515, "a warm-up begins") in events
    assert (1_815, "the warm-up has ended") in events
    assert (1_215, "loads are at their most, 900 a second") in events
    whole_database = "the loads of all caches of its database are at their most, 1.2k a second, 2.4 times the capacity"
    assert (1_410, whole_database) in events
    assert (2_715, "loads are at their most, 30 a second, 1.5 times the capacity") in events
    assert not any("CacheEvicting" in text for text in texts)


def test_a_time_of_calm_is_a_report_and_one_of_a_named_cache_draws_it(past: str) -> None:
    assert not told(past, begin=100, end=1_000).incident
    assert not told(past, begin=2_031, end=2_400).incident
    calm = told(past, CALM)
    assert [one.cache for one in calm.stories] == [CALM]
    assert calm.stories[0].verdict.sign is None
    assert "CacheExporterDown" in telling.as_html(calm)


@pytest.mark.parametrize("begin", [2 * HOUR, -86_400], ids=["after it", "before it"])
def test_a_prometheus_without_the_recording_rules_is_one_sentence(past: str, begin: int) -> None:
    with pytest.raises(CheckFailed, match=r"has no series of herdwatch's recording rules between .* UTC; "):
        told(past, begin=begin, end=begin + HOUR)


def test_an_unknown_cache_is_told_with_those_that_exist(past: str) -> None:
    with pytest.raises(CheckFailed, match=r"knows no cache 'nope' between .*; there is: calm, carts, restful, users <"):
        told(past, CALM, "nope")


def test_a_week_has_a_thousand_points_and_loses_no_short_alert(past: str) -> None:
    asked = Asked(BEGAN + HOUR - 7 * 86_400, BEGAN + HOUR, (USERS,))
    found = telling.tell(Prometheus(Access.of(past)), past, asked)
    assert (asked.step, len(asked.grid)) == (615, 984)
    assert [one.alert for one in found.wide] == ["CacheExporterDown"]
    assert len(found.stories[0].restarts) == 1


class Stingy:
    """A real Prometheus that refuses an answer about more than one cache, or more than ten minutes of raw samples."""

    def __init__(self, api: Api) -> None:
        self._api, self.refused = api, 0

    def query(self, expr: str, at: float) -> list[dict[str, Any]]:
        seconds = re.fullmatch(r"(?:ALERTS|cache_\w+)\{.*\}\[(\d+)s\]", expr)
        self._refuse(seconds is not None and int(seconds[1]) > 601)
        return self._api.query(expr, at)

    def query_range(self, expr: str, start: float, end: float, step: int) -> list[dict[str, Any]]:
        self._refuse(CARTS in expr and "users" in expr)
        return self._api.query_range(expr, start, end, step)

    def series(self, selector: str, start: float, end: float) -> list[dict[str, str]]:
        return self._api.series(selector, start, end)

    def _refuse(self, when: bool) -> None:
        if when:
            self.refused += 1
            raise TooMuch("too much")


def test_what_is_too_much_is_asked_for_in_parts_and_nothing_changes(past: str, whole: Report) -> None:
    stingy = Stingy(Prometheus(Access.of(past)))
    assert telling.tell(stingy, past, whole.asked) == whole
    assert stingy.refused > len(QUESTIONS)


def test_of_more_caches_than_a_page_takes_the_first_are_drawn_and_the_others_named(
    past: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(story, "MAX_CACHES", 1)
    found = told(past)
    assert ([one.cache for one in found.stories], found.left_out) == ([USERS], (CARTS,))
    assert "<p>Not in this report, for its length: 1 more caches with an incident; name them with" in telling.as_html(
        found
    )
    assert [one.cache for one in told(past, CARTS, USERS, CARTS).stories] == [CARTS, USERS]


def test_the_page_of_a_real_incident_is_the_same_each_time(past: str, whole: Report) -> None:
    page = telling.as_html(whole)
    assert telling.as_html(told(past)) == page
    assert page.count("<figure>") == 8
    assert "users &lt;&quot;&amp;&gt;|.*\\" in page
    read = json.loads(telling.as_json(whole))
    assert [one["cache"] for one in read["caches"]] == [USERS, CARTS]
    assert read["caches"][0]["alerts"][2]["end"] == BEGAN + 1_505


def test_the_command_writes_the_page_and_says_what_came_of_it(
    past: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    since, until = (time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(BEGAN + more)) for more in (0, HOUR))
    command = ["report", "--prometheus", past, "--since", since, "--until", until]
    assert cli.run(command) == 0
    said = capsys.readouterr().out
    assert f"cache {CARTS}: no page\n" in said
    assert "CacheRestarted: " in said
    assert said.endswith("wrote incident.html; write into its notes what no metric knows\n")
    assert (tmp_path / "incident.html").read_text() == telling.as_html(told(past))
    assert cli.run([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["incident"] is True
    assert cli.run([*command, "--cache", "nope", "--out", "new.html"]) == 1
    assert cli.run([*command, "--out", "missing/new.html"]) == 2
    assert [one.name for one in tmp_path.iterdir()] == ["incident.html"]


@pytest.mark.parametrize(
    ("name", "said"),
    [("incident.html", "Report of the incident, for the post-mortem: "), ("missing/x.html", "No report of it: ")],
)
def test_the_demo_writes_a_report_and_goes_on_where_it_cannot(past: str, tmp_path: Path, name: str, said: str) -> None:
    output = io.StringIO()
    stack: Any = SimpleNamespace(prometheus=SimpleNamespace(url=past))
    demo.report(stack, Timeline(Console(file=output)), BEGAN, tmp_path / name)
    assert output.getvalue().startswith(said)
    assert len(output.getvalue().splitlines()) == 1
    assert [one.name for one in tmp_path.iterdir()] == (["incident.html"] if name == "incident.html" else [])
