"""What reads what: whether an expression reads a series, and which alerts a query of ALERTS asks for.

Where promtool knows PromQL that the parser does not, an expression reads whatever name it contains: then less is found,
and nothing is refused that is right.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import promql_parser
from promql_parser import MatchOp, MatrixSelector, VectorSelector

_WORD = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_NAME = "__name__"


@dataclass(frozen=True, slots=True)
class Matcher:
    """One label matcher; a regular expression matches the whole value."""

    label: str
    negative: bool
    pattern: re.Pattern[str] | str | None
    """A pattern, a text, or None for a regular expression that only Go understands: nobody knows."""

    def accepts(self, value: str) -> bool:
        """Whether a value matches, or may."""
        if self.pattern is None:
            return True
        equal = self.pattern == value if isinstance(self.pattern, str) else bool(self.pattern.fullmatch(value))
        return equal != self.negative


@dataclass(frozen=True, slots=True)
class Selector:
    """One series selector: all its matchers, the name among them."""

    matchers: tuple[Matcher, ...]

    def accepts(self, labels: Mapping[str, str], *, known_only: bool = False) -> bool:
        """Whether it selects a series with these labels; `known_only`: as far as these labels are concerned."""
        return all(
            matcher.accepts(labels.get(matcher.label, ""))
            for matcher in self.matchers
            if not known_only or matcher.label in labels
        )


@dataclass(frozen=True, slots=True)
class Read:
    """What an expression reads: selectors, the `words` of templates, or the `text` that could not be parsed."""

    selectors: tuple[Selector, ...]
    words: frozenset[str] = frozenset()
    text: str = ""

    def takes(self, labels: Mapping[str, str], *, known_only: bool = False) -> bool:
        """Whether the expression reads a series with these labels, or may."""
        selected = any(selector.accepts(labels, known_only=known_only) for selector in self.selectors)
        return selected or labels[_NAME] in self.words or labels[_NAME] in self.text


@lru_cache(maxsize=10_000)
def expression(text: str) -> Read:
    """What a PromQL expression reads."""
    try:
        tree = promql_parser.parse(text)
    except ValueError:
        return Read((), text=text)
    return Read(tuple(_selector(node) for node in _selectors(tree)))


def templates(texts: tuple[str, ...]) -> Read:
    """What the queries inside of label and annotation templates read; their format strings are no PromQL yet."""
    return Read((), frozenset(word for text in texts if "query" in text for word in _WORD.findall(text)))


@lru_cache(maxsize=10_000)
def series(text: str) -> Mapping[str, str] | None:
    """The labels of a series as a test file names it, `__name__` among them; None where it cannot be parsed."""
    try:
        node = promql_parser.parse(text)
    except ValueError:
        return None
    if not isinstance(node, VectorSelector):
        return None
    labels = {matcher.name: matcher.value for matcher in node.matchers.matchers}
    return {_NAME: "", **labels, **({_NAME: node.name} if node.name else {})}


def asks(query: str, alert: str, labels: Mapping[str, str]) -> bool:
    """Whether a query may show that an alert of this name, whose rule sets these labels, fires.

    A label that is a template may become anything.
    """
    known = {name: value for name, value in labels.items() if "{{" not in value}
    fires = {**known, _NAME: "ALERTS", "alertname": alert, "alertstate": "firing"}
    return expression(query).takes(fires, known_only=True)


def alert_names(query: str) -> Iterator[Matcher]:
    """The matchers on `alertname` in selectors of ALERTS."""
    for selector in expression(query).selectors:
        if any(matcher.label == _NAME and matcher.pattern == "ALERTS" for matcher in selector.matchers):
            yield from (matcher for matcher in selector.matchers if matcher.label == "alertname")


def _selectors(node: object) -> Iterator[VectorSelector]:
    if isinstance(node, VectorSelector):
        yield node
    elif isinstance(node, MatrixSelector):
        yield node.vector_selector
    elif node is not None:
        below = (getattr(node, name, None) for name in ("lhs", "rhs", "param", "expr"))
        for child in (*below, *getattr(node, "args", ())):
            yield from _selectors(child)


def _selector(node: VectorSelector) -> Selector:
    named = (Matcher(_NAME, False, node.name),) if node.name else ()
    return Selector((*named, *(_matcher(raw) for raw in node.matchers.matchers)))


def _matcher(raw: promql_parser.Matcher) -> Matcher:
    negative = raw.op in (MatchOp.NotEqual, MatchOp.NotRe)
    if raw.op in (MatchOp.Equal, MatchOp.NotEqual):
        return Matcher(raw.name, negative, raw.value)
    try:
        return Matcher(raw.name, negative, re.compile(raw.value, re.DOTALL))
    except re.error:
        return Matcher(raw.name, negative, None)
