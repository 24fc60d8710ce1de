"""Runbook pages: what every page must have, whatever the configuration, and what Markdown may do to HTML."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from herdwatch import metrics
from herdwatch.bundle import rules
from herdwatch.bundle.location import bundle_root
from herdwatch.bundle.pages import code_blocks, heading_ids, links, to_html
from herdwatch.bundle.promql import selectors
from herdwatch.bundle.templates import environment, render
from herdwatch.bundle.windows import Windows
from herdwatch.config import Config, load, parse

TEMPLATES = bundle_root() / "runbooks" / "templates"
ALERTS = sorted(path.name.removesuffix(".md.j2") for path in TEMPLATES.glob("[A-Z]*.md.j2"))
OF_NOW = {
    "CacheRestarted",
    "CacheKeysLost",
    "CacheHitRateLow",
    "HighCoalescingRate",
    "CacheDown",
    "CacheTargetDown",
    "CacheExporterDown",
    "HerdwatchWatchdog",
    "CacheLoading",
    "CacheRestartLoop",
    "CacheStampede",
    "SingleflightDisabled",
    "CacheEvicting",
    "CacheReplicaMissing",
    "CacheWarmupStalled",
    "CacheRefreshFailing",
}
CRITICAL = {
    *("CacheRestarted", "CacheKeysLost", "CacheDown", "CacheTargetDown", "CacheExporterDown"),
    *("CacheLoading", "CacheRestartLoop", "CacheStampede"),
}
NOT_RECORDED = {"CacheTargetDown", "HerdwatchWatchdog"}
SECTIONS = ["Meaning", "Impact", "Diagnosis", "Mitigation", "Threshold"]
RULES = rules.load((bundle_root() / "alerts/herdwatch.rules.yml").read_text(), "rules")
RECORDED = {rule.name for rule in RULES if not rule.is_alert} | {"herdwatch:threshold", "herdwatch:capacity"}
KNOWN = {*metrics.BY_SAMPLE, *RECORDED, "ALERTS", "up"}
PROGRAMS = {
    *("herdwatch", "redis-cli", "promtool", "curl", "amtool", "export", "echo"),
    *("timeout", "grep", "sed", "tr", "cut", "sort", "uniq", "head", "paste"),
}
"""What a page may tell people to run: herdwatch, and tools that everyone has. tests/operations runs all of it."""

OTHER = """
scrape_interval: 5s
caches:
  - {name: users, url: "redis://users.example:6380", database: main, overrides: {CacheRestarted: 0.3}}
  - {name: carts, url: "unix:///run/redis.sock", team: "a|b `c` <d> [e](f)"}
databases: {main: {capacity: 2500, peak: 50000}}
thresholds: {HighCoalescingRate: 2500000, CacheKeysLost: 0.25}
exporter: {listen: "[::1]:9878", deadline: 1500ms}
prometheus: {alertmanagers: []}
"""
CONFIGS = {"default": load(bundle_root() / "herdwatch.yaml"), "other": parse(OTHER, "other")}


def _pages(config: Config) -> dict[str, str]:
    templates = environment(TEMPLATES)
    values = {"config": config, "windows": Windows.of(config.scrape_interval), "alerts": dict.fromkeys(ALERTS, "says")}
    made = {f"{name}.md": render(templates, f"{name}.md.j2", **values) for name in ALERTS}
    return {**made, "README.md": render(templates, "index.md.j2", **values)}


PAGES = {name: _pages(config) for name, config in CONFIGS.items()}
EVERY_PAGE = [
    pytest.param(pages[f"{alert}.md"], alert, id=f"{alert}-{name}") for name, pages in PAGES.items() for alert in ALERTS
]
every_page = pytest.mark.parametrize(("page", "alert"), EVERY_PAGE)
every_text = pytest.mark.parametrize(
    ("pages", "name"), [pytest.param(p, n, id=f"{n}-{c}") for c, p in PAGES.items() for n in p]
)


class _Html(HTMLParser):
    """Collects tags with their attributes, ids, and the text of the title."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.title = ""
        self._in_title = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in_title = tag == "title"

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data
            self._in_title = False

    def attributes(self, name: str) -> list[str]:
        return [value for _, attrs in self.tags if (value := attrs.get(name)) is not None]


def _prose(page: str) -> str:
    return re.sub(r"^ *```.*?^ *```", "", page, flags=re.MULTILINE | re.DOTALL)


