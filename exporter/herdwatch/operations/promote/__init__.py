"""`herdwatch promote`: a warm replica takes over from its primary, planned, after a crash, or by way of Sentinel."""

from herdwatch.operations.promote.endpoint import Endpoint, Login, of_address, of_cache, of_url
from herdwatch.operations.promote.model import Check, Kind, Limits, Name, Outcome, Plan, Request, Status, Step, Tell
from herdwatch.operations.promote.promoting import prepare, promote, refusal
from herdwatch.operations.promote.telling import as_json, as_text

__all__ = [
    "Check",
    "Endpoint",
    "Kind",
    "Limits",
    "Login",
    "Name",
    "Outcome",
    "Plan",
    "Request",
    "Status",
    "Step",
    "Tell",
    "as_json",
    "as_text",
    "of_address",
    "of_cache",
    "of_url",
    "prepare",
    "promote",
    "refusal",
]
