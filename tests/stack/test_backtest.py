"""A real Prometheus that remembers two hours made from models: what a backtest says of them."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from herdwatch.config import Config
from herdwatch.errors import CheckFailed, UsageError
from herdwatch.promtool import Promtool
from herdwatch.proof import backtest, trials
from herdwatch.proof.backtest.request import Request
from herdwatch.proof.player import Player
from herdwatch.proof.plays import Firing, Play, Series
from herdwatch.proof.world import World
from herdwatch.stack import PrometheusServer, Supervisor
from herdwatch.tools import find

INTERVAL = 15
AFTERNOON = (int(time.time()) - 6 * 3600) // 3600 * 3600
"""When the first hour began; on the grid of evaluations."""
EVENING = AFTERNOON + 5_400
HAND_MADE = """\
groups:
  - name: hand-made
    rules:
      - {record: "x:young", expr: "time() - x_start_time_seconds < 300"}
      - {alert: Young, expr: "x:young"}
      - {alert: Endless, expr: "x_limit == +Inf"}
      - {alert: Unknown, expr: "x_ratio != x_ratio", for: 1m}
      - {alert: Scarce, expr: "min_over_time(x_ratio[10m]) < 0.5"}
"""


def afternoon(world: World) -> Iterator[float]:
    """A cold restart, an exporter that restarts, a cache that is dropped, and a Redis that is away."""
    users, carts, jobs = (world.cache(name) for name in ("users", "carts", "jobs"))
    yield from world.calm()
    users.nodes[0].crash()
    yield 2
    users.nodes[0].start(world.now)
    yield 120
    world.exporters["exporter-1:9878"] = False
    yield 20
    world.exporters["exporter-1:9878"] = True
    world.restart_exporters()
    yield 120
    carts.nodes[0].watched = False
    jobs.nodes[0].crash()
    yield 240
    jobs.nodes[0].start(world.now, {"0": 200_000.0})
    yield 240


def evening(world: World) -> Iterator[float]:
    """Prometheus is away for six minutes, and nothing else happens."""
    world.cache("users")
    yield from world.calm()
    world.scraping = False
    yield 360
    world.scraping = True
    yield 180


def hand_made() -> list[Series]:
    """A process that starts again with its host's clock, and values that are no ordinary numbers."""
    labels = {"job": "x", "instance": "x:1", "cache": 'a "b"'}
    scrapes = range(11, 1_200, INTERVAL)
    starts = [(at, float(AFTERNOON + (600 if at > 600 else -900))) for at in scrapes]
    limits = [(at, float("inf") if 300 < at < 500 else 1.0) for at in scrapes]
    ratios = [(at, float("nan") if at > 900 else 0.25 if 400 < at < 420 else 1.0) for at in scrapes]
    ups = [(at, 1.0) for at in scrapes]
    named = {"x_start_time_seconds": starts, "x_limit": limits, "x_ratio": ratios, "up": ups}
    return [Series(name, labels, points) for name, points in named.items()]


class Remembered:
    """The Prometheus, its two hours, and the configuration that goes with them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.afternoon, self.evening = World("noon", interval=INTERVAL), World("dusk", interval=INTERVAL)
        self.afternoon.run(afternoon)
        self.evening.run(evening)
        self.url = ""

    def access(self) -> backtest.Access:
        return backtest.Access.of(self.url)

    def config(self, world: World) -> Config:
        return trials.configuration([world], INTERVAL)

    def request(self, world: World, began: int, *, earlier: int = 0) -> Request:
        return backtest.of_config(self.config(world), (began - earlier, began + world.now), INTERVAL)


@pytest.fixture(scope="module")
def past() -> Iterator[Remembered]:
    with Supervisor() as supervisor:
        made = Remembered(supervisor.folder)
        timed = [(AFTERNOON, made.afternoon.play("a")), (EVENING, made.evening.play("e"))]
        write_blocks(supervisor.folder, [*timed, (AFTERNOON, Play("x", hand_made(), 1_200))])
        configuration = supervisor.folder / "prometheus.yml"
        configuration.write_text("global: {}\n")
        made.url = PrometheusServer(supervisor, configuration).url
        yield made


def write_blocks(folder: Path, plays: Iterable[tuple[int, Play]]) -> None:
    """Plays that began at a time, as the storage of a Prometheus; it keeps no markers of series that ended."""
    families: dict[str, list[str]] = {}
    for began, play in plays:
        for series in play.series:
            labels = ",".join(f"{name}={json.dumps(value)}" for name, value in series.labels.items())
            lines = families.setdefault(series.name, [f"# TYPE {series.name} unknown"])
            lines += [
                f"{series.name}{{{labels}}} {value!r} {began + at}" for at, value in series.points if value is not None
            ]
    text = folder / "history.txt"
    text.write_text("\n".join([*(line for lines in families.values() for line in lines), "# EOF\n"]))
    tool = find("promtool")
    command = tool.command("tsdb", "create-blocks-from", "openmetrics", text, folder / "prometheus")
    subprocess.run(command, check=True, capture_output=True, cwd=tool.cwd, timeout=60)


def plain(firings: Iterable[Firing], began: int, seconds: int) -> list[tuple[object, ...]]:
    """Firings in seconds of the play, without the watchdog's."""
    return sorted(
        (one.alert, sorted(one.labels.items()), one.start - began, one.end and min(one.end - began, seconds))
        for one in firings
        if one.labels["severity"] != "none" and one.start - began < seconds
    )