def _section(page: str, title: str) -> str:
    return page.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def _blocks(page: str, language: str) -> list[str]:
    return [text for found, text in code_blocks(page) if found == language]


def _promtool_queries(page: str) -> list[str]:
    return re.findall(r'promtool query instant "\$PROM" "([^"]*)"', "".join(_blocks(page, "bash")))


# What every page has


def test_every_alert_of_now_has_a_page() -> None:
    assert set(ALERTS) >= OF_NOW


@every_page
def test_a_page_has_its_name_and_the_five_sections_in_order(page: str, alert: str) -> None:
    assert page.startswith(f"# {alert}\n")
    assert re.findall(r"^# (.*)$", _prose(page), re.MULTILINE) == [alert]
    assert re.findall(r"^## (.*)$", _prose(page), re.MULTILINE) == SECTIONS


@every_page
def test_a_page_says_enough_to_be_woken_for(page: str, alert: str) -> None:
    """Words outside code: 300 where it pages, and twice the field's median of 105 elsewhere."""
    assert len(_prose(page).split()) >= (300 if alert in CRITICAL else 210)


@every_page
def test_a_page_has_commands_and_queries_and_a_table_that_decides(page: str, alert: str) -> None:
    assert _blocks(page, "bash"), alert
    assert _blocks(page, "promql"), alert
    assert "| You see | It means | Do |\n|---|---|---|\n" in _section(page, "Diagnosis")


@every_page
def test_the_mitigation_ends_with_how_it_looks_when_it_gets_better_and_when_it_has_only_gone_quiet(
    page: str, alert: str
) -> None:
    before, heading, better = _section(page, "Mitigation").partition("\n### When it gets better\n")
    assert heading, alert
    assert "\n### " not in better
    assert "Recovery" not in before
    assert 20 <= len(_prose(better).split()) <= 110
    assert "**Gone quiet, not better:**" in " ".join(better.split())


@every_page
def test_the_diagnosis_shows_what_a_query_gave_in_a_recorded_incident(page: str, alert: str) -> None:
    """tests/rules/test_page_examples.py asks each of them again, and says why two pages have none."""
    example = re.compile(r"```promql\n[^`]+```\n\nRecorded \d+ s after [^`]+:\n\n```text\n[^`]+```\n")
    assert bool(example.search(_section(page, "Diagnosis"))) == (alert not in NOT_RECORDED)


@every_page
def test_a_page_says_what_is_normal_and_when_it_ends(page: str, alert: str) -> None:
    threshold = _section(page, "Threshold").lower()
    assert [word for word in ("number", "normal", "resolve", "silence") if word not in threshold] == [], alert


@every_page
def test_every_query_parses_and_asks_for_series_that_exist(page: str, alert: str) -> None:
    queries = [*_blocks(page, "promql"), *_promtool_queries(page)]
    for query in queries:
        for selector in selectors(query, alert):
            assert selector.metric in KNOWN, f"{selector.metric} in {query}"
            family = metrics.BY_SAMPLE.get(selector.metric)
            if family is not None and selector.function in ("rate", "increase"):
                assert family.kind == "counter", query
    assert len(_promtool_queries(page)) == "".join(_blocks(page, "bash")).count("promtool query instant")


@every_page
def test_every_command_is_bash_of_programs_that_everyone_has(page: str, alert: str) -> None:
    bash = shutil.which("bash")
    assert bash is not None, "bash is missing; install it"
    for block in _blocks(page, "bash"):
        result = subprocess.run([bash, "-n"], input=block, text=True, capture_output=True, check=False)
        assert (result.returncode, result.stderr) == (0, ""), block
        assert _programs(block) <= PROGRAMS, alert


def _programs(block: str) -> set[str]:
    bare = re.sub(r"'[^']*'|\"[^\"]*\"", "quoted", block.replace("\\\n", ""))
    commands = re.split(r"[|;&\n]+", re.sub(r"(?m)(^|\s)#.*$", "", bare))
    return {command.split()[0] for command in commands if command.strip()}


@every_page
def test_every_variable_of_a_command_is_set_above_it(page: str, alert: str) -> None:
    known: set[str] = set()
    for block in _blocks(page, "bash"):
        for line in block.splitlines():
            used = set(re.findall(r"\$\{?([A-Z_]+)", line))
            assert used <= known | set(re.findall(r"\b([A-Z_]+)=", line)), f"{alert}: {line}"
            if line.startswith("export "):
                known |= set(re.findall(r"\b([A-Z_]+)=", line))


