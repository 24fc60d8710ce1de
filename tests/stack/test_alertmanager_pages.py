"""The model tells what a real Alertmanager tells of the same alerts at the same times, scaled down."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from itertools import groupby

import pytest
from tests import pager

from herdwatch.proof.plays import Firing
from herdwatch.proof.routing import Notification, Routing, labels_of
from herdwatch.stack import AlertmanagerServer, Supervisor, WebhookReceiver

SCALE = 0.03
"""Seconds that a second of a timeline lasts: all is over before Alertmanager cleans up groups for the first time."""
UNTIL = 700
APART = 2
"""Seconds between the beginnings of two timelines, so that the webhook is not asked by all of them at once."""
MARGIN = 3
"""Seconds of a timeline by which everything may come too early or too late without another verdict."""


def of(alert: str, start: int, end: int | None = None, **labels: str) -> Firing:
    """An alert of one cache, team and process, unless `labels` say otherwise; an empty one is left out."""
    given = {"cache": "cache", "team": "platform", "instance": "h:1", "severity": pager.SEVERITY_OF[alert], **labels}
    return Firing(alert, {name: value for name, value in given.items() if value}, start, end)


def whole(alert: str, start: int, end: int | None = None, **labels: str) -> Firing:
    """An alert of a cache as a whole."""
    return of(alert, start, end, **{"instance": "", **labels})


def exporter(start: int, end: int | None, **labels: str) -> Firing:
    return of("CacheExporterDown", start, end, **{"cache": "", "team": "", **labels})


TIMELINES: dict[str, tuple[list[Firing], list[str]]] = {
    "a cold restart whose misses end with it": (
        [of("CacheRestarted", 0, 200), whole("CacheHitRateLow", 60, 190)],
        ["critical"],
    ),
    "misses that go on when the restart explains them no longer": (
        [of("CacheRestarted", 0, 150), whole("CacheHitRateLow", 20)],
        ["critical", "warning"],
    ),
    "without any exporter, and a cache that is down when it is back": (
        [
            exporter(0, 92),
            of("CacheTargetDown", 20, 92, cache="a"),
            of("CacheTargetDown", 20, 92, cache="b"),
            of("CacheDown", 50, cache="c"),
        ],
        ["critical", "critical"],
    ),
    "one exporter of two": (
        [exporter(0, None, severity="warning"), of("CacheDown", 50)],
        ["warning", "critical"],
    ),
    "one shard, then another": (
        [
            of("CacheDown", 0),
            of("CacheRestarted", 20, instance="h:1"),
            of("CacheDown", 50, instance="h:2"),
            whole("CacheHitRateLow", 100),
        ],
        ["critical"],
    ),
    "caches of two teams": (
        [of("CacheRestarted", 0, cache="a", team="payments"), of("CacheRestarted", 20, cache="b")],
        ["payments/critical", "critical"],
    ),
    "one cache's name in two teams": (
        [of("CacheRestarted", 0, team="payments"), whole("CacheHitRateLow", 50)],
        ["payments/critical", "warning"],
    ),
    "a scrape without the label cache": (
        [of("CacheDown", 0, cache="", team=""), whole("CacheHitRateLow", 20, cache="", team="")],
        ["critical", "warning"],
    ),
    "flapping faster than anybody is told": ([of("CacheDown", 0, 13), of("CacheDown", 24)], ["critical"]),
    "flapping slower": ([of("CacheDown", 0, 20), of("CacheDown", 50, 110)], ["critical", "critical"]),
    "a blip that is over before anybody is told": ([whole("CacheEvicting", 0, 18)], []),
    "a warning that becomes critical": (
        [whole("CacheEvicting", 0), of("CacheRestarted", 60, 200)],
        ["warning", "critical"],
    ),
    "a warning that ends while it is explained, and comes again before it is repeated": (
        [whole("CacheHitRateLow", 0, 100), of("CacheRestarted", 60, 400), whole("CacheHitRateLow", 440)],
        ["warning", "critical"],
    ),
    "a stampede on a cache that is down": (
        [of("CacheDown", 0), whole("CacheStampede", 20), whole("CacheEvicting", 20)],
        ["critical"],
    ),
    "singleflight off while the cache is cold": (
        [of("CacheRestarted", 0), whole("SingleflightDisabled", 30, service="api")],
        ["critical", "warning"],
    ),
    "a target that vanished, without its instance": (
        [whole("CacheTargetDown", 0), of("CacheRestarted", 20), whole("CacheReplicaMissing", 20)],
        ["critical"],
    ),
    "coalescing that comes and goes": (
        [whole("HighCoalescingRate", 0, 100, service="api"), whole("HighCoalescingRate", 400, service="api")],
        ["info", "info"],
    ),
    "a severity that nobody has": ([of("CacheDown", 0, severity="page")], []),
    "the watchdog": ([whole("HerdwatchWatchdog", 0, cache="", team="")], ["watchdog"]),
}
ALONE = [sentence for sentence, (firings, _) in TIMELINES.items() if firings[0].alert == "CacheExporterDown"]
"""Timelines that hide the alerts of every cache, each in an Alertmanager of its own."""

Told = tuple[str, tuple[tuple[str, str], ...], bool, tuple[str, ...], tuple[str, ...]]
"""Receiver, group, whether it is a page, the alerts that fire, the alerts that have ended."""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> str:
    return pager.render(pager.configuration("http://127.0.0.1:1"), tmp_path_factory.mktemp("bundle")).read_text()


@pytest.fixture(scope="module")
def really(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[Told]]]:
    """What the receivers got, by timeline: all of them have been played at the same time."""
    with Supervisor() as first, Supervisor() as second, Supervisor() as third, WebhookReceiver() as webhook:
        path = pager.render(pager.configuration(webhook.url), tmp_path_factory.mktemp("real"), scale=SCALE)
        shared, *others = (pager.start(supervisor, path) for supervisor in (first, second, third))
        servers = dict.fromkeys(TIMELINES, shared) | dict(zip(ALONE, others, strict=True))
        replay(servers)
        yield by_timeline([one.body for one in webhook.received()])


def mine(sentence: str, firing: Firing) -> dict[str, str]:
    """The labels of an alert as it is posted: a cache of its own for every timeline, and the timeline's name."""
    labels = dict(labels_of(firing)) | {"timeline": sentence}
    return labels | {"cache": f"{sentence}: {labels['cache']}"} if "cache" in labels else labels


