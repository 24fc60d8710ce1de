"""What a backtest found, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from herdwatch.proof.backtest.backtesting import Backtest
from herdwatch.proof.plays import Firing
from herdwatch.times import clock, span


@dataclass(frozen=True, slots=True)
class Row:
    """One alert: how often it fired, how many pages it began, and for how many seconds it fired in all."""

    alert: str
    severity: str
    fired: int
    pages: int
    seconds: int


def rows(test: Backtest) -> list[Row]:
    """Every alert of the rules, those that never fired too; overlapping firings of one alert count once in its time."""
    made = []
    for alert, severity in test.alerts:
        own = [one for one in test.firings if (one.alert, one.labels.get("severity", "")) == (alert, severity)]
        begun = sum(1 for page in test.pages if (page.alerts[0], page.severity) == (alert, severity))
        made.append(Row(alert, severity, len(own), begun, _covered(own, test.until)))
    return made


def _covered(firings: Sequence[Firing], until: int) -> int:
    seconds = reached = 0
    for firing in sorted(firings, key=lambda one: one.start):
        end = until if firing.end is None else firing.end
        seconds += max(0, end - max(firing.start, reached))
        reached = max(reached, end)
    return seconds


def as_text(test: Backtest) -> str:
    """The report for people."""
    return "\n".join([*_head(test), "", *_table(test), "", *_pages(test)])


def _head(test: Backtest) -> Iterator[str]:
    length = test.until - test.begins
    times = f"{clock(test.begins)} to {clock(test.until)} UTC"
    yield f"{test.url}: {times} ({span(length)}), the rules evaluated every {test.evaluation}s"
    if test.begins > test.since + 2 * test.evaluation:
        yield f"{span(test.until - test.since)} were asked for; its history begins {clock(test.begins)} UTC"
    yield f"caches seen: {', '.join(test.seen) or 'none, no series carries the label cache'}"
    if test.unseen:
        yield f"without any data, and left out: {', '.join(test.unseen)}"
    for start, end in test.asleep:
        yield f"Prometheus scraped nothing from {clock(start)} to {clock(end)} UTC: nothing is said of that time"
    for metric, alerts in test.missing.items():
        if alerts:
            yield f"no data for {metric}, which {', '.join(alerts)} read{'s' if len(alerts) == 1 else ''}"
    if test.sure > test.begins + test.evaluation:
        yield f"not before {clock(test.sure)} UTC has every rule all of the past that it looks at"
    yield from test.notes


def _table(test: Backtest) -> list[str]:
    length = max(1, test.until - test.begins)
    lines = [("alert", "severity", "fired", "pages", "firing", "share of the time")]
    lines += [
        (row.alert, row.severity, str(row.fired), str(row.pages), span(row.seconds), f"{row.seconds / length:.2%}")
        for row in rows(test)
    ]
    return _columns(lines)


def _pages(test: Backtest) -> list[str]:
    if not test.pages:
        return ["nobody would have been paged"]
    lines = [("page at (UTC)", "lasted", "severity", "cache", "team", "alerts")]
    for page in test.pages:
        lasted = "to the end" if page.end is None else span(page.end - page.start)
        lines.append((clock(page.start), lasted, page.severity, page.cache, page.team, ", ".join(page.alerts)))
    return _columns(lines)


def _columns(lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]


def as_json(test: Backtest) -> str:
    """The report for programs; times are seconds since 1970, an `end` of null lies after `until`."""
    content = {
        "prometheus": test.url,
        "asked_since": test.since,
        "begins": test.begins,
        "until": test.until,
        "evaluation_seconds": test.evaluation,
        "sure_from": test.sure,
        "caches": {"seen": test.seen, "without_data": test.unseen},
        "missing_metrics": {metric: list(alerts) for metric, alerts in test.missing.items()},
        "asleep": [{"start": start, "end": end} for start, end in test.asleep],
        "notes": list(test.notes),
        "alerts": [
            {
                "alert": row.alert,
                "severity": row.severity,
                "fired": row.fired,
                "pages": row.pages,
                "firing_seconds": row.seconds,
            }
            for row in rows(test)
        ],
        "pages": [
            {
                "start": page.start,
                "end": page.end,
                "severity": page.severity,
                "cache": page.cache,
                "team": page.team,
                "alerts": list(page.alerts),
            }
            for page in test.pages
        ],
        "firings": [
            {"alert": one.alert, "labels": dict(one.labels), "start": one.start, "end": one.end} for one in test.firings
        ],
    }
    return json.dumps(content, indent=2, ensure_ascii=False)
