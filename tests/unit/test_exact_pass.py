"""The exact pass against a scripted Redis: its pace, its memory, and what it does when things break."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from herdwatch.collector import exact_pass
from herdwatch.collector.exact_pass import REST_SECONDS, Ask, Counted, ExactPass
from herdwatch.collector.key_groups import KeyGroups
from herdwatch.collector.resp import Command, ProtocolError, ReplyError

BUDGET = 0.01
STEP = 0.0004
PAGES = [[b"user:1", b"other"], [b"user:2", b"user:3"], [b"user:3", b"user:4"], []]
"""The keys of each step; user:3 comes twice, as after Redis has shrunk its table."""


class World:
    """A Redis with these pages, a clock that only sleeping and asking move, and troubles in the order they are given.

    A trouble is (number of the question, what happens): an exception is raised, another value is the reply.
    """

    def __init__(self, pages: Sequence[Any] = PAGES, **troubles: Any) -> None:
        self.pages, self.troubles = pages, troubles
        self.now, self.asking, self.questions, self.connections = 1000.0, 0.0, 0, 0
        self.run_id = "one"
        self.slept: list[float] = []
        self.cursors: list[int] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)
        await asyncio.sleep(0)

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Ask]:
        self.connections += 1
        yield self.ask

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        [command] = commands
        self.now += STEP
        self.asking += STEP
        if command[0] == "INFO":
            return [f"# Server\r\nrun_id:{self.run_id}\r\n".encode()]
        name, cursor, *count = command
        assert (name, count) == ("SCAN", ["COUNT", 100])
        assert isinstance(cursor, int)
        self.questions += 1
        trouble = self.troubles.pop(f"at_{self.questions}", None)
        if isinstance(trouble, list | Exception | int):
            return [trouble]
        if trouble is not None:
            await trouble(self)
        self.cursors.append(cursor)
        return [[str((cursor + 1) % len(self.pages)).encode(), self.pages[cursor]]]


def counting(world: World, **options: Any) -> ExactPass:
    return ExactPass({"users": "user:*"}, **{"budget": BUDGET, "clock": world.clock, "sleep": world.sleep, **options})


def after(world: World, ready: Callable[[], bool], exact: ExactPass) -> Counted | None:
    """Let it run until it is `ready`, and end it."""

    async def run() -> None:
        task = asyncio.create_task(exact.run(world.connect))
        async with asyncio.timeout(20):
            while not ready():
                assert not task.done()
                await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()

    asyncio.run(run())
    return exact.counted


def one_pass(world: World, **options: Any) -> tuple[ExactPass, Counted]:
    exact = counting(world, **options)
    found = after(world, lambda: exact.counted is not None, exact)
    assert found is not None
    return exact, found


def raises(error: BaseException) -> Callable[[World], Awaitable[None]]:
    async def trouble(_: World) -> None:
        raise error

    return trouble


def test_every_key_is_counted_once_and_by_its_pattern() -> None:
    world = World()
    exact, found = one_pass(world)
    assert (dict(found.keys), found.run_id, exact.failure) == ({"users": 4}, "one", None)
    assert world.cursors == [0, 1, 2, 3]


def test_beyond_what_is_remembered_keys_are_counted_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact_pass, "MAX_REMEMBERED", 2)
    assert one_pass(World())[1].keys == {"users": 5}


@pytest.mark.parametrize("budget", [0.001, 0.01, 0.5])
def test_no_more_time_of_redis_is_used_than_the_budget_allows(budget: float) -> None:
    world = World(pages=[[b"user:1"]] * 500)
    began = world.now
    one_pass(world, budget=budget)
    assert world.asking / (world.now - began) <= budget * 1.02  # the two questions who answers are not paid for


def test_a_step_that_waited_for_long_does_not_stop_the_pass_for_an_hour() -> None:
    async def slow(world: World) -> None:
        world.now += 4

    world = World(at_2=slow)
    one_pass(world)
    assert max(world.slept) <= 60


def test_the_next_pass_begins_a_minute_after_the_last_one_has_ended() -> None:
    world = World()
    exact = counting(world)
    found = after(world, lambda: len(world.cursors) > len(PAGES), exact)
    assert found is not None
    assert REST_SECONDS in world.slept
    assert world.now - found.ended >= REST_SECONDS


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        (raises(ConnectionResetError()), ConnectionResetError),
        (raises(TimeoutError()), TimeoutError),
        (raises(RuntimeError("a mistake of ours")), RuntimeError),
        (ReplyError("NOPERM"), ReplyError),
        (ReplyError("LOADING"), ReplyError),
        (7, ProtocolError),
        ([b"x", []], ProtocolError),
        ([b"0"], ProtocolError),
        ([b"0", None], ProtocolError),
        ([b"0", [b"user:1", 7]], ProtocolError),
    ],
    ids=lambda value: "raises" if callable(value) and not isinstance(value, type) else str(value),
)
def test_what_goes_wrong_is_kept_and_the_pass_goes_on_where_it_was(trouble: Any, kind: type[Exception]) -> None:
    world = World(at_3=trouble)
    exact = counting(world)
    after(world, lambda: exact.failure is not None, exact)
    assert isinstance(exact.failure, kind)
    found = after(world, lambda: exact.counted is not None, exact)
    assert found is not None
    assert (found.keys, exact.failure) == ({"users": 4}, None)
    assert world.cursors == [0, 1, 2, 3]


def test_a_redis_that_does_not_answer_is_given_up_after_some_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact_pass, "STEP_SECONDS", 0.05)

    async def for_ever(_: World) -> None:
        await asyncio.Event().wait()

    world = World(at_2=for_ever)
    exact = counting(world)
    after(world, lambda: exact.failure is not None, exact)
    assert isinstance(exact.failure, TimeoutError)
    assert world.cursors == [0]


def test_a_connection_that_cannot_be_made_is_a_failure_too() -> None:
    world = World()
    exact = counting(world)

    @asynccontextmanager
    async def refused() -> AsyncIterator[Ask]:
        raise ConnectionRefusedError
        yield world.ask

    world.connect = refused  # type: ignore[method-assign]
    after(world, lambda: len(world.slept) == 10, exact)
    assert isinstance(exact.failure, ConnectionRefusedError)
    assert world.slept == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]


def test_the_wait_after_a_failure_is_short_again_once_a_step_has_worked() -> None:
    world = World(at_1=raises(OSError()), at_2=raises(OSError()), at_4=raises(OSError()))
    one_pass(world)
    assert [seconds for seconds in world.slept if seconds >= 1] == [1, 2, 1, REST_SECONDS]


def test_another_process_is_counted_from_its_beginning() -> None:
    async def restart(world: World) -> None:
        world.run_id, world.pages = "two", [[b"user:9"], []]
        raise ConnectionResetError

    world = World(at_3=restart)
    _, found = one_pass(world)
    assert (found.keys, found.run_id, world.cursors) == ({"users": 1}, "two", [0, 1, 0, 1])


def test_a_process_that_was_replaced_behind_the_connection_s_back_is_counted_from_its_beginning() -> None:
    async def replaced(world: World) -> None:
        world.run_id = "two"

    world = World(at_3=replaced)
    _, found = one_pass(world)
    assert (found.keys, found.run_id) == ({"users": 4}, "two")
    assert world.cursors == [0, 1, 2, 3, 0, 1, 2, 3]


def test_what_was_counted_in_another_process_than_the_scrape_sees_is_not_shown() -> None:
    exact, found = one_pass(World())
    exact.observe("two")
    assert exact.counted is None
    exact.observe("one")
    assert exact.counted == found


def test_a_pass_in_another_process_than_the_scrape_sees_ends_at_once_and_looks_for_the_right_one() -> None:
    world = World()
    exact = counting(world)
    exact.observe("two")
    after(world, lambda: world.connections == 3, exact)
    assert world.questions == 0
    world.run_id = "two"
    found = after(world, lambda: exact.counted is not None, exact)
    assert found is not None
    assert (found.run_id, found.keys) == ("two", {"users": 4})


def test_a_group_shows_its_exact_count_and_its_age_instead_of_an_estimate() -> None:
    world = World()
    groups = KeyGroups(
        {"users": "user:*", "all": "*"}, exact=["users"], samples=100, clock=world.clock, sleep=world.sleep
    )
    exact = groups.exact_pass
    assert exact is not None

    async def keys(commands: Sequence[Command]) -> list[Any]:
        return [b"other"] * len(commands)

    async def shown() -> dict[tuple[str, ...], float]:
        return {(name, *labels): value for name, labels, value in await groups.samples(keys, 10, spread=0)}

    before = asyncio.run(shown())
    assert before["cache_key_group_keys", "users"] == 0
    assert before["cache_key_group_error_keys", "users"] > 0
    found = after(world, lambda: exact.counted is not None, exact)
    assert found is not None
    world.now = found.ended + 30
    assert asyncio.run(shown()) == {
        ("cache_key_group_keys", "users"): 4,
        ("cache_key_group_error_keys", "users"): 0,
        ("cache_key_group_age_seconds", "users"): 30,
        ("cache_key_group_keys", "all"): 10,
        ("cache_key_group_error_keys", "all"): pytest.approx(0.37, abs=0.01),
    }
    exact.observe("another process")
    assert asyncio.run(shown()) == before


def test_a_cache_whose_groups_are_all_counted_is_not_asked_for_random_keys() -> None:
    world = World()
    groups = KeyGroups({"users": "user:*"}, exact=["users"], clock=world.clock, sleep=world.sleep)
    exact = groups.exact_pass
    assert exact is not None
    after(world, lambda: exact.counted is not None, exact)

    async def nobody(_: Sequence[Command]) -> list[Any]:
        raise AssertionError("nothing is to be asked")

    assert ("cache_key_group_keys", ("users",), 4) in asyncio.run(groups.samples(nobody, 1000))
