"""What the guard costs and what it saves, beside redis-py alone and its peers: all in one run, candidates in turn."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path

from rich.console import Console

import herdwatch
from herdwatch.drill.bench import herds, hits, hot_keys, overheads, peers
from herdwatch.drill.bench.setting import Candidate, Setting
from herdwatch.errors import StackError, ToolError
from herdwatch.stack import RedisServer, Supervisor


def run(*, rounds: int) -> None:
    """Print a table for every line and the verdicts at the end; every figure is measured in this run."""
    console = Console(highlight=False, width=max(130, Console().width))
    interpreter = _peers(console)
    with Supervisor() as supervisor:
        redis, counter = RedisServer(supervisor), RedisServer(supervisor, name="counter")
        setting = Setting(console, redis, counter, interpreter, rounds, supervisor.folder)
        console.print(_versions(setting), markup=False)
        verdicts = [*hits.run(setting), *overheads.run(setting), *hot_keys.run(setting), *herds.run(setting)]
    console.print("\n".join(verdicts), markup=False, soft_wrap=True)


def _peers(console: Console) -> Path | None:
    console.print("the peers' environment: cashews, aiocache, dogpile.cache")
    try:
        return peers.python()
    except ToolError as error:
        console.print(f"without the peers: {error}", markup=False)
        return None


def _versions(setting: Setting) -> str:
    with setting.redis.client() as client:
        server = client.info("server")["redis_version"]
    own = f"redis-py {metadata.version('redis')}, hiredis {metadata.version('hiredis')}"
    text = f"herdwatch {herdwatch.__version__}, {own}, Python {platform.python_version()}, redis-server {server}"
    if setting.peers is None:
        return text
    try:
        with setting.hire(Candidate("cashews", "cashews", "asyncio", peer=True)) as worker:
            found = ", ".join(f"{name} {version}" for name, version in worker.versions.items())
    except StackError as error:
        return f"{text}\n{error}"
    return f"{text}\npeers: {found}"
