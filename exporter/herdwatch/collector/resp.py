"""The Redis protocol, RESP2 and RESP3, read with a bound on everything that the other side decides.

Whoever answers at a configured address need not be a Redis, or a friendly one. hiredis, which redis-py reads with,
makes a list of as many places as an array announces: one line can take 8 GB and stop every other scrape for seconds.

Source: the Redis serialization protocol specification, https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

Command = tuple[str | bytes | int, ...]

MAX_REPLY_BYTES = 64 * 1024 * 1024
"""Of one reply with all that is in it: ten times what ten thousand usual reports take."""
MAX_ITEMS = 1_000_000
MAX_LINE_BYTES = 64 * 1024
MAX_DEPTH = 8

MORE: Final = object()
"""There is no whole reply yet."""

_END = b"\r\n"


class ProtocolError(Exception):
    """What came is no RESP, or more of it than is taken."""


class ReplyError(Exception):
    """An error reply of Redis. Its text is for `reason` to read and never for a label or a log."""

    @property
    def code(self) -> str:
        """The first word: NOPERM, LOADING, ERR."""
        return str(self).partition(" ")[0]


def packed(*commands: Command) -> bytes:
    """The commands as Redis reads them."""
    return b"".join(map(_packed, commands))


@lru_cache(64)
def _packed(command: Command) -> bytes:
    return packed_secretly(command)


def packed_secretly(command: Command) -> bytes:
    """The same for one command that must not be remembered, because it has a password in it."""
    words = [word if isinstance(word, bytes) else str(word).encode() for word in command]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


@dataclass(slots=True)
class _Open:
    """An array of which some items are still to come."""

    left: int
    items: list[Any] = field(default_factory=list)


class Reader:
    """Bytes in, replies out: bytes, int, float, bool, None, ReplyError, or a list of these.

    Maps and sets are lists too, a map of names and values in turn, as RESP2 writes it. A reply is resumed where its
    bytes ran out. After a ProtocolError nothing more can be read.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0
        self._dropped = 0
        self._items = 0
        self._open: list[_Open] = []

    @property
    def empty(self) -> bool:
        """Whether everything that came has been read."""
        return not self._buffer and not self._open

    def feed(self, data: bytes) -> None:
        """Take in what came."""
        self._buffer += data

    def reply(self) -> Any:
        """The next whole reply, or MORE. Raises ProtocolError."""
        while (value := self._value()) is not MORE:
            while self._open:
                last = self._open[-1]
                last.items.append(value)
                last.left -= 1
                self._items += 1
                if last.left:
                    break
                value = self._open.pop().items
            else:
                self._forget()
                self._dropped = self._items = 0
                return value
        self._forget()
        return MORE

    def _value(self) -> Any:
        """The next value that is no array, or an empty one; arrays that begin before it are opened."""
        while True:
            end = self._buffer.find(_END, self._at)
            if end < 0:
                self._check_beginning()
                return MORE
            if self._dropped + end > MAX_REPLY_BYTES or self._items > MAX_ITEMS:
                raise ProtocolError("a reply too large")
            kind, line = self._buffer[self._at], bytes(self._buffer[self._at + 1 : end])
            if kind in _BULKS:
                return self._bulk(kind, line, end + 2)
            self._at = end + 2
            if kind not in _ARRAYS:
                return _scalar(kind, line)
            count = _count(line, MAX_ITEMS) * _ARRAYS[kind]
            if count <= 0:
                return [] if count == 0 else None
            if len(self._open) == MAX_DEPTH:
                raise ProtocolError("arrays too deep in each other")
            self._open.append(_Open(count))

    def _check_beginning(self) -> None:
        """What cannot become a reply is told at once, not when it ends."""
        here = self._buffer[self._at : self._at + 1]
        if here and here[0] not in _KINDS:
            raise ProtocolError("no reply begins like that")
        if len(self._buffer) - self._at > MAX_LINE_BYTES:
            raise ProtocolError("a line that does not end")

    def _bulk(self, kind: int, line: bytes, begin: int) -> Any:
        size = _count(line, MAX_REPLY_BYTES)
        if size < 0:
            self._at = begin
            return None
        end = begin + size
        if self._dropped + end > MAX_REPLY_BYTES:
            raise ProtocolError("a reply too large")
        if len(self._buffer) < end + 2:
            return MORE
        if self._buffer[end : end + 2] != _END:
            raise ProtocolError("a text longer than it said")
        self._at = end + 2
        text = bytes(self._buffer[begin:end])
        return text if kind == _BULK else ReplyError(text.decode("utf-8", "replace")) if kind == _BLOB else text[4:]

    def _forget(self) -> None:
        """Let go of what has been read."""
        del self._buffer[: self._at]
        self._dropped += self._at
        self._at = 0


_BULK, _BLOB, _VERBATIM = b"$!="
_BULKS = (_BULK, _BLOB, _VERBATIM)
_ARRAYS = {ord("*"): 1, ord("~"): 1, ord(">"): 1, ord("%"): 2}


def _count(line: bytes, most: int) -> int:
    """A length; -1 is none at all."""
    if line == b"-1":
        return -1
    if not line.isdigit() or len(line) > 12 or int(line) > most:
        raise ProtocolError("a length that is none, or too large")
    return int(line)


def _scalar(kind: int, line: bytes) -> Any:
    read = _SCALARS.get(kind)
    try:
        if read is not None and len(line) <= MAX_LINE_BYTES:
            return read(line)
    except ValueError:
        pass
    raise ProtocolError("no reply begins like that")


def _integer(line: bytes) -> int:
    if len(line) > 20:
        raise ValueError("longer than 64 bits")
    return int(line)


_SCALARS: dict[int, Callable[[bytes], Any]] = {
    ord("+"): bytes,
    ord("-"): lambda line: ReplyError(line.decode("utf-8", "replace")),
    ord(":"): _integer,
    ord("("): bytes,
    ord(","): float,
    ord("#"): lambda line: {b"t": True, b"f": False}.get(line),
    ord("_"): lambda _: None,
}
_KINDS = frozenset((*_BULKS, *_ARRAYS, *_SCALARS))
