"""The parts of a guard one by one: values, refresh policies, settings, limiter, counts, addresses, health, metrics."""

from __future__ import annotations

import asyncio
import inspect
import math
import random
import threading
import time
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdwatch import metrics
from herdwatch.guard import Shed, refresh, values
from herdwatch.guard.counts import MAX_GROUPS, OVERFLOW, Counts
from herdwatch.guard.limiter import Limiter, SyncLimiter
from herdwatch.guard.refresh import Coin, XFetch
from herdwatch.guard.settings import Options, Settings
from herdwatch.guard.values import Json, Raw

SECONDS = 20.0
"""Deadline of everything that is waited for."""


def run(work: Coroutine[Any, Any, Any]) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(SECONDS):
            return await work

    return asyncio.run(bounded())


TIMES = st.floats(allow_nan=False)


@given(st.none() | st.binary(max_size=20), TIMES, st.floats(0, 1e6, width=32), TIMES)
def test_what_is_packed_is_unpacked(payload: bytes | None, loaded: float, seconds: float, expires: float) -> None:
    raw = values.pack(payload, loaded_at=loaded, load_seconds=seconds, expires_at=expires)
    assert values.unpack(raw) == (payload is None, loaded, seconds, expires)
    assert raw[values.HEADER_BYTES :] == (payload or b"")
    for short in range(values.HEADER_BYTES):
        assert values.unpack(raw[:short]) is None


@given(st.binary(max_size=60).filter(lambda raw: not raw.startswith((b"hw\x01\x00", b"hw\x01\x01"))))
def test_bytes_that_begin_otherwise_are_foreign(raw: bytes) -> None:
    assert values.unpack(raw) is None
    assert values.unpack(b"hw\x02\x00" + raw.ljust(40)) is None, "of a later version"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_json_gives_back_what_json_can_say(value: Any) -> None:
    assert Json().loads(Json().dumps(value)) == value


def test_json_is_compact_utf8_and_refuses_what_it_cannot_say() -> None:
    assert Json().dumps({"ä": [1, 2]}) == '{"ä":[1,2]}'.encode()
    with pytest.raises(TypeError):
        Json().dumps({1, 2})


def test_raw_passes_bytes_and_names_what_is_none() -> None:
    assert Raw().loads(Raw().dumps(b"\x00\xff")) == b"\x00\xff"
    with pytest.raises(TypeError, match=r"Raw\(\) stores bytes, and the loader returned str"):
        Raw().dumps("text")


@pytest.mark.parametrize("luck", [0.0, 5e-324, 0.5, 1 - 2**-53])
@pytest.mark.parametrize("load_seconds", [0.0, -1.0, 1e300, math.inf, math.nan])
def test_xfetch_never_raises_whatever_the_dice_and_the_header_say(
    monkeypatch: pytest.MonkeyPatch, luck: float, load_seconds: float
) -> None:
    monkeypatch.setattr(refresh, "random", SimpleNamespace(random=lambda: luck))
    assert XFetch().due(0.0, 10.0, load_seconds) in (True, False)
    assert XFetch().due(10.0, 10.0, 0.0), "at its end a value is due whatever the dice say"
    assert not XFetch().due(0.0, 10.0, 0.0), "one that costs nothing to load is not due before"


def shares(policy: refresh.Refresh, nows: list[float], *, load: float = 1.0) -> list[float]:
    return [sum(policy.due(now, 10.0, load) for _ in range(4000)) / 4000 for now in nows]


