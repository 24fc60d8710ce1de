"""A configuration with one cache, and what is said of a wrong one: what the tests of herdwatch.yaml share."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from herdwatch.bundle.location import bundle_root
from herdwatch.config import parse
from herdwatch.errors import ConfigError

SOURCE = "here/herdwatch.yaml"
DEFAULT = bundle_root() / "herdwatch.yaml"
WAYS: Mapping[str, tuple[str, ...]] = {
    "password_env": ("password_file", "bearer_file"),
    "password_file": ("password_env", "bearer_file"),
    "bearer_file": ("username", "password_env", "password_file"),
}
"""Of the keys that let one in, each with those that it excludes."""
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


def uncommented(way: str) -> str:
    """The default file with every commented key in force, except those that exclude this one."""
    text = re.sub(r"(?m)^( +)# ( *\w+: .*|\w+:)$", r"\1\2", DEFAULT.read_text(encoding="utf-8"))
    text = re.sub(r"(?m)^#(  +\w+:.*)$", r"\1", text)
    text = re.sub(r": \{\}\n  ", ":\n  ", text)
    text = text.replace("url: redis://", "url: rediss://")  # which is what the TLS files go with
    text = text.replace("url: http://127.0.0.1:9090", "url: https://127.0.0.1:9090")
    text = text.replace("_url: http://127.0.0.1:9878", "_url: https://127.0.0.1:9878")
    of_cache, access, rest = re.split(r"(?ms)^(  access:.*?)(?=^  alertmanagers)", text)
    excluded = "|".join(WAYS[way])
    of_cache = re.sub(
        r"(?m)^    {}:.*\n".format("password_file" if way == "password_env" else "password_env"), "", of_cache
    )
    return of_cache + re.sub(rf"(?m)^ *(?:{excluded}):.*\n", "", access) + rest
