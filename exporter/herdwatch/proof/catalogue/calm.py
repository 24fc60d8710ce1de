"""Calm days: what happens all the time and is nobody's business."""

from __future__ import annotations

from collections.abc import Iterator
from math import cos, pi

from herdwatch.proof.incident import Chapter
from herdwatch.proof.model import Node
from herdwatch.proof.world import World

CHAPTER = Chapter("calm days")


@CHAPTER.calm()
def ordinary_day(world: World) -> Iterator[float]:
    """Traffic comes and goes a little."""
    users = world.cache()
    yield from world.calm()
    for minute in range(20):
        users.lookups = 1_000 + 200 * (minute % 3 - 1)
        yield 60


@CHAPTER.calm()
def first_fill(world: World) -> Iterator[float]:
    """A new cache begins empty, in the middle of the traffic; it has no past to be held against."""
    users = world.cache(lookups=2_000, hit_ratio=0.9, empty=True)
    node = users.nodes[0]
    node.watched = False
    users.configured = False
    yield from world.calm()
    node.watched = True
    node.start(world.now)
    yield 900


@CHAPTER.calm()
def idle_cache(world: World) -> Iterator[float]:
    """Nobody but the exporter reads it, and what the exporter reads is not there."""
    users = world.cache(lookups=0.07, hit_ratio=0.01, guard=False)
    yield from world.calm()
    users.lookups = 0.2
    yield 900


@CHAPTER.calm()
def tiny_cache(world: World) -> Iterator[float]:
    """Twenty keys by design, far below anybody's absolute floor."""
    world.cache(lookups=50, keys=20, hit_ratio=0.99)
    yield from world.calm()
    yield 900


@CHAPTER.calm()
def tiny_cache_breathes(world: World) -> Iterator[float]:
    """A handful of keys that come and go; misses go along."""
    users = world.cache(lookups=30, keys=12, hit_ratio=0.9, guard=False)
    yield from world.calm()
    for _ in range(6):
        users.nodes[0].lose(0.4)
        yield 120


@CHAPTER.calm()
def day_and_night(world: World) -> Iterator[float]:
    """Traffic falls to a tenth; the keys follow as they expire, and so do the misses."""
    users = world.cache(lookups=3_000, keys=90_000, hit_ratio=0.9)
    yield from world.calm()
    for step in range(60):
        users.lookups = 300 + 2_700 * (1 + cos(pi * step / 60)) / 2
        yield 20


@CHAPTER.calm()
def flash_crowd(world: World) -> Iterator[float]:
    """Ten times the lookups within a minute, of what is in the cache already."""
    users = world.cache(lookups=500)
    yield from world.calm()
    for _ in range(10):
        users.lookups += 450
        yield 6
    users.wanted = 0.97
    yield 600
    users.lookups = 500
    yield 300


@CHAPTER.calm()
def counters_reset(world: World) -> Iterator[float]:
    """CONFIG RESETSTAT: hits and misses begin at zero, and nothing else does."""
    users = world.cache()
    yield from world.calm()
    users.nodes[0].hits = users.nodes[0].misses = 0
    yield 900


@CHAPTER.calm()
def cache_taken_out_of_use(world: World) -> Iterator[float]:
    """Its traffic ends and its keys expire; it is still watched."""
    users = world.cache(lookups=1_000, keys=20_000, hit_ratio=0.9)
    yield from world.calm()
    users.lookups = 0.05
    yield 1_200


@CHAPTER.calm()
def new_shard(world: World) -> Iterator[float]:
    """A shard is added, empty; keys are moved to it over some minutes, and every shard has fewer than before."""
    users = world.cache(shards=2, lookups=2_000)
    extra = Node(f"{users.name}-3:6379", started=world.now, keys={"0": 0.0})
    yield from world.calm()
    for step in range(10):
        for node in users.nodes[:2]:
            node.keys["0"] -= 3_300
        if step == 0:
            users.nodes.append(extra)
            extra.started = world.now
        extra.keys["0"] += 6_600
        yield 20
    yield 600
