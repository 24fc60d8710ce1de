"""Rule files as YAML nodes: rules can be read, changed one at a time and written again, word for word as they were.

Nodes and not values, because YAML in Python and in Go do not agree on what `yes`, `1e3` and `2024-01-01` are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from yaml import MappingNode, ScalarNode, SequenceNode

from herdwatch.bundle import rules as bundled
from herdwatch.errors import CheckFailed
from herdwatch.proof.mutation import tree

_TEXT = "tag:yaml.org,2002:str"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a file. `key` is the same for all rules that say the same alert or record the same series.

    `name` tells it from those: the second of a name is `Name#2`. `index` counts groups and rules in the file.
    """

    path: Path
    name: str
    key: tuple[str, str]
    group: str
    index: tuple[int, int]
    line: int
    node: MappingNode
    expr: tree.Node

    def line_of(self, field: str) -> int:
        """The line, from 1, of a field's value, or of the rule if there is none."""
        found = value(self.node, field)
        return self.line if found is None else found.start_mark.line + 1


@dataclass(frozen=True, slots=True)
class RuleFile:
    """The rules of a file in order, its text, and its groups without their rules."""

    path: Path
    text: str
    rules: tuple[Rule, ...]
    groups: tuple[MappingNode, ...]

    def written(self, nodes: Mapping[tuple[int, ...], MappingNode]) -> str:
        """A rule file with these rules, by index, in their groups; groups that have none are left out.

        What has a rule's index and some more behind it stands after that rule.
        """
        groups: list[yaml.Node] = []
        for number, group in enumerate(self.groups):
            inside: list[yaml.Node] = [nodes[index] for index in sorted(nodes) if index[0] == number]
            if inside:
                groups.append(with_field(group, "rules", SequenceNode("tag:yaml.org,2002:seq", inside)))
        return written(mapping({"groups": SequenceNode("tag:yaml.org,2002:seq", groups)}))


def load(path: Path) -> RuleFile:
    """Read a rule file; raises CheckFailed naming file and line of what is wrong with it."""
    text = read_text(path)
    checked = bundled.load(text, str(path))
    root = compose(text, path)
    groups = tuple(items(value(root, "groups")))
    nodes = [(n, m, rule) for n, group in enumerate(groups) for m, rule in enumerate(items(value(group, "rules")))]
    seen: dict[str, int] = {}
    found = []
    for rule, (n, m, node) in zip(checked, nodes, strict=True):
        seen[rule.name] = count = seen.get(rule.name, 0) + 1
        found.append(
            Rule(
                path,
                rule.name if count == 1 else f"{rule.name}#{count}",
                ("alert" if rule.is_alert else "record", rule.name),
                rule.group,
                (n, m),
                rule.line,
                node,
                tree.parse(scalar(node, "expr"), f"{path}:{rule.line}: {rule.name}"),
            )
        )
    if not found:
        raise CheckFailed(f"{path}:1: holds no rule")
    return RuleFile(path, text, tuple(found), tuple(with_field(group, "rules", None) for group in groups))


def read_text(path: Path) -> str:
    """The text of a file; raises CheckFailed naming it where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckFailed(f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None


def compose(text: str, path: Path) -> yaml.Node | None:
    """The nodes of a YAML text, merge keys resolved; raises CheckFailed naming file and line."""
    try:
        root = yaml.compose(text, _LOADER)
        _settle(root, set())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise CheckFailed(f"{path}:{mark.line + 1 if mark else 1}: not valid YAML: {problem}") from None
    return root


def written(node: yaml.Node) -> str:
    """A node as YAML."""
    return str(yaml.serialize(node, Dumper=_DUMPER, width=1 << 30, allow_unicode=True))


def value(node: yaml.Node | None, field: str) -> yaml.Node | None:
    """The value of a field; of several, the last, which is the one that counts."""
    pairs = node.value if isinstance(node, MappingNode) else []
    return next((found for name, found in reversed(pairs) if name.value == field), None)


def items(node: yaml.Node | None) -> Iterator[MappingNode]:
    """The mappings in a list."""
    if isinstance(node, SequenceNode):
        yield from (item for item in node.value if isinstance(item, MappingNode))


def scalar(node: yaml.Node | None, field: str) -> str:
    """The text of a field, empty where it is missing or no scalar."""
    found = value(node, field)
    return found.value if isinstance(found, ScalarNode) else ""


def fields(node: yaml.Node | None) -> Iterator[tuple[str, yaml.Node]]:
    """Names and values of a mapping."""
    if isinstance(node, MappingNode):
        yield from ((name.value, found) for name, found in node.value)


def with_field(node: MappingNode, field: str, new: yaml.Node | str | None) -> MappingNode:
    """The mapping with one field changed, added or, for None, taken out."""
    pairs = [(name, found) for name, found in node.value if name.value != field]
    if new is not None:
        pairs.append((text(field), text(new) if isinstance(new, str) else new))
    return MappingNode(node.tag, pairs)


def mapping(values: Mapping[str, yaml.Node]) -> MappingNode:
    """A mapping of nodes."""
    return MappingNode("tag:yaml.org,2002:map", [(text(name), found) for name, found in values.items()])


def sequence(values: Sequence[yaml.Node]) -> SequenceNode:
    """A list of nodes."""
    return SequenceNode("tag:yaml.org,2002:seq", list(values))


def text(content: str) -> ScalarNode:
    """A string, quoted so that it is one whatever it says."""
    return ScalarNode(_TEXT, content, style='"')


def number(content: str) -> ScalarNode:
    """A whole number."""
    return ScalarNode("tag:yaml.org,2002:int", content)


def _settle(node: yaml.Node | None, seen: set[int]) -> None:
    """Resolve merge keys, and quote what stood in a block: folded blocks do not survive being written again."""
    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, ScalarNode) and node.style in ("|", ">"):
        node.style = '"'
    elif isinstance(node, MappingNode):
        yaml.constructor.SafeConstructor().flatten_mapping(node)
        for name, found in node.value:
            _settle(name, seen)
            _settle(found, seen)
    elif isinstance(node, SequenceNode):
        for item in node.value:
            _settle(item, seen)
