"""What the exporter tells whoever reads its log: one line each, on stderr."""

from __future__ import annotations

import sys


def say(text: str) -> None:
    """Print one line; it must hold no secret and no text from the other side of a connection."""
    print(f"herdwatch: {text}", file=sys.stderr, flush=True)
