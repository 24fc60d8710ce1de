"""A run of a drill as it should be, made up."""

from __future__ import annotations

from herdwatch.drill.replay.results import Alert, Counted, Curves, Result

GOOD = Result(
    name="restart-limiter",
    scenario="restart",
    level="limiter",
    about="made up",
    rate=2000.0,
    capacity=100.0,
    seconds=32.0,
    peak=75.0,
    peak_sent=75.0,
    counted=Counted(500, 500, 500, 500, 900, 900),
    requests=64_000,
    failed=0,
    shed=900,
    p50=0.003,
    p99=0.6,
    p99_before=0.005,
    lowest=0.2,
    recovered=20.0,
    alerts=(Alert("CacheRestarted", "critical", 12.0),),
    paged=17.0,
    pages=1,
    late=0.01,
    curves=Curves(first=-10),
)
