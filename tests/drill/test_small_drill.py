"""A small drill on real servers, from the first process to the last figure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import psycopg
import pytest
from tests.leftovers import processes_in

from herdwatch.drill.replay import recording, rehearsal, session, users
from herdwatch.drill.replay.cast import Cast
from herdwatch.drill.replay.results import Drill, Result
from herdwatch.drill.replay.running import Run
from herdwatch.drill.replay.scale import Scale
from herdwatch.drill.replay.session import Order
from herdwatch.proof.recordings import load
from herdwatch.stack.postgres import PostgresServer

RUNS = {"restart:none": 20.0, "restart:warm": 16.0, "restart:replica": 10.0, "deploy": 14.0}
"""Runs, and for how many seconds each is watched."""
SCALE = Scale(keys=3000, exponent=1.0, before=3.0, query=0.05)
"""So flat that it takes some 540 keys to hit four times in five: the warm-up is seen for several seconds."""
MULTIPLE = 5.0


@dataclass
class Audience:
    """Remembers what it was shown, and what processes there were while it was."""

    said: list[str] = field(default_factory=list)
    ended_runs: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    folders: set[Path] = field(default_factory=set)

    def say(self, text: str) -> None:
        self.said.append(text)

    def began(self, run: Run, cast: Cast, capacity: float) -> None:
        assert capacity > 0
        assert cast.name == run.name
        assert len(cast.sockets) == SCALE.workers
        self.folders.add(cast.supervisor.folder)

    def going(self, seconds: float) -> None:
        self.seconds.append(seconds)

    def ended(self, result: Result) -> None:
        self.ended_runs.append(result.name)


@dataclass(frozen=True)
class Played:
    drill: Drill
    audience: Audience
    partial: list[tuple[str, int]]

    def __getitem__(self, name: str) -> Result:
        return next(one for one in self.drill.results if one.name == name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recordings")


@pytest.fixture(scope="module")
def played(postgres: PostgresServer, folder: Path) -> Played:
    chosen = {session.parse(text): watch for text, watch in RUNS.items()}
    runs = tuple(replace(run, scenario=replace(run.scenario, watch=watch)) for run, watch in chosen.items())
    audience, partial = Audience(), list[tuple[str, int]]()
    with pytest.MonkeyPatch.context() as patch:
        # What a busy machine carries is not what is asked here.
        patch.setattr(rehearsal, "WORST_P99", 5.0)
        patch.setattr(recording, "SETTLE", 1)
        order = Order(runs, seed=7, multiple=MULTIPLE, interval=5, scale=SCALE, database=postgres.dsn, record=folder)
        drill = session.play(order, audience, lambda one: partial.append((one.partial, len(one.results))))
    return Played(drill, audience, partial)


def test_every_run_comes_to_its_end_and_is_kept_as_partial_until_the_last(played: Played) -> None:
    names = [session.parse(text).name for text in RUNS]
    assert [one.name for one in played.drill.results] == played.audience.ended_runs == names
    *before, last = played.partial
    assert last == ("", len(RUNS))
    assert {told for told, _ in before} == {"it has not ended yet"}
    assert max(played.audience.seconds) > max(RUNS.values()) - 2


def test_guard_application_and_postgresql_count_the_same_loads(played: Played) -> None:
    for result in played.drill.results:
        assert result.counted.agree, (result.name, result.counted)
    assert played["restart-none"].counted.scanned > 0
    assert played["restart-none"].counted.executions is None
    warm = played["restart-warm"].counted
    assert warm.executions == warm.scanned > 100


def test_the_load_is_the_multiple_of_what_was_measured(played: Played) -> None:
    drill = played.drill
    assert drill.multiple == drill.multiple_wanted == MULTIPLE
    for result in drill.results:
        assert result.rate == pytest.approx(MULTIPLE * drill.capacity)
        assert result.requests == pytest.approx(result.rate * result.seconds, rel=0.02)


def test_an_unprotected_cold_restart_is_told_and_paged_once(played: Played) -> None:
    result = played["restart-none"]
    assert [alert.name for alert in result.alerts if alert.severity == "critical"][:1] == ["CacheRestarted"]
    assert result.pages == 1
    assert result.paged is not None
    assert 0 < result.alerts[0].seconds <= result.paged + 1
    assert result.lowest is not None
    assert result.lowest < 0.9
    assert result.peak_sent < result.peak


def test_behind_a_closed_door_nothing_but_the_warm_up_asks_the_database(played: Played) -> None:
    result = played["restart-warm"]
    shut = [second for second, shed in enumerate(result.curves.shed) if shed >= result.rate * 0.99]
    assert len(shut) > 1
    assert 0 < max(result.curves.asked[second] for second in shut) <= result.capacity
    assert result.failed + result.shed < result.requests
    assert result.peak <= result.capacity


def test_a_replica_that_takes_over_leaves_no_cold_moment_and_pages_nobody(played: Played) -> None:
    result = played["restart-replica"]
    assert (result.counted.scanned, result.pages, result.recovered) == (0, 0, 0)


def test_a_deploy_loses_nobody_s_place(played: Played) -> None:
    result = played["deploy-limiter"]
    assert (result.counted.scanned, result.pages) == (0, 0)
    assert result.requests - result.failed - result.shed > 0.9 * result.requests


def test_curves_have_a_value_a_second_and_add_up(played: Played) -> None:
    for result in played.drill.results:
        curves = result.curves
        assert curves.first == -int(SCALE.before)
        drawn = (curves.asked, curves.sent, curves.hit_ratio, curves.p50, curves.p99, curves.failed, curves.shed)
        assert {len(one) for one in drawn} == {int(SCALE.before + result.seconds)}
        after = slice(int(SCALE.before), None)
        assert abs(sum(curves.shed[after]) - result.shed) <= 2
        assert abs(sum(curves.failed[after]) - result.failed) <= 2


def test_what_prometheus_had_of_each_run_is_a_recording(played: Played, folder: Path) -> None:
    found = {one.name: one for one in load.recordings(folder)}
    assert found.keys() == {f"drill-{one.name}" for one in played.drill.results}
    bare = found["drill-restart-none"]
    assert (bare.told, bare.scrape_interval) == (("CacheRestarted",), 5)
    assert (bare.capacity, bare.peak) == (round(played.drill.capacity, 1), round(MULTIPLE * played.drill.capacity, 1))
    [cache] = [one for one in bare.targets if "cache" in one.labels]
    starts = [value for value in cache.series["cache_start_time_seconds"] if value is not None]
    assert starts[0] < 0 < bare.zero - 1 <= starts[-1] <= bare.zero + 5
    assert len([one for one in found["drill-restart-replica"].targets if "cache" in one.labels]) == 2


def test_a_thousand_requests_for_one_user_are_one_query(played: Played) -> None:
    [claim] = [one for one in played.drill.claims if "concurrent requests" in one.claimed]
    assert claim.measured == "1000 of 1000 were served by 1 query"
    assert claim.holds


def test_a_warm_up_at_the_seed_s_pace_ends_with_every_key(played: Played) -> None:
    [claim] = [one for one in played.drill.claims if "10,000 keys" in one.claimed]
    assert claim.measured.startswith("10,000 keys in ")


@pytest.mark.usefixtures("played")
def test_a_database_of_one_s_own_is_left_as_it_was(postgres: PostgresServer) -> None:
    with psycopg.connect(postgres.dsn) as connection:
        found = connection.execute("SELECT count(*) FROM pg_namespace WHERE nspname = %s", (users.SCHEMA,)).fetchone()
    assert found == (0,)


def test_nothing_of_it_is_left(played: Played) -> None:
    [folder] = played.audience.folders
    assert not folder.exists()
    assert processes_in(str(folder)) == []
