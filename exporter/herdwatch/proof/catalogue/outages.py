"""Redis, its target or the exporter does not answer, or Redis answers that it is loading."""

from __future__ import annotations

from collections.abc import Iterator

from herdwatch.proof.catalogue.restarts import restart, share_of
from herdwatch.proof.incident import Chapter
from herdwatch.proof.model import Node
from herdwatch.proof.world import World

CHAPTER = Chapter("outages")
DOWN = ("CacheDown",)
UNWATCHED = ("CacheTargetDown",)


def hangs(node: Node, times: int, seconds: tuple[float, float]) -> Iterator[float]:
    """Again and again it does not answer for so long, and then does for so long."""
    for _ in range(times):
        node.state = "hung"
        yield seconds[0]
        node.state = "up"
        yield seconds[1]


@CHAPTER.page(*DOWN, scrapes=4)
def redis_down(world: World) -> Iterator[float]:
    """Nothing listens for ten minutes."""
    users = world.cache()
    yield from world.calm()
    users.nodes[0].crash()
    yield 600


@CHAPTER.page(*DOWN, scrapes=4)
def redis_hangs(world: World) -> Iterator[float]:
    """Redis is stopped for three minutes: connections are taken and nothing is answered; then it goes on."""
    users = world.cache()
    yield from world.calm()
    users.nodes[0].state = "hung"
    yield 180
    users.nodes[0].state = "up"
    yield 600


@CHAPTER.page(*DOWN, scrapes=18)
def redis_answers_every_second_scrape(world: World) -> Iterator[float]:
    """Redis hangs for one scrape, answers the next, and so on: no outage lasts for long enough to be one."""
    users = world.cache()
    yield from world.calm()
    yield from hangs(users.nodes[0], 30, (world.interval, world.interval))
    yield 600


@CHAPTER.page(*DOWN, scrapes=18)
def redis_hangs_again_and_again(world: World) -> Iterator[float]:
    """Two scrapes of three fail for a quarter of an hour, as where the host is starved."""
    users = world.cache()
    yield from world.calm()
    yield from hangs(users.nodes[0], 20, (2 * world.interval, world.interval))
    yield 600


@CHAPTER.page(*DOWN, scrapes=4)
def password_changed(world: World) -> Iterator[float]:
    """The exporter's password is wrong from now on, so nobody watches."""
    users = world.cache()
    yield from world.calm()
    users.nodes[0].state, users.nodes[0].reason = "down", "auth"
    yield 600


@CHAPTER.page(*DOWN, scrapes=4)
def clients_exhausted(world: World) -> Iterator[float]:
    """Redis has no connection left, for the exporter and for everybody else."""
    users = world.cache()
    yield from world.calm()
    users.nodes[0].state, users.nodes[0].reason = "down", "maxclients"
    yield 600


@CHAPTER.page(*DOWN, scrapes=4)
def one_shard_of_three_down(world: World) -> Iterator[float]:
    """Two shards answer, and a third of all lookups goes to the database."""
    users = world.cache(shards=3, lookups=3_000)
    yield from world.calm()
    users.nodes[2].crash()
    yield 600


@CHAPTER.calm()
def one_failed_scrape(world: World) -> Iterator[float]:
    """Redis was busy for a moment: one scrape has no answer."""
    users = world.cache()
    yield from world.calm()
    users.nodes[0].state = "hung"
    yield world.interval
    users.nodes[0].state = "up"
    yield 600


@CHAPTER.page("CacheLoading", scrapes=6, least=75)
def long_load(world: World) -> Iterator[float]:
    """A dataset of many gigabytes takes six minutes to load, and every command is refused meanwhile."""
    users = world.cache(keys=20_000_000, lookups=5_000)
    yield from world.calm()
    yield from restart(world, users.nodes[0], kept=share_of(users.nodes[0], 1.0), loading=360)
    yield 900


