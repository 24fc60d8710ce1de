"""Restarts: cold, warm and in between, hidden, repeated, of one shard or behind one address."""

from __future__ import annotations

from collections.abc import Iterator

from herdwatch.proof.incident import Chapter
from herdwatch.proof.model import Cache, Node
from herdwatch.proof.world import World

CHAPTER = Chapter("restarts")
COLD = ("CacheRestarted",)


def restart(
    world: World, node: Node, *, outage: float = 2, kept: dict[str, float] | None = None, loading: int = 0
) -> Iterator[float]:
    """The process dies and another one takes its place."""
    node.crash()
    yield outage
    node.start(world.now, kept, loading)


def share_of(node: Node, share: float) -> dict[str, float]:
    """So much of each database's keys."""
    return {db: count * share for db, count in node.keys.items()}


def take_over(cache: Cache, keys: dict[str, float]) -> Node:
    """Another process becomes the cache's primary, at an address of its own, which was watched as a replica before."""
    old = cache.nodes[0]
    new = next(node for node in cache.nodes if not node.primary)
    old.primary, new.primary, new.keys = False, True, dict(keys)
    return new


@CHAPTER.page(*COLD)
def cold_restart(world: World) -> Iterator[float]:
    """A busy cache without persistence is killed and comes back empty after two seconds."""
    users = world.cache()
    yield from world.calm()
    yield from restart(world, users.nodes[0])
    yield 900


@CHAPTER.page(*COLD)
def cold_restart_refilled_fast(world: World) -> Iterator[float]:
    """Traffic brings half of the keys back within a minute: the herd is short, and it is one."""
    users = world.cache(lookups=20_000, keys=60_000, hit_ratio=0.97)
    yield from world.calm()
    yield from restart(world, users.nodes[0])
    yield 600


@CHAPTER.page(*COLD)
def cold_restart_refilled_slowly(world: World) -> Iterator[float]:
    """Little traffic for many keys: the cache stays cold for an hour."""
    users = world.cache(lookups=60, keys=200_000, hit_ratio=0.95)
    yield from world.calm()
    yield from restart(world, users.nodes[0])
    yield 900


@CHAPTER.page(*COLD)
def cold_restart_without_a_guard(world: World) -> Iterator[float]:
    """No application coalesces: every lookup that misses reaches the database."""
    users = world.cache(guard=False)
    yield from world.calm()
    yield from restart(world, users.nodes[0])
    yield 900


@CHAPTER.page(*COLD)
def cold_restart_before_a_small_database(world: World) -> Iterator[float]:
    """The seed's incident: fifty thousand lookups a second, and a database for a twentieth of them."""
    users = world.cache(lookups=50_000, keys=2_000_000, hit_ratio=0.97, guard=False, capacity=2_500, peak=50_000)
    yield from world.calm()
    yield from restart(world, users.nodes[0])
    yield 600


@CHAPTER.page(*COLD)
def cold_restart_with_singleflight_off(world: World) -> Iterator[float]:
    """Somebody had switched singleflight off minutes before; both must be heard."""
    users = world.cache(capacity=300, peak=1_000)
    yield from world.calm()
    users.services[0].enabled = False
    yield from restart(world, users.nodes[0])
    yield 900


@CHAPTER.calm()
def warm_restart(world: World) -> Iterator[float]:
    """SHUTDOWN SAVE and a start: the dataset is there again after two seconds of loading."""
    users = world.cache()
    yield from world.calm()
    yield from restart(world, users.nodes[0], kept=share_of(users.nodes[0], 1.0), loading=2)
    yield 900


@CHAPTER.calm()
def warm_restart_of_a_big_dataset(world: World) -> Iterator[float]:
    """Loading takes thirty seconds, which is no herd yet."""
    users = world.cache(keys=2_000_000)
    yield from world.calm()
    yield from restart(world, users.nodes[0], kept=share_of(users.nodes[0], 1.0), loading=30)
    yield 900


