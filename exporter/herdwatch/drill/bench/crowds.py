"""Many at once: fifty scrapes at the same time, and the same beside five hundred connections that say nothing."""

from __future__ import annotations

import asyncio
import statistics

from rich.console import Console
from rich.table import Table

from herdwatch.drill.bench import clients
from herdwatch.drill.bench.figures import p99, verdict
from herdwatch.drill.bench.scrapes import Contender

CLIENTS = 50
EACH = 10
IDLE = 500
ROUNDS = 3
AIM_SECONDS = 0.1


def measure(found: list[Contender], console: Console) -> list[str]:
    """Print a table; gives the verdicts on ours, the first."""
    table = Table(title=f"{CLIENTS} clients at once, {ROUNDS * EACH} scrapes each, of one target")
    for column in ("", "idle connections", "p50 ms", "p99 ms"):
        table.add_column(column, justify="left" if not column else "right")
    verdicts = []
    for idle in (0, IDLE):
        took = _rounds(found, idle, console)
        for one in found:
            table.add_row(
                one.name, str(idle), f"{statistics.median(took[one]) * 1e3:.1f}", f"{p99(took[one]) * 1e3:.1f}"
            )
        beside = f" beside {idle} idle connections" if idle else ""
        verdicts.append(
            verdict(f"p99 of {CLIENTS} scrapes at once{beside} at most 100 ms", p99(took[found[0]]) / AIM_SECONDS)
        )
    console.print(table)
    return verdicts


def _rounds(found: list[Contender], idle: int, console: Console) -> dict[Contender, list[float]]:
    took: dict[Contender, list[float]] = {one: [] for one in found}
    for number in range(ROUNDS):
        console.print(f"{CLIENTS} at once beside {idle} idle, round {number + 1} of {ROUNDS}, each in turn")
        for one in found:
            crowd = clients.at_once(one.address, one.path, clients=CLIENTS, each=EACH, idle=idle)
            took[one] += asyncio.run(crowd)
    return took
