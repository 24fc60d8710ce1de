"""Keys that are gone without a restart: flushed, expired, evicted, purged."""

from __future__ import annotations

from collections.abc import Iterator

from herdwatch.proof.incident import Chapter
from herdwatch.proof.world import World

CHAPTER = Chapter("lost keys")
LOST = ("CacheKeysLost",)

EXPORTER_LOOKUPS = 0.07
"""What an exporter asks for in a second where it scrapes every quarter of a minute: the hash of the reports."""


@CHAPTER.page(*LOST, scrapes=3)
def flush_of_everything(world: World) -> Iterator[float]:
    """Somebody types FLUSHALL into the wrong window."""
    users = world.cache()
    yield from world.calm()
    users.nodes[0].lose(1.0)
    users.nodes[0].flushes += 1
    yield 900


@CHAPTER.page(*LOST, scrapes=3)
def flush_of_the_main_database(world: World) -> Iterator[float]:
    """FLUSHDB takes the database that holds seven tenths of the keys."""
    users = world.cache(databases={"0": 0.7, "1": 0.3})
    yield from world.calm()
    users.nodes[0].lose(1.0, "0")
    yield 900


@CHAPTER.calm()
def flush_of_a_small_database(world: World) -> Iterator[float]:
    """FLUSHDB takes one key in twenty."""
    users = world.cache(databases={"0": 0.95, "1": 0.05})
    yield from world.calm()
    users.nodes[0].lose(1.0, "1")
    yield 900


@CHAPTER.page(*LOST, scrapes=3)
def flush_of_one_shard_of_three(world: World) -> Iterator[float]:
    """A clean-up script knew one address only."""
    users = world.cache(shards=3, lookups=3_000)
    yield from world.calm()
    users.nodes[1].lose(1.0)
    yield 900


@CHAPTER.page(*LOST, scrapes=3)
def flush_while_the_cache_is_slow_to_refill(world: World) -> Iterator[float]:
    """Little traffic, many keys: the hour after the flush is as cold as its first minute."""
    users = world.cache(lookups=60)
    yield from world.calm()
    users.nodes[0].lose(1.0)
    yield 900


@CHAPTER.page(*LOST, scrapes=4)
def mass_expiry(world: World) -> Iterator[float]:
    """A batch wrote nine keys in ten with one time to live, which ends within half a minute."""
    users = world.cache()
    yield from world.calm()
    for _ in range(30):
        users.nodes[0].lose(0.075)
        yield 1
    world.visible()
    yield 900


@CHAPTER.page(*LOST, scrapes=3)
def flush_without_a_guard(world: World) -> Iterator[float]:
    """FLUSHALL, and no application that coalesces."""
    users = world.cache(guard=False)
    yield from world.calm()
    users.nodes[0].lose(1.0)
    yield 900


@CHAPTER.page(*LOST, scrapes=3)
def flush_soon_after_an_idle_time(world: World) -> Iterator[float]:
    """Nobody but the exporter asks, and finds nothing; a dozen scrapes after the traffic is back most keys go."""
    users = world.cache()
    users.lookups, users.wanted = EXPORTER_LOOKUPS, 0.0
    yield from world.calm()
    users.lookups, users.wanted = 1_000, 0.95
    yield 12 * world.interval
    users.nodes[0].lose(0.99)
    world.visible()
    yield 900


@CHAPTER.calm()
def nightly_purge(world: World) -> Iterator[float]:
    """A job deletes six keys in ten, which nobody asks for any more."""
    users = world.cache()
    yield from world.calm()
    users.nodes[0].lose(0.6)
    users.working_set *= 0.4
    yield 900


@CHAPTER.calm()
def flush_of_an_idle_cache(world: World) -> Iterator[float]:
    """Nobody reads it."""
    users = world.cache(lookups=0.1, guard=False)
    yield from world.calm()
    users.nodes[0].lose(1.0)
    yield 900


@CHAPTER.ticket("CacheEvicting", scrapes=40)
def working_set_outgrows_the_memory(world: World) -> Iterator[float]:
    """A new feature asks for many times as many keys as maxmemory holds."""
    users = world.cache(keys=100_000, limit=100_000, hit_ratio=0.96)
    yield from world.calm()
    users.working_set *= 40
    yield 900


@CHAPTER.ticket("CacheEvicting", scrapes=40)
def working_set_outgrows_the_memory_after_an_idle_time(world: World) -> Iterator[float]:
    """The same, ten minutes after a time in which nobody but the exporter asked, and found nothing."""
    users = world.cache(keys=100_000, limit=100_000, hit_ratio=0.96)
    users.lookups, users.wanted = EXPORTER_LOOKUPS, 0.0
    yield from world.calm()
    users.lookups, users.wanted = 1_000, 0.96
    yield 600
    users.working_set *= 40
    world.visible()
    yield 900


@CHAPTER.ticket("CacheEvicting", scrapes=40)
def crawler_pollutes_the_cache(world: World) -> Iterator[float]:
    """A crawler asks for everything once: its keys drive out those that people want."""
    users = world.cache(keys=100_000, limit=100_000, hit_ratio=0.96)
    yield from world.calm()
    users.scan = 400
    users.wanted = 0.85
    yield 900


@CHAPTER.calm()
def cache_that_always_evicts(world: World) -> Iterator[float]:
    """An LRU cache that is full by design evicts a key for each that it takes, and its hit ratio is what it was."""
    users = world.cache(keys=100_000, limit=99_000)
    yield from world.calm()
    users.lookups *= 1.3
    yield 900