@pytest.mark.parametrize("length", [None, 600], ids=["in one piece", "in pieces, with incidents across their borders"])
def test_a_backtest_says_what_the_same_series_say_when_they_are_played_directly(
    past: Remembered, tmp_path: Path, length: int | None
) -> None:
    request = past.request(past.afternoon, AFTERNOON)
    (tmp_path / "rules.yml").write_text(request.rules)
    player = Player(Promtool(), [tmp_path / "rules.yml"], evaluation=INTERVAL)
    direct = plain(player.play(past.afternoon.play("afternoon")), 0, past.afternoon.now)
    found = backtest.run(past.access(), request, length=length)
    assert plain(found.firings, AFTERNOON, past.afternoon.now) == direct
    told = {(alert, dict(labels).get("cache")) for alert, labels, _, _ in direct}  # type: ignore[call-overload]
    assert {("CacheRestarted", "noon.users"), ("CacheTargetDown", "noon.carts"), ("CacheDown", "noon.jobs")} <= told
    assert found.seen == ["noon.carts", "noon.jobs", "noon.users"]
    assert [page.cache for page in found.pages if "CacheRestarted" in page.alerts] == ["noon.users"]
    assert found.asleep == []


def test_nothing_is_said_of_the_time_in_which_prometheus_slept(past: Remembered) -> None:
    found = backtest.run(past.access(), past.request(past.evening, EVENING))
    assert plain(found.firings, EVENING, past.evening.now) == []
    assert found.pages == []
    [(start, end)] = found.asleep
    assert 350 < end - start < 400
    assert "Prometheus scraped nothing from " in backtest.as_text(found)


def test_nothing_is_said_of_a_sleep_that_lasts_to_the_end(past: Remembered) -> None:
    config, until = past.config(past.evening), EVENING + past.evening.now + 900
    found = backtest.run(past.access(), backtest.of_config(config, (until - 1_200, until), INTERVAL))
    assert plain(found.firings, until - 1_200, 1_200) == []
    assert found.asleep[-1][1] == until


def test_a_history_that_begins_too_late_is_told_and_a_cache_without_any_is_left_out(past: Remembered) -> None:
    made = past.config(past.evening)
    more = made.caches[0].model_copy(update={"name": "sessions"})
    config = made.model_copy(update={"caches": (*made.caches, more)})
    request = backtest.of_config(config, (AFTERNOON - 86_400, AFTERNOON + 300), INTERVAL)
    found = backtest.run(past.access(), request)
    assert AFTERNOON <= found.begins <= AFTERNOON + INTERVAL
    assert found.unseen == ["dusk.users", "sessions"]
    assert plain(found.firings, AFTERNOON, 300) == []
    text = backtest.as_text(found)
    assert "1d were asked for; its history begins " in text
    assert "without any data, and left out: dusk.users, sessions\n" in text
    assert "nobody would have been paged" in text


def test_a_target_that_was_first_scraped_after_others_is_no_page_at_the_beginning_of_a_history() -> None:
    world = World("dawn", interval=INTERVAL)
    world.run(evening)
    exporters = {"job": "herdwatch-exporter"}.items()
    series = [
        replace(one, points=[(at, value) for at, value in one.points if at > 50 or not exporters <= one.labels.items()])
        for one in world.play("d").series
    ]
    with Supervisor() as supervisor:
        write_blocks(supervisor.folder, [(AFTERNOON, Play("d", series, world.now))])
        (supervisor.folder / "prometheus.yml").write_text("global: {}\n")
        access = backtest.Access.of(PrometheusServer(supervisor, supervisor.folder / "prometheus.yml").url)
        period = AFTERNOON - 3_600, AFTERNOON + 300
        found = backtest.run(access, backtest.of_config(trials.configuration([world], INTERVAL), period, INTERVAL))
    assert plain(found.firings, AFTERNOON, 300) == []
    assert found.pages == []


def test_one_cache_of_several_is_narrowed_to(past: Remembered) -> None:
    period = AFTERNOON, AFTERNOON + past.afternoon.now
    request = backtest.of_config(past.config(past.afternoon), period, INTERVAL, caches=["noon.jobs"])
    found = backtest.run(past.access(), request)
    assert found.seen == ["noon.jobs"]
    assert {page.cache for page in found.pages} == {"noon.jobs"}
    with pytest.raises(UsageError, match=r"--cache: the configuration has no 'nooon'; there is: noon\.users, "):
        backtest.of_config(past.config(past.afternoon), period, INTERVAL, caches=["nooon"])


