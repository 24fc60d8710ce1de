"""The catalogue: every incident and calm day there is. A new one is a function in the chapter that it belongs to."""

from __future__ import annotations

from herdwatch.proof.catalogue import calm, guards, losses, outages, ratios, replicas, restarts
from herdwatch.proof.incident import Incident

CHAPTERS = (restarts.CHAPTER, losses.CHAPTER, outages.CHAPTER, replicas.CHAPTER, guards.CHAPTER, ratios.CHAPTER)

INCIDENTS: tuple[Incident, ...] = tuple(
    incident for chapter in (*CHAPTERS, calm.CHAPTER) for incident in chapter.incidents
)
