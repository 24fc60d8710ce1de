"""What our rules get wrong in the catalogue, with the reason. A test holds it to the truth in both directions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Known:
    """Why an incident is missed or called wrongly, from this scrape interval in seconds on."""

    reason: str
    interval: int = 5


_HALF_IS_BACK = (
    "half of the keys are back within half a minute, so that at long intervals no scrape may see the cache cold."
)

KNOWN: Mapping[str, Known] = {
    "cold-restart-in-a-long-gap": Known(
        "what the process before held is forgotten after 120 scrapes, so the cache has no past that it could be held "
        "against.",
        interval=15,
    ),
    "cold-restart-refilled-fast": Known(_HALF_IS_BACK, interval=30),
    "cold-restart-after-a-short-life": Known(_HALF_IS_BACK, interval=30),
    "cold-restart-between-two-scrapes": Known(
        "half of the keys are back when the first scrape comes, and a restart that left half is no herd any more; what "
        "it did to the database only the database's own monitoring shows."
    ),
    "stampede-of-twenty-seconds": Known(
        "a rate is an average over four scrapes and CacheStampede waits for two more, because what is over before "
        "anybody can look is no reason to get up.",
        interval=15,
    ),
    "small-service-taken-out-of-use": Known(
        "a service that is gone while the cache is asked nearly as before looks like one that lost its guard; it "
        "ends within the hour."
    ),
}
"""By the name of the incident."""
