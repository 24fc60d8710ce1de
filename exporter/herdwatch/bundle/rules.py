"""Rendered rule files as data: groups, rules and the line each begins at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

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
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise CheckFailed(f"{source}:{line}: not valid YAML: {error.problem}") from None
    if not isinstance(data, dict) or not isinstance(data.get("groups"), list):
        raise CheckFailed(f"{source}:1: a rule file has a list of groups")
    return list(_rules(data, root, source))


def _rules(data: dict[str, list[dict[str, object]]], root: yaml.Node | None, source: str) -> Iterator[Rule]:
    groups_node = _value(root, "groups")
    for number, group in enumerate(data["groups"]):
        rules_node = _value(groups_node.value[number], "rules")
        rules = group.get("rules") or []
        for index, rule in enumerate(rules if isinstance(rules, list) else []):
            line = rules_node.value[index].start_mark.line + 1
            name = rule.get("alert") or rule.get("record")
            if not isinstance(name, str) or not isinstance(rule.get("expr"), (str, int, float)):
                raise CheckFailed(f"{source}:{line}: a rule has an alert or record name and an expr")
            yield Rule(
                name=name,
                is_alert="alert" in rule,
                expr=str(rule["expr"]),
                group=str(group.get("name")),
                line=line,
                labels=dict(rule.get("labels") or {}),
                annotations=dict(rule.get("annotations") or {}),
            )


def _value(node: yaml.Node | None, key: str) -> yaml.Node:
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if name.value == key:
                found: yaml.Node = value
                return found
    return yaml.SequenceNode("", [])
