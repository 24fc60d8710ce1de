"""The timeline of an incident, drawn from a Prometheus, for the post-mortem."""

from herdwatch.operations.report.asked import Asked, period
from herdwatch.operations.report.page import as_html
from herdwatch.operations.report.story import Report, tell
from herdwatch.operations.report.telling import as_json, as_text
from herdwatch.operations.report.writing import check, write

__all__ = ["Asked", "Report", "as_html", "as_json", "as_text", "check", "period", "tell", "write"]
