"""What processes of a drill write down and say to each other comes out as it went in."""

from __future__ import annotations

from array import array
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from herdwatch.drill.replay import logs
from herdwatch.drill.replay.frames import REQUEST, Frames, Outcome
from herdwatch.drill.replay.generator import Order
from herdwatch.drill.replay.popularity import Popularity, shares

NUMBERS = st.integers(0, 2**32 - 1)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=20), st.lists(st.integers(1, 30), min_size=1))
def test_frames_come_out_whole_however_the_bytes_arrive(sent: list[tuple[int, int]], cuts: list[int]) -> None:
    data, frames, got = b"".join(REQUEST.pack(*one) for one in sent), Frames(REQUEST), list[tuple[int, int]]()
    place = turn = 0
    while place < len(data):
        size = cuts[turn % len(cuts)]
        got += frames.feed(data[place : place + size])
        place, turn = place + size, turn + 1
    assert got == sent


def test_a_log_is_read_as_it_was_written_but_for_half_a_line(tmp_path: Path) -> None:
    log = logs.Log(tmp_path / "log")
    log.query(1.5, None, 3.5)
    log.query(2.0, 2.25, 2.5)
    log.sample(4.0, 7, 9)
    log.close()
    with (tmp_path / "log").open("a") as file:
        file.write("q 5.0 5.")
    noted = logs.read(tmp_path / "log")
    assert noted.queries == (logs.Query(1.5, None, 3.5), logs.Query(2.0, 2.25, 2.5))
    assert noted.samples == (logs.Sample(4.0, 7, 9),)


def test_a_process_that_wrote_nothing_has_an_empty_log(tmp_path: Path) -> None:
    assert logs.read(tmp_path / "none") == logs.Noted((), ())


def test_what_came_of_a_load_is_read_as_it_was_written(tmp_path: Path) -> None:
    load = logs.Load(10.0, 4.0, 0.5, array("f", [0.25, 2.0]), bytes([Outcome.SERVED, Outcome.GAVE_UP]))
    load.write(tmp_path / "load")
    read = logs.Load.read(tmp_path / "load")
    assert read == load
    assert (read.due(2), read.outcome(1)) == (10.5, Outcome.GAVE_UP)
    assert [path.name for path in tmp_path.iterdir()] == ["load"]


def test_an_order_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    Order(1.0, 2.0, 3.0).write(tmp_path / "order.json")
    assert [path.name for path in tmp_path.iterdir()] == ["order.json"]


def test_the_same_seed_asks_for_the_same_users_and_another_for_others() -> None:
    first, again, other = (Popularity(1000, 1.1, seed).users(500) for seed in (1, 1, 2))
    assert first == again != other
    assert set(first) <= set(range(1, 1001))


def test_popularity_follows_zipfs_law() -> None:
    made = shares(1000, 1.2)
    assert abs(sum(made) - 1) < 1e-9
    assert abs(made[0] / made[9] - 10**1.2) < 1e-9
    users = Popularity(1000, 1.2, 3).users(20_000)
    assert abs(users.count(1) / 20_000 - made[0]) < 0.02
