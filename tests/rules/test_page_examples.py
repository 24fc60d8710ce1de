"""What a page shows as the output of a query is what the query gives in a recorded incident, at that second."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from herdwatch.bundle.location import bundle_root
from herdwatch.bundle.render import RULES, render_bundle
from herdwatch.bundle.templates import environment, render
from herdwatch.bundle.windows import Windows
from herdwatch.config import Config, parse
from herdwatch.promtool import Promtool
from herdwatch.proof.player import notation
from herdwatch.proof.plays import Series
from herdwatch.proof.recordings import Recording, recordings

RECORDED: dict[str, tuple[str, list[int]]] = {
    "CacheRestarted": ("cold-restart", [20, 240]),
    "CacheStampede": ("cold-restart-slow-refill", [20, 20]),
    "CacheHitRateLow": ("crawler", [60, 60]),
    "CacheDown": ("hung", [20]),
    "CacheKeysLost": ("flushall", [20]),
    "CacheEvicting": ("eviction", [60, 60]),
    "SingleflightDisabled": ("singleflight-off", [20]),
    "CacheWarmupStalled": ("warm-up-stalled", [60]),
    "CacheReplicaMissing": ("replica-lost", [20]),
    "CacheLoading": ("long-load", [60]),
    "CacheRestartLoop": ("crash-loop-cold", [60]),
    "CacheRefreshFailing": ("refresh-failing", [60, 60]),
    "HighCoalescingRate": ("cold-restart-slow-refill", [20]),
    "CacheExporterDown": ("exporter-down", [20]),
}
"""Which recording a page's examples come from, and how many seconds after its zero each of them was asked.

In none is as much coalesced as HighCoalescingRate asks for; its example is how long a load takes.
"""

NOT_RECORDED = {
    "CacheTargetDown": "in no recording does a probe fail or a target vanish while the exporter lives",
    "HerdwatchWatchdog": "it fires in every recording; the incident is its silence, and that has no output",
}

TEMPLATES = bundle_root() / "runbooks" / "templates"
ADDRESSES = {
    "-1.example:6379": "127.0.0.1:6379",
    "-2.example:6379": "127.0.0.1:6380",
    "exporter.example:9878": "127.0.0.1:9878",
}
TEAM = "platform"
"""The names under which pages show what was recorded: those of their own commands and of the default bundle."""

STEP = 5
"""Seconds between two evaluations."""

_EXAMPLE = re.compile(
    r"^```promql\n(?P<query>[^`]+?)```\n+"
    r"Recorded (?P<second>\d+) s after [^`]*?:\n+"
    r"```text\n(?P<shown>[^`]*?)\n```$",
    re.MULTILINE,
)
_ANSWER = re.compile(r"time: \S+?,?\n\s*exp: [^\n]*\n\s*got: ([^\n]*)")
_SAMPLE = re.compile(r"(?:\{((?:[^\"}]|\"(?:[^\"\\]|\\.)*\")*)\}) ([^\s,]+)")
_NAME = re.compile(r"__name__=\"([^\"]*)\"(?:, )?")


@dataclass(frozen=True, slots=True)
class Example:
    """A query of a page, how many seconds after the recording's zero it was asked, and the lines that it gave."""

    query: str
    second: int
    shown: list[str]


def page(alert: str, config: Config) -> str:
    """The page as `herdwatch render` writes it."""
    windows = Windows.of(config.scrape_interval)
    return render(environment(TEMPLATES), f"{alert}.md.j2", config=config, windows=windows, alerts={})


def examples(text: str) -> list[Example]:
    """The examples of a page, in their order, whether they stand in a list or not."""
    found = _EXAMPLE.finditer(re.sub(r"(?m)^ +", "", text))
    return [Example(one["query"], int(one["second"]), one["shown"].split("\n")) for one in found]


def configuration(first: Recording) -> Config:
    """Every recorded cache in one herdwatch.yaml, so that one set of rules serves all; pages name the `first`."""
    merged = json.loads(first.configuration())
    for one in RECORDINGS.values():
        data = json.loads(one.configuration())
        merged["caches"] += [cache for cache in data["caches"] if one is not first]
        merged["databases"] = merged.get("databases", {}) | data.get("databases", {})
    for cache in merged["caches"]:
        cache["team"] = TEAM
    return parse(json.dumps(merged), first.name)


RECORDINGS = {one.name: one for one in recordings()}
OF_PAGE = {alert: RECORDINGS[name] for alert, (name, _) in RECORDED.items()}
PAGES = {alert: page(alert, configuration(recording)) for alert, recording in OF_PAGE.items()}
EXAMPLES = {alert: examples(text) for alert, text in PAGES.items()}


