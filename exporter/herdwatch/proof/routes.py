"""An alertmanager.yml as data: the tree of routes, the inhibition rules, and which alerts they match."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import yaml

from herdwatch.errors import CheckFailed

Labels = Mapping[str, str]

_MATCHER = re.compile(r'\s*([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(=~|!~|!=|=)\s*("(?:[^"\\]|\\.)*"|[^,"]*?)\s*(?:,|$)')
_ESCAPED = re.compile(r"\\(.)")
_DURATION = re.compile(r"(?:\d+(?:ms|[smhdwy]))+")
_PART = re.compile(r"(\d+)(ms|[smhdwy])")
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31536000}

_ROUTE = {"receiver", "group_by", "continue", "matchers", "group_wait", "group_interval", "repeat_interval", "routes"}
_INHIBITION = {"source_matchers", "target_matchers", "equal"}
_QUIET = {"slack_configs", "email_configs"}
"""Integrations that do not tell the end of an alert unless they are told to."""


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on a label; a label that is missing is empty."""

    name: str
    operator: str
    value: str

    def matches(self, labels: Labels) -> bool:
        """Whether an alert with these labels meets it."""
        found = labels.get(self.name, "")
        equal = found == self.value if "~" not in self.operator else re.fullmatch(self.value, found) is not None
        return equal != self.operator.startswith("!")


def _all(matchers: tuple[Matcher, ...], labels: Labels) -> bool:
    return all(matcher.matches(labels) for matcher in matchers)


@dataclass(frozen=True, slots=True)
class Route:
    """A node of the tree; times in seconds. `group_by` None means by every label."""

    receiver: str
    group_by: tuple[str, ...] | None = ()
    group_wait: float = 30.0
    group_interval: float = 300.0
    repeat_interval: float = 14400.0
    matchers: tuple[Matcher, ...] = ()
    goes_on: bool = False
    routes: tuple[Route, ...] = ()

    def of(self, labels: Labels) -> list[Route]:
        """The nodes that an alert with these labels ends in: the deepest of the first branch that takes it."""
        if not _all(self.matchers, labels):
            return []
        found: list[Route] = []
        for route in self.routes:
            inside = route.of(labels)
            found += inside
            if inside and not route.goes_on:
                break
        return found or [self]

    def grouped(self, labels: Labels) -> Labels:
        """The labels that name the group of an alert."""
        names = labels if self.group_by is None else self.group_by
        return {name: labels[name] for name in names if name in labels}


@dataclass(frozen=True, slots=True)
class Inhibition:
    """One rule: what the source's firing hides."""

    source: tuple[Matcher, ...]
    target: tuple[Matcher, ...]
    equal: tuple[str, ...] = ()

    def concerns(self, labels: Labels) -> bool:
        """Whether an alert with these labels can be hidden by it."""
        return _all(self.target, labels)

    def inhibits(self, source: Labels, target: Labels) -> bool:
        """Whether the first hides the second. Of two alerts that match both sides, neither hides the other."""
        if not (_all(self.source, source) and _all(self.target, target)):
            return False
        if _all(self.source, target) and _all(self.target, source):
            return False
        return all(source.get(name, "") == target.get(name, "") for name in self.equal)


@dataclass(frozen=True, slots=True)
class Tree:
    """The root of the routes, the inhibition rules, and the receivers that are not told when an alert has ended."""

    route: Route
    inhibitions: tuple[Inhibition, ...]
    silent_on_ends: frozenset[str]


def load(text: str, source: str) -> Tree:
    """Read an alertmanager.yml; raises CheckFailed naming `source`, the place and what would be right."""
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise CheckFailed(f"{source}:{mark.line + 1 if mark else 1}: not valid YAML: {problem}") from None
    if not isinstance(data, dict) or not isinstance(data.get("route"), dict):
        raise CheckFailed(f"{source}:1: an Alertmanager configuration has a route")
    return Tree(
        _route(data["route"], Route(receiver=""), f"{source}: route"),
        tuple(
            _inhibition(_mapping(rule, where, _INHIBITION), where)
            for rule, where in _items(data.get("inhibit_rules"), f"{source}: inhibit_rules")
        ),
        frozenset(_silent(data.get("receivers"), f"{source}: receivers")),
    )


