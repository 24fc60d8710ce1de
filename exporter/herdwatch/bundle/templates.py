"""The Jinja environment of all templates.

Its delimiters are `[= =]`, `[% %]` and `[# #]`, because `{{ }}` belongs to Prometheus. What a value may contain is the
configuration's business; how it is written down is that of the filters `yaml` and `promql`, which every value passes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError

from herdwatch.bundle.windows import duration
from herdwatch.errors import CheckFailed

DELIMITERS = ("[=", "=]", "[%", "%]", "[#", "#]")
SUFFIX = ".j2"


def yaml_scalar(value: object) -> str:
    """A value as a double-quoted YAML scalar on one line; numbers and booleans stay bare.

    What looks like a delimiter of ours in it is escaped, so that it is not taken for one that was left over.
    """
    if isinstance(value, (bool, int, float)):
        return json.dumps(value)
    text: str = yaml.safe_dump(str(value), default_style='"', width=float("inf")).strip()
    for mark in DELIMITERS:
        text = text.replace(mark, f"\\x{ord(mark[0]):02X}{mark[1]}")
    return text


def promql_string(value: object) -> str:
    """A value as a double-quoted PromQL string."""
    return json.dumps(str(value), ensure_ascii=False)


def percent(ratio: float) -> str:
    """0.8 -> 80 %."""
    return f"{ratio * 100:g} %"


def _plain_number(value: Any) -> Any:
    """1000.0 is written 1000."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def environment(folder: Path) -> Environment:
    """An environment over one folder of templates, which fails on an unknown name instead of writing nothing."""
    made = Environment(
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        variable_start_string="[=",
        variable_end_string="=]",
        block_start_string="[%",
        block_end_string="%]",
        comment_start_string="[#",
        comment_end_string="#]",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_plain_number,
        autoescape=False,  # noqa: S701 - the output is YAML and Markdown, not HTML; see the filters
    )
    made.filters.update(yaml=yaml_scalar, promql=promql_string, percent=percent, duration=duration)
    return made


def render(templates: Environment, name: str, **values: Any) -> str:
    """Render one template; raises CheckFailed naming template and line, also when a delimiter is left in its output."""
    try:
        text = templates.get_template(name).render(**values)
    except TemplateError as error:
        line = getattr(error, "lineno", None)
        raise CheckFailed(f"{name}{f':{line}' if line else ''}: {error.message or type(error).__name__}") from None
    for number, line_text in enumerate(text.splitlines(), 1):
        left = next((mark for mark in DELIMITERS if mark in line_text), None)
        if left is not None:
            raise CheckFailed(
                f"{name}: line {number} of its output still has the template delimiter {left!r}: {line_text.strip()}"
            )
    return text