@CHAPTER.page(*COLD)
def partial_restart(world: World) -> Iterator[float]:
    """The dump was a day old: a fifth of the keys comes back."""
    users = world.cache(lookups=200)
    yield from world.calm()
    yield from restart(world, users.nodes[0], kept=share_of(users.nodes[0], 0.2))
    yield 900


@CHAPTER.calm()
def restart_from_a_recent_dump(world: World) -> Iterator[float]:
    """The dump was some minutes old: four fifths of the keys come back."""
    users = world.cache()
    yield from world.calm()
    yield from restart(world, users.nodes[0], kept=share_of(users.nodes[0], 0.8))
    yield 900


@CHAPTER.page("CacheDown", "CacheRestarted", scrapes=4)
def outage_that_ends_cold(world: World) -> Iterator[float]:
    """Down for four minutes and empty after that; it is one incident, and one page."""
    users = world.cache()
    yield from world.calm()
    yield from restart(world, users.nodes[0], outage=240)
    yield 900


@CHAPTER.page(*COLD)
def cold_restart_in_a_gap(world: World) -> Iterator[float]:
    """Prometheus does not scrape for five minutes, and meanwhile the cache restarts with little traffic to fill it."""
    users = world.cache(lookups=100)
    yield from world.calm()
    world.scraping = False
    yield 200
    yield from restart(world, users.nodes[0])
    yield 100
    world.scraping = True
    world.visible()
    yield 900


@CHAPTER.page(*COLD)
def cold_restart_in_a_long_gap(world: World) -> Iterator[float]:
    """Prometheus is away for longer than the rules look back, and the cache restarts meanwhile."""
    users = world.cache(lookups=60)
    yield from world.calm()
    world.scraping = False
    yield 150 * world.interval
    yield from restart(world, users.nodes[0])
    yield 100
    world.scraping = True
    world.visible()
    yield 600


@CHAPTER.page(*COLD)
def cold_restart_between_two_scrapes(world: World) -> Iterator[float]:
    """So much traffic for so few keys that most are back before anybody looks; the database felt it all the same."""
    users = world.cache(lookups=50_000, keys=20_000, hit_ratio=0.9, guard=False)
    yield from world.calm()
    yield from restart(world, users.nodes[0], outage=1)
    yield 600


@CHAPTER.page(*COLD, scrapes=3, alone=True)
def cold_restart_while_the_exporter_restarts(world: World) -> Iterator[float]:
    """A host reboots, with Redis and the exporter on it; the exporter comes back twenty seconds later."""
    users = world.cache()
    yield from world.calm()
    world.exporters["exporter-1:9878"] = False
    yield from restart(world, users.nodes[0])
    yield 20
    world.exporters["exporter-1:9878"] = True
    world.restart_exporters()
    world.visible()
    yield 900


@CHAPTER.page(*COLD)
def cold_restart_of_one_shard_of_ten(world: World) -> Iterator[float]:
    """A tenth of the keys is gone: the sum hardly shows it, the shard does."""
    users = world.cache(lookups=5_000, keys=1_000_000, shards=10)
    yield from world.calm()
    yield from restart(world, users.nodes[3])
    yield 900


@CHAPTER.page(*COLD)
def cold_restart_of_several_databases(world: World) -> Iterator[float]:
    """Three logical databases are empty at once; an empty one is not even in INFO."""
    users = world.cache(databases={"0": 0.6, "1": 0.3, "7": 0.1})
    yield from world.calm()
    yield from restart(world, users.nodes[0])
    yield 900


@CHAPTER.page(*COLD)
def cold_restart_at_night(world: World) -> Iterator[float]:
    """Five lookups a second are above the floor: before the morning's traffic the cache can still be warmed."""
    users = world.cache(lookups=5, keys=50_000)
    yield from world.calm()
    yield from restart(world, users.nodes[0])
    yield 900


