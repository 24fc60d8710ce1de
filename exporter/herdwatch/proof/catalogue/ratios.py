"""The hit ratio falls, with the keys all there: what is asked for is not what is stored."""

from __future__ import annotations

from collections.abc import Iterator

from herdwatch.proof.incident import Chapter
from herdwatch.proof.model import Cache
from herdwatch.proof.world import World

CHAPTER = Chapter("hit ratio")
LOW = ("CacheHitRateLow",)


@CHAPTER.ticket(*LOW, scrapes=48)
def sudden_decline(world: World) -> Iterator[float]:
    """A release asks for other keys: the ratio falls to six tenths and stays there."""
    users = world.cache()
    yield from world.calm()
    users.wanted = 0.6
    yield 1_200


@CHAPTER.ticket(*LOW, scrapes=60)
def slow_decline(world: World) -> Iterator[float]:
    """A time to live was shortened: half a point every ten seconds, for ten minutes."""
    users = world.cache(lookups=300)
    yield from world.calm()
    for _ in range(60):
        users.wanted -= 0.006
        yield 10
    world.visible()
    yield 900


@CHAPTER.ticket(*LOW, scrapes=48)
def too_low_for_the_database(world: World) -> Iterator[float]:
    """Nine in ten is a fine ratio, unless the database behind it can take one request in twenty."""
    users = world.cache(lookups=50_000, keys=2_000_000, hit_ratio=0.97, capacity=2_500, peak=50_000)
    yield from world.calm()
    users.wanted = 0.9
    users.lookups = 24_000
    yield 1_200


@CHAPTER.calm()
def low_ratio_at_night(world: World) -> Iterator[float]:
    """The same ratio, and fewer requests than the database could take if none of them hit."""
    users = world.cache(lookups=50_000, keys=2_000_000, hit_ratio=0.97, capacity=2_500, peak=50_000)
    yield from world.calm()
    users.wanted, users.lookups = 0.7, 1_500
    yield 1_200


@CHAPTER.ticket(*LOW, scrapes=48)
def one_bad_shard_of_ten(world: World) -> Iterator[float]:
    """One shard finds half of what it is asked for; nine others hide it in the sum."""
    users = world.cache(lookups=5_000, keys=1_000_000, shards=10)
    yield from world.calm()
    users.spoilt = users.nodes[4]
    yield 1_200


@CHAPTER.ticket(*LOW, scrapes=48)
def too_low_for_a_database_that_two_caches_share(world: World) -> Iterator[float]:
    """The requests of neither cache would be too much for the database, those of both are."""
    users, _ = _sharing(world, 900, 900)
    yield from world.calm()
    users.wanted = 0.6
    yield 1_200


@CHAPTER.calm()
def low_ratio_of_caches_that_a_database_could_do_without(world: World) -> Iterator[float]:
    """Two caches with few hits, and fewer requests than the database that they share could take if none of them hit."""
    both = _sharing(world, 700, 100)
    yield from world.calm()
    for cache in both:
        cache.wanted = 0.6
    yield 1_200


@CHAPTER.calm()
def low_ratio_of_a_small_cache_beside_a_large_one(world: World) -> Iterator[float]:
    """A few requests miss; what is much for the database is what the other cache is asked for, and that is found."""
    _, small = _sharing(world, 5_000, 20)
    yield from world.calm()
    small.wanted = 0.6
    yield 1_200


def _sharing(world: World, *lookups: float) -> list[Cache]:
    """Caches in front of one database that takes a thousand requests a second, with so many lookups each."""
    made = [
        world.cache(f"cache-{number}", lookups=one, hit_ratio=0.97, capacity=1_000, peak=10_000, guard=False)
        for number, one in enumerate(lookups)
    ]
    for cache in made:
        cache.database = made[0].database
    return made
