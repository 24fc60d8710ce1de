"""Warming a cache before its traffic comes: the keys that matter most, through the application's own loader."""

from herdwatch.operations.warm.keys import Keys, from_file, from_journal
from herdwatch.operations.warm.loading import guard_like, loader_of, warming_guard
from herdwatch.operations.warm.outcome import Outcome, State
from herdwatch.operations.warm.pace import Pace, Speed
from herdwatch.operations.warm.telling import as_json, as_text, dry_run, plan_of, shown
from herdwatch.operations.warm.warming import Warmer, warm

__all__ = [
    "Keys",
    "Outcome",
    "Pace",
    "Speed",
    "State",
    "Warmer",
    "as_json",
    "as_text",
    "dry_run",
    "from_file",
    "from_journal",
    "guard_like",
    "loader_of",
    "plan_of",
    "shown",
    "warm",
    "warming_guard",
]
