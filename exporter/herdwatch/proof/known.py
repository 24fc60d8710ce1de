"""What our rules get wrong in the catalogue, with the reason. A test holds it to the truth in both directions."""

from __future__ import annotations

from collections.abc import Mapping

KNOWN: Mapping[str, str] = {}
"""Incident -> why it is missed or called wrongly."""