@pytest.mark.parametrize("length", [None, 300])
def test_rules_of_a_file_read_the_clock_of_the_history_and_its_odd_values(
    past: Remembered, tmp_path: Path, length: int | None
) -> None:
    (tmp_path / "mine.yml").write_text(HAND_MADE)
    request = backtest.of_rules(tmp_path / "mine.yml", (AFTERNOON, AFTERNOON + 1_200), INTERVAL)
    found = backtest.run(past.access(), request, length=length)
    fired = [(one.alert, one.start - AFTERNOON, one.end and one.end - AFTERNOON) for one in found.firings]
    assert fired == [("Endless", 315, 510), ("Scarce", 405, 1020), ("Young", 615, 900), ("Unknown", 975, None)]
    assert all(one.labels == {"cache": 'a "b"', "instance": "x:1", "job": "x"} for one in found.firings)
    assert [page.alerts for page in found.pages] == [("Endless", "Scarce", "Young", "Unknown")]


def test_the_report_for_programs_holds_what_the_one_for_people_says(past: Remembered, tmp_path: Path) -> None:
    (tmp_path / "mine.yml").write_text(HAND_MADE)
    request = backtest.of_rules(tmp_path / "mine.yml", (AFTERNOON, AFTERNOON + 1_200), INTERVAL)
    found = backtest.run(past.access(), request)
    read = json.loads(backtest.as_json(found))
    rows = {row["alert"]: (row["fired"], row["pages"], row["firing_seconds"]) for row in read["alerts"]}
    assert rows["Endless"] == (1, 1, 195)
    assert rows["Unknown"] == (1, 0, 225)
    assert read["pages"][0]["start"] == AFTERNOON + 315
    assert [line.split()[:4] for line in backtest.as_text(found).splitlines() if line.startswith("Endless")] == [
        ["Endless", "1", "1", "3m"]
    ]


def test_an_unknown_metric_is_told_with_file_and_line(past: Remembered, tmp_path: Path) -> None:
    rules = HAND_MADE.replace("x_limit", "x_limmit")
    (tmp_path / "mine.yml").write_text(rules)
    request = backtest.of_rules(tmp_path / "mine.yml", (AFTERNOON, AFTERNOON + 1_200), INTERVAL)
    with pytest.raises(CheckFailed, match=r"mine\.yml:6: Endless: http://\S+ has no series of x_limmit between "):
        backtest.run(past.access(), request)


def of_rules(folder: Path, *expressions: str, caches: Sequence[str] = ()) -> Request:
    """A rule for each expression, called A, B and so on, on the first twenty minutes."""
    lines = [f"      - {{alert: {name}, expr: '{expr}'}}\n" for name, expr in zip("ABC", expressions, strict=False)]
    (folder / "mine.yml").write_text("groups:\n  - name: g\n    rules:\n" + "".join(lines))
    return backtest.of_rules(folder / "mine.yml", (AFTERNOON, AFTERNOON + 1_200), INTERVAL, caches=caches)


def test_a_selector_without_series_is_told_with_file_and_line(past: Remembered, tmp_path: Path) -> None:
    request = of_rules(tmp_path, "up == 0", 'up{job="nope"} == 0', 'up{job="x"} == 0 or x_limit{job="y"} > 1')
    found = backtest.run(past.access(), request)
    told = [line.replace(f"{tmp_path}/", "") for line in backtest.as_text(found).splitlines() if "no series" in line]
    assert told == [
        'mine.yml:5: B: no series of up{job="nope"}, so that silence proves nothing of it',
        'mine.yml:6: C: no series of x_limit{job="y"}, so that silence proves nothing of it',
    ]
    assert len(json.loads(backtest.as_json(found))["notes"]) == 2


def test_an_unknown_metric_beside_one_that_is_known_to_all_is_told_as_such(past: Remembered, tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match=r"mine\.yml:5: B: http://\S+ has no series of typo between .*; take such "):
        backtest.run(past.access(), of_rules(tmp_path, "up == 0", "typo > 1"))
    with pytest.raises(CheckFailed, match=r"mine\.yml:5: B: http://\S+ has no series of cache_restarts_total between "):
        backtest.run(past.access(), of_rules(tmp_path, "up == 0", "cache_restarts_total > 1"))


def test_a_cache_that_no_series_names_is_an_error_with_rules_of_a_file(past: Remembered, tmp_path: Path) -> None:
    found = backtest.run(past.access(), of_rules(tmp_path, "up == 0", caches=["noon.jobs"]))
    assert found.seen == ["noon.jobs"]
    expected = r"^--cache: no series that the rules of \S+mine\.yml read has 'nooon' in its label cache, between "
    with pytest.raises(UsageError, match=expected):
        backtest.run(past.access(), of_rules(tmp_path, "up == 0", caches=["noon.jobs", "nooon"]))


@pytest.mark.parametrize(("since", "until"), [(-86_400, -43_200), (2_400, 3_600)], ids=["before", "after"])
def test_a_time_without_data_is_an_error_and_no_quiet_report(past: Remembered, since: int, until: int) -> None:
    period = AFTERNOON + since, AFTERNOON + until
    request = backtest.of_config(past.config(past.afternoon), period, INTERVAL)
    with pytest.raises(
        CheckFailed, match=r"has no series that the rules of alerts/herdwatch\.rules\.yml read, between "
    ):
        backtest.run(past.access(), request)
