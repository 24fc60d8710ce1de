"""How far back rules look: through their windows and offsets, their waiting, and the rules that they read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import promql_parser
from promql_parser import MatrixSelector, SubqueryExpr, VectorSelector

from herdwatch.bundle import promql
from herdwatch.bundle.promql import Matcher
from herdwatch.bundle.rules import Rule
from herdwatch.errors import CheckFailed
from herdwatch.proof.names import STATES

LOOKBACK = 300
"""Seconds for which Prometheus holds a sample to be the current one."""
ROUNDS = 2
"""How often a circle of rules that read each other is followed into the past."""


@dataclass(frozen=True, slots=True)
class Read:
    """One selector in an expression, and how many seconds back its newest sample may be, or its oldest in a window."""

    name: str
    matchers: tuple[Matcher, ...]
    seconds: int

    @property
    def source(self) -> str:
        """The series that is read; of alerts, the one alert where the selector names it."""
        named = next((one.value for one in self.matchers if (one.label, one.operator) == ("alertname", "=")), None)
        return f"the state of {named}" if self.name in STATES and named else self.name


def reads(expr: str, where: str) -> list[Read]:
    """Every selector of an expression; raises CheckFailed, which begins with `where`, for what no piece can hold."""
    found = list(_visit(promql.parse(expr, where), 0, where))
    if any(not read.name for read in found):
        raise CheckFailed(f"{where}: reads series without naming a metric; a backtest fetches metrics by name")
    return found


def _visit(node: Any, before: int, where: str) -> Iterator[Read]:
    if isinstance(node, (VectorSelector, MatrixSelector, SubqueryExpr)):
        inner = node.vector_selector if isinstance(node, MatrixSelector) else node
        before += _whole(getattr(node, "range", None)) + _whole(inner.offset)
        if inner.at is not None or (inner.offset or timedelta()) < timedelta():
            raise CheckFailed(f"{where}: @ and a negative offset look out of the piece that is played; no backtest can")
        if isinstance(inner, VectorSelector):
            [selector] = promql.selectors(inner.prettify())
            yield Read(selector.metric, selector.matchers, before)
            return
    for child in _children(node):
        yield from _visit(child, before, where)


def _children(node: Any) -> list[Any]:
    own = [getattr(node, name, None) for name in ("lhs", "rhs", "param", "expr")]
    return [child for child in [*own, *getattr(node, "args", [])] if child is not None]


class Reach:
    """How far back each rule looks, in seconds. `documents` are the rules as their file has them.

    Rules that read each other in a circle look back for ever; they are in `endless`, and followed once round.
    """

    def __init__(
        self, rules: Sequence[Rule], documents: Sequence[Mapping[str, Any]], found: Sequence[Sequence[Read]]
    ) -> None:
        self._documents = documents
        self._reads = found
        self._numbers: dict[str, list[int]] = {}
        for number, rule in enumerate(rules):
            names = (f"the state of {rule.name}", *STATES) if rule.is_alert else (rule.name,)
            for name in names:
                self._numbers.setdefault(name, []).append(number)
        self._known: dict[str, int | None] = {}
        self.endless: set[str] = set()
        self.longest = max((self._of_source(name) for name in self._numbers if name not in STATES), default=0)

    @property
    def bounded(self) -> int:
        """The longest, with every circle followed ROUNDS times."""
        more = max((self._known.get(name) or 0 for name in self.endless), default=0)
        return self.longest + (ROUNDS - 1) * more

    def _of_rule(self, number: int) -> int:
        rule = self._documents[number]
        held = _seconds(rule.get("for")) + _seconds(rule.get("keep_firing_for"))
        return held + max((read.seconds + self._of_source(read.source) for read in self._reads[number]), default=0)

    def _of_source(self, name: str) -> int:
        if name not in self._numbers:
            return LOOKBACK
        if name not in self._known:
            self._known[name] = None
            self._known[name] = max(map(self._of_rule, self._numbers[name]))
        elif self._known[name] is None:
            self.endless.add(name)
        return self._known[name] or 0


def _whole(span: timedelta | None) -> int:
    return 0 if span is None else max(0, -int(-span.total_seconds() // 1))


def _seconds(text: Any) -> int:
    try:
        return _whole(promql_parser.parse_duration(str(text)))
    except ValueError:
        return 0  # there is none, or it is 0s, or promtool says what is wrong with it
