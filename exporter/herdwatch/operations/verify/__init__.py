"""The runbook's questions about one cache, answered from what Redis and, where it is known, Prometheus say now."""

from herdwatch.operations.verify.answers import Answer, answers
from herdwatch.operations.verify.sight import Sight, see
from herdwatch.operations.verify.telling import as_json, as_text

__all__ = ["Answer", "Sight", "answers", "as_json", "as_text", "see"]
