"""Puts the bundle into a standard wheel as herdwatch/_bundle; an editable one reads the checkout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CONTENT = ("alerts", "dashboards", "runbooks", "herdwatch.yaml", "herdwatch.schema.json")


class BundleHook(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "standard":
            return
        root = Path(self.root)
        for name in CONTENT:
            build_data["force_include"][str(root / name)] = f"herdwatch/_bundle/{name}"
