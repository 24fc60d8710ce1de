"""What is wrong with a rule test file although promtool would call it a success."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True, slots=True)
class TestFile:
    """A rule test file: how many expectations it holds, and the sentences on what tests nothing."""

    expectations: int
    problems: tuple[str, ...]


def read(path: Path) -> TestFile:
    """Read a test file; whatever is wrong with it becomes a problem that starts with its path."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        return TestFile(0, (f"{path}: cannot be read: {error}",))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        return TestFile(0, (f"{path}:{mark.line + 1 if mark else 1}: not valid YAML",))
    if not isinstance(data, dict):
        return TestFile(0, (f"{path}:1: a test file is a mapping with rule_files and tests",))
    expectations = sum(_expectations(test) for test in _list(data, "tests"))
    return TestFile(expectations, tuple(f"{path}: {problem}" for problem in _problems(path, data)))


def _list(data: Any, key: str) -> list[Any]:
    value = data.get(key) if isinstance(data, dict) else None
    return value if isinstance(value, list) else []


def _expectations(test: Any) -> int:
    return len(_list(test, "alert_rule_test")) + len(_list(test, "promql_expr_test"))


def _problems(path: Path, data: dict[str, Any]) -> Iterator[str]:
    patterns = [str(pattern) for pattern in _list(data, "rule_files")]
    if not patterns:
        yield "names no rule_files"
    # Path.glob raises for an absolute or an empty pattern, which promtool accepts or finds nothing for.
    found = {pattern: sorted(glob.glob(pattern, root_dir=path.parent)) for pattern in patterns}  # noqa: PTH207
    files = [path.parent / name for names in found.values() for name in names]
    yield from (f"rule_files: {pattern} matches no file" for pattern, names in found.items() if not names)
    tests = _list(data, "tests")
    if not tests:
        yield "has no tests"
    alerts, groups = _declared(files)
    if len(groups) > 1 and {str(name) for name in _list(data, "group_eval_order")} != groups:
        yield f"group_eval_order must name every group, or they run in random order: {', '.join(sorted(groups))}"
    for number, test in enumerate(tests, 1):
        where = f"test {number} ({test.get('name', 'without a name')})" if isinstance(test, dict) else f"test {number}"
        if not _expectations(test):
            yield f"{where} expects nothing"
        for expected in _list(test, "alert_rule_test"):
            name = expected.get("alertname") if isinstance(expected, dict) else None
            if name not in alerts:
                yield f"{where} names the alert {name!r}, which no rule file declares"


def _declared(files: list[Path]) -> tuple[set[str], set[str]]:
    alerts: set[str] = set()
    groups: set[str] = set()
    for file in files:
        try:
            data = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            continue  # promtool itself says what is wrong with a rule file
        for group in _list(data, "groups"):
            groups.add(str(group.get("name")))
            alerts.update(rule["alert"] for rule in _list(group, "rules") if isinstance(rule, dict) and "alert" in rule)
    return alerts, groups
