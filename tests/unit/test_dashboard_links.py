"""Between dashboards, alerts and pages: a link that leads nowhere is told; JSON of any shape is told, never a crash."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.rendered_dashboards import NAMES, default_bundle, facts, file_of, panel, raw

from herdwatch.bundle.check import check_bundle
from herdwatch.bundle.dashboards.checks import check, findings
from herdwatch.bundle.dashboards.document import load
from herdwatch.bundle.dashboards.house import Facts, together
from herdwatch.errors import CheckFailed


def documents() -> dict[str, dict[str, Any]]:
    return {name: raw(name) for name in NAMES}


def told(spoilt: dict[str, dict[str, Any]], around: Facts | None = None) -> list[str]:
    loaded = {file_of(name): load(json.dumps(document), file_of(name)) for name, document in spoilt.items()}
    return list(together(loaded, around or facts()))


def with_url(url: str) -> Facts:
    """The facts, with a link of CacheDown to a dashboard."""
    alerts = [
        replace(rule, annotations={**rule.annotations, "dashboard_url": url}) if rule.name == "CacheDown" else rule
        for rule in facts().alerts
    ]
    return replace(facts(), alerts=tuple(alerts))


def test_two_dashboards_of_one_uid_are_told() -> None:
    spoilt = documents()
    spoilt["guard"]["uid"] = "herdwatch-fleet"
    assert "dashboards/guard.json: its uid 'herdwatch-fleet' is that of dashboards/fleet.json (unique-uid)" in told(
        spoilt
    )


def test_an_alert_on_no_panel_is_told_at_the_alert() -> None:
    spoilt = documents()
    for document in spoilt.values():
        for one in document["panels"]:
            text = json.dumps(one).replace("runbooks/CacheRestartLoop", "runbooks/CacheDown")
            one.update(json.loads(text))
    line = next(rule.line for rule in facts().alerts if rule.name == "CacheRestartLoop")
    sentence = "CacheRestartLoop is on no panel of a dashboard (alerts-on-panels)"
    assert told(spoilt) == [f"alerts/herdwatch.rules.yml:{line}: {sentence}"]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (
            "/d/herdwatch-restart?var-cache=a",
            "leads to no dashboard; there is: herdwatch-cache-restart, herdwatch-fleet",
        ),
        ("/d/herdwatch-cache-restart?var-cahce=a", "chooses var-cahce, and dashboards/cache-restart.json has no such"),
    ],
)
def test_a_link_from_panel_to_panel_that_leads_nowhere_is_told(url: str, words: str) -> None:
    spoilt = documents()
    table = panel(spoilt["fleet"], "Caches")
    table["links"].append({"title": "Open", "url": url})
    [sentence] = told(spoilt)
    assert sentence.startswith("dashboards/fleet.json: panel 'Caches': the link ")
    assert words in sentence


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://g/sub/d/herdwatch-cache?var-cache=a", "leads to no dashboard"),
        ("https://g/d/herdwatch-cache-restart?var-chache={{ $labels.cache | urlquery }}", "chooses var-chache"),
    ],
)
def test_an_alert_that_leads_to_no_dashboard_is_told_at_the_alert(url: str, words: str) -> None:
    [sentence] = told(documents(), with_url(url))
    assert sentence.startswith("alerts/herdwatch.rules.yml:")
    assert "dashboard_url of CacheDown: " in sentence
    assert words in sentence


def test_an_alert_that_leads_to_a_dashboard_below_any_path_is_right() -> None:
    url = "https://g/sub/d/herdwatch-cache-restart?var-cache={{ $labels.cache | urlquery }}"
    assert told(documents(), with_url(url)) == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{,}", "f.json:1: not valid JSON: "),
        ("[]", "f.json:1: a dashboard is a JSON object"),
        ('{"panels": {}}', "f.json:1: a dashboard has a list of panels"),
    ],
)
def test_what_is_no_dashboard_is_told_with_its_line(text: str, sentence: str) -> None:
    with pytest.raises(CheckFailed) as caught:
        load(text, "f.json")
    assert str(caught.value).startswith(sentence)


def test_a_folder_of_dashboards_is_checked_file_by_file(tmp_path: Path) -> None:
    (tmp_path / "dashboards").mkdir()
    spoilt = documents()
    panel(spoilt["fleet"], "Caches")["fieldConfig"]["defaults"]["unit"] = "caches"
    for name, document in spoilt.items():
        (tmp_path / file_of(name)).write_text(json.dumps(document))
    (tmp_path / "dashboards/other.json").write_text("[]")
    problems, count = check(tmp_path, facts())
    assert [problem.partition(": the unit")[0] for problem in problems] == [
        "dashboards/other.json:1: a dashboard is a JSON object",
        "dashboards/fleet.json: panel 'Caches'",
    ]
    assert count > 100


def test_herdwatch_check_tells_what_is_wrong_with_file_panel_and_rule(tmp_path: Path) -> None:
    for path, text in default_bundle().items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    spoilt = raw("guard")
    panel(spoilt, "Protection on")["description"] = ""
    (tmp_path / file_of("guard")).write_text(json.dumps(spoilt))
    assert check_bundle(tmp_path).problems == [
        "dashboards/guard.json: panel 'Protection on': it has no description (panel-title-description-rule)"
    ]


def places(node: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place of a document that holds something."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, inner in pairs:
        yield (*path, key)
        yield from places(inner, (*path, key))


EVERYWHERE = sorted(places(raw("fleet")), key=str)
ODD: st.SearchStrategy[Any] = st.sampled_from(
    ["http://[", None, True, -1, 0.5, "", "$", "${x", "[[", [], [None], [[]], {}, {"uid": 1}, {"list": 1}]
)


@settings(max_examples=100, deadline=None)
@given(place=st.sampled_from(EVERYWHERE), value=ODD)
def test_whatever_stands_in_a_dashboard_the_checks_answer_in_sentences(
    place: tuple[str | int, ...], value: Any
) -> None:
    spoilt = raw("fleet")
    inner: Any = spoilt
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    if not isinstance(spoilt["panels"], list):
        with pytest.raises(CheckFailed, match=r"^f\.json:"):
            load(json.dumps(spoilt), "f.json")
        return
    dashboard = load(json.dumps(spoilt), "f.json")
    sentences = [finding.told("f.json") for finding in findings(dashboard, facts())]
    sentences += together({"f.json": dashboard}, facts())
    assert all(sentence and "\n" not in sentence for sentence in sentences)
