"""Where the guard's benchmark takes place: servers, environments, candidates, and how a worker is hired."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from redis import Redis
from rich.console import Console

import herdwatch
from herdwatch.drill.bench.crew import Worker
from herdwatch.errors import StackError
from herdwatch.stack import RedisServer

T = TypeVar("T")
WORKER = "herdwatch.drill.bench.worker"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One who takes part: `name` as its worker knows it, `kind` asyncio or threads."""

    label: str
    name: str
    kind: str
    value: str = "raw"
    peer: bool = False


@dataclass
class Setting:
    """What every measurement needs. `peers` is the interpreter that has the peers' packages, None without them."""

    console: Console
    redis: RedisServer
    counter: RedisServer
    peers: Path | None
    rounds: int
    folder: Path
    _hired: int = field(default=0, repr=False)

    def __post_init__(self) -> None:
        # Only herdwatch is lent to the peers' environment, not what happens to be installed beside it.
        lent = self.folder / "lent"
        lent.mkdir()
        (lent / "herdwatch").symlink_to(Path(herdwatch.__file__).parent)
        self._env = {"PYTHONPATH": str(lent)}

    def empty(self) -> None:
        """Forget what the line before left in Redis."""
        with self.redis.client() as client:
            client.flushall()

    def hire(self, candidate: Candidate, **order: Any) -> Worker:
        """A worker for this candidate, not yet entered; `order` as in orders.Order."""
        interpreter = self.peers if candidate.peer and self.peers else Path(sys.executable)
        todo = {"candidate": candidate.name, "url": self.redis.url, "value": candidate.value, **order}
        self._hired += 1
        return Worker(
            candidate.label,
            [str(interpreter), "-P", "-m", WORKER, candidate.kind, json.dumps(todo)],
            env=self._env,
            log=self.folder / f"worker-{self._hired}.log",
        )

    def present(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        """Those of them that can take part."""
        return [one for one in candidates if self.peers is not None or not one.peer]

    @contextlib.contextmanager
    def lineup(
        self, candidates: Iterable[Candidate], *, processes: int = 1, **order: Any
    ) -> Iterator[dict[Candidate, list[Worker]]]:
        """Workers of all candidates, `processes` of each; a peer that does not start is left out."""
        with contextlib.ExitStack() as stack:
            hired = {}
            for candidate in self.present(candidates):
                with self.excused(candidate):
                    hired[candidate] = [stack.enter_context(self.hire(candidate, **order)) for _ in range(processes)]
            yield hired

    @contextlib.contextmanager
    def excused(self, candidate: Candidate, workers: Sequence[Worker] = ()) -> Iterator[None]:
        """A peer's failure is told and ends its workers, which may still be busy, but not the benchmark; ours does."""
        try:
            yield
        except StackError as error:
            if not candidate.peer:
                raise
            for worker in workers:
                worker.close()
            self.console.print(f"without {candidate.label}: {error}", markup=False)

    def in_turn(
        self, lineup: dict[Candidate, list[Worker]], measure: Callable[[Candidate, list[Worker], int], T]
    ) -> dict[Candidate, list[T]]:
        """Every round measures every candidate once: A B C, A B C. Who fails in one round is out of all."""
        results: dict[Candidate, list[T]] = {candidate: [] for candidate in lineup}
        for number in range(self.rounds):
            for candidate in list(results):
                done = results.pop(candidate)
                with self.excused(candidate, lineup[candidate]):
                    done.append(measure(candidate, lineup[candidate], number))
                    results[candidate] = done
        return {candidate: results[candidate] for candidate in lineup if candidate in results}


def calls(client: Redis) -> dict[str, int]:
    """How often Redis has run each command so far, inside scripts too, our own asking left out."""
    stats: dict[str, dict[str, int]] = client.info("commandstats")
    counted = {name.removeprefix("cmdstat_"): int(one["calls"]) for name, one in stats.items()}
    return {name: count for name, count in counted.items() if name not in ("info", "config", "config|resetstat")}


def spent(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """The commands run in between."""
    return {name: count - before.get(name, 0) for name, count in after.items() if count > before.get(name, 0)}
