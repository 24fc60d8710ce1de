"""What hides what, asked of a real Alertmanager on the rendered configuration, and of the model beside it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from tests import pager
from tests.waiting import until

from herdwatch.proof.routing import Routing
from herdwatch.stack import Supervisor

PROCESS = {"CacheRestarted", "CacheKeysLost", "CacheDown", "CacheLoading", "CacheRestartLoop", "CacheTargetDown"}
GUARD = {"SingleflightDisabled", "CacheWarmupStalled", "CacheRefreshFailing", "HighCoalescingRate"}
WHOLE = {"CacheStampede", "CacheHitRateLow", "CacheEvicting", "CacheReplicaMissing"}
OF_A_CACHE = sorted(PROCESS | GUARD | WHOLE)

GONE = (PROCESS - {"CacheDown", "CacheTargetDown"}) | (WHOLE - {"CacheStampede"}) | GUARD
COLD = {"CacheHitRateLow", "CacheEvicting", "CacheReplicaMissing", "CacheRefreshFailing", "HighCoalescingRate"}
HIDES = {
    "CacheDown": GONE,
    "CacheTargetDown": GONE,
    "CacheRestarted": COLD,
    "CacheKeysLost": COLD,
    "CacheLoading": COLD,
    "CacheRestartLoop": COLD,
    "CacheStampede": {"CacheHitRateLow", "HighCoalescingRate"},
    "CacheEvicting": {"CacheHitRateLow"},
}

Labels = dict[str, str]


def of(alert: str, cache: str = "", instance: str = "h:1", team: str = "platform") -> Labels:
    """The labels that the rules give an alert; an empty one is left out."""
    given = {"cache": cache, "team": team}
    given |= {"instance": instance} if alert in PROCESS else {"service": "api"} if alert in GUARD else {}
    return pager.labels(alert, **{name: value for name, value in given.items() if value})


CASES: dict[str, tuple[Labels, Labels, bool]] = {
    "another cache": (of("CacheDown", "a1"), of("CacheRestarted", "a2"), False),
    "another cache as a whole": (of("CacheRestarted", "b1"), of("CacheHitRateLow", "b2"), False),
    "another shard": (of("CacheDown", "c"), of("CacheRestarted", "c", "h:2"), False),
    "a shard and its cache as a whole": (of("CacheRestarted", "d", "h:2"), of("CacheHitRateLow", "d"), True),
    "the same alert of another shard": (of("CacheDown", "e"), of("CacheDown", "e", "h:2"), False),
    "the same alert of another service": (
        of("CacheRefreshFailing", "f"),
        of("CacheRefreshFailing", "f") | {"service": "web"},
        False,
    ),
    "no cache in the source": (of("CacheDown"), of("CacheHitRateLow", "g"), False),
    "no cache in the target": (of("CacheRestarted", "h"), of("CacheHitRateLow"), False),
    "no cache in either": (of("CacheDown", "", "h:9"), of("CacheRestarted", "", "h:9"), False),
    "no cache in either, as a whole": (of("CacheLoading"), of("CacheEvicting"), False),
    "a vanished target, without an instance": (of("CacheTargetDown", "i", ""), of("CacheRestarted", "i"), True),
    "a vanished target of another cache": (of("CacheTargetDown", "j1", ""), of("CacheRestarted", "j2"), False),
    "a vanished target and the cache as a whole": (of("CacheTargetDown", "k", ""), of("CacheEvicting", "k"), True),
    "a vanished target without a cache": (of("CacheTargetDown", "", ""), of("CacheRestarted", "", "h:8"), False),
    "no instance in a source that has one by right": (of("CacheDown", "l", ""), of("CacheLoading", "l"), False),
    "no instance in the target": (of("CacheDown", "m"), of("CacheRestarted", "m", ""), False),
    "no instance in either": (of("CacheDown", "n", ""), of("CacheRestarted", "n", ""), False),
    "another team with a cache of that name": (
        of("CacheRestarted", "o", team="payments"),
        of("CacheHitRateLow", "o"),
        False,
    ),
    "no team in the source": (of("CacheRestarted", "p", team=""), of("CacheHitRateLow", "p"), False),
    "no team in the target": (of("CacheDown", "q"), of("CacheRestarted", "q", team=""), False),
    "no team in either": (of("CacheRestarted", "r", team=""), of("CacheHitRateLow", "r", team=""), True),
    "one exporter of two": (
        pager.labels("CacheExporterDown", instance="e:1") | {"severity": "warning"},
        of("CacheDown", "s"),
        False,
    ),
}


@dataclass(frozen=True)
class Held:
    """What Alertmanager holds, and what the model says of the same alerts."""

    alerts: list[dict[str, Any]]
    routing: Routing

    def inhibited(self, labels: Labels) -> list[Labels]:
        """By which alerts the one with these labels is suppressed."""
        names = {alert["fingerprint"]: alert["labels"] for alert in self.alerts}
        alert = next(alert for alert in self.alerts if alert["labels"] == labels)
        found = [names[fingerprint] for fingerprint in alert["status"]["inhibitedBy"]]
        assert (alert["status"]["state"] == "suppressed") == bool(found)
        return found

    def check(self, labels: Labels, *, hidden: bool) -> None:
        """Both say the same of it."""
        others = [alert["labels"] for alert in self.alerts]
        assert (bool(self.inhibited(labels)), self.routing.inhibited(labels, others)) == (hidden, hidden)


def held(labels: list[Labels], folder: Path) -> Held:
    """What stands once Alertmanager's inhibition has read all of them.

    It reads what was put in behind the API's back, in that order: an answer before it has come to the last says
    "not hidden" of what will be. The last two are a pair of which one hides the other.
    """
    last = (of("CacheDown", "last"), of("CacheLoading", "last"))
    config = pager.render(pager.configuration("http://127.0.0.1:1"), folder)
    with Supervisor() as supervisor:
        server = pager.start(supervisor, config)
        pager.post(server, [{"labels": one} for one in {str(one): one for one in labels}.values()])
        for one in reversed(last):
            pager.post(server, [{"labels": one}])
        routing = Routing.of(config.read_text())
        until(
            lambda: Held(server.alerts(), routing).inhibited(last[1]),
            "Alertmanager never hid the last of the alerts",
        )
        return Held(server.alerts(), routing)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Held:
    """All cases at once, each with caches of its own."""
    return held([one for source, target, _ in CASES.values() for one in (source, target)], tmp_path_factory.mktemp("c"))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Held:
    """Every two alerts of one process, one cache and one service for each pair."""
    alerts = [of(one, f"{a}-{b}") for a, b in combinations(OF_A_CACHE, 2) for one in (a, b)]
    return held(alerts, tmp_path_factory.mktemp("p"))


@pytest.mark.parametrize("sentence", CASES)
def test_of_two_alerts_the_one_hides_the_other_or_not(sentence: str, cases: Held) -> None:
    source, target, hidden = CASES[sentence]
    cases.check(target, hidden=hidden)
    cases.check(source, hidden=False)
    assert cases.inhibited(target) == [source] * hidden


@pytest.mark.parametrize("alert", OF_A_CACHE)
def test_every_alert_hides_what_it_explains_and_nothing_else(alert: str, pairs: Held) -> None:
    hidden = set()
    for other in OF_A_CACHE:
        if other != alert:
            cache = "-".join(sorted((alert, other)))
            pairs.check(of(other, cache), hidden=other in HIDES.get(alert, ()))
            hidden |= {other} if pairs.inhibited(of(other, cache)) == [of(alert, cache)] else set()
    assert hidden == set(HIDES.get(alert, ()))


def test_without_any_exporter_everything_of_every_cache_is_hidden_and_nothing_else(tmp_path: Path) -> None:
    exporters = [pager.labels("CacheExporterDown", instance=f"e:{number}") for number in (1, 2)]
    caches = [of(alert, cache, team=team) for alert in OF_A_CACHE for cache, team in (("a", "platform"), ("b", ""))]
    others = [pager.labels("HerdwatchWatchdog"), of("CacheTargetDown"), of("CacheHitRateLow", team="payments")]
    found = held([*exporters, *caches, *others], tmp_path)
    for labels in caches:
        found.check(labels, hidden=True)
        assert found.inhibited(labels)[0]["alertname"] in ("CacheExporterDown", "CacheDown", "CacheTargetDown")
    for labels in (*exporters, *others):
        found.check(labels, hidden=False)
