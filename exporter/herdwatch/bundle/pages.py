"""Runbook pages: Markdown in, one self-contained HTML page out, and what tests ask of the Markdown.

The Markdown is CommonMark with tables. Raw HTML in it is shown as text, an image becomes its alternative text, and a
link with any scheme but http, https and mailto loses its target: a page runs nothing and fetches nothing.
"""

# ruff: noqa: ARG002 - every render rule has markdown-it's one signature, whatever it needs of it

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from html import escape
from itertools import pairwise
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

from herdwatch.bundle.page_style import SHELL
from herdwatch.errors import CheckFailed

KEPT = 64
"""Pages whose HTML is kept: one is some 25 kB, and takes longer to make than all else that a reader waits for."""
INDEX = "README.md"
INDEX_LINKS: Mapping[str, str] = {INDEX: "./"}
"""Where the index is served: at the folder of the pages."""

_SCHEMES = ("http", "https", "mailto")
_NOT_IN_SLUG = re.compile(r"[^\w\- ]")
_LEADING_COMMENTS = re.compile(r"\A(?:\s*<!--.*?-->)+\s*", re.DOTALL)


class _Renderer(RendererHTML):
    """Tables and code scroll inside their own box, headings carry an anchor, images are text."""

    def heading_close(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        anchor, text = escape(str(tokens[idx - 2].attrGet("id"))), escape(_text(tokens[idx - 1]))
        return f' <a class="anchor" href="#{anchor}" aria-label="Link to {text}">#</a></{tokens[idx].tag}>\n'

    def table_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        label = escape(str(tokens[idx].meta.get("label", "Table")))
        return f'<div class="table" role="group" aria-label="{label}" tabindex="0">\n<table>\n'

    def table_close(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return "</table>\n</div>\n"

    def fence(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        label = escape(_language(tokens[idx]) or "text")
        return f'<pre role="group" aria-label="{label}" tabindex="0"><code>{escape(tokens[idx].content)}</code></pre>\n'

    code_block = fence

    def image(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return escape(_text(tokens[idx]))


_MARKDOWN = MarkdownIt("commonmark", {"html": False}, renderer_cls=_Renderer).enable("table")


def to_html(markdown: str, *, title: str, links: Mapping[str, str] | None = None, live: str = "") -> str:
    """One complete HTML page with the text of `markdown`, titled `<title> · herdwatch runbook`.

    A relative link to `X.md` leads to `X`, its fragment kept and its query dropped; `links` says where other files
    lead, by the path as written. HTML comments before the text, such as a generated file's header, are left out. `live`
    is HTML that stands above the first section, as it is.
    """
    above, below = _around(markdown, title, tuple(sorted({**INDEX_LINKS, **(links or {})}.items())))
    return f"{above}{live}{below}"


@lru_cache(maxsize=KEPT)
def _around(markdown: str, title: str, links: tuple[tuple[str, str], ...]) -> tuple[str, str]:
    """The page above and below what is live: the same for everyone who reads it, and most of its cost."""
    targets = dict(links)
    tokens = _parse(_LEADING_COMMENTS.sub("", markdown))
    for token in _links(tokens):
        _retarget(token, targets)
    sections = (number for number, token in enumerate(tokens) if token.type == "heading_open" and token.tag != "h1")
    head = next(sections, len(tokens))
    above, below = (_MARKDOWN.renderer.render(some, _MARKDOWN.options, {}) for some in (tokens[:head], tokens[head:]))
    page = SHELL.substitute(
        title=escape(f"{title} · herdwatch runbook"), nav=_navigation(tokens, targets[INDEX]), body=above + below
    )
    end = page.rindex("</main>") - len(below)
    return page[:end], page[end:]


def heading_ids(markdown: str) -> list[str]:
    """The ids of all headings in order, made as GitHub makes them, so that one link works in both places."""
    return [str(token.attrGet("id")) for token in _parse(markdown) if token.type == "heading_open"]


def code_blocks(markdown: str) -> list[tuple[str, str]]:
    """Language and text of every code block in order; the language of an indented or unmarked block is empty."""
    return [(_language(token), token.content) for token in _parse(markdown) if token.type in ("fence", "code_block")]


def lead(markdown: str, source: str) -> str:
    """The sentence between a page's title and its first section, without its full stop: what an alert says in short.

    Raises CheckFailed naming `source` where there is none.
    """
    found = re.search(r"^# .+\n\n(\w[^\n]*\.)\n\n##", markdown, re.MULTILINE)
    if found is None:
        raise CheckFailed(f"{source}: one sentence between the title and Meaning must say what the alert says")
    return found[1].removesuffix(".")


def links(markdown: str) -> list[str]:
    """The target of every link in order, as written; images are none."""
    return [str(token.attrGet("href")) for token in _links(_parse(markdown))]


def _parse(markdown: str) -> list[Token]:
    """Tokens with an id on each heading and, on each table, a label that names the section it stands in."""
    tokens = _MARKDOWN.parse(markdown)
    seen: set[str] = set()
    section = ""
    for token, following in pairwise(tokens):
        if token.type == "heading_open":
            section = _text(following)
            token.attrSet("id", _slug(section, seen))
        elif token.type == "table_open":
            token.meta["label"] = f"Table in {section}" if section else "Table"
    return tokens


def _slug(text: str, seen: set[str]) -> str:
    """GitHub's id of a heading: lower case, punctuation dropped, spaces to hyphens, `-1` and up for a repeated one."""
    base = _NOT_IN_SLUG.sub("", text.lower()).strip().replace(" ", "-") or "section"
    slug, count = base, 0
    while slug in seen:
        count += 1
        slug = f"{base}-{count}"
    seen.add(slug)
    return slug


def _text(token: Token) -> str:
    """What a reader sees of an inline token, without markup."""
    parts = []
    for child in token.children or ():
        if child.type == "image":
            parts.append(_text(child))
        elif child.type in ("softbreak", "hardbreak"):
            parts.append(" ")
        else:
            parts.append(child.content)
    return "".join(parts)


def _language(token: Token) -> str:
    words = token.info.split()
    return words[0] if words else ""


def _links(tokens: Sequence[Token]) -> Iterator[Token]:
    for token in tokens:
        yield from (child for child in token.children or () if child.type == "link_open")


def _retarget(token: Token, targets: Mapping[str, str]) -> None:
    target = _target(str(token.attrGet("href")), targets)
    if target is None:
        del token.attrs["href"]
    else:
        token.attrSet("href", target)


def _target(href: str, targets: Mapping[str, str]) -> str | None:
    """Where a link of the Markdown leads on the page; None for one that must lead nowhere."""
    try:
        parts = urlsplit(href)
    except ValueError:
        return None
    if parts.scheme or parts.netloc:
        return href if parts.scheme in _SCHEMES else None
    path = targets.get(parts.path, parts.path)
    if path == parts.path and not path.endswith(".md"):
        return href
    return path.removesuffix(".md") + (f"#{parts.fragment}" if parts.fragment else "")


def _navigation(tokens: Sequence[Token], index: str) -> str:
    """Links to the index and to the sections of the page."""
    rows = [f'<a href="{escape(index)}">All runbooks</a>']
    for token, following in pairwise(tokens):
        if token.type == "heading_open" and token.tag == "h2":
            rows.append(f'<a href="#{escape(str(token.attrGet("id")))}">{escape(_text(following))}</a>')
    return "\n".join(rows)