@every_text
def test_every_relative_link_leads_to_a_page_and_a_heading(pages: dict[str, str], name: str) -> None:
    for link in links(pages[name]):
        if not re.match(r"[a-z]+:", link):
            page, _, fragment = link.partition("#")
            assert (page or name) in pages, link
            assert not fragment or fragment in heading_ids(pages[page or name]), link


@every_text
def test_no_configured_text_reaches_a_page_but_names_and_numbers(pages: dict[str, str], name: str) -> None:
    assert "$(id)" not in pages[name]
    assert "<d>" not in pages[name]


def test_the_index_leads_to_every_page_by_symptom_and_lists_it() -> None:
    index = PAGES["default"]["README.md"]
    symptoms = _section(index, "By symptom")
    for alert in ALERTS:
        assert f"({alert}.md" in symptoms
        assert _section(index, "All pages").count(f"| [{alert}]({alert}.md) | says |\n") == 1


def test_the_restart_page_holds_the_whole_runbook_of_the_incident() -> None:
    page = " ".join(_prose(PAGES["default"]["CacheRestarted.md"]).lower().split())
    for step in (
        "verify that singleflight is enabled",
        "enable the gradual warm-up if it is not running",
        "consider rate limiting if the overload continues",
        "restart behind a warm replica",
        "keep singleflight always enabled",
        "monitor the warm-up",
        "| solution | pros | cons | with herdwatch |",
        "| singleflight |",
        "| background refresh |",
        "| gradual warm-up |",
        "| replica, promoted |",
        "### why all miss at once",
        "no source for them. take them as told",
        "**facebook, 2011:**",
        "**discord, 2017:**",
        "`flushall` resets neither the uptime nor the hit counters",
    ):
        assert step in page


def test_a_page_carries_the_numbers_of_its_configuration() -> None:
    default, other = PAGES["default"], PAGES["other"]
    assert "more than 50 % of the keys" in " ".join(default["CacheRestarted.md"].split())
    assert "less than 25 % of the keys" in " ".join(other["CacheKeysLost.md"].split())
    assert "| main | 2,500 | 50,000 | 95 % |" in other["CacheHitRateLow.md"]
    assert "more than 2,500,000 callers a second" in " ".join(other["HighCoalescingRate.md"].split())
    assert 'cache_up{cache="users"}' in other["CacheDown.md"]


# Markdown to HTML


@every_text
def test_a_page_in_html_is_complete_and_runs_and_fetches_nothing(pages: dict[str, str], name: str) -> None:
    title = Path(name).stem
    text = to_html(pages[name], title=title)
    html = _Html(text)
    tags = {tag for tag, _ in html.tags}
    assert html.title == f"{title} · herdwatch runbook"
    assert text.startswith("<!doctype html>\n<html lang=")
    assert not tags & {"script", "img", "iframe", "object", "embed", "form", "base", "audio", "video", "source"}
    assert html.attributes("src") == []
    assert [attrs["href"] for tag, attrs in html.tags if tag == "link"] == ["data:,"]
    assert "@import" not in text
    assert "url(" not in text
    assert any(attrs.get("name") == "viewport" for tag, attrs in html.tags if tag == "meta")
    assert "prefers-color-scheme: dark" in text
    assert ":focus-visible" in text


@every_text
def test_links_and_ids_of_the_html_are_sound(pages: dict[str, str], name: str) -> None:
    html = _Html(to_html(pages[name], title=name))
    ids = html.attributes("id")
    assert len(ids) == len(set(ids))
    assert [i for i in heading_ids(pages[name]) if i not in ids] == []
    for href in (attrs["href"] for tag, attrs in html.tags if tag == "a"):
        assert href is not None
        assert ".md" not in href
        assert not href.startswith("#") or href[1:] in ids


def test_tables_and_code_scroll_in_boxes_that_a_keyboard_reaches() -> None:
    html = to_html("## Signs\n\n|a|b|\n|-|-|\n|1|2|\n\n```bash\nls\n```\n", title="T")
    assert '<div class="table" role="group" aria-label="Table in Signs" tabindex="0">' in html
    assert '<pre role="group" aria-label="bash" tabindex="0"><code>ls\n</code></pre>' in html