def test_every_page_has_an_example_or_a_reason_why_there_is_none() -> None:
    alerts = {path.name.removesuffix(".md.j2") for path in TEMPLATES.glob("[A-Z]*.md.j2")}
    assert sorted([*RECORDED, *NOT_RECORDED]) == sorted(alerts)


@pytest.mark.parametrize("alert", RECORDED)
def test_a_page_says_the_seconds_that_the_table_says(alert: str) -> None:
    assert [one.second for one in EXAMPLES[alert]] == RECORDED[alert][1]


@pytest.mark.parametrize("alert", RECORDED)
def test_what_stands_below_a_query_is_always_an_example(alert: str) -> None:
    """None escapes the comparison by being written in another way."""
    below = re.findall(r"```promql\n[^`]*```[^`]*```text\n", PAGES[alert])
    assert len(below) == PAGES[alert].count("Recorded ") == len(EXAMPLES[alert])


@pytest.mark.parametrize("alert", NOT_RECORDED)
def test_a_page_without_a_recording_shows_no_output(alert: str) -> None:
    text = page(alert, configuration(RECORDINGS["cold-restart"]))
    assert "```text" not in text
    assert "Recorded " not in text


@pytest.mark.parametrize("alert", RECORDED)
def test_an_example_is_what_the_query_gives(alert: str, answers: dict[str, list[list[str]]]) -> None:
    assert [one.shown for one in EXAMPLES[alert]] == answers[alert]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[str]]]:
    """What every query of every example gives; one promtool plays them all, each recording until it has been asked."""
    folder = tmp_path_factory.mktemp("examples")
    groups = _recording_rules(render_bundle(configuration(RECORDINGS["cold-restart"]))[RULES])
    (folder / "rules.yml").write_text(json.dumps({"groups": groups}))
    order = [str(group["name"]) for group in groups]
    (folder / "examples.test.yml").write_text(json.dumps(_test_file(order)))
    output = Promtool().answers(folder / "examples.test.yml")
    got = iter(_ANSWER.findall(output))
    read = {alert: [_lines(next(got, output)) for _ in EXAMPLES[alert]] for alert in RECORDED}
    assert next(got, None) is None
    return read


def _recording_rules(text: str) -> list[dict[str, Any]]:
    """The groups without their alerts: no example asks for one, and they take most of the time."""
    groups: list[dict[str, Any]] = yaml.safe_load(text)["groups"]
    for group in groups:
        group["rules"] = [rule for rule in group["rules"] if "record" in rule]
    return [group for group in groups if group["rules"]]


def _test_file(order: list[str]) -> dict[str, object]:
    return {
        "rule_files": ["rules.yml"],
        "evaluation_interval": f"{STEP}s",
        "group_eval_order": order,
        "tests": [
            {
                "interval": "1s",
                "input_series": [_input(one) for one in recording.play().series],
                "promql_expr_test": [*_questions(alert, recording), _end(alert, recording)],
            }
            for alert, recording in OF_PAGE.items()
        ],
    }


def _questions(alert: str, recording: Recording) -> list[dict[str, object]]:
    """Expectations that cannot hold, so that promtool prints what the queries really give."""
    wrong = [{"labels": "nothing", "value": 1}]
    return [
        {"expr": one.query, "eval_time": f"{recording.zero + one.second}s", "exp_samples": wrong}
        for one in EXAMPLES[alert]
    ]


def _end(alert: str, recording: Recording) -> dict[str, object]:
    """One that holds, one evaluation later: promtool would leave out the samples behind the last evaluation."""
    second = recording.zero + max((one.second for one in EXAMPLES[alert]), default=0) + STEP
    return {"expr": "vector(0)", "eval_time": f"{second}s", "exp_samples": [{"labels": "{}", "value": 0}]}


def _input(series: Series) -> dict[str, str]:
    labels = {**series.labels, "instance": _address(series.labels["instance"])}
    if "team" in labels:
        labels["team"] = TEAM
    inside = ",".join(f"{name}={json.dumps(value)}" for name, value in labels.items())
    return {"series": f"{series.name}{{{inside}}}", "values": notation(series.points)}


def _address(instance: str) -> str:
    return next((here for there, here in ADDRESSES.items() if instance.endswith(there)), instance)


def _lines(got: str) -> list[str]:
    """Samples as Prometheus shows them, the largest first, with four digits where they are no whole numbers."""
    samples = [(labels, float(value)) for labels, value in _SAMPLE.findall(got)]
    samples.sort(key=lambda sample: (-sample[1], sample[0]))
    return [_line(labels, value) for labels, value in samples] or [got]


def _line(labels: str, value: float) -> str:
    name = _NAME.match(labels)
    number = f"{value:.0f}" if value.is_integer() else f"{value:.4g}"
    return f"{name[1] if name else ''}{{{_NAME.sub('', labels)}}} {number}"
