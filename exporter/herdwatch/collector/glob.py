"""Redis's glob patterns as expressions over bytes.

Source: stringmatchlen in util.c of Redis 6.2 to 8, and the handling of a lone * in SCAN and KEYS. It differs from
Python's fnmatch in escapes, ranges, brackets that are not closed, and in that it knows bytes only.
"""

from __future__ import annotations

import re

_ALL = frozenset(range(256))
_STAR, _ANY, _OPEN, _CLOSE, _ESCAPE, _RANGE = b"*?[]\\-"


def compiled(pattern: str) -> re.Pattern[bytes]:
    """The expression whose `match` finds what SCAN MATCH finds, in time linear in the length of the key."""
    text = pattern.encode()
    if text == b"*":
        return re.compile(rb"")
    if not text.strip(b"*"):
        return re.compile(rb"(?s:.)")  # only a lone star matches the empty key
    first, *others = _between_stars(text)
    if not others:
        return re.compile(rb"(?s:%s)\Z" % first)
    *middle, last = others
    # Each part has a fixed length, so that its first match is as good as any; without the atomic groups a pattern with
    # many stars would take the matcher exponential time on a long key.
    found = b"".join(b"(?>.*?%s)" % part for part in middle if part)
    return re.compile(rb"(?s:%s%s.*%s)\Z" % (first, found, last))


def _between_stars(text: bytes) -> list[bytes]:
    parts, at = [b""], 0
    while at < len(text):
        if text[at] == _STAR:
            parts.append(b"")
            at += 1
            continue
        part, at = _one(text, at)
        parts[-1] += part
    return parts


def _one(text: bytes, at: int) -> tuple[bytes, int]:
    """The expression for what stands at `at` and takes one byte of a key, and where the next one starts."""
    if text[at] == _ANY:
        return b".", at + 1
    if text[at] == _OPEN:
        return _bracket(text, at + 1)
    if text[at] == _ESCAPE and at + 1 < len(text):
        at += 1
    return re.escape(text[at : at + 1]), at + 1


def _bracket(text: bytes, at: int) -> tuple[bytes, int]:
    negated = text[at : at + 1] == b"^"
    at += negated
    members: set[int] = set()
    while at < len(text) and text[at] != _CLOSE:
        left = len(text) - at
        if text[at] == _ESCAPE and left >= 2:
            members.add(text[at + 1])
            at += 2
        elif left >= 3 and text[at + 1] == _RANGE:
            members |= _range(text[at], text[at + 2])
            at += 3
        else:
            members.add(text[at])
            at += 1
    # A bracket that is not closed ends with the pattern.
    return _any_of(_ALL - members if negated else members), at + 1


def _range(one: int, other: int) -> set[int]:
    low, high = sorted((_as_char(one), _as_char(other)))
    return {byte for byte in _ALL if low <= _as_char(byte) <= high}


def _as_char(byte: int) -> int:
    """As C compares it where char is signed, which is everywhere but on Arm; it matters beyond ASCII only."""
    return byte - 256 if byte > 127 else byte


def _any_of(members: set[int] | frozenset[int]) -> bytes:
    if not members:
        return b"(?!)"
    return b"[%s]" % b"".join(b"\\x%02x" % byte for byte in sorted(members))
