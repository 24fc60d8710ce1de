"""An incident or a calm day: its script, and who should be told what, and by when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from herdwatch.proof.world import Script, World

Urgency = Literal["page", "ticket", "note", "calm"]
"""A page wakes somebody, a ticket waits for the morning, a note is kept; a calm day tells nobody anything."""

SEVERITY: dict[Urgency, str] = {"page": "critical", "ticket": "warning", "note": "info", "calm": ""}

AFTER_SECONDS = 60
"""What a play shows beyond the last moment at which an incident must have been told."""

DELIVERY_SECONDS = 20
"""What evaluation and Alertmanager's group_wait may add to the scrapes that an alert waits for."""


@dataclass(frozen=True, slots=True)
class Incident:
    """`causes` are the alerts that would name the cause: one of them must be told within so many `scrapes`, or `least`
    seconds where that is longer.

    A calm day has no cause. `about` says in a sentence what happens. `alone` is an incident of the whole
    exporter, which no other may share.
    """

    name: str
    room: str
    script: Script
    urgency: Urgency
    causes: tuple[str, ...]
    scrapes: int
    alone: bool
    least: int = 0

    @property
    def about(self) -> str:
        """What happens, as the script's docstring says it."""
        return " ".join((self.script.__doc__ or "").split())

    @property
    def severity(self) -> str:
        """The severity at which it should be told; empty for a calm day."""
        return SEVERITY[self.urgency]

    def seconds(self, interval: int) -> int:
        """How long after it could be known it must have been told."""
        return max(self.scrapes * interval, self.least) + DELIVERY_SECONDS

    def happen(self, *, interval: int, phase: int) -> World:
        """Run the script, and wait beyond its end for what must still be told."""
        world = World(self.name, interval=interval, phase=phase)
        world.run(self.script)
        if self.causes:
            world.run(lambda world: iter([world.known + self.seconds(interval) + AFTER_SECONDS - world.now]))
        return world


class Chapter:
    """Incidents of one kind, in the order in which they were written."""

    def __init__(self, room: str) -> None:
        self.room = room
        self.incidents: list[Incident] = []

    def page(self, *causes: str, scrapes: int = 2, least: int = 0, alone: bool = False) -> Decorator:
        """Somebody is woken."""
        return self._add("page", causes, scrapes, alone, least)

    def ticket(self, *causes: str, scrapes: int, alone: bool = False) -> Decorator:
        """Somebody looks at it in the morning."""
        return self._add("ticket", causes, scrapes, alone)

    def note(self, *causes: str, scrapes: int) -> Decorator:
        """It is kept for who looks."""
        return self._add("note", causes, scrapes, False)

    def calm(self, *, alone: bool = False) -> Decorator:
        """Nobody is told anything."""
        return self._add("calm", (), 0, alone)

    def _add(
        self,
        urgency: Urgency,
        causes: tuple[str, ...],
        scrapes: int,
        alone: bool,
        least: int = 0,
    ) -> Decorator:
        def add(script: Script) -> Script:
            name = script.__name__.replace("_", "-")
            self.incidents.append(Incident(name, self.room, script, urgency, causes, scrapes, alone, least))
            return script

        return add


Decorator = Callable[[Script], Script]