@CHAPTER.calm()
def long_load_of_a_replica(world: World) -> Iterator[float]:
    """A replica loads for six minutes; nobody reads from it."""
    users = world.cache(replicas=2)
    replica = Node("users-replica:6379", primary=False, keys=dict(users.nodes[0].keys))
    users.nodes.append(replica)
    yield from world.calm()
    yield from restart(world, replica, kept=share_of(replica, 1.0), loading=360)
    yield 600


@CHAPTER.calm()
def long_load_of_an_idle_cache(world: World) -> Iterator[float]:
    """Nobody asks while it loads, and nobody did before."""
    users = world.cache(lookups=0.1, guard=False)
    yield from world.calm()
    yield from restart(world, users.nodes[0], kept=share_of(users.nodes[0], 1.0), loading=360)
    yield 300


@CHAPTER.page(*UNWATCHED, scrapes=8)
def target_vanished(world: World) -> Iterator[float]:
    """A change in service discovery drops the cache: no series, no alert about it, unless its absence is one."""
    users = world.cache()
    yield from world.calm()
    users.nodes[0].watched = False
    yield 600


@CHAPTER.page(*UNWATCHED, scrapes=8)
def probe_fails(world: World) -> Iterator[float]:
    """The exporter lives and answers 404 for this cache: somebody renamed it."""
    users = world.cache()
    yield from world.calm()
    users.nodes[0].target_up = False
    yield 600


@CHAPTER.page(*UNWATCHED, scrapes=22)
def probe_fails_now_and_then(world: World) -> Iterator[float]:
    """Two probes of three fail, as through a proxy of which one host is right."""
    users = world.cache()
    yield from world.calm()
    for _ in range(20):
        users.nodes[0].target_up = False
        yield 2 * world.interval
        users.nodes[0].target_up = True
        yield world.interval
    yield 600


@CHAPTER.calm()
def three_failed_scrapes_in_four_minutes(world: World) -> Iterator[float]:
    """Redis is busy for a moment, three times: nobody need look."""
    users = world.cache()
    yield from world.calm()
    yield from hangs(users.nodes[0], 3, (world.interval, 5 * world.interval))
    yield 600


@CHAPTER.page(*UNWATCHED, scrapes=8, alone=True)
def target_without_a_cache_label(world: World) -> Iterator[float]:
    """A hand-written scrape job gives no `cache` label, so no alert could say which cache it is about."""
    users = world.cache(guard=False, configured=False)
    world.cache("carts")
    yield from world.calm()
    users.labelled = False
    yield 600


@CHAPTER.page("CacheExporterDown", scrapes=4, least=45, alone=True)
def exporter_down(world: World) -> Iterator[float]:
    """The only exporter is gone, and two caches with it: one page, not three."""
    world.cache()
    world.cache("carts")
    yield from world.calm()
    world.exporters["exporter-1:9878"] = False
    yield 600


@CHAPTER.ticket("CacheExporterDown", scrapes=8, alone=True)
def one_exporter_of_two_down(world: World) -> Iterator[float]:
    """The other one still watches everything: that can wait for the morning."""
    world.exporters["exporter-2:9878"] = True
    world.cache()
    yield from world.calm()
    world.exporters["exporter-1:9878"] = False
    yield 600


@CHAPTER.calm(alone=True)
def exporter_restarted(world: World) -> Iterator[float]:
    """An upgrade of the exporter: ten seconds away, and its accumulated counts begin anew."""
    world.cache()
    yield from world.calm()
    world.exporters["exporter-1:9878"] = False
    yield 10
    world.exporters["exporter-1:9878"] = True
    world.restart_exporters()
    yield 600


@CHAPTER.calm(alone=True)
def gap_in_prometheus(world: World) -> Iterator[float]:
    """Prometheus itself is away for six minutes and nothing else happens."""
    world.cache()
    yield from world.calm()
    world.scraping = False
    yield 360
    world.scraping = True
    yield 600


@CHAPTER.calm(alone=True)
def gap_in_prometheus_and_new_exporter(world: World) -> Iterator[float]:
    """Prometheus and the exporter are upgraded together."""
    world.cache()
    yield from world.calm()
    world.scraping = False
    world.restart_exporters()
    yield 240
    world.scraping = True
    yield 600
