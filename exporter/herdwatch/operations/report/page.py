"""The report as one HTML page: no script, nothing fetched from anywhere, the same bytes for the same data."""

from __future__ import annotations

from collections.abc import Iterator

from herdwatch.operations.report.happened import Firing
from herdwatch.operations.report.page_style import SHELL_OF_REPORT
from herdwatch.operations.report.parts import box, table
from herdwatch.operations.report.plots import figures
from herdwatch.operations.report.story import PAGES, Event, Report, Story
from herdwatch.operations.report.telling import measures
from herdwatch.operations.report.words import UNKNOWN, named, relative, safe
from herdwatch.times import clock, span

MAX_EVENTS = 1000
"""Rows of the list of events."""
SIDE_BY_SIDE = 3
"""Caches that are columns of the verdict; more are its rows."""
_SHOWN = 50
_HYPHEN = "&#8209;"
"""One that no line is broken at."""

NOTES = """<h2 id="notes">Notes</h2>
<p>For the post-mortem: write here what no metric knows. A report whose notes are filled in is not written over.</p>
<h3>Impact</h3>
<div class="fill"></div>
<h3>What helped</h3>
<div class="fill"></div>
<h3>What to change</h3>
<div class="fill"></div>
"""


def as_html(report: Report) -> str:
    """The page."""
    asked = report.asked
    title = f"Incident of {clock(report.sign)} UTC" if report.sign is not None else "No incident"
    body = [
        f"<h1>{title.replace('-', _HYPHEN)}</h1>\n",
        f"<p>From {clock(asked.since)} to {clock(asked.until)} UTC ({span(asked.seconds)}), drawn from "
        f"{safe(report.url)}; curves have a point every {span(asked.step)}.</p>\n",
        *_about(report),
        *_events(report),
        *_sections(report),
        NOTES,
    ]
    return SHELL_OF_REPORT.substitute(
        title=safe(f"{title} · herdwatch report"), nav=_navigation(report), body="".join(body)
    )


def _navigation(report: Report) -> str:
    links = [("verdict", "Verdict"), ("alerts", "Alerts"), ("events", "In order")] if report.incident else []
    links += [(f"cache-{n}", one.cache) for n, one in enumerate(report.stories[:SIDE_BY_SIDE], 1)]
    links.append(("notes", "Notes"))
    return "\n".join(f'<a href="#{id}">{safe(text)}</a>' for id, text in links)


def _about(report: Report) -> Iterator[str]:
    if not report.incident:
        whose = f" of {safe(named(report.asked.caches, _SHOWN))}" if report.asked.caches else ""
        yield (
            f"<p>No alert{whose} above info fired in this time, no Redis became a new process, "
            "and nothing was flushed.</p>\n"
        )
        return
    if report.left_out:
        yield (
            f"<p>Not in this report, for its length: {len(report.left_out)} more caches with an incident; "
            f"name them with <code>--cache</code>: {safe(named(report.left_out, _SHOWN))}.</p>\n"
        )
    if report.stories:
        yield '<h2 id="verdict">Verdict</h2>\n'
        yield _verdict(report)
    yield '<h2 id="alerts">Alerts</h2>\n'
    yield _alerts(report)


def _verdict(report: Report) -> str:
    told = [measures(one, report.asked) for one in report.stories]
    names = list(told[0])
    across = len(told) <= SIDE_BY_SIDE
    caches = [_link(one, n) for n, one in enumerate(report.stories, 1)]
    cells = [["<br>".join(map(safe, one[name])) for name in names] for one in told]
    heads = [safe(name) for name in names]
    if across:
        rows = table(["", *caches], [[head, *row] for head, row in zip(heads, zip(*cells, strict=True), strict=True)])
    else:
        rows = table(["cache", *heads], [[cache, *row] for cache, row in zip(caches, cells, strict=True)])
    return box("Verdict", rows, "narrow" if len(told) == 1 else "")


def _link(story: Story, number: int) -> str:
    return f'<a href="#cache-{number}">{safe(story.cache)}</a>'


def _alerts(report: Report) -> str:
    fired = sorted(
        [*report.wide, *(one for story in report.stories for one in story.firings)],
        key=lambda one: (one.severity != PAGES, one.start, one.alert, one.cache, one.where),
    )
    if not fired:
        return "<p>No alert fired.</p>\n"
    heads = ("alert", "severity", "cache", "where", "from (UTC)", "to (UTC)", "lasted")
    rows = ["<tr>" + "".join(f'<th scope="col">{head}</th>' for head in heads) + "</tr>"]
    rows += [_alert(one, report) for one in fired[:MAX_EVENTS]]
    return box("Alerts", "\n".join(rows)) + _more(len(fired))


def _alert(one: Firing, report: Report) -> str:
    kind = ' class="bad"' if one.severity == PAGES else ""
    start = f"before {report.asked.clock(one.start)}" if one.already else report.asked.clock(one.start)
    end = "still firing" if one.end is None else report.asked.clock(one.end)
    lasted = span(round((report.asked.until if one.end is None else one.end) - one.start))
    at_least = "at least " if one.end is None or one.already else ""
    cells = "".join(f"<td>{safe(word)}</td>" for word in (one.severity or UNKNOWN, one.cache or "all"))
    cells += f'<td class="where">{safe(one.where or UNKNOWN)}</td>'
    times = f'<td class="when">{start}</td><td class="when">{end}</td><td class="when">{at_least}{lasted}</td>'
    return f"<tr><td{kind}>{safe(one.alert)}</td>{cells}{times}</tr>"


def _more(count: int) -> str:
    return f"<p>{count - MAX_EVENTS} more are left out.</p>\n" if count > MAX_EVENTS else ""


def _events(report: Report) -> Iterator[str]:
    if report.sign is None:
        return
    several = len({one.cache for one in report.events}) > 1
    signs = {one.cache: one.verdict.sign for one in report.stories}
    heads = ("time (UTC)", *(("from its first sign", "cache") if several else ("from first sign",)), "what")
    rows = ["<tr>" + "".join(f'<th scope="col">{head}</th>' for head in heads) + "</tr>"]
    rows += [_event(one, report, signs.get(one.cache) or report.sign, several) for one in report.events[:MAX_EVENTS]]
    yield '<h2 id="events">What happened, in order</h2>\n'
    yield box("What happened, in order", "\n".join(rows), "narrow")
    yield _more(len(report.events))


def _event(one: Event, report: Report, sign: float, several: bool) -> str:
    """A row; `sign` is the first of the cache that the event is about."""
    kind = "where bad" if one.weight == PAGES else "where"
    cache = f"<td>{safe(one.cache or 'all')}</td>" if several else ""
    times = f'<td class="when">{report.asked.clock(one.at)}</td><td class="when">{relative(one.at - sign)}</td>'
    return f'<tr>{times}{cache}<td class="{kind}">{safe(one.text)}</td></tr>'


def _sections(report: Report) -> Iterator[str]:
    for number, story in enumerate(report.stories, 1):
        yield f'<h2 id="cache-{number}">Cache {safe(story.cache)}</h2>\n'
        yield (
            "<p>Shaded: an alert fires, red where it is critical. ▼ and a dashed line: a new process, or a flush. "
            "Where a line is broken, there was no sample. Times are UTC.</p>\n"
        )
        yield from figures(story, report.wide, report.asked, number)
