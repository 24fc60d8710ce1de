"""How large a drill is: a small copy of the incident of the seed, whose proportions are kept."""

from __future__ import annotations

from dataclasses import dataclass

MULTIPLE = 20.0
"""Load as a multiple of the database's capacity: the seed's own."""
OVERRUN = 5.0
"""Times its capacity for which a database is asked in an incident that deserves the name."""
LEAST_MULTIPLE = 10.0
"""Of the load: more than a third of a cold cache's lookups hit within the first second."""
GROUP = "users"
SERVICE = "profiles"


@dataclass(frozen=True, slots=True)
class Scale:
    """Sizes and times, in seconds where nothing else is said.

    `workers` processes with `pool` connections each and queries of `query` seconds make the capacity. Popularity of
    the `keys` users follows Zipf's law with this exponent; large sites have caches with one of 1 and more (Yang et al.,
    "A large scale analysis of hundreds of in-memory cache clusters at Twitter", OSDI 2020).
    """

    workers: int = 2
    pool: int = 4
    query: float = 0.08
    keys: int = 5_000
    exponent: float = 1.2
    ttl: float = 86_400.0
    stale: float = 600.0
    patience: float = 2.0
    """How long a user waits, and a request for a connection."""
    loads: int = 3
    """Loads at the same time, one process, where there is a limiter: it leaves the database some air."""
    wait: float = 0.5
    """How long a load waits for one of these places before its callers are turned away."""
    trickle: float = 10.0
    """Requests a second while Prometheus learns what is normal."""
    before: float = 5.0
    """How long the full load runs before the fault."""
