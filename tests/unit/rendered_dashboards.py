"""The dashboards of the default bundle, rendered once: what their tests share."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from herdwatch.bundle import rules
from herdwatch.bundle.dashboards import document
from herdwatch.bundle.dashboards.document import Dashboard
from herdwatch.bundle.dashboards.house import Facts
from herdwatch.bundle.location import bundle_root
from herdwatch.bundle.render import render_bundle
from herdwatch.config import Config, load, parse

NAMES = ("cache-restart", "fleet", "guard")
DEFAULT = load(bundle_root() / "herdwatch.yaml")


@lru_cache
def default_bundle() -> dict[str, str]:
    """Path below the bundle's root -> text."""
    return {str(path): text for path, text in render_bundle(DEFAULT).items()}


def file_of(name: str) -> str:
    return f"dashboards/{name}.json"


def raw(name: str) -> dict[str, Any]:
    """A fresh copy of a dashboard's JSON, to spoil."""
    document: dict[str, Any] = json.loads(default_bundle()[file_of(name)])
    return document


def viewed(name: str) -> Dashboard:
    return document.load(default_bundle()[file_of(name)], file_of(name))


@lru_cache
def facts() -> Facts:
    """What stands around the dashboards in the default bundle."""
    found = rules.load(default_bundle()["alerts/herdwatch.rules.yml"], "rules")
    return Facts(
        recorded=frozenset(rule.name for rule in found if not rule.is_alert),
        alerts=tuple(rule for rule in found if rule.is_alert),
        pages={path[9:]: text for path, text in default_bundle().items() if path.startswith("runbooks/")},
    )


def configured(extra: str, caches: str = "- {name: a, url: 'redis://h'}") -> Config:
    return parse(f"caches:\n{caches}\n{extra}", "herdwatch.yaml")


def panel(document: dict[str, Any], title: str) -> dict[str, Any]:
    """The one panel with this title; the object itself, so that it can be spoilt."""
    found: list[dict[str, Any]] = [item for item in document["panels"] if item["title"] == title]
    [one] = [item for item in found if item["type"] != "row"]
    return one


def rows(document: dict[str, Any]) -> list[str]:
    return [item["title"] for item in document["panels"] if item["type"] == "row"]
