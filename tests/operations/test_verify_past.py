"""What `verify` sees of a cache before its process started, and of servers that are no cache or may not be asked."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from tests.waiting import until

from herdwatch import cli, reports
from herdwatch.bundle.windows import Windows
from herdwatch.config import Cache
from herdwatch.errors import CheckFailed
from herdwatch.operations.verify import Sight, answers, see
from herdwatch.operations.verify.sight import Sample
from herdwatch.prometheus import Access, Prometheus
from herdwatch.stack import PrometheusServer, RedisServer, Supervisor

HEADER = "max_over_time(cache_instance:keys:current"


class Past:
    """A Prometheus with one cache on two instances; keeps what it was asked."""

    def __init__(self, instance: str, *, slow: float = 0.0, fails: bool = False) -> None:
        self.asked: list[tuple[str, float]] = []
        self._instance, self._slow, self._fails = instance, slow, fails

    def query(self, expr: str, at: float) -> list[dict[str, Any]]:
        self.asked.append((expr, at))
        if not expr.startswith(HEADER):
            return []
        time.sleep(self._slow)
        if self._fails:
            raise CheckFailed("Prometheus has no such function")
        most = {self._instance: "200001", "other:6379": "900000"}
        return [{"metric": {"instance": name}, "value": [at, value]} for name, value in most.items()]

    def query_range(self, expr: str, start: float, end: float, step: int) -> list[dict[str, Any]]:
        raise NotImplementedError

    def series(self, selector: str, start: float, end: float) -> list[dict[str, str]]:
        raise NotImplementedError


def looked(server: RedisServer, past: Past, seconds: float = 2.0) -> Sight:
    return asyncio.run(see(Cache(name="users", url=server.url), past, seconds=seconds))


@pytest.mark.parametrize("interval", [5, 15, 30, 60])
def test_the_window_is_that_of_the_rules(interval: float) -> None:
    info = {"role": "master", "uptime_in_seconds": "90000", "db0": "keys=10"}
    baseline = Sample({"__name__": "cache_instance:keys:baseline", "instance": "h:1"}, 10.0, 1.0)
    sight = Sight("users", "h:1", 1.0, info=info, past=(baseline,))
    found = {one.question: one.text for one in answers(sight, cache_job="herdwatch", scrape_interval=interval)}
    assert f"of the most of the last {Windows.of(interval).baseline} (10)" in found["how cold"]


def test_what_was_there_before_the_process_started_is_asked_at_its_start(shared: RedisServer) -> None:
    past = Past(shared.address)
    sight = looked(shared, past)
    expr, at = next(one for one in past.asked if one[0].startswith(HEADER))
    assert expr == f'{HEADER}{{cache="users"}}[30m])'
    assert at == pytest.approx(sight.at - float(sight.info["uptime_in_seconds"]))
    assert sight.before == 200_001


RULES = """
groups:
  - name: past
    interval: 1s
    rules:
      - {record: 'cache_instance:keys:current', expr: vector(9000), labels: {cache: users, instance: 'h:1'}}
"""


def test_a_real_prometheus_knows_it_too(supervisor: Supervisor, tmp_path: Path) -> None:
    (tmp_path / "past.yml").write_text(RULES)
    (tmp_path / "prometheus.yml").write_text("global: {evaluation_interval: 1s}\nrule_files: [past.yml]\n")
    prometheus = PrometheusServer(supervisor, tmp_path / "prometheus.yml")
    written = "count_over_time(cache_instance:keys:current[5m])"  # Redis tells its age in whole seconds
    until(lambda: (prometheus.value(written) or 0) > 3, "a past that is older than the process")
    server = RedisServer(supervisor)
    api = Prometheus(Access.of(prometheus.url), seconds=5, pause=None)
    sight = asyncio.run(see(Cache(name="users", url=server.url), api, seconds=5))
    assert (sight.before, sight.since) == (9000, None)
    (cold,) = [one for one in answers(sight, cache_job="herdwatch") if one.question == "how cold"]
    assert (cold.verdict, "0 keys, 0% of the most before it started (9,000)" in cold.text) == ("bad", True)


def test_another_instance_stands_in_where_this_one_has_no_past(shared: RedisServer) -> None:
    assert looked(shared, Past("gone:6379")).before == 900_000


@pytest.mark.parametrize("past", [Past("x", slow=1.0), Past("x", fails=True)], ids=["slow", "failing"])
def test_a_past_that_does_not_come_in_time_is_not_known(shared: RedisServer, past: Past) -> None:
    sight = looked(shared, past, seconds=0.4)
    assert (sight.failure, sight.past, sight.before) == ("", (), None)


def test_a_user_who_may_not_read_the_reports_is_told_so(
    supervisor: Supervisor, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = RedisServer(supervisor)
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "blind", "on", ">secret", "resetkeys", "-@all", "+info", "+hgetall")
        client.hset(reports.KEY, "x", "y")
    monkeypatch.setenv("BLIND", "secret")
    code = cli.run(["verify", "--redis-url", server.url, "--username", "blind", "--password-env", "BLIND", "--json"])
    found = {one["question"]: one for one in json.loads(capsys.readouterr().out)["answers"]}
    assert code == 0
    for question in ("singleflight", "warm-up", "reports"):
        assert found[question]["verdict"] == "unknown"
        assert "herdwatch:reports may not be read by this user" in found[question]["text"]


def test_a_sentinel_is_no_cache(town: Any, capsys: pytest.CaptureFixture[str]) -> None:
    primary = town.server()
    sentinel = town.sentinel(primary)
    code = cli.run(["verify", "--redis-url", f"redis://{sentinel.address}"])
    out, err = capsys.readouterr()
    assert code == 1
    assert f"!! redis         what answers at {sentinel.address} is a Sentinel, which holds no keys" in out
    assert err.endswith("see to redis\n")
