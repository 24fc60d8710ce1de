"""HTTP: /metrics /probe /sd /runbooks/<Alert> /-/healthy /-/ready and a landing page."""

from herdwatch.server.app import Exporter
from herdwatch.server.once import once
from herdwatch.server.serving import bind, serve
from herdwatch.server.stats import HttpStats
from herdwatch.server.web import Web

__all__ = ["Exporter", "HttpStats", "Web", "bind", "once", "serve"]
