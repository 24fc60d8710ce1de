"""Rule files as far as the wrapper must know them: groups, names, expressions, and what templates may query."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from herdwatch.errors import CheckFailed
from herdwatch.promtool import nodes


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; `labels` are those that it sets, `templates` all its label and annotation texts."""

    name: str
    is_alert: bool
    expr: str
    labels: Mapping[str, str]
    templates: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RuleFile:
    """One rule file; `shown` names it to the reader, `groups` has the name of each group and its line."""

    path: Path
    shown: str
    groups: tuple[tuple[str, int], ...]
    rules: tuple[Rule, ...]


def load(path: Path, shown: str) -> RuleFile:
    """Read a rule file; raises CheckFailed where it is no YAML, or holds no rule. The rest promtool says."""
    root = nodes.load(path, shown)
    groups = nodes.items(nodes.value(root, "groups"))
    named = tuple((nodes.text(nodes.value(group, "name")) or "", nodes.line(group)) for group in groups)
    rules = tuple(rule for group in groups for rule in _rules(group))
    if not rules:
        raise CheckFailed(f"{shown}:1: holds no rule")
    return RuleFile(path, shown, named, rules)


def _rules(group: yaml.Node) -> Iterator[Rule]:
    for node in nodes.items(nodes.value(group, "rules")):
        alert = nodes.text(nodes.value(node, "alert"))
        name = alert or nodes.text(nodes.value(node, "record"))
        if name:
            labels = nodes.texts(nodes.value(node, "labels"))
            said = nodes.texts(nodes.value(node, "annotations"))
            expr = nodes.text(nodes.value(node, "expr")) or ""
            yield Rule(name, bool(alert), expr, labels, (*labels.values(), *said.values()))