def replay(servers: dict[str, AlertmanagerServer]) -> None:
    events = sorted(
        (at + APART * place, servers[sentence].url, sentence, number, at == firing.start)
        for place, (sentence, (firings, _)) in enumerate(TIMELINES.items())
        for number, firing in enumerate(firings)
        for at in (firing.start, firing.end)
        if at is not None
    )
    began: dict[tuple[str, int], str] = {}
    beginning = time.monotonic()
    for (at, url), several in groupby(events, key=lambda event: event[:2]):
        time.sleep(max(0.0, beginning + at * SCALE - time.monotonic()))
        alerts = []
        for _, _, sentence, number, starts in several:
            labels = mine(sentence, TIMELINES[sentence][0][number])
            began.setdefault((sentence, number), pager.now())
            alert = {"labels": labels, "startsAt": began[sentence, number]}
            alerts.append(alert if starts else alert | {"endsAt": pager.now()})
        pager.post(next(server for server in servers.values() if server.url == url), alerts)
    time.sleep(max(0.0, beginning + (UNTIL + APART * len(TIMELINES)) * SCALE - time.monotonic()))


def by_timeline(bodies: list[dict[str, object]]) -> dict[str, list[Told]]:
    found: dict[str, list[Told]] = {sentence: [] for sentence in TIMELINES}
    firing_before: dict[tuple[str, str], bool] = {}
    for body in bodies:
        alerts: list[dict[str, dict[str, str]]] = body["alerts"]
        receiver, labels = str(body["receiver"]), alerts[0]["labels"]
        group = tuple(sorted(body["groupLabels"].items()))
        key = (labels["timeline"], f"{receiver}{group}")
        now, ended = (
            tuple(sorted(name_of(alert["labels"]) for alert in alerts if alert["status"] == status))
            for status in ("firing", "resolved")
        )
        found[key[0]].append((receiver, group, bool(now) and not firing_before.get(key), now, ended))
        firing_before[key] = bool(now)
    return found


def name_of(labels: dict[str, str]) -> str:
    return f"{labels['alertname']} {labels.get('cache', '')} {labels.get('instance', '')}"


def told(sentence: str, notification: Notification) -> Told:
    now, ended = (
        tuple(sorted(name_of(mine(sentence, firing)) for firing in firings))
        for firings in (notification.alerts, notification.resolved)
    )
    group = dict(notification.group)
    group |= {"cache": f"{sentence}: {group['cache']}"} if "cache" in group else {}
    return notification.receiver, tuple(sorted(group.items())), notification.page, now, ended


def model(config: str, firings: list[Firing]) -> list[Notification]:
    """What the model says is delivered; nobody is a receiver that delivers nothing."""
    # Within the half minute that all of it lasts, Alertmanager cleans up no group.
    notifications = Routing.of(config).notifications(firings, UNTIL - 10, maintenance=math.inf)
    return [one for one in notifications if one.receiver != "nobody"]


@pytest.mark.parametrize("sentence", TIMELINES)
def test_alertmanager_tells_what_the_model_says_and_the_pages_are_as_many_as_they_should(
    sentence: str, config: str, really: dict[str, list[Told]]
) -> None:
    firings, receivers = TIMELINES[sentence]
    expected = [told(sentence, one) for one in model(config, firings)]
    got = really[sentence]
    if sentence == "the watchdog":  # the last of its repetitions may or may not be in time
        assert abs(len(got) - len(expected)) <= 3
        expected, got = ([one for one in several if one[2]] for several in (expected, got))
    assert got == expected
    assert [receiver for receiver, _, page, _, _ in got if page] == receivers


def shifted(at: int, numbers: random.Random) -> int:
    return max(0, at + numbers.randint(-MARGIN, MARGIN))


@pytest.mark.parametrize("sentence", TIMELINES)
def test_no_timeline_hangs_on_a_moment(sentence: str, config: str) -> None:
    firings, _ = TIMELINES[sentence]
    numbers = random.Random(0)  # noqa: S311 - where a timeline is shifted to is no secret
    usual = [told(sentence, one)[:4] for one in model(config, firings)]
    for _ in range(20):
        moved = [
            Firing(one.alert, one.labels, shifted(one.start, numbers), one.end and shifted(one.end, numbers))
            for one in firings
        ]
        assert [told(sentence, one)[:4] for one in model(config, moved)] == usual
