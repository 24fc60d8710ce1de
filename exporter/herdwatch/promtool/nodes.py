"""YAML as nodes: the text of each value as it stands in the file, and the line it stands in.

Nodes and not values, because promtool reads a text where PyYAML sees a boolean, a date or an octal number.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from herdwatch.errors import CheckFailed

_MERGE = "tag:yaml.org,2002:merge"


def load(path: Path, shown: str) -> yaml.Node | None:
    """The root of a YAML file in block style, None where it is empty; merge keys are replaced by what they bring.

    Raises CheckFailed: a sentence that begins with `shown`, which names the file to the reader, and the line.
    """
    try:
        root: yaml.Node | None = yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise CheckFailed(f"{shown}: cannot be read: {why}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise CheckFailed(f"{shown}:{mark.line + 1 if mark else 1}: not valid YAML: {problem}") from None
    except RecursionError:
        raise CheckFailed(f"{shown}:1: not valid YAML: nested too deeply") from None
    if root is not None:
        _merge(root, shown, set())
    return root


def line(node: yaml.Node) -> int:
    """The line that a node begins in, counted from 1; an aliased one begins at its anchor."""
    return int(node.start_mark.line) + 1


def value(node: yaml.Node | None, key: str) -> yaml.Node | None:
    """The value of a key, None where `node` is no mapping or has no such key."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((found for name, found in pairs if name.value == key), None)


def items(node: yaml.Node | None) -> list[yaml.Node]:
    """The elements of a list; none where `node` is none."""
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def text(node: yaml.Node | None) -> str | None:
    """What is written for a scalar, whatever type YAML would give it; None for anything else."""
    return str(node.value) if isinstance(node, yaml.ScalarNode) else None


def texts(node: yaml.Node | None) -> dict[str, str]:
    """A mapping of scalars to scalars; what else it holds is left out."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return {str(key.value): found for key, held in pairs if (found := text(held)) is not None}


def children(node: yaml.Node) -> Iterator[yaml.Node]:
    """The nodes right below one: the elements of a list, keys and values of a mapping."""
    for held in node.value if isinstance(node, yaml.CollectionNode) else ():
        yield from held if isinstance(held, tuple) else (held,)


def _merge(node: yaml.Node, shown: str, seen: set[int]) -> None:
    if id(node) in seen:
        return
    seen.add(id(node))
    for child in children(node):
        _merge(child, shown, seen)
    if isinstance(node, yaml.CollectionNode):
        # What may stand without quotes may do so in block style; in flow style 1:30 may not.
        node.flow_style = False
    if isinstance(node, yaml.MappingNode):
        own = [pair for pair in node.value if pair[0].tag != _MERGE]
        names = {key.value for key, _ in own if isinstance(key, yaml.ScalarNode)}
        brought: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key, held in node.value:
            for source in _sources(held, shown) if key.tag == _MERGE else ():
                for pair in source.value:
                    if pair[0].value not in names:
                        brought.setdefault(pair[0].value, pair)
        node.value = [*brought.values(), *own]


def _sources(node: yaml.Node, shown: str) -> list[yaml.Node]:
    """The mappings that a merge key names; of two that bring one key, the first counts."""
    sources = items(node) or [node]
    for source in sources:
        if not isinstance(source, yaml.MappingNode):
            raise CheckFailed(f"{shown}:{line(source)}: a merge key (<<) takes a mapping or a list of them")
    return sources
