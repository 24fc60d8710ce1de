"""The application's side: singleflight, refreshes, warm-ups, and what the database gets."""

from __future__ import annotations

from collections.abc import Iterator

from herdwatch.proof.incident import Chapter
from herdwatch.proof.model import Service
from herdwatch.proof.world import World

CHAPTER = Chapter("guards")
OFF = ("SingleflightDisabled",)
HERD = ("CacheStampede",)


@CHAPTER.ticket(*OFF, scrapes=8)
def singleflight_switched_off(world: World) -> Iterator[float]:
    """The switch is thrown for a test and forgotten; the database still copes."""
    users = world.cache()
    yield from world.calm()
    users.services[0].enabled = False
    yield 900


@CHAPTER.ticket(*OFF, scrapes=8)
def singleflight_switched_off_in_a_scraped_service(world: World) -> Iterator[float]:
    """The same with an application that Prometheus scrapes itself."""
    users = world.cache(guard="scraped")
    yield from world.calm()
    users.services[0].enabled = False
    yield 900


@CHAPTER.ticket(*OFF, scrapes=28)
def guard_lost_in_a_deploy(world: World) -> Iterator[float]:
    """A new version goes to Redis past the guard: its series end, and the traffic goes on."""
    users = world.cache()
    yield from world.calm()
    users.services[0].present = False
    yield 900


@CHAPTER.page(*HERD, scrapes=8)
def key_format_changed(world: World) -> Iterator[float]:
    """A deploy asks for keys of a new form, which nobody has stored yet: the keys are all there, and all useless."""
    users = world.cache(lookups=5_000, capacity=600, peak=5_000)
    yield from world.calm()
    users.wanted = 0.2
    yield 300
    users.wanted = 0.95
    yield 600


@CHAPTER.page(*HERD, scrapes=8)
def stampede_without_a_guard(world: World) -> Iterator[float]:
    """The misses of an application without guard exceed what the database can take."""
    users = world.cache(lookups=5_000, capacity=1_000, peak=5_000, guard=False)
    yield from world.calm()
    users.wanted = 0.5
    yield 900


@CHAPTER.page(*HERD, scrapes=8)
def stampede_of_twenty_seconds(world: World) -> Iterator[float]:
    """A group of popular keys expires together: the database is over its capacity for a moment."""
    users = world.cache(lookups=5_000, capacity=1_000, peak=5_000, guard=False)
    yield from world.calm()
    users.wanted = 0.6
    yield 20
    users.wanted = 0.95
    yield 600


@CHAPTER.page(*HERD, scrapes=8)
def singleflight_off_and_stampede(world: World) -> Iterator[float]:
    """Popular keys expire every minute, for a thousand callers each; what held the database is switched off."""
    users = world.cache(lookups=5_000, capacity=600, peak=5_000)
    yield from world.calm()
    users.services[0].enabled = False
    users.wanted = 0.82
    yield 900


@CHAPTER.calm()
def herd_that_the_guard_holds(world: World) -> Iterator[float]:
    """Three thousand callers a second ask for one expired key, and the database sees one load."""
    users = world.cache(capacity=600, peak=5_000)
    yield from world.calm()
    users.services[0].hot_callers = 3_000
    yield 120
    users.services[0].hot_callers = 0
    yield 600


@CHAPTER.note("HighCoalescingRate", scrapes=20)
def hot_key(world: World) -> Iterator[float]:
    """One key is asked for by thousands and expires all the time: it works, and somebody may want to know."""
    users = world.cache()
    yield from world.calm()
    users.services[0].hot_callers = 3_000
    yield 900


@CHAPTER.ticket("CacheRefreshFailing", scrapes=16)
def refreshes_fail(world: World) -> Iterator[float]:
    """The loader of the background refresh raises: keys will expire, and nobody notices until they do."""
    users = world.cache()
    yield from world.calm()
    users.services[0].refresh_failing = 0.9
    yield 900


@CHAPTER.calm()
def a_few_refreshes_fail(world: World) -> Iterator[float]:
    """One in fifty: deadlocks and timeouts are a database's daily bread."""
    users = world.cache()
    yield from world.calm()
    users.services[0].refresh_failing = 0.02
    yield 900


@CHAPTER.ticket("CacheWarmupStalled", scrapes=20)
def warmup_stalls(world: World) -> Iterator[float]:
    """A warm-up waits for a database that does not answer, a third of the way."""
    users = world.cache()
    yield from world.calm()
    users.services[0].warmup, users.services[0].warming = (10_000, 0, True), 50
    yield 66
    users.services[0].warming = 0
    world.visible()
    yield 900


@CHAPTER.ticket("CacheWarmupStalled", scrapes=20)
def warmup_killed(world: World) -> Iterator[float]:
    """The warmer is killed: its last report says that it is at work, and then ages out."""
    users = world.cache()
    yield from world.calm()
    users.services.append(warmer := Service("warmer", share=0.0, enabled=None, warmup=(10_000, 0, True), warming=50))
    yield 66
    warmer.warming = 0
    yield 60
    warmer.present = False
    world.visible()
    yield 900


@CHAPTER.calm()
def warmup_completes(world: World) -> Iterator[float]:
    """Ten thousand keys in two hundred seconds, and the warmer says when it is done."""
    users = world.cache()
    yield from world.calm()
    users.services[0].warmup, users.services[0].warming = (10_000, 0, True), 50
    yield 200
    users.services[0].warmup = (10_000, 10_000, False)
    yield 60
    users.services[0].warmup = None
    yield 600


@CHAPTER.calm()
def rolling_deploy_of_a_scraped_service(world: World) -> Iterator[float]:
    """Every process is replaced by one with another address, whose counts begin at zero."""
    users = world.cache(guard="scraped")
    yield from world.calm()
    service = users.services[0]
    for number in range(2):
        names = list(service.instances)
        names[number] = f"{names[number]}-new"
        service.instances = tuple(names)
        service.forget()
        yield 45
    yield 600


@CHAPTER.calm()
def deploy_with_a_pause(world: World) -> Iterator[float]:
    """All reporters of a service are away for a minute; their counts go on where they were."""
    users = world.cache()
    yield from world.calm()
    users.services[0].silent_until = world.now + 60
    yield 900


@CHAPTER.calm()
def service_taken_out_of_use(world: World) -> Iterator[float]:
    """One of two services is switched off for good, and its traffic with it."""
    users = world.cache()
    users.services[0].share = 0.6
    users.services.append(old := Service("legacy", share=0.4))
    yield from world.calm()
    old.present = False
    users.services[0].share = 1.0
    users.lookups *= 0.6
    yield 900


@CHAPTER.calm()
def small_service_taken_out_of_use(world: World) -> Iterator[float]:
    """One of two services is switched off for good, and it had a tenth of the traffic."""
    users = world.cache()
    users.services[0].share = 0.9
    users.services.append(old := Service("legacy", share=0.1))
    yield from world.calm()
    old.present = False
    users.services[0].share = 1.0
    users.lookups *= 0.9
    yield 900


@CHAPTER.page(*HERD, scrapes=8)
def two_caches_share_a_database(world: World) -> Iterator[float]:
    """Neither cache alone asks for more than the database can take; both together do."""
    users = world.cache(lookups=4_000, capacity=1_000, peak=8_000, guard=False)
    carts = world.cache("carts", lookups=4_000, capacity=1_000, peak=8_000, guard=False)
    carts.database = users.database
    yield from world.calm()
    users.wanted, carts.wanted = 0.78, 0.93
    yield 900
