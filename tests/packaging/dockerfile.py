"""As much of a Dockerfile and of .dockerignore as ours use, read strictly: what is not known here is an error.

Sources: the Dockerfile reference; the documentation of .dockerignore, in which the last line that matches decides.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import PurePosixPath

INSTRUCTIONS = {"FROM", "WORKDIR", "RUN", "COPY", "ENV", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction; `value` is all behind its name, on one line."""

    name: str
    value: str

    @property
    def words(self) -> list[str]:
        """The value without the options before it."""
        return [word for word in self.value.split() if not word.startswith("--")]

    @property
    def exec_form(self) -> list[str]:
        """The words of a value in exec form, which is JSON from the first bracket on."""
        words = json.loads(self.value[self.value.index("[") :])
        assert all(isinstance(word, str) for word in words)
        return list(words)


def parse(text: str) -> list[list[Instruction]]:
    """The instructions of each stage."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    stages: list[list[Instruction]] = []
    for logical in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        name, _, value = logical.partition(" ")
        assert name in INSTRUCTIONS, f"unknown instruction: {logical}"
        assert value.strip(), f"{name} has no value"
        if name == "FROM":
            stages.append([])
        stages[-1].append(Instruction(name, value.strip()))
    return stages


def ignored(path: str, rules: list[str]) -> bool:
    """Whether .dockerignore keeps this file of the checkout away from the build."""
    parts = PurePosixPath(path).parts
    prefixes = ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
    away = False
    for rule in rules:
        pattern = _pattern(rule.lstrip("!"))
        if any(pattern.fullmatch(prefix) for prefix in prefixes):
            away = not rule.startswith("!")
    return away


def rules(text: str) -> list[str]:
    """The rules of a .dockerignore, in order."""
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _pattern(rule: str) -> re.Pattern[str]:
    """`**/` is any number of folders, `*` anything within a name."""
    assert not set(rule) & set("?[]\\"), f"not known to this reader: {rule}"
    return re.compile(
        "".join({"**/": "(?:.*/)?", "*": "[^/]*"}.get(part, re.escape(part)) for part in re.split(r"(\*\*/|\*)", rule))
    )