def _route(found: Any, parent: Route, where: str) -> Route:
    data = _mapping(found, where, _ROUTE)

    def time(name: str, inherited: float) -> float:
        return seconds(data[name], f"{where}.{name}") if name in data else inherited

    route = replace(
        parent,
        receiver=str(data.get("receiver", parent.receiver)),
        group_wait=time("group_wait", parent.group_wait),
        group_interval=time("group_interval", parent.group_interval),
        repeat_interval=time("repeat_interval", parent.repeat_interval),
        matchers=_matchers(data.get("matchers"), f"{where}.matchers"),
        goes_on=bool(data.get("continue", False)),
        routes=(),
    )
    if not route.receiver:
        raise CheckFailed(f"{where}: has no receiver")
    if "group_by" in data:
        names = tuple(str(name) for name, _ in _items(data["group_by"], f"{where}.group_by"))
        route = replace(route, group_by=None if names == ("...",) else names)
    routes = tuple(_route(one, route, place) for one, place in _items(data.get("routes"), f"{where}.routes"))
    return replace(route, routes=routes)


def _inhibition(data: Mapping[str, Any], where: str) -> Inhibition:
    return Inhibition(
        _matchers(data.get("source_matchers"), f"{where}.source_matchers"),
        _matchers(data.get("target_matchers"), f"{where}.target_matchers"),
        tuple(str(name) for name, _ in _items(data.get("equal"), f"{where}.equal")),
    )


def _silent(found: Any, where: str) -> Iterator[str]:
    for receiver, place in _items(found, where):
        if not isinstance(receiver, dict):
            raise CheckFailed(f"{place}: must be a mapping of keys")
        told = [
            bool(one.get("send_resolved", kind not in _QUIET))
            for kind, several in receiver.items()
            if kind.endswith("_configs")
            for one in several
        ]
        if told and not any(told):
            yield str(receiver.get("name"))


def _matchers(found: Any, where: str) -> tuple[Matcher, ...]:
    return tuple(matcher for text, place in _items(found, where) for matcher in _parsed(str(text), place))


def _parsed(text: str, where: str) -> Iterator[Matcher]:
    rest = text.strip().removeprefix("{").removesuffix("}")
    while rest:
        match = _MATCHER.match(rest)
        if match is None:
            raise CheckFailed(f'{where}: {text!r} is no matcher; one is name="value", with =, !=, =~ or !~')
        name, operator, value = match.groups()
        if value.startswith('"'):
            value = _ESCAPED.sub(lambda escaped: "\n" if escaped[1] == "n" else escaped[1], value[1:-1])
        if "~" in operator:
            try:
                re.compile(value)
            except re.error as error:
                raise CheckFailed(f"{where}: {value!r} is no regular expression: {error}") from None
        yield Matcher(name, operator, value)
        rest = rest[match.end() :]


def seconds(found: Any, where: str) -> float:
    """The seconds of a duration as Prometheus and Alertmanager write it; raises CheckFailed naming `where`."""
    text = str(found)
    if not _DURATION.fullmatch(text):
        raise CheckFailed(f"{where}: {text!r} is no duration such as 30s or 1h30m")
    return sum(int(number) * _UNITS[unit] for number, unit in _PART.findall(text))


def _items(found: Any, where: str) -> Iterator[tuple[Any, str]]:
    if found is None:
        return
    if not isinstance(found, list):
        raise CheckFailed(f"{where}: must be a list")
    for number, one in enumerate(found):
        yield one, f"{where}[{number}]"


def _mapping(found: Any, where: str, known: set[str]) -> Mapping[str, Any]:
    """The mapping; a key that is not modelled could change the verdict, so it is refused."""
    if not isinstance(found, dict):
        raise CheckFailed(f"{where}: must be a mapping of keys")
    for key in found:
        if key not in known:
            raise CheckFailed(f"{where}: {key} is not modelled here; known are {', '.join(sorted(known))}")
    return found
