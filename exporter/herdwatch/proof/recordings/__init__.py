"""Incidents and calm times recorded from real servers, so that the models can be compared with reality."""

from herdwatch.proof.recordings.load import Recording, recordings

__all__ = ["Recording", "recordings"]
