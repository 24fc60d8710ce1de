"""What lies in Redis: a small header, then the serializer's bytes.

The header has 24 bytes, big-endian: the magic `hw`, the version 1 (uint8), flags (uint8, 1 = negative: the loader
returned None and no payload follows), loaded at (float64, Unix seconds by the writer's clock), load time (float32,
seconds), soft expiry (float64, Unix seconds). Bytes that do not begin like that are foreign, and a miss.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any, Protocol

MAGIC = b"hw\x01"
_HEADER = struct.Struct(">4sdfd")
HEADER_BYTES = _HEADER.size
_PLAIN, _NEGATIVE = MAGIC + b"\x00", MAGIC + b"\x01"

Header = tuple[bool, float, float, float]
"""negative, loaded at, load time, soft expiry."""


class Serializer(Protocol):
    """Turns a value into bytes and back; `loads` may raise anything for bytes that it does not understand."""

    def dumps(self, value: Any) -> bytes: ...

    def loads(self, payload: bytes) -> Any: ...


@dataclass(frozen=True, slots=True)
class Json:
    """JSON in UTF-8: the default. What JSON cannot say (a set, a datetime) is the loader's TypeError."""

    def dumps(self, value: Any) -> bytes:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()

    def loads(self, payload: bytes) -> Any:
        return json.loads(payload)


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes as they are, for loaders that return bytes."""

    def dumps(self, value: Any) -> bytes:
        if not isinstance(value, bytes):
            raise TypeError(f"Raw() stores bytes, and the loader returned {type(value).__name__}")
        return value

    def loads(self, payload: bytes) -> bytes:
        return payload


OTHER_TYPE = b""
"""Stands for a list, a hash, or whatever else lies in Redis where a value would: foreign, as an empty string is."""


def pack(payload: bytes | None, *, loaded_at: float, load_seconds: float, expires_at: float) -> bytes:
    """The bytes to store; a payload of None is the negative answer."""
    start = _NEGATIVE if payload is None else _PLAIN
    return _HEADER.pack(start, loaded_at, load_seconds, expires_at) + (payload or b"")


def unpack(raw: bytes) -> Header | None:
    """The header of stored bytes, None when they are foreign."""
    if len(raw) < HEADER_BYTES:
        return None
    start, loaded_at, load_seconds, expires_at = _HEADER.unpack_from(raw)
    if start == _PLAIN:
        return False, loaded_at, load_seconds, expires_at
    if start == _NEGATIVE:
        return True, loaded_at, load_seconds, expires_at
    return None
