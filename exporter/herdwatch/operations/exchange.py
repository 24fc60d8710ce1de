"""One bounded exchange with a Redis through the Link, which takes no more from the other side than was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from herdwatch.collector.link import Link
from herdwatch.collector.resp import Command, ProtocolError
from herdwatch.config import Cache


async def exchange(cache: Cache, commands: Sequence[Command], seconds: float) -> list[Any]:
    """A reply for each command, an error reply as a value, on a connection of its own; login included in the seconds.

    Raises OSError, TimeoutError, ProtocolError, ReplyError where the login is refused, and ConfigError for a password
    that is not where it is said to be.
    """
    link = Link(cache)
    try:
        async with asyncio.timeout(seconds):
            replies = await link.ask(commands)
    finally:
        link.hang_up()
    for reply in replies:
        if isinstance(reply, (OSError, ProtocolError)):
            raise reply
    return replies
