"""Rendered rule files as data: groups, rules and the line each begins at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from herdwatch.errors import CheckFailed


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `name` is the alert or the recorded series; `line` counts from 1 in the rule file."""

    name: str
    is_alert: bool
    expr: str
    group: str
    line: int
    labels: dict[str, str]
    annotations: dict[str, str]


def load(text: str, source: str) -> list[Rule]:
    """All rules of a rule file in order; raises CheckFailed naming `source` and line where it is none."""
    try:
        root = yaml.compose(text, yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise CheckFailed(f"{source}:{mark.line + 1 if mark else 1}: not valid YAML: {problem}") from None
    if not isinstance(data, dict) or not isinstance(data.get("groups"), list):
        raise CheckFailed(f"{source}:1: a rule file has a list of groups")
    return list(_rules(data, root, source))


def _rules(data: dict[str, list[Any]], root: yaml.Node | None, source: str) -> Iterator[Rule]:
    groups_node = _value(root, "groups")
    for number, group in enumerate(data["groups"]):
        rules = group.get("rules") if isinstance(group, dict) else None
        if not isinstance(rules, list):
            raise CheckFailed(f"{source}:{_line(groups_node, number)}: a group has a name and a list of rules")
        rules_node = _value(groups_node.value[number], "rules")
        for index, rule in enumerate(rules):
            line = _line(rules_node, index)
            if not isinstance(rule, dict) or not _is_rule(rule):
                raise CheckFailed(f"{source}:{line}: a rule has an alert or record name, an expr, labels by name")
            name = rule.get("alert") or rule["record"]
            yield Rule(
                name=name,
                is_alert="alert" in rule,
                expr=str(rule["expr"]),
                group=str(group.get("name")),
                line=line,
                labels=dict(rule.get("labels") or {}),
                annotations=dict(rule.get("annotations") or {}),
            )


def _is_rule(rule: dict[str, Any]) -> bool:
    named = isinstance(rule.get("alert") or rule.get("record"), str)
    texts = all(isinstance(rule.get(key) or {}, dict) for key in ("labels", "annotations"))
    return named and texts and isinstance(rule.get("expr"), (str, int, float))


def _value(node: yaml.Node | None, key: str) -> yaml.Node:
    """The value of the last `key` of a mapping, which is the one that counts."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((value for name, value in reversed(pairs) if name.value == key), yaml.SequenceNode("", []))


def _line(node: yaml.Node, index: int) -> int:
    return int(node.value[index].start_mark.line) + 1