@CHAPTER.page(*COLD)
def cold_restart_after_a_short_life(world: World) -> Iterator[float]:
    """The cache came up empty for the first time eleven minutes ago, has filled, and restarts."""
    users = world.cache(lookups=20_000, keys=60_000, hit_ratio=0.9, empty=True)
    yield from world.calm()
    yield from restart(world, users.nodes[0])
    yield 600


@CHAPTER.page(*COLD, scrapes=3)
def cold_failover_to_another_address(world: World) -> Iterator[float]:
    """The primary is lost and what takes over at another address has no keys."""
    users = world.cache()
    users.nodes.append(Node("users-standby:6379", primary=False, started=-86_400, keys={"0": 0.0}))
    yield from world.calm()
    users.nodes[0].crash()
    yield 3
    take_over(users, {"0": 0.0})
    yield 900


@CHAPTER.calm()
def warm_failover_to_another_address(world: World) -> Iterator[float]:
    """Planned: the replica has all keys and takes over, and the old primary follows it."""
    users = world.cache(replicas=1)
    users.nodes.append(Node("users-standby:6379", primary=False, started=-86_400, keys=dict(users.nodes[0].keys)))
    yield from world.calm()
    new = take_over(users, users.nodes[0].keys)
    yield 20
    new.replicas = 1
    yield 900


@CHAPTER.page(*COLD)
def cold_failover_behind_one_address(world: World) -> Iterator[float]:
    """A managed Redis replaces its node by an empty one; the address stays, and the process is another."""
    users = world.cache()
    yield from world.calm()
    yield from restart(world, users.nodes[0], outage=8)
    yield 900


@CHAPTER.calm()
def warm_failover_behind_one_address(world: World) -> Iterator[float]:
    """A managed Redis replaces its node by a replica that has the keys."""
    users = world.cache()
    yield from world.calm()
    node = users.nodes[0]
    node.start(world.now - 4_000, dict(node.keys))
    yield 900


@CHAPTER.page("CacheRestartLoop", "CacheRestarted", "CacheDown", scrapes=4)
def crash_loop_cold(world: World) -> Iterator[float]:
    """Killed for its memory every forty seconds, and empty each time."""
    users = world.cache()
    yield from world.calm()
    for _ in range(12):
        yield from restart(world, users.nodes[0], outage=3)
        yield 37
    yield 600


@CHAPTER.page("CacheRestartLoop", scrapes=3)
def crash_loop_warm(world: World) -> Iterator[float]:
    """A process with an append-only file dies every minute and has its keys each time: the third time is a loop."""
    users = world.cache()
    yield from world.calm()
    for number in range(8):
        yield from restart(world, users.nodes[0], kept=share_of(users.nodes[0], 1.0), loading=1)
        if number == 2:
            world.visible()
        yield 57
    yield 600


@CHAPTER.calm()
def two_warm_restarts(world: World) -> Iterator[float]:
    """An upgrade that is rolled back: two planned restarts within ten minutes."""
    users = world.cache()
    yield from world.calm()
    for _ in range(2):
        yield from restart(world, users.nodes[0], kept=share_of(users.nodes[0], 1.0), loading=2)
        yield 400


@CHAPTER.calm()
def purge_between_two_warm_restarts(world: World) -> Iterator[float]:
    """Keys that nobody reads are deleted between two warm restarts: less is normal from then on."""
    users = world.cache()
    yield from world.calm()
    yield from restart(world, users.nodes[0], kept=share_of(users.nodes[0], 1.0), loading=2)
    yield 180
    users.nodes[0].lose(0.7)
    users.working_set *= 0.3
    yield 180
    yield from restart(world, users.nodes[0], kept=share_of(users.nodes[0], 1.0), loading=2)
    yield 600


@CHAPTER.calm()
def cold_restart_of_an_idle_cache(world: World) -> Iterator[float]:
    """Nobody reads it, so nothing misses."""
    world.cache(lookups=0.1, guard=False)
    yield from world.calm()
    yield from restart(world, world.caches[0].nodes[0])
    yield 900
