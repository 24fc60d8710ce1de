"""A drill as one HTML page: no script, nothing fetched from anywhere, the same bytes for the same data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from herdwatch.drill.replay import page_tables as tables
from herdwatch.drill.replay.page_plots import sections
from herdwatch.drill.replay.page_style import SHELL_OF_DRILL
from herdwatch.drill.replay.results import Drill
from herdwatch.operations.report import writing
from herdwatch.operations.report.words import safe, times_over

HEADING = "Drill: the incident, with and without the guards"
TITLE = f"{HEADING} · herdwatch drill"
KIND = writing.Kind(f"<title>{TITLE}</title>", "is no page of a drill", "drill.html")
"""What a file must hold to be written over."""


def as_html(drill: Drill) -> str:
    """The page."""
    body = [
        f"<h1>{HEADING}</h1>\n",
        *_banner(drill),
        *_about(drill),
        *_titled("claims", "What the seed claims", tables.claims(drill)),
        *_titled("runs", "The runs, compared", tables.runs(drill)),
        *_titled("plots", "Second by second", "".join(sections(drill))),
        *_titled("verdicts", "Verdicts", tables.verdicts(drill)),
        *_titled("plan", "The plan against the drill", tables.plan(drill)),
    ]
    return SHELL_OF_DRILL.substitute(title=TITLE, nav=_navigation(drill), body="".join(body))


def check(path: Path, option: str = "--out") -> None:
    """Raise UsageError where `write` would; `option` is that by which the path was given."""
    writing.check(path, _kind(option))


def write(path: Path, drill: Drill, option: str = "--out") -> None:
    """Write the page, whole or not at all.

    Raises UsageError, with nothing changed, where a file is there that is no page of a drill, or none can be written.
    """
    writing.write(path, as_html(drill), _kind(option))


def _kind(option: str) -> writing.Kind:
    return writing.Kind(KIND.mark, KIND.others, KIND.example, option)


def _titled(id: str, title: str, content: str) -> Iterator[str]:
    if content:
        yield f'<h2 id="{id}">{title}</h2>\n'
        yield content


def _navigation(drill: Drill) -> str:
    there = {
        "claims": (drill.claims, "Claims"),
        "runs": (True, "Runs"),
        "plots": (drill.results, "Plots"),
        "verdicts": (drill.verdicts, "Verdicts"),
        "plan": (drill.planned, "Plan"),
    }
    return "\n".join(f'<a href="#{id}">{text}</a>' for id, (content, text) in there.items() if content)


def _banner(drill: Drill) -> Iterator[str]:
    """What must not be overlooked: that it is not whole, or not as it should be."""
    broken = [one for one in drill.verdicts if not one.holds]
    if not drill.partial and not broken:
        return
    yield '<div class="banner" role="note">\n'
    if drill.partial:
        yield f'<p><strong class="bad">Partial</strong>: {safe(drill.partial)}.</p>\n'
    if broken:
        told = f"{len(broken)} of {len(drill.verdicts)} verdicts" if len(drill.verdicts) > 1 else "the verdict"
        verb = "does" if len(broken) == 1 else "do"
        yield f'<p><strong class="bad">NO</strong>: {told} {verb} <a href="#verdicts">not hold</a>.</p>\n'
        yield f"<ul>{''.join(f'<li>{safe(one.sentence)}</li>' for one in broken)}</ul>\n"
    yield "</div>\n"


def _about(drill: Drill) -> Iterator[str]:
    told = (
        f"{drill.multiple * drill.capacity:,.0f} requests a second, {times_over(drill.multiple)} what the database "
        f"takes: its capacity is {drill.capacity:,.0f} queries a second."
    )
    if drill.multiple < drill.multiple_wanted:
        told += f" This is what the machine allowed; wanted were {times_over(drill.multiple_wanted)} the capacity."
    told += f" Seed {drill.seed}; Prometheus scraped every {drill.scrape_interval} s."
    if drill.versions:
        told += f" Versions: {', '.join(f'{name} {version}' for name, version in sorted(drill.versions.items()))}."
    yield f"<p>{safe(told)}</p>\n"
    if drill.scale:
        sizes = ", ".join(f"{name} {size:g}" for name, size in drill.scale.items())
        yield f"<details><summary>Sizes</summary><p>{safe(sizes)}. Times are in seconds.</p></details>\n"
