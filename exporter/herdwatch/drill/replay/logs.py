"""What the processes of a drill write down, and how it is read: text, a line each, times in time.monotonic()."""

from __future__ import annotations

import json
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from herdwatch.drill.replay.frames import Outcome


class Query(NamedTuple):
    """One load that asked the database: when, when it got a connection (None: never), and when it was over."""

    asked: float
    began: float | None
    ended: float


class Sample(NamedTuple):
    """What an application had counted by a moment: lookups that found a value, and all of them."""

    at: float
    hits: int
    lookups: int


class Log:
    """Written by one process; lines reach the file when it is flushed or closed."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="ascii")

    def query(self, asked: float, began: float | None, ended: float) -> None:
        """Note a load."""
        self._file.write(f"q {asked:.6f} {'-' if began is None else f'{began:.6f}'} {ended:.6f}\n")

    def sample(self, at: float, hits: int, lookups: int) -> None:
        """Note the counts of a moment, and write everything out."""
        self._file.write(f"s {at:.6f} {hits} {lookups}\n")
        self._file.flush()

    def close(self) -> None:
        """Write everything out."""
        self._file.close()


@dataclass(frozen=True, slots=True)
class Noted:
    """One process's log."""

    queries: tuple[Query, ...]
    samples: tuple[Sample, ...]


def read(path: Path) -> Noted:
    """A log, as far as it was written; a process that was killed may have left half a line."""
    queries, samples = [], []
    lines = path.read_text(encoding="ascii").split("\n")[:-1] if path.exists() else []
    for line in lines:
        kind, *fields = line.split()
        if kind == "q":
            asked, began, ended = fields
            queries.append(Query(float(asked), None if began == "-" else float(began), float(ended)))
        else:
            samples.append(Sample(float(fields[0]), int(fields[1]), int(fields[2])))
    return Noted(tuple(queries), tuple(samples))


@dataclass(frozen=True, slots=True)
class Load:
    """What came of the load: request n was due at `at + n / rate`, and its user had an answer `latencies[n]` later.

    `late` is how far behind its own schedule the generator was at most: what it measures is that much too long.
    """

    at: float
    rate: float
    late: float
    latencies: array[float]
    outcomes: bytes

    def write(self, path: Path) -> None:
        """Whole or not at all."""
        head = json.dumps({"at": self.at, "rate": self.rate, "late": self.late, "requests": len(self.outcomes)})
        beside = path.with_suffix(".part")
        beside.write_bytes(head.encode() + b"\n" + self.latencies.tobytes() + self.outcomes)
        beside.replace(path)

    @classmethod
    def read(cls, path: Path) -> Load:
        """What `write` wrote."""
        head, _, body = path.read_bytes().partition(b"\n")
        told = json.loads(head)
        latencies = array("f")
        size = told["requests"] * latencies.itemsize
        latencies.frombytes(body[:size])
        return cls(told["at"], told["rate"], told["late"], latencies, body[size:])

    def due(self, number: int) -> float:
        """When a request was to begin."""
        return self.at + number / self.rate

    def outcome(self, number: int) -> Outcome:
        """How it ended."""
        return Outcome(self.outcomes[number])
