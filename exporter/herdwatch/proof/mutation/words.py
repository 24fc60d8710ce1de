"""The words and signs that PromQL is written in."""

from __future__ import annotations

import json
import re

WORD = re.compile(
    r"#[^\n]*|\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|`[^`]*`|[A-Za-z_:][\w:]*|\d[\w.]*|\.\d\w*|[=!<>]=|[=!]~|\S"
)
"""A word, number, string, sign or comment. Takes any text, so that YAML around an expression does no harm."""


def written_words(text: str) -> list[tuple[str, int]]:
    """Words and where each begins, without comments."""
    return [(match[0], match.start()) for match in WORD.finditer(text) if not match[0].startswith("#")]


def without_raw_strings(expr: str) -> str:
    """The same with its raw strings quoted: promql_parser takes backslashes in a raw string for escapes."""
    return WORD.sub(lambda match: _quoted(match[0]) if match[0].startswith("`") else match[0], expr)


def _quoted(raw: str) -> str:
    return json.dumps(raw[1:-1], ensure_ascii=False) if len(raw) > 1 else raw
