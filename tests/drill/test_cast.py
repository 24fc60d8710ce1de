"""Who plays in a run: what the cache and the journal hold before anything happens."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from herdwatch import journals
from herdwatch.drill.replay import users
from herdwatch.drill.replay.cast import LOOKUPS, Cast
from herdwatch.drill.replay.levels import Level
from herdwatch.drill.replay.popularity import shares
from herdwatch.drill.replay.scale import GROUP, Scale
from herdwatch.drill.replay.users import Users
from herdwatch.operations import warm
from herdwatch.stack import Supervisor
from herdwatch.stack.postgres import PostgresServer

SCALE = Scale(keys=400)


@pytest.fixture(scope="module")
def cast(supervisor: Supervisor, postgres: PostgresServer) -> Iterator[Cast]:
    table = Users(postgres.dsn, rows=SCALE.keys)
    made = Cast.start(supervisor, "restart-warm", Level.WARM, SCALE, dsn=postgres.dsn, seed=1)
    yield made
    made.end()
    table.drop()


def test_every_user_is_in_the_cache_for_different_times(cast: Cast) -> None:
    with cast.redis.client() as client:
        lives = {client.pttl(users.name(number)) for number in range(1, SCALE.keys + 1)}
    assert min(lives) > 0
    assert len(lives) > SCALE.keys / 2


def test_the_journal_is_read_whole_and_says_how_popular_each_user_is(cast: Cast) -> None:
    found = journals.read(cast.journal, cache=cast.name)
    assert found.left_out == ()
    assert found.total == pytest.approx(LOOKUPS, rel=0.001)
    hottest = next(one for one in found.keys if one.group == GROUP)
    assert hottest.key == users.name(1)
    assert hottest.lookups / found.total == pytest.approx(shares(SCALE.keys, SCALE.exponent)[0], rel=0.01)


def test_a_warm_up_takes_as_many_of_them_as_bring_the_hit_ratio(cast: Cast) -> None:
    keys, _ = warm.from_journal(cast.journal, cache=cast.name, group=None)
    wanted, mass = keys.until(0.9), shares(SCALE.keys, SCALE.exponent)
    assert sum(mass[: len(wanted)]) == pytest.approx(0.9, abs=0.01)


def test_values_can_be_made_to_end_together(cast: Cast) -> None:
    ends = time.time() + 1000
    cast.fill(ends=ends)
    with cast.redis.client() as client, client.pipeline(transaction=False) as pipe:
        for number in range(1, SCALE.keys + 1):
            pipe.pttl(users.name(number))
        left = [milliseconds / 1000 for milliseconds in pipe.execute()]
    # Old values are kept beyond their end, to be given while they are renewed; apart is what took time to write.
    assert max(left) - min(left) < 60
    assert max(left) == pytest.approx(ends - time.time() + SCALE.stale, abs=5)
