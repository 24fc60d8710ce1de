"""Plays through promtool: what fires, from when to when, whatever its labels are made of."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdwatch.errors import CheckFailed
from herdwatch.promtool import Promtool
from herdwatch.proof.player import Player, notation
from herdwatch.proof.plays import Firing, Play, Point, Series

RULES = """
groups:
  - name: first
    rules:
      - {record: "x:doubled", expr: x * 2}
  - name: second
    rules:
      - {alert: High, expr: "x:doubled == 2", for: 10s, labels: {severity: critical}}
      - {alert: Odd, expr: x == 3}
"""
ODD_LABELS = {"cache": 'a "b" {c} \\d, e=1', "instance": "é\n"}


@pytest.fixture
def player(tmp_path: Path) -> Player:
    (tmp_path / "rules.yml").write_text(RULES)
    return Player(Promtool(), [tmp_path / "rules.yml"])


def test_an_alert_fires_from_an_evaluation_to_another(player: Player) -> None:
    one = [(t, 1.0 if 43 <= t < 703 or 803 <= t < 853 else 0.0) for t in range(3, 1_200, 10)]
    three: list[Point] = [(1, 3.0), (11, None)]
    series = [Series("x", ODD_LABELS, one), Series("x", {}, three)]
    high = {**ODD_LABELS, "severity": "critical"}
    assert player.play(Play("twice", series, 1_200)) == (
        Firing("Odd", {}, 5, 15),
        Firing("High", high, 55, 705),
        Firing("High", high, 815, 855),
    )


def test_what_still_fires_at_the_end_has_no_end(player: Player) -> None:
    [firing] = player.play(Play("on", [Series("x", {}, [(t, 3.0) for t in range(7, 1_000, 15)])], 1_000))
    assert (firing.start, firing.end) == (10, None)


def test_a_quiet_play_has_no_firing(player: Player) -> None:
    assert player.play(Play("quiet", [Series("x", {}, [(7, 0.0)])], 100)) == ()


def test_series_that_promtool_cannot_read_are_an_error(player: Player) -> None:
    with pytest.raises(CheckFailed, match="could not play 'wrong'"):
        player.play(Play("wrong", [Series("x y", {}, [(7, 0.0)])], 100))


@pytest.mark.parametrize("text", ["groups: []", "groups: [{name: g, rules: [{record: a, expr: b}]}]"])
def test_rules_without_an_alert_are_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "rules.yml").write_text(text)
    with pytest.raises(CheckFailed, match=r"rules\.yml: declares no alert"):
        Player(Promtool(), [tmp_path / "rules.yml"])


def test_a_rule_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match=r"none\.yml: cannot be read: No such file"):
        Player(Promtool(), [tmp_path / "none.yml"])


@given(st.lists(st.tuples(st.integers(1, 40), st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)))))
def test_the_notation_puts_each_sample_in_its_second(steps: list[tuple[int, float | None]]) -> None:
    points: list[Point] = []
    for step, value in steps:
        points.append(((points[-1][0] if points else -1) + step, value))
    places: list[str] = []
    for word in notation(points).split():
        places += ["_"] * int(word[2:]) if word.startswith("_x") else [word]
    read = [(at, None if word == "stale" else float(word)) for at, word in enumerate(places) if word != "_"]
    assert read == points


def test_a_play_may_last_for_days(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(RULES)
    player = Player(Promtool(), [tmp_path / "rules.yml"], evaluation=60)
    day = 86_400
    samples: list[Point] = [(at, 3.0 if day + 300 < at < day + 900 else 0.0) for at in range(7, day + 1_200, 60)]
    [firing] = player.play(Play("a day", [Series("x", {}, samples)], day + 1_200))
    assert (firing.start, firing.end) == (day + 360, day + 960)