def test_xfetch_is_due_the_more_the_nearer_the_end_the_longer_the_load_the_larger_beta(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The probability is exp(-left / (load * beta)), Vattani et al."""
    monkeypatch.setattr(refresh, "random", random.Random(7))  # noqa: S311  no secret
    found = shares(XFetch(), [0.0, 7.0, 9.0, 9.9, 10.0])
    assert found == sorted(found)
    assert found == pytest.approx([math.exp(-left) for left in (10.0, 3.0, 1.0, 0.1, 0.0)], abs=0.03)
    assert shares(XFetch(), [7.0], load=3.0) == pytest.approx([math.exp(-1)], abs=0.03)
    assert shares(XFetch(beta=3.0), [7.0]) == pytest.approx([math.exp(-1)], abs=0.03)


def test_the_coin_is_due_for_the_same_share_of_all_hits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refresh, "random", random.Random(7))  # noqa: S311  no secret
    assert shares(Coin(), [0.0, 9.9]) == pytest.approx([0.05, 0.05], abs=0.012)
    assert shares(Coin(0.5), [0.0, 9.9]) == pytest.approx([0.5, 0.5], abs=0.03)
    assert shares(Coin(0.0), [0.0]) == [0.0]
    assert shares(Coin(1.0), [0.0]) == [1.0]


NUMBERS = [name for name in Options.__annotations__ if name not in ("serializer", "refresh", "clock")]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [-1, math.nan, math.inf, "1", None, True])
def test_an_option_that_cannot_be_is_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name} is {value!r}; it must be "):
        Settings(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("load_timeout", 0), ("timeout", 0), ("connections", 0), ("max_loads", 0), ("ttl_jitter", 1), ("lease", 0.01)],
)
def test_limits_are_limits(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{name} is {value!r}; it must be "):
        Settings(**{name: value})  # type: ignore[arg-type]


def test_what_may_be_0_may_and_every_option_is_a_setting_with_a_default() -> None:
    Settings(stale=0, negative_ttl=0, lease=0, max_wait=0, max_waiting=0, ttl_jitter=0)
    assert set(Options.__annotations__) == set(inspect.signature(Settings).parameters)


def test_the_limiter_gives_slots_in_turn_and_sheds_what_waits_too_long() -> None:
    async def body() -> None:
        limiter = Limiter(Settings(max_loads=2, max_wait=0.05, max_waiting=2))
        await limiter.enter()
        assert limiter.free()
        await limiter.enter()
        assert not limiter.free()
        waiting = [asyncio.create_task(limiter.enter()) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Shed, match=r"2 loads are running and none ended within 0\.05 s"):
            await limiter.enter()  # a third in line: at once
        limiter.leave()
        await waiting[0]
        with pytest.raises(Shed):
            await waiting[1]
        limiter.leave()
        assert limiter.free()
        await limiter.enter()

    run(body())


def test_who_is_cancelled_in_the_line_leaves_it_and_no_slot_is_lost() -> None:
    async def body() -> None:
        limiter = Limiter(Settings(max_loads=1, max_wait=5.0, max_waiting=1))
        for ticks in range(4):
            await limiter.enter()
            waiting = asyncio.create_task(limiter.enter())
            await asyncio.sleep(0)
            limiter.leave()
            for _ in range(ticks):
                await asyncio.sleep(0)
            if not waiting.cancel() or not (await asyncio.gather(waiting, return_exceptions=True))[0]:
                limiter.leave()
            assert limiter.free(), ticks
            await asyncio.wait_for(limiter.enter(), 1)
            limiter.leave()

    run(body())


def test_the_limiter_of_threads_gives_slots_and_sheds() -> None:
    limiter = SyncLimiter(Settings(max_loads=1, max_wait=0.05, max_waiting=1))
    assert limiter.enter_if_free()
    assert not limiter.enter_if_free()
    with pytest.raises(Shed, match=r"none ended within 0\.05 s"):
        limiter.enter()
    patient = SyncLimiter(Settings(max_loads=1, max_wait=SECONDS, max_waiting=1))
    patient.enter()
    waiting = threading.Thread(target=patient.enter, daemon=True)
    waiting.start()
    until = time.monotonic() + SECONDS
    while not patient._waiting:
        assert time.monotonic() < until
        time.sleep(0.001)
    with pytest.raises(Shed):
        patient.enter()  # a second in line: at once, not after max_wait
    patient.leave()
    waiting.join(SECONDS)
    assert not waiting.is_alive()
    patient.leave()
    assert patient.enter_if_free()


def test_totals_are_every_declared_counter_and_add_up() -> None:
    counts = Counts("users", "profiles")
    names = ("hit", "negative", "led", "shared", "fetched", "stale", "shed", "refreshed", "warmed", "errors")
    for number, name in enumerate((*names, "refresh_ok", "refresh_error", "refresh_skipped")):
        setattr(counts["g"], name, 1 << number)
    totals = {(family, label): value for (family, _, label), value in counts.totals().items()}
    assert totals == {
        ("cache_lookups_total", "hit"): 1,
        ("cache_lookups_total", "negative"): 2,
        ("cache_lookups_total", "miss"): 4 + 8 + 16 + 64,
        ("cache_lookups_total", "stale"): 32,
        ("singleflight_requests_total", ""): 4 + 8 + 16 + 32 + 64,
        ("singleflight_executions_total", "miss"): 4,
        ("singleflight_executions_total", "refresh"): 128,
        ("singleflight_executions_total", "warm"): 256,
        ("singleflight_coalesced_total", "process"): 8,
        ("singleflight_coalesced_total", "fleet"): 16,
        ("singleflight_stale_total", ""): 32,
        ("singleflight_shed_total", ""): 64,
        ("singleflight_errors_total", ""): 512,
        ("cache_refreshes_total", "ok"): 1024,
        ("cache_refreshes_total", "error"): 2048,
        ("cache_refreshes_total", "skipped"): 4096,
    }
    assert {family for family, _ in totals} == {family.name for family in metrics.GUARD_COUNTERS}


def test_loads_fall_into_the_bucket_whose_bound_they_do_not_exceed() -> None:
    counts = Counts("users", "profiles")["g"]
    for seconds in (0.0, *metrics.LOAD_BUCKETS, 31.0, 1000.0):
        counts.observe(seconds)
    assert counts.buckets == [2, *[1] * (len(metrics.LOAD_BUCKETS) - 1), 2]
    assert counts.mean_load_seconds == pytest.approx((sum(metrics.LOAD_BUCKETS) + 1031) / sum(counts.buckets))
    assert Counts("users", "profiles")["g"].mean_load_seconds == 0.0


def test_one_group_too_many_is_counted_under_other() -> None:
    counts = Counts("users", "profiles")
    for number in range(MAX_GROUPS):
        counts[f"g{number}"].hit += 1
    counts["one too many"].hit += 1
    counts["and another"].hit += 1
    counts["g0"].hit += 1
    assert len(counts) == MAX_GROUPS + 1
    assert (counts[OVERFLOW].hit, counts["g0"].hit) == (2, 2)
    counts.reset()
    assert counts.totals() == {}


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 101, "\x00", "\u202e"])
def test_what_is_no_name_is_refused_before_it_becomes_a_label(name: str) -> None:
    for make in (lambda: Counts(name, "s"), lambda: Counts("c", name), lambda: Counts("c", "s")[name]):
        with pytest.raises(ValueError, match="is no name"):
            make()
    with pytest.raises(ValueError, match="has no slash"):
        Counts("users", "a/b")
