"""A configuration with one cache, and what is said of a wrong one: what the tests of herdwatch.yaml share."""

from __future__ import annotations

import pytest

from herdwatch.config import parse
from herdwatch.errors import ConfigError

SOURCE = "here/herdwatch.yaml"
CACHE = "caches:\n  - name: users\n    url: redis://127.0.0.1:6379/0\n"

Wrong = tuple[str, int, str, str]
"""A text, the line and path that its error names, and words of what would be right."""


def cache(lines: str) -> str:
    """A configuration whose one cache has these lines, from line 4 on."""
    return CACHE + "".join(f"    {line}\n" for line in lines.splitlines())


def check_told(wrong: Wrong) -> None:
    """The text is refused in one line that names the place and what would be right."""
    text, line, path, right = wrong
    with pytest.raises(ConfigError) as caught:
        parse(text, SOURCE)
    assert str(caught.value).startswith(f"{SOURCE}:{line}: {path}: ")
    assert right in str(caught.value)
    assert "\n" not in str(caught.value)
