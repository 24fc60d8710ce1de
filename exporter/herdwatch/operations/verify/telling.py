"""The answers as one screen, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

from herdwatch.operations.verify.answers import Answer
from herdwatch.operations.verify.sight import Sight

_MARKS = {"good": "ok", "bad": "!!", "unknown": "??", "note": "  "}


def as_text(sight: Sight, found: Sequence[Answer]) -> str:
    """One line a question; what somebody has to see to is marked with !!."""
    width = max(len(one.question) for one in found)
    lines = [f"{_MARKS[one.verdict]} {one.question:<{width}}  {one.text}" for one in found]
    return "\n".join([f"cache {sight.cache} at {sight.instance}", *lines])


def as_json(sight: Sight, found: Sequence[Answer]) -> str:
    """The same as one JSON object."""
    told = [{"question": one.question, "verdict": one.verdict, "text": one.text, "age": one.age} for one in found]
    return json.dumps({"cache": sight.cache, "instance": sight.instance, "at": sight.at, "answers": told})
