"""Plays series through promtool and reads from it when which alert fired.

promtool has no machine-readable output, but it prints what an expectation that fails really got. So each play asks for
a series that cannot exist, fifty evaluations at a time: the sum of two to the power of each evaluation's number, over
those at which an alert fired, is a number of which every bit is one evaluation. A float holds 53 of them.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from herdwatch.bundle import rules as rule_files
from herdwatch.errors import CheckFailed
from herdwatch.promtool import Promtool
from herdwatch.proof.plays import Firing, Play, Point, Series

BITS = 50
"""Evaluations in one query."""

_ANSWER = re.compile(r"time: (\S+?),?\n\s*exp: [^\n]*\n\s*got: ([^\n]*)")
_SAMPLE = re.compile(r"(\{(?:[^\"}]|\"(?:[^\"\\]|\\.)*\")*\}) ([0-9.E+-]+)")
_LABEL = re.compile(r"(\w+)=(\"(?:[^\"\\]|\\.)*\")")
_CLOCK = re.compile(r"(\d+)(ms|[smhdwy])")
_UNITS = {"y": 31_536_000, "w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}


class Player:
    """Plays against the alerts of some rule files, evaluated every `evaluation` seconds.

    Raises CheckFailed where a rule file cannot be read or declares no alert.
    """

    def __init__(self, promtool: Promtool, rules: Sequence[Path], *, evaluation: int = 5) -> None:
        loaded = [rule for path in rules for rule in load_rules(path)]
        if not any(rule.is_alert for rule in loaded):
            raise CheckFailed(f"{', '.join(map(str, rules))}: declares no alert, so nothing could be told")
        self.alerts = frozenset(rule.name for rule in loaded if rule.is_alert)
        self._order = list(dict.fromkeys(rule.group for rule in loaded))
        self._rules = [str(path.resolve()) for path in rules]
        self._promtool = promtool
        self._evaluation = evaluation

    def play(self, play: Play) -> tuple[Firing, ...]:
        """Every interval in which an alert fired, in the order of their beginnings; raises CheckFailed or ToolError."""
        with tempfile.TemporaryDirectory(prefix="herdwatch-play-") as folder:
            path = Path(folder) / "play.test.yml"
            # JSON is YAML, and many times faster to write.
            path.write_text(json.dumps(self._test_file(play)), encoding="utf-8")
            output = self._promtool.answers(path)
        if not _ANSWER.search(output):
            raise CheckFailed(f"promtool could not play {play.name!r}: {' '.join(output.split())[:500]}")
        return tuple(sorted(self._firings(output), key=lambda firing: (firing.start, firing.alert)))

    def _test_file(self, play: Play) -> dict[str, object]:
        span = BITS * self._evaluation
        # An evaluation belongs to one query only, whether a window is closed on its left (Prometheus 2) or open (3).
        window = f"[{span - 1}s:{self._evaluation}s]"
        firing = 'ALERTS{alertstate="firing"}'
        queries = [
            f"sum_over_time(({firing} * 2 ^ ((time() - {start}) / {self._evaluation})){window})"
            for start in range(0, play.seconds, span)
        ]
        # vector(0) answers where no alert fires, so that no answer is told from an empty one.
        expectations = [
            {
                "expr": f"{query} or vector(0)",
                "eval_time": f"{start + span - self._evaluation}s",
                "exp_samples": [{"labels": "nothing", "value": 1}],
            }
            for query, start in zip(queries, range(0, play.seconds, span), strict=True)
        ]
        return {
            "rule_files": self._rules,
            "evaluation_interval": f"{self._evaluation}s",
            "group_eval_order": self._order,
            "tests": [
                {
                    "interval": "1s",
                    "input_series": [
                        {"series": _selector(series), "values": notation(series.points)} for series in play.series
                    ],
                    "promql_expr_test": expectations,
                }
            ],
        }

    def _firings(self, output: str) -> Iterator[Firing]:
        evaluations: dict[str, set[int]] = defaultdict(set)
        last = 0
        for clock, got in _ANSWER.findall(output):
            end = _seconds(clock)
            last = max(last, end)
            start = end - (BITS - 1) * self._evaluation
            for labels, value in _SAMPLE.findall(got):
                bits = int(float(value))
                evaluations[labels] |= {start + n * self._evaluation for n in range(BITS) if bits >> n & 1}
        for text, times in evaluations.items():
            labels = {name: str(json.loads(value)) for name, value in _LABEL.findall(text)}
            if "alertname" not in labels:
                continue
            alert = labels.pop("alertname")
            labels.pop("alertstate")
            for start, end in _runs(times, self._evaluation):
                yield Firing(alert, labels, start, None if end > last else end)


def notation(points: Sequence[Point]) -> str:
    """Samples as promtool's test files write them, one place a second: `_x14 5 _x14 stale`."""
    places: list[str] = []
    at = 0
    for second, value in points:
        if second > at:
            places.append(f"_x{second - at}")
        places.append("stale" if value is None else repr(value))
        at = second + 1
    return " ".join(places)


def _runs(times: set[int], step: int) -> Iterator[tuple[int, int]]:
    """Beginning and end of each run of neighbours; the end is the first evaluation after it."""
    for _, run in groupby(enumerate(sorted(times)), key=lambda pair: pair[1] - pair[0] * step):
        members = [time for _, time in run]
        yield members[0], members[-1] + step


def _seconds(clock: str) -> int:
    return sum(int(number) * _UNITS[unit] for number, unit in _CLOCK.findall(clock) if unit in _UNITS)


def _selector(series: Series) -> str:
    return f"{series.name}{{{_labels(series.labels)}}}"


def _labels(labels: Mapping[str, str]) -> str:
    return ",".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in labels.items())


def load_rules(path: Path) -> list[rule_files.Rule]:
    """The rules of a file; raises CheckFailed where it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckFailed(f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None
    return rule_files.load(text, str(path))
