"""An `Ask` of the collector that is nothing but a socket and hiredis: nothing stands between the test and Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import hiredis

from herdwatch.collector.link import Ask
from herdwatch.collector.resp import Command, ProtocolError, ReplyError


@asynccontextmanager
async def asking(port: int, *greeting: Command) -> AsyncIterator[Ask]:
    """A connection on which these commands, such as AUTH and SELECT, have been run."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    parser = hiredis.Reader(protocolError=ProtocolError, replyError=ReplyError)

    async def reply() -> Any:
        while (found := parser.gets()) is False:
            received = await reader.read(65_536)
            if not received:
                raise ConnectionResetError("Redis has closed the connection")
            parser.feed(received)
        return found

    async def ask(commands: Sequence[Command]) -> list[Any]:
        writer.write(b"".join(hiredis.pack_command(command) for command in commands))
        return [await reply() for _ in commands]

    try:
        assert {b"OK"} >= set(await ask(greeting))
        yield ask
    finally:
        writer.close()
