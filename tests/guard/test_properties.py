"""Any interleaving of calls, failures, cancellations, writes and faults keeps the counting rule and the promises.

The machine plays Redis and the database: every command waits until it is answered, every loader until it is released,
and time stands still until it is moved. What the guards counted is compared with what callers and loaders saw.
"""

from __future__ import annotations

from contextlib import ExitStack
from types import SimpleNamespace
from unittest import mock

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.guard.world import KEYS, LEASE, PLACES, POLL, TTL, Due, World

GUARDS = st.integers(0, 1)
ANY = st.integers(0, 30)
PACE = st.sampled_from(("settle", "tick", "at once"))


class Machine(RuleBasedStateMachine):
    """What may happen, one thing at a time."""

    world: World

    @initialize(
        lease=st.sampled_from((LEASE, LEASE, LEASE, 0.0)),
        stale=st.sampled_from((0.0, 15.0)),
        negative_ttl=st.sampled_from((0.0, 5.0)),
        max_loads=st.sampled_from((1, 2, 64)),
        max_wait=st.sampled_from((5.0, 50.0)),
        max_waiting=st.sampled_from((0, 1, 1000)),
        refresh=st.booleans(),
    )
    def begin(self, refresh: bool, **options: float) -> None:
        due = Due() if refresh else None
        self.world = World({"timeout": 4.0, "refresh": due, **options})
        self.stack = ExitStack()
        time = SimpleNamespace(monotonic=self.world.loop.time)
        for place in PLACES:
            self.stack.enter_context(mock.patch.object(place, "time", time))

    def go(self, pace: str) -> None:
        if pace == "settle":
            self.world.loop.settle()
        elif pace == "tick":
            self.world.loop.tick()

    @rule(guard=GUARDS, key=st.sampled_from(KEYS), stubborn=st.booleans(), pace=PACE)
    def get(self, guard: int, key: str, stubborn: bool, pace: str) -> None:
        self.world.get(guard, (key,), False, stubborn)
        self.go(pace)

    @rule(guard=GUARDS, keys=st.permutations(KEYS), stubborn=st.booleans(), pace=PACE)
    def get_many(self, guard: int, keys: list[str], stubborn: bool, pace: str) -> None:
        self.world.get(guard, tuple(keys), True, stubborn)
        self.go(pace)

    @rule(guard=GUARDS, key=st.sampled_from(KEYS), delete=st.booleans(), at_once=st.booleans(), pace=PACE)
    def write(self, guard: int, key: str, delete: bool, at_once: bool, pace: str) -> None:
        self.world.write(guard, key, None if delete else f"{key}={len(self.world.writes)}")
        if at_once:
            self.world.loop.tick()
            self.world.waiting[-1].answer()
        self.go(pace)

    @rule(key=st.sampled_from(KEYS), age=st.sampled_from((1.0, TTL + 1)))
    def another_process_stores(self, key: str, age: float) -> None:
        self.world.plant(key, age)

    @precondition(lambda self: self.world.waiting)
    @rule(which=ANY, how=st.sampled_from(("answer", "answer", "answer", "execute", "fail", "lose")), pace=PACE)
    def redis(self, which: int, how: str, pace: str) -> None:
        op = self.world.waiting[which % len(self.world.waiting)]
        if how in ("execute", "lose"):
            op.execute()
        if how in ("fail", "lose"):
            self.world.fleet_excused = True
            op.fail()
        if how == "answer":
            op.answer()
        self.go(pace)

    @precondition(lambda self: self.world.waiting)
    @rule(pace=PACE)
    def redis_answers_all(self, pace: str) -> None:
        for op in self.world.waiting:
            op.answer()
        self.go(pace)

    @precondition(lambda self: self.world.held)
    @rule(
        which=ANY,
        outcome=st.sampled_from(("value", "value", "value", "error", "none", "cancel", "unserialisable")),
        pace=PACE,
    )
    def database(self, which: int, outcome: str, pace: str) -> None:
        self.world.release(self.world.held[which % len(self.world.held)], outcome)
        self.go(pace)

    @precondition(lambda self: any(not caller.task.done() for caller in self.world.callers))
    @rule(which=ANY, pace=PACE)
    def cancel(self, which: int, pace: str) -> None:
        pending = [caller for caller in self.world.callers if not caller.task.done()]
        caller = pending[which % len(pending)]
        caller.cancelled = True
        caller.task.cancel()
        self.go(pace)

    @precondition(lambda self: any(write.task and not write.task.done() for write in self.world.writes))
    @rule(pace=PACE)
    def cancel_write(self, pace: str) -> None:
        next(write.task for write in self.world.writes if write.task and not write.task.done()).cancel()
        self.go(pace)

    @rule(seconds=st.sampled_from((POLL, POLL, 0.7, 2.1, 4.1, 11.0, 31.0)), pace=PACE)
    def time_passes(self, seconds: float, pace: str) -> None:
        self.world.advance(seconds)
        self.go(pace)

    @precondition(lambda self: self.world.options["refresh"])
    @rule(now=st.booleans())
    def refresh_due(self, now: bool) -> None:
        self.world.options["refresh"].now = now

    @rule(guard=GUARDS, name=st.sampled_from(("singleflight", "refresh", "limiter")), on=st.booleans())
    def switch(self, guard: int, name: str, on: bool) -> None:
        setattr(self.world.guards[guard].core.switches, name, on)
        if name == "singleflight":
            self.world.switched.add(guard)
            self.world.fleet_excused = True

    @rule(key=st.sampled_from(KEYS))
    def foreign_bytes(self, key: str) -> None:
        self.world.store_now(key, b"not ours")

    @invariant()
    def nothing_is_wrong(self) -> None:
        assert not self.world.wrong, self.world.wrong
        assert not self.world.loop.complaints, self.world.loop.complaints

    @invariant()
    def every_caller_is_counted_once(self) -> None:
        for caller in self.world.callers:
            counts = [
                self.world.family(caller.guard, "cache_lookups_total", "hit", caller.group),
                self.world.family(caller.guard, "cache_lookups_total", "negative", caller.group),
                self.world.family(caller.guard, "singleflight_requests_total", None, caller.group),
            ]
            assert sum(counts) <= len(caller.keys), (caller, counts)
            if caller.counted_on:
                assert sum(counts) == len(caller.keys), (caller, counts)

    @invariant()
    def the_sums_hold_and_executions_are_what_the_loaders_saw(self) -> None:
        for guard in range(2):
            family = self.world.family
            own = [call for call in self.world.calls if call.guard == guard]
            miss = family(guard, "singleflight_executions_total", "miss")
            assert family(guard, "singleflight_requests_total") == miss + sum(
                family(guard, f"singleflight_{name}_total") for name in ("coalesced", "stale", "shed")
            )
            assert miss + family(guard, "singleflight_executions_total", "refresh") == len(own)
            assert family(guard, "singleflight_errors_total") == sum(call.ended and call.failed for call in own)
            counts = self.world.guards[guard].core.counts
            assert counts.inflight == sum(not call.ended for call in own)
            assert sum(sum(group.buckets) for group in counts.values()) == sum(call.ended for call in own)
            assert (
                0
                <= self.world.guards[guard].core.waiting()
                <= sum(
                    len(caller.keys)
                    for caller in self.world.callers
                    if caller.guard == guard and not caller.task.done()
                )
            )

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        with self.stack:
            try:
                self.quiet()
            finally:
                self.world.close()

    def quiet(self) -> None:
        """In the end everyone is served, nothing is left behind, and every key still works."""
        self.check()
        self.world.drain()
        self.check()
        for guard in self.world.guards:
            assert guard.core.counts.inflight == guard.core.waiting() == 0
        for number in range(2):
            self.world.get(number, KEYS, True, False)
        self.world.drain()
        self.check()

    def check(self) -> None:
        self.nothing_is_wrong()
        self.every_caller_is_counted_once()
        self.the_sums_hold_and_executions_are_what_the_loaders_saw()


Machine.TestCase.settings = settings(
    max_examples=int(__import__("os").environ.get("EX", "150")),
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestAnyInterleaving = Machine.TestCase
