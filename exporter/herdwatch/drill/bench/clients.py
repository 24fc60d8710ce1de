"""HTTP clients that scrape: several at once as fast as they can, or many targets evenly over time."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Self

from herdwatch.errors import StackError

ANSWER_SECONDS = 30.0
_LIMIT = 1 << 20


@dataclass(slots=True)
class Client:
    """One kept connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def to(cls, address: str) -> Self:
        """Connect; raises StackError where nobody listens."""
        host, _, port = address.rpartition(":")
        try:
            return cls(*await asyncio.open_connection(host, int(port), limit=_LIMIT))
        except OSError as error:
            raise StackError(f"{address} does not answer: {error.strerror}") from None

    async def get(self, path: str) -> bytes:
        """The body of an answer; raises StackError for a status other than 200, an end, or after half a minute."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                self.writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                head = await self.reader.readuntil(b"\r\n\r\n")
                if not head.startswith(b"HTTP/1.1 200 "):
                    raise StackError(f"{path} was answered with {head.partition(CRLF)[0].decode()}")
                return await self._body(head.lower())
        except (OSError, EOFError) as error:
            raise StackError(f"{path} was not answered: {type(error).__name__}") from None

    async def _body(self, head: bytes) -> bytes:
        _, found, rest = head.partition(b"\r\ncontent-length:")
        if found:
            return await self.reader.readexactly(int(rest.partition(CRLF)[0]))
        chunks = []
        while size := int(await self.reader.readuntil(CRLF), 16):
            chunks.append((await self.reader.readexactly(size + 2))[:-2])
        await self.reader.readuntil(CRLF)
        return b"".join(chunks)

    def close(self) -> None:
        """Leave."""
        self.writer.close()


CRLF = b"\r\n"


@contextlib.asynccontextmanager
async def connected(address: str, count: int) -> AsyncIterator[list[Client]]:
    """So many connections, open at the same time."""
    clients: list[Client] = []
    try:
        for _ in range(count):
            clients.append(await Client.to(address))
        yield clients
    finally:
        for client in clients:
            client.close()


async def at_once(address: str, path: str, *, clients: int, each: int, idle: int = 0) -> list[float]:
    """Seconds of every scrape of so many clients, who ask again as soon as they are answered.

    `idle` connections are open beside them all the time and never say anything.
    """

    async def scrape(client: Client) -> list[float]:
        took = []
        for _ in range(each):
            began = time.perf_counter()
            await client.get(path)
            took.append(time.perf_counter() - began)
        return took

    async with connected(address, idle), connected(address, clients) as those:
        found = await asyncio.gather(*(scrape(client) for client in those))
    return [seconds for one in found for seconds in one]


async def evenly(address: str, paths: Sequence[str], *, interval: float, rounds: int) -> list[float]:
    """Seconds of every scrape when each path is asked for once per interval, in turn, evenly spread.

    A scrape begins when it is due, whatever became of those before it, and its time counts from then.
    """
    free: list[Client] = []
    began = time.perf_counter()

    async def scrape(number: int) -> float:
        due = began + number * interval / len(paths)
        await asyncio.sleep(due - time.perf_counter())
        client = free.pop() if free else await Client.to(address)
        await client.get(paths[number % len(paths)])
        free.append(client)
        return time.perf_counter() - due

    took = list(await asyncio.gather(*(scrape(number) for number in range(rounds * len(paths)))))
    for client in free:
        client.close()
    return took
