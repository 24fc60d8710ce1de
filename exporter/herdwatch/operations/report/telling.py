"""A report in words: the verdict's rows, a few lines for a terminal, and JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict

from herdwatch.operations.report.asked import Asked
from herdwatch.operations.report.happened import Firing
from herdwatch.operations.report.story import Report, Story
from herdwatch.operations.report.verdict import Peak
from herdwatch.operations.report.words import UNKNOWN, named, percent, relative, si, times_over
from herdwatch.times import clock, span

_SHOWN = 10


def measures(story: Story, asked: Asked) -> Mapping[str, tuple[str, ...]]:
    """The rows of the verdict on one cache, each with its lines."""
    judged = story.verdict
    keys = (judged.keys_before, judged.keys_lowest.value if judged.keys_lowest else None, judged.keys_after)
    return {
        "First sign": (UNKNOWN if judged.sign is None else f"{asked.clock(judged.sign)} UTC",),
        "Pages": tuple(_page(one, asked) for one in story.pages[:_SHOWN]) + _more(len(story.pages)) or ("none",),
        "New processes, flushes": (f"{len(story.restarts)}, {sum(one.count for one in story.flushes)}",),
        "Hit ratio before": (percent(judged.ratio_before),),
        "Lowest hit ratio": (
            percent(judged.ratio_lowest.value if judged.ratio_lowest else None) + _when(story, judged.ratio_lowest),
        ),
        "Back at 95 % of before": (_recovery(story),),
        "Peak loads a second": tuple(_loads(story)),
        "Keys before, fewest, at the end": (UNKNOWN if keys == (None, None, None) else ", ".join(map(si, keys)),),
    }


def _more(count: int) -> tuple[str, ...]:
    return (f"and {count - _SHOWN} more",) if count > _SHOWN else ()


def _page(one: Firing, asked: Asked) -> str:
    if one.end is None:
        return f"{one.alert}: from {asked.clock(one.start)}, still firing at the end"
    return f"{one.alert}: {asked.clock(one.start)} to {asked.clock(one.end)}, {span(round(one.end - one.start))}"


def _when(story: Story, peak: Peak | None) -> str:
    sign = story.verdict.sign
    return "" if peak is None or sign is None else f" at {relative(peak.at - sign)}"


def _recovery(story: Story) -> str:
    judged = story.verdict
    if judged.ratio_before is None or judged.ratio_lowest is None or judged.sign is None:
        return UNKNOWN
    if not judged.dented:
        return "the hit ratio never was below that"
    if judged.recovered is None:
        return "not in this time"
    return f"after {span(round(judged.recovered - judged.sign))}"


def _loads(story: Story) -> Iterator[str]:
    judged = story.verdict
    if judged.loads is None:
        yield UNKNOWN
        return
    yield f"{si(judged.loads.value)}{_when(story, judged.loads)}"
    if judged.database_loads is not None:
        whole = judged.database_loads
        yield f"all caches of its database: {si(whole.value)}{_when(story, whole)}"
    if judged.overload is not None:
        yield f"{times_over(judged.overload)} the capacity of {si(judged.capacity)}"


def as_text(report: Report) -> str:
    """A few lines for a terminal."""
    times = f"{clock(report.asked.since)} to {clock(report.asked.until)} UTC"
    if report.sign is None:
        quiet = "no alert above info fired, no Redis became a new process, and nothing was flushed"
        return f"no incident: from {times} {quiet}"
    lines = [f"from {times}, first sign {report.asked.clock(report.sign)}"]
    lines += [f"{one.alert} from {report.asked.clock(one.start)}" for one in report.wide[:_SHOWN]]
    for story in report.stories[:_SHOWN]:
        told = measures(story, report.asked)
        rows = [f"{name.lower()}: {' '.join(told[name])}" for name in tuple(told)[4:] if told[name] != (UNKNOWN,)]
        pages = "; ".join(told["Pages"]) if story.pages else "no page"
        lines += [f"cache {story.cache}: {pages}", *([f"  {'; '.join(rows)}"] if rows else [])]
    if report.left_out:
        lines.append(f"not drawn, name them with --cache: {named(report.left_out, _SHOWN)}")
    return "\n".join(lines)


def as_json(report: Report) -> str:
    """All of it for programs: times are seconds since 1970, null is unknown or, of an `end`, after the time."""
    asked = report.asked
    content = {
        "prometheus": report.url,
        "since": asked.since,
        "until": asked.until,
        "step_seconds": asked.step,
        "first_sign": report.sign,
        "incident": report.incident,
        "alerts": [asdict(one) for one in report.wide],
        "caches": [_of_story(one) for one in report.stories],
        "left_out": list(report.left_out),
        "events": [asdict(one) for one in report.events],
        "times": list(asked.grid),
    }
    return json.dumps(content, indent=2, ensure_ascii=False)


def _of_story(story: Story) -> dict[str, object]:
    return {
        "cache": story.cache,
        "verdict": asdict(story.verdict),
        "alerts": [asdict(one) for one in story.firings],
        "restarts": [asdict(one) for one in story.restarts],
        "flushes": [asdict(one) for one in story.flushes],
        "curves": {name: list(curve) for name, curve in sorted(story.curves.items())},
    }
