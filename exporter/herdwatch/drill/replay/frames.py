"""What load generator and application say to each other: fixed-size frames on a Unix socket.

HTTP would cost both of them more than all the rest of a request, and what is measured is not a web server.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum

REQUEST = struct.Struct("<II")
"""The number of the request and that of the user; or CONTROL and a Control."""
REPLY = struct.Struct("<IB")
"""The number of the request and an Outcome."""
CONTROL = 0xFFFF_FFFF


class Outcome(IntEnum):
    """How a request ended for its user."""

    SERVED = 0
    SHED = 1
    """Turned away on purpose: by the limiter, or because traffic is not admitted yet."""
    FAILED = 2
    """The database could not be reached in time, or anything else went wrong."""
    REFUSED = 3
    """More requests wait in the application than it holds."""
    GAVE_UP = 4
    """The user did not wait any longer. No application says that; the generator finds it out."""


class Control(IntEnum):
    """What the drill asks of an application; it is answered like a request."""

    CLOSE = 1
    """Admit no traffic."""
    OPEN = 2


class Frames:
    """Takes bytes as they come and gives whole frames."""

    def __init__(self, shape: struct.Struct) -> None:
        self._shape = shape
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, int]]:
        """The frames that are complete now."""
        if self._rest:
            data = self._rest + data
        whole = len(data) // self._shape.size * self._shape.size
        self._rest = data[whole:]
        return self._shape.iter_unpack(data[:whole])
