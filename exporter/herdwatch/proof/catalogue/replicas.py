"""Replicas: the difference between a restart that is felt and one that is not."""

from __future__ import annotations

from collections.abc import Iterator

from herdwatch.proof.catalogue.restarts import restart
from herdwatch.proof.incident import Chapter
from herdwatch.proof.model import Node
from herdwatch.proof.world import World

CHAPTER = Chapter("replicas")
MISSING = ("CacheReplicaMissing",)


@CHAPTER.ticket(*MISSING, scrapes=32)
def replica_lost(world: World) -> Iterator[float]:
    """The only replica is gone: the next restart will be cold."""
    users = world.cache(replicas=1)
    yield from world.calm()
    users.nodes[0].replicas = 0
    yield 900


@CHAPTER.ticket(*MISSING, scrapes=32)
def replica_not_back_after_a_failover(world: World) -> Iterator[float]:
    """The replica took over with all keys, and the old primary never came back as its replica."""
    users = world.cache(replicas=1)
    standby = Node("users-standby:6379", primary=False, started=-86_400, keys=dict(users.nodes[0].keys))
    users.nodes.append(standby)
    yield from world.calm()
    users.nodes[0].watched = False
    users.nodes[0].primary = False
    users.nodes[0].crash()
    standby.primary = True
    yield 900


@CHAPTER.calm()
def one_replica_of_two_lost(world: World) -> Iterator[float]:
    """One is left, and one is enough for a warm failover."""
    users = world.cache(replicas=2)
    yield from world.calm()
    users.nodes[0].replicas = 1
    yield 900


@CHAPTER.calm()
def replica_restarted(world: World) -> Iterator[float]:
    """A replica restarts, empty, and has synchronised a minute and a half later."""
    users = world.cache(replicas=1)
    replica = Node("users-replica:6379", primary=False, started=-86_400, keys=dict(users.nodes[0].keys))
    users.nodes.append(replica)
    yield from world.calm()
    users.nodes[0].replicas = 0
    yield from restart(world, replica)
    replica.link_up = False
    yield 90
    replica.link_up, replica.keys = True, dict(users.nodes[0].keys)
    users.nodes[0].replicas = 1
    yield 900


@CHAPTER.page("CacheRestarted", scrapes=2)
def primary_wipes_its_replica(world: World) -> Iterator[float]:
    """A primary without persistence restarts by itself and its replica copies the emptiness."""
    users = world.cache(replicas=1)
    replica = Node("users-replica:6379", primary=False, started=-86_400, keys=dict(users.nodes[0].keys))
    users.nodes.append(replica)
    yield from world.calm()
    users.nodes[0].replicas = 0
    yield from restart(world, users.nodes[0])
    replica.keys = {"0": 0.0}
    yield 5
    users.nodes[0].replicas = 1
    yield 900


@CHAPTER.calm()
def cache_that_never_had_a_replica(world: World) -> Iterator[float]:
    """By choice: it is no news that there is none."""
    world.cache(replicas=0)
    yield from world.calm()
    yield 900
