"""What an operator turns off in an incident: a hash in Redis, `herdwatch:switches`.

Fields are `singleflight`, `refresh`, `limiter` for every service or `<service>/singleflight` for one, which wins;
values are `on` and `off`. What is missing or reads otherwise changes nothing: a cache that restarts loses the hash, and
that is no moment to change one's mind.
"""

from __future__ import annotations

from collections.abc import Mapping

KEY = "herdwatch:switches"
NAMES = ("singleflight", "refresh", "limiter")
_VALUES = {b"on": True, b"off": False}


class Switches:
    """The last known state; everything is on at the start."""

    __slots__ = NAMES

    def __init__(self) -> None:
        self.singleflight = True
        self.refresh = True
        self.limiter = True

    def apply(self, fields: Mapping[bytes, bytes], service: str) -> None:
        """Take over what the hash says for this service."""
        for name in NAMES:
            for field in (name, f"{service}/{name}"):
                state = _VALUES.get(fields.get(field.encode(), b"").strip().lower())
                if state is not None:
                    setattr(self, name, state)
