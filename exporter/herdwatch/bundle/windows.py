"""Windows and waits of the rules, derived from the scrape interval."""

from __future__ import annotations

from dataclasses import dataclass


def duration(seconds: float) -> str:
    """Seconds as Prometheus writes them: 90 -> 90s, 120 -> 2m, 7200 -> 2h; fractions in ms."""
    if seconds != int(seconds):
        return f"{round(seconds * 1000)}ms"
    whole = int(seconds)
    for size, unit in ((3600, "h"), (60, "m")):
        if whole and whole % size == 0:
            return f"{whole // size}{unit}"
    return f"{whole}s"


@dataclass(frozen=True, slots=True)
class Windows:
    """Durations in PromQL's notation, for one scrape interval.

    rate: the shortest window over which a rate survives two lost scrapes. short and long: both must agree before a
    warning. baseline: how far back a cache's own recent key count reaches. wait: `for` of a target
    that does not answer, so that one failed scrape pages nobody. hold: how long a page outlives its cause, so that a
    cache that comes and goes is one page. fill: how long a new cache is left to fill. away: how long an exporter may be
    away, and load: how long a Redis may load, before it is news; people restart things in their own time.
    """

    scrape: str
    rate: str
    short: str
    long: str
    restart: str
    baseline: str
    wait: str
    hold: str
    fill: str
    away: str
    load: str

    @classmethod
    def of(cls, scrape_interval: float) -> Windows:
        """Derive all from the scrape interval in seconds; the multiples give the usual 1m, 2m, 5m, 30m at 15 s."""
        times = {"scrape": 1, "rate": 4, "short": 8, "long": 20, "restart": 20, "baseline": 120, "wait": 2, "hold": 8}
        own = {
            "away": max(30.0, 2 * scrape_interval),
            "load": max(60.0, 2 * scrape_interval),
            "fill": 40 * scrape_interval,
        }
        derived = {name: scrape_interval * factor for name, factor in times.items()}
        return cls(**{name: duration(seconds) for name, seconds in (derived | own).items()})
