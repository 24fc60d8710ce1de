"""One database of herdwatch.yaml is set, and every other byte of the text stays as it is.

The text is not written anew from what it means, which would lose comments, order and quotes: PyYAML says where what
stands, and there something is replaced or a few lines are put in. What that cannot be sure of is refused.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import NamedTuple, NoReturn

import yaml

from herdwatch.errors import UsageError

_LINE_END = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_NEWLINES = ("\n", "\r\n", "\r")
_ODD = (yaml.AnchorToken, yaml.AliasToken, yaml.TagToken)


class Database(NamedTuple):
    """A name in `databases`, and what shall stand there; requests a second."""

    name: str
    capacity: float
    peak: float


class _Edit(NamedTuple):
    start: int
    end: int
    text: str


def edited(text: str, source: str, wanted: Database) -> str:
    """The text of a valid herdwatch.yaml with this database; raises UsageError, which calls it `source`."""
    return _Editor(text, source, wanted).edited()


class _Editor:
    def __init__(self, text: str, source: str, wanted: Database) -> None:
        self._text, self._source, self._wanted = text, source, wanted

    def edited(self) -> str:
        text = self._text
        for edit in sorted(self._edits(), reverse=True):
            text = text[: edit.start] + edit.text + text[edit.end :]
        return text

    def _edits(self) -> list[_Edit]:
        root = yaml.compose(self._text, yaml.SafeLoader)
        if not isinstance(root, yaml.MappingNode) or root.flow_style:
            self._refuse(1, "all of it stands in braces")
        starts = [key.start_mark.index for key, _ in root.value] + [len(self._text)]
        for number, (key, value) in enumerate(root.value):
            if key.value == "databases":
                self._plain(starts[number], starts[number + 1])
                return self._in_block(key, value)
        return self._at_the_end(root)

    def _in_block(self, key: yaml.Node, value: yaml.Node) -> list[_Edit]:
        """There is a `databases`: it is empty, has this one, or has others."""
        line = key.start_mark.line + 1
        if not isinstance(value, yaml.MappingNode):
            self._refuse(line, "databases is no mapping")
        if value.flow_style:
            return self._instead_of_braces(key, value)
        for name, database in value.value:
            if name.value == self._wanted.name:
                return self._numbers(name, database)
        first, last = value.value[0], value.value[-1]
        column = first[0].start_mark.column
        step = 2
        if isinstance(first[1], yaml.MappingNode) and not first[1].flow_style:
            step = first[1].value[0][0].start_mark.column - column
        return [self._lines_after(_end(last[1]), column, step, comments=True)]

    def _instead_of_braces(self, key: yaml.Node, value: yaml.MappingNode) -> list[_Edit]:
        line = value.start_mark.line + 1
        if value.value:
            self._refuse(line, "databases stands in braces")
        start, end = key.end_mark.index, value.end_mark.index
        colon = re.match(r" *:(?= +\{ *\}\Z)", self._text[start:end])
        if colon is None:
            self._refuse(line, "its {} does not follow databases: on the same line")
        braces = _Edit(start + colon.end(), end, "")
        return [braces, self._lines_after(end, key.start_mark.column + 2, 2)]

    def _numbers(self, name: yaml.Node, database: yaml.Node) -> list[_Edit]:
        """This database has a block: its two numbers, where they are others."""
        line = name.start_mark.line + 1
        if not isinstance(database, yaml.MappingNode) or database.flow_style:
            self._refuse(line, f"{self._wanted.name} stands in braces")
        edits = []
        for key, value in database.value:
            number: float = getattr(self._wanted, key.value)  # a database has these two keys and no other
            if yaml.safe_load(value.value) != number:
                edits.append(_Edit(value.start_mark.index, value.end_mark.index, plain(number)))
        return edits

    def _at_the_end(self, root: yaml.MappingNode) -> list[_Edit]:
        """There is no `databases`: it becomes the last key."""
        for token in yaml.scan(self._text):
            if isinstance(token, yaml.DocumentEndToken) and token.start_mark.index != token.end_mark.index:
                self._refuse(token.start_mark.line + 1, "the document ends here with ...")
        column = root.start_mark.column
        newline = self._newline(len(self._text))
        begin = "" if not self._text or self._text.endswith(("\n", "\r")) else newline
        lines = [" " * column + "databases:", *self._entry(column + 2, 2)]
        return [_Edit(len(self._text), len(self._text), begin + "".join(line + newline for line in lines))]

    def _lines_after(self, index: int, column: int, step: int, *, comments: bool = False) -> _Edit:
        """The entry on lines of its own, after the line of `index` and, where asked, the comments that belong to it."""
        newline = self._newline(index)
        place, ended = self._line_end(index)
        while comments and ended and re.compile(rf" {{{column},}}#").match(self._text, place):
            place, ended = self._line_end(place)
        begin = "" if ended else newline
        return _Edit(place, place, begin + "".join(line + newline for line in self._entry(column, step)))

    def _entry(self, column: int, step: int) -> list[str]:
        name, inner = self._wanted.name, " " * (column + step)
        key = name if isinstance(yaml.safe_load(name), str) else f'"{name}"'
        numbers = (f"{inner}capacity: {plain(self._wanted.capacity)}", f"{inner}peak: {plain(self._wanted.peak)}")
        return [f"{' ' * column}{key}:", *numbers]

    def _line_end(self, index: int) -> tuple[int, bool]:
        """Where the next line begins, and whether there is one."""
        found = _LINE_END.search(self._text, index)
        return (found.end(), True) if found else (len(self._text), False)

    def _newline(self, index: int) -> str:
        """How the line of `index` ends, or the last one before it."""
        found = _LINE_END.search(self._text, index)
        before = [*_LINE_END.finditer(self._text, 0, index)] if found is None else [found]
        return before[-1][0] if before and before[-1][0] in _NEWLINES else "\n"

    def _plain(self, start: int, end: int) -> None:
        """Refuse what makes another place of the file mean the same. Tabs PyYAML has refused before."""
        for token in yaml.scan(self._text):
            if isinstance(token, _ODD) and start <= token.start_mark.index < end:
                self._refuse(token.start_mark.line + 1, "an anchor, an alias or a tag stands there")

    def _refuse(self, line: int, why: str) -> NoReturn:
        name, capacity, peak = self._wanted
        raise UsageError(
            f"{self._source}:{line}: not edited, because {why}; set databases.{name} by hand, to "
            f"capacity: {plain(capacity)} and peak: {plain(peak)}"
        )


def _end(node: yaml.Node) -> int:
    """Where the last word of it ends: PyYAML's own end of a block is where the next one begins."""
    while isinstance(node, yaml.MappingNode) and not node.flow_style:
        node = node.value[-1][1]
    return int(node.end_mark.index)


def plain(number: float) -> str:
    """A number as YAML reads it as one: without an exponent, and whole where it is whole."""
    return f"{int(number)}" if number == int(number) else f"{Decimal(repr(number)):f}"
