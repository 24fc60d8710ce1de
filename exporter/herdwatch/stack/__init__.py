"""Starts and stops real servers under supervision: demo, drill and tests stand on it."""

from herdwatch.stack.processes import Process, Supervisor, free_port
from herdwatch.stack.servers import (
    AlertmanagerServer,
    ExporterServer,
    PrometheusServer,
    RedisServer,
)
from herdwatch.stack.webhook import Notification, WebhookReceiver, pages

__all__ = [
    "AlertmanagerServer",
    "ExporterServer",
    "Notification",
    "Process",
    "PrometheusServer",
    "RedisServer",
    "Supervisor",
    "WebhookReceiver",
    "free_port",
    "pages",
]