@pytest.mark.parametrize(
    ("link", "href"),
    [
        ("CacheDown.md", "CacheDown"),
        ("CacheDown.md#mitigation", "CacheDown#mitigation"),
        ("CacheDown.md?cache=users#mitigation", "CacheDown#mitigation"),
        ("README.md", "./"),
        ("README.md#by-symptom", "./#by-symptom"),
        ("#impact", "#impact"),
        ("other.txt?a=b", "other.txt?a=b"),
        ("https://example.org/a.md?b=c", "https://example.org/a.md?b=c"),
        ("mailto:a@example.org", "mailto:a@example.org"),
    ],
)
def test_a_link_leads_where_the_page_is_served(link: str, href: str) -> None:
    html = _Html(to_html(f"[x]({link})", title="T"))
    assert [attrs["href"] for tag, attrs in html.tags if tag == "a"][-1] == href


def test_the_caller_may_say_where_files_lead() -> None:
    html = to_html("[x](README.md) [y](a/b.yml#c)", title="T", links={"README.md": "/all", "a/b.yml": "/rules"})
    assert '<a href="/all">x</a> <a href="/rules#c">y</a>' in html
    assert '<a href="/all">All runbooks</a>' in html


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        "a <img src=x onerror=alert(1)> b",
        "# <svg onload=alert(1)>",
        '# "><script>alert(1)</script>',
        '```"><script>alert(1)</script>\n</code></pre><script>alert(1)</script>\n```',
        "    <script>alert(1)</script>",
        "`</code><script>alert(1)</script>`",
        '|"><script>|\n|-|\n|<script>alert(1)</script>|',
        "[a](javascript:alert(1))",
        "[a](<JaVaScRiPt:alert(1)>)",
        "[a](&#106;avascript:alert(1))",
        "[a](data:text/html;base64,PHNjcmlwdD4=)",
        "[a](data:image/png;base64,AAAA)",
        "[a](vbscript:x) [b](file:///etc/passwd) [c](//example.org/x) [d](http://[bad)",
        '[a](x.md "\\" onmouseover=alert(1) y=\\"")',
        "![a](http://example.org/pixel.png) ![<script>](x)",
        "![a](data:image/png;base64,AAAA)",
        "<javascript:alert(1)>",
        "<!-- a --> <!-- b\n--><script>alert(1)</script>",
        "<!-- never closed <script>alert(1)</script>",
    ],
)
def test_hostile_markdown_is_text(hostile: str) -> None:
    plain, html = _Html(to_html("", title="T")), _Html(to_html(hostile, title="T"))
    harmless = {"p", "code", "pre", "div", "table", "thead", "tbody", "tr", "th", "td", "h1", "a", "em", "strong"}
    added = html.tags[:]
    for tag in plain.tags:
        added.remove(tag)
    assert {tag for tag, _ in added} <= harmless
    assert {name for _, attrs in added for name in attrs} <= {
        *("href", "id", "class", "role", "aria-label", "tabindex", "title"),
    }
    schemes = {href.partition(":")[0] for href in html.attributes("href") if ":" in href}
    assert schemes <= {"data", "http", "https", "mailto"}
    assert [href for href in html.attributes("href") if href.startswith("data") and href != "data:,"] == []
    assert html.attributes("src") == []


def test_a_hostile_title_is_text() -> None:
    assert "<title>&lt;/title&gt;&lt;script&gt;$body · herdwatch runbook</title>" in to_html(
        "", title="</title><script>$body"
    )


def test_the_header_of_a_rendered_file_is_left_out() -> None:
    html = to_html("<!-- Rendered from x; change that -->\n# CacheDown\n", title="CacheDown")
    assert "Rendered from" not in html
    assert '<h1 id="cachedown">CacheDown' in html


def test_heading_ids_are_those_of_github() -> None:
    text = "# What each guard buys\n## `FAILOVER` & more: 1, 2!\n## Now\n## Now\nNow\n---\n## Größe_x\n## ???\n"
    assert heading_ids(text) == [
        "what-each-guard-buys",
        "failover--more-1-2",
        "now",
        "now-1",
        "now-2",
        "größe_x",
        "section",
    ]


def test_code_blocks_and_links_are_found_wherever_they_stand() -> None:
    text = "1. a\n\n   ```bash extra\n   ls\n   ```\n\n> [x](y.md#z)\n\n|a|\n|-|\n|[t](u)|\n\n    indented\n\n![i](j)\n"
    assert code_blocks(text) == [("bash", "ls\n"), ("", "indented\n")]
    assert links(text) == ["y.md#z", "u"]
