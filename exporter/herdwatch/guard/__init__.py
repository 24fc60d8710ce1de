"""What applications import: one load for everyone who misses, on asyncio and in threads."""

from herdwatch.errors import GuardError, LoadCancelled, LoadTimeout, RemoteLoadError, Shed
from herdwatch.guard.flight import Flight, Flown
from herdwatch.guard.guard import Guard
from herdwatch.guard.reporter import Reporter
from herdwatch.guard.sync_flight import SyncFlight
from herdwatch.guard.sync_guard import SyncGuard

__all__ = [
    "Flight",
    "Flown",
    "Guard",
    "GuardError",
    "LoadCancelled",
    "LoadTimeout",
    "RemoteLoadError",
    "Reporter",
    "Shed",
    "SyncFlight",
    "SyncGuard",
]
