"""Mutants that no test can kill, listed by those who wrote the rules, each with the reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from yaml import MappingNode, SequenceNode

from herdwatch.errors import CheckFailed
from herdwatch.proof.mutation.mutants import Mutant
from herdwatch.proof.mutation.rulefile import compose, items, read_text, scalar, value
from herdwatch.proof.mutation.session import Result

FILE_NAME = "equivalent-mutants.yml"
"""How the list is called; it stands beside the tests."""


@dataclass(frozen=True, slots=True)
class Equivalent:
    """One entry: the id of a mutant, what it changes, and why that makes no difference that a test could see."""

    id: str
    change: str
    reason: str
    where: str


def load(path: Path) -> list[Equivalent]:
    """The entries of a file; raises CheckFailed naming file and line where one lacks something."""
    root = compose(read_text(path), path)
    entries = root.value if isinstance(root, SequenceNode) else None
    if entries is None:
        raise CheckFailed(f"{path}:1: is a list of a reason and the mutants that it holds for")
    return [entry for node in entries for entry in _entries(path, node)]


def problems(entries: Sequence[Equivalent], mutants: Sequence[Mutant], results: Sequence[Result]) -> Iterator[str]:
    """What is wrong with a list: entries of no mutant there is, of another change by now, and of mutants that died."""
    by_id: Mapping[str, Mutant] = {mutant.id: mutant for mutant in mutants}
    killed = {result.mutant.id: result.killer for result in results if result.is_killed}
    for entry in entries:
        mutant = by_id.get(entry.id)
        if mutant is None:
            yield f"{entry.where}: there is no mutant {entry.id}; remove the entry"
        elif mutant.change != entry.change:
            yield f"{entry.where}: {entry.id} is now another change: {mutant.change}"
        elif entry.id in killed:
            yield f"{entry.where}: {entry.id} is not equivalent, it is killed by {killed[entry.id]}; remove the entry"


def _entries(path: Path, node: object) -> Iterator[Equivalent]:
    if not isinstance(node, MappingNode):
        raise CheckFailed(f"{path}:1: an entry is a mapping with a reason and mutants")
    reason = " ".join(scalar(node, "reason").split())
    mutants = list(items(value(node, "mutants")))
    where = f"{path}:{node.start_mark.line + 1}"
    if not reason or not mutants:
        raise CheckFailed(f"{where}: an entry has a reason and a list of mutants")
    for one in mutants:
        where = f"{path}:{one.start_mark.line + 1}"
        name, change = scalar(one, "id"), scalar(one, "change")
        if not name or not change:
            raise CheckFailed(f"{where}: a mutant has an id and a change, as they are printed for survivors")
        yield Equivalent(name, change, reason, where)
