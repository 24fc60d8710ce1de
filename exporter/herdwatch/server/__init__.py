"""HTTP: /metrics /probe /sd /runbooks/<Alert> /-/healthy /-/ready and a landing page."""

from herdwatch.server.app import Exporter
from herdwatch.server.once import once
from herdwatch.server.serving import bind, serve

__all__ = ["Exporter", "bind", "once", "serve"]
