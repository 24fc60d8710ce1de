"""The loader of the drill's warm-ups: what `herdwatch warm --loader herdwatch.drill.replay.loader:load` calls.

The environment names a file that says which database, how long its queries take, and where each is noted.
"""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from herdwatch.drill.replay.logs import Log
from herdwatch.drill.replay.users import Database

VARIABLE = "HERDWATCH_DRILL_LOADER"


@dataclass(frozen=True, slots=True)
class Job:
    """What the loader is told; the file holds the database's password and is for its owner only."""

    dsn: str
    pool: int
    query: float
    patience: float
    log: str

    def write(self, path: Path) -> dict[str, str]:
        """Write it; returns the environment that names it."""
        path.touch(0o600)
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")
        return {VARIABLE: str(path)}


_opened: list[Database] = []
_opening = asyncio.Lock()


async def load(key: str) -> dict[str, Any]:
    """One user; raises what the database says."""
    async with _opening:
        if not _opened:
            _opened.append(await _open())
    return await _opened[0].load(key)


async def _open() -> Database:
    job = Job(**json.loads(Path(os.environ[VARIABLE]).read_text(encoding="utf-8")))
    log = Log(Path(job.log))
    database = Database(job.dsn, pool=job.pool, seconds=job.query, patience=job.patience, log=log.query)
    return await database.__aenter__()
