"""The JSON Schema of herdwatch.yaml, by which editors complete keys, say what each means and mark what is wrong.

It knows what one value may be; what must hold between several is said when a configuration is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from herdwatch.config.fields import DURATION
from herdwatch.config.model import Config

DIALECT = "https://json-schema.org/draft/2020-12/schema"
FILE = "herdwatch.schema.json"


def text() -> str:
    """The schema as a file has it."""
    return json.dumps({"$schema": DIALECT, **document()}, indent=2, ensure_ascii=False) + "\n"


def document() -> dict[str, Any]:
    """The schema; defaults are as one would type them."""
    schema = Config.model_json_schema(by_alias=True)
    for one in list(_parts(schema)):
        if "patternProperties" in one:
            one["additionalProperties"] = False
        for value in one.get("properties", {}).values():
            value.pop("title", None)
            if value.get("default") is None or "$ref" in value:  # its own keys say what they are by default
                value.pop("default", None)
            elif value.get("pattern") == _DURATION["pattern"]:
                value["default"] = _duration(value["default"])
    return {**schema, "title": "herdwatch.yaml"}


def _duration(seconds: float) -> str:
    return f"{seconds:g}s" if seconds == int(seconds) else f"{round(seconds * 1000)}ms"


_DURATION: dict[str, Any] = DURATION.json_schema or {}


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
        schema = list(schema.values())
    if isinstance(schema, list):
        for one in schema:
            yield from _parts(one)
