"""What it costs to watch Redis, beside a bare INFO and redis_exporter: all in one run, candidates in turn."""

from __future__ import annotations

from rich.console import Console

from herdwatch.drill import demo
from herdwatch.drill.bench import command_types, crowds, fleets, key_groups, scrapes
from herdwatch.drill.bench.figures import verdict
from herdwatch.drill.timeline import Timeline
from herdwatch.stack import RedisServer, Supervisor, WebhookReceiver

_FILL = "for i = ARGV[1], ARGV[2] do redis.call('SET', 'user:' .. i, 'profile of user ' .. i) end"
_FILL_STEP = 50_000


def run(*, keys: int, scrapes: int) -> None:
    """Print every comparison and its verdicts, then the time from kill to page in the demo."""
    console = Console(highlight=False, width=max(110, Console().width))
    verdicts = measure(console, keys=keys, scrapes_each=scrapes)
    console.print("\n".join(verdicts), markup=False, soft_wrap=True)
    _time_to_page(console)


def measure(console: Console, *, keys: int, scrapes_each: int) -> list[str]:
    """Measure one Redis with so many keys, then a fleet; gives the verdicts."""
    with Supervisor() as supervisor:
        redis = RedisServer(supervisor)
        console.print(f"filling Redis with {keys:,} keys")
        fill(redis, keys)
        found = scrapes.contenders(supervisor, redis, console)
        verdicts = scrapes.measure(redis, found, console, keys=keys, scrapes=scrapes_each)
        verdicts += crowds.measure(found, console)
        verdicts += command_types.measure(redis, found, console)
        key_groups.measure(supervisor, redis, console, keys=keys)
    return verdicts + fleets.measure(console)


def fill(redis: RedisServer, keys: int) -> None:
    """Set user:1 to user:KEYS."""
    with redis.client(socket_timeout=60) as client:
        for begin in range(1, keys + 1, _FILL_STEP):
            client.eval(_FILL, 0, begin, min(begin + _FILL_STEP - 1, keys))


def _time_to_page(console: Console) -> None:
    console.print("the demo, for the time from the kill to the delivered page:")
    with Supervisor() as supervisor, WebhookReceiver() as webhook:
        timeline = Timeline(console)
        outcome = demo.replay(demo.start(supervisor, webhook, timeline), timeline)
    console.print(verdict("kill to page at most 20 s", outcome.paged / 20), markup=False)
