"""Capacity by arithmetic: what a cold restart does to the database, and what has to be warm before it is let in."""

from herdwatch.operations.plan.arithmetic import Question
from herdwatch.operations.plan.popularity import Fit, Popularity, exponent, from_journal
from herdwatch.operations.plan.rows import Plan, Row, plan
from herdwatch.operations.plan.telling import Origin, as_json, as_text
from herdwatch.operations.plan.writing import Written, check, write
from herdwatch.operations.plan.zipf import Zipf

__all__ = [
    "Fit",
    "Origin",
    "Plan",
    "Popularity",
    "Question",
    "Row",
    "Written",
    "Zipf",
    "as_json",
    "as_text",
    "check",
    "exponent",
    "from_journal",
    "plan",
    "write",
]
