"""What a runbook page asks about, answered at the moment it is opened: one section under the page's title."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from html import escape
from urllib.parse import quote

from herdwatch.config import Cache, Config
from herdwatch.errors import UsageError
from herdwatch.guard import Flight
from herdwatch.operations.verify import Answer, Sight, answers, see
from herdwatch.operations.verify.answers import DASH, span
from herdwatch.prometheus import Access, Prometheus

SECONDS = 0.7
"""How long a page waits for what it shows; it is there within a second, whoever is down."""
DASHBOARD = "herdwatch-cache-restart"
"""The uid of the dashboard that alerts lead to as well."""
_FLIGHT_SECONDS = 5.0
_STATES = {"good": "fine", "bad": "see to it", "unknown": "not known", "note": ""}
_OF_A_CACHE = re.compile(r"^export CACHE=", re.MULTILINE)


def is_of_a_cache(markdown: str) -> bool:
    """Whether a page speaks of one cache: then its first commands set that cache's name."""
    return _OF_A_CACHE.search(markdown) is not None


class Live:
    """Looks at the caches of an exporter for its pages; looks at one cache that overlap are one."""

    def __init__(self) -> None:
        self._flight = Flight(load_timeout=_FLIGHT_SECONDS)

    async def section(self, config: Config, cache: Cache) -> str:
        """The section of one cache, as HTML. It is always there; what is not known is a dash."""
        prometheus, locked_out = _prometheus(config)
        key = (cache.name, cache.url, config.prometheus)  # a reload may have changed where they are
        sight, _ = await self._flight.do(key, lambda: see(cache, prometheus, seconds=SECONDS))
        if locked_out:
            sight = replace(sight, no_past=locked_out)
        found = answers(sight, cache_job=config.jobs.cache, scrape_interval=config.scrape_interval)
        return section(sight, found, dashboards=config.links.dashboard_base_url)


def _prometheus(config: Config) -> tuple[Prometheus | None, str]:
    """The one of the configuration, or why there is none for now: a secret may be there again when it is asked next."""
    if config.prometheus.url is None:
        return None, ""
    try:
        return Prometheus(Access.configured(config.prometheus), seconds=SECONDS, pause=None), ""
    except UsageError as error:
        return None, str(error)


def section(sight: Sight, found: list[Answer], *, dashboards: str | None = None) -> str:
    """The answers as a table, each with its age, and the way to the dashboard. Everything in it is escaped."""
    rows = "".join(_row(one) for one in found)
    at = datetime.fromtimestamp(sight.at, UTC)
    link = ""
    if dashboards is not None:
        where = f"{dashboards}/{DASHBOARD}?var-cache={quote(sight.cache, safe='')}"
        link = f' <a href="{escape(where)}">Dashboard of this cache</a>.'
    past = "" if sight.past is not None else f" What is normal is not known: {escape(sight.no_past)}."
    return (
        f'<section class="now" aria-labelledby="now.title">\n'
        f'<h2 id="now.title">Cache {escape(sight.cache)} at {escape(sight.instance)}</h2>\n'
        f'<div class="table" role="group" aria-label="Table in Now" tabindex="0">\n'
        f"<table>\n<thead><tr><th>question</th><th></th><th>answer</th><th>age</th></tr></thead>\n"
        f"<tbody>\n{rows}</tbody>\n</table>\n</div>\n"
        f"<p>As seen at {at:%H:%M:%S} UTC; open the page again to see it anew.{past}{link}</p>\n</section>\n"
    )


def _row(one: Answer) -> str:
    age = DASH if one.age is None else "now" if one.age < 1 else span(one.age)
    return (
        f"<tr><td>{escape(one.question)}</td>"
        f'<td class="{one.verdict}">{_STATES[one.verdict]}</td>'
        f"<td>{escape(one.text)}</td><td>{age}</td></tr>\n"
    )


def choice(names: tuple[str, ...]) -> str:
    """Which caches there are, each as a link to this page about it."""
    links = ", ".join(f'<a href="?cache={quote(name, safe="")}">{escape(name)}</a>' for name in names)
    return f'<section class="now"><p>This page, with what is so now, about the cache: {links}.</p></section>\n'


def about(markdown: str, cache: Cache, config: Config) -> str:
    """The page with this cache and the addresses of this configuration in its commands and queries.

    What was rendered may be another bundle's, as that of the wheel is.
    """
    rendered = re.search(r"^export CACHE=(\S+)", markdown, re.MULTILINE)
    first = rendered[1] if rendered else cache.name
    database = re.search(r"^export DATABASE=(\S+)", markdown, re.MULTILINE)
    alertmanagers = config.prometheus.alertmanagers
    values = {
        "CACHE": cache.name,
        "INSTANCE": cache.instance,
        "DATABASE": cache.database,
        "EXPORTER": config.exporter_url,
        "PROM": config.prometheus.url,
        "ALERTS": f"http://{alertmanagers[0]}" if alertmanagers else None,
    }
    for name, value in values.items():
        if value is not None:
            markdown = re.sub(rf"^export {name}=\S*", f"export {name}={value}", markdown, flags=re.MULTILINE)
    if database and cache.database:
        # With the brace: the output of a recorded incident stays as it was.
        markdown = markdown.replace(f':rate{{database="{database[1]}"', f':rate{{database="{cache.database}"')
    if cache.instance.startswith("/"):
        markdown = markdown.replace('redis-cli -h "$REDIS_HOST" -p "$REDIS_PORT"', 'redis-cli -s "$INSTANCE"')
    return markdown.replace(f'cache="{first}"', f'cache="{cache.name}"').replace(
        f"The queries name the cache `{first}`; put yours there.", f"The queries name the cache `{cache.name}`."
    )
