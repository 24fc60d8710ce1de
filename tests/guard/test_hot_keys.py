"""What the guard knows of its hottest keys, and the journal that it writes of them."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import os
import random
import signal
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from tests.waiting import until

from herdwatch import journals
from herdwatch.guard import Guard, Reporter, SyncGuard
from herdwatch.guard.core import Core
from herdwatch.guard.hot_keys import BATCH, MAX_KEY, HotKeys
from herdwatch.guard.journal import MAX_AGE_SECONDS, MAX_FILES, JournalFile
from herdwatch.guard.settings import Settings
from herdwatch.guard.testing import MemoryStore, SyncMemoryStore
from herdwatch.stack import RedisServer

HOUR = journals.HALF_LIFE_SECONDS
traffic = st.lists(st.lists(st.integers(0, 40).map(lambda n: f"k{n * n // 40}"), max_size=60), max_size=12)


@given(traffic, st.integers(1, 12))
def test_a_count_is_never_too_high_and_no_more_than_the_stated_error_too_low(
    batches: list[list[str]], keep: int
) -> None:
    hot, truth = HotKeys(keep, clock=lambda: 0.0), Counter[str]()
    for batch in batches:
        hot.look(batch)
        truth.update(batch)
        hot.merge()
        known = hot.group()
        for key, count in truth.items():
            assert count - known.error <= known.counts.get(key, 0) <= count
        assert known.total == truth.total()
        assert known.error <= known.total / (keep + 1)
        assert len(known.counts) <= 2 * keep


@given(traffic, st.lists(st.sampled_from([0.0, HOUR / 3, HOUR, 5 * HOUR]), min_size=12, max_size=12))
def test_what_is_an_hour_old_counts_half(batches: list[list[str]], waits: list[float]) -> None:
    now = 0.0
    hot, truth = HotKeys(4, clock=lambda: now), dict[str, float]()
    for batch, wait in zip(batches, waits, strict=False):
        hot.look(batch)
        hot.merge()
        for key in batch:
            truth[key] = truth.get(key, 0.0) + 1
        hours, now = int(now / HOUR), now + wait
        truth = {key: count / 2 ** (int(now / HOUR) - hours) for key, count in truth.items()}
        known = hot.group()
        for key, count in truth.items():
            assert count - known.error <= known.counts.get(key, 0) <= count
        assert sum(known.counts.values()) <= known.total


def test_a_key_that_nobody_asks_for_any_more_is_forgotten() -> None:
    now = 0.0
    hot = HotKeys(10, clock=lambda: now)
    hot.look(["old"] * 1000)
    assert hot.group().counts == {"old": 1000}
    now = 11 * HOUR
    hot.look(["new"])
    assert hot.group().counts == {"new": 1}


@pytest.fixture(scope="module")
def zipf() -> list[str]:
    """A million lookups of a million keys by Zipf's law with exponent 1."""
    weights = itertools.accumulate(1 / rank for rank in range(1, 1_000_001))
    drawn = random.Random(7).choices(range(1_000_000), cum_weights=list(weights), k=1_000_000)  # noqa: S311
    return [f"user:{rank}" for rank in drawn]


@pytest.mark.parametrize("processes", [1, 4])
def test_nine_in_ten_of_the_thousand_hottest_keys_are_in_the_journal(zipf: list[str], processes: int) -> None:
    known = []
    for number in range(processes):
        hot = HotKeys(Settings().hot_keys)
        mine = zipf[number::processes]
        for start in range(0, len(mine), BATCH):
            hot.look(mine[start : start + BATCH])
        journal = journals.Journal("users", "profiles", 0.0, {"default": hot.group()})
        known.append(journals.parse("".join(journals.lines(journal)).encode()))
    found, truth = journals.merged(known), Counter(zipf)
    hottest = set(heapq.nlargest(1000, truth, key=lambda key: truth[key]))
    assert len(hottest & {one.key for one in found.keys[:1000]}) >= 900
    carried = sum(truth[key] for key in hottest) / len(zipf)
    assert carried * 0.8 < found.share(1000) <= carried


def test_threads_that_look_up_while_another_reads_lose_nothing() -> None:
    hot, each = HotKeys(10_000), 30_000
    interval = sys.getswitchinterval()
    done = threading.Event()

    def look(name: int) -> None:
        for number in range(each):
            hot.recent.append(f"{name}:{number % 50}")
            if len(hot.recent) >= BATCH:
                hot.merge()

    def read() -> None:
        while not done.is_set():
            hot.group()

    reader, threads = threading.Thread(target=read), [threading.Thread(target=look, args=(n,)) for n in range(4)]
    sys.setswitchinterval(1e-5)
    try:
        for thread in [reader, *threads]:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        done.set()
        sys.setswitchinterval(interval)
    reader.join()
    known = hot.group()
    assert known.total == 4 * each
    assert known.counts == {f"{name}:{number}": each // 50 for name in range(4) for number in range(50)}


def test_what_is_looked_up_in_the_middle_of_a_merge_is_in_the_next_one() -> None:
    class Raced(list[str]):
        """Another thread appends as soon as the batch is taken."""

        def __getitem__(self, place: object) -> list[str]:  # type: ignore[override]
            found = super().__getitem__(place)  # type: ignore[index]
            self.append("late")
            return found  # type: ignore[return-value]

    hot = HotKeys(10)
    hot.recent = Raced(["a"])
    assert hot.group().counts == {"a": 1}
    assert hot.group().counts == {"a": 1, "late": 1}


def test_every_lookup_of_a_guard_is_counted_once_hit_or_miss_alone_or_with_others() -> None:
    async def load(key: str) -> str:
        return key

    async def work() -> Guard:
        async with Guard(MemoryStore(), cache="users", service="profiles", registry=None) as guard:
            for key in ("a", "a", "b"):
                await guard.get(key, load=load, ttl=60, group="g")
            await guard.get_many(["a", "b", "c", "c"], load=load, ttl=60, group="g")
            guard.core.switches.apply({b"singleflight": b"off"}, "profiles")
            assert not guard.core.switches.singleflight
            await guard.get("a", load=load, ttl=60, group="g")
            await guard.get_many(["b", "d"], load=load, ttl=60, group="g")
        return guard

    hot = asyncio.run(work()).core.counts["g"].hot
    assert hot is not None
    assert hot.group() == journals.Group(9, 0, {"a": 4, "b": 3, "c": 1, "d": 1})


def test_in_threads_it_is_the_same() -> None:
    with SyncGuard(SyncMemoryStore(), cache="users", service="profiles", registry=None) as guard:
        for key in ("a", "a", "b"):
            guard.get(key, load=str, ttl=60, group="g")
        guard.get_many(["a", "b", "c", "c"], load=str, ttl=60, group="g")
        hot = guard.core.counts["g"].hot
    assert hot is not None
    assert hot.group() == journals.Group(6, 0, {"a": 3, "b": 2, "c": 1})


def test_what_is_no_key_that_a_journal_takes_is_a_lookup_alone() -> None:
    hot = HotKeys(10)
    hot.look(["a", "x" * MAX_KEY, "y" * (MAX_KEY + 1), b"bytes", 5])  # type: ignore[list-item]
    assert hot.group() == journals.Group(5, 0, {"a": 1, "x" * MAX_KEY: 1})


def test_with_no_counters_nothing_is_kept() -> None:
    with SyncGuard(SyncMemoryStore(), cache="users", service="profiles", registry=None, hot_keys=0) as guard:
        guard.get("a", load=str, ttl=60)
        assert guard.core.counts["default"].hot is None
    for wrong in (-1, 1.5, True):
        with pytest.raises(ValueError, match="hot_keys is"):
            SyncGuard(SyncMemoryStore(), cache="u", service="p", registry=None, hot_keys=wrong)  # type: ignore[arg-type]


@pytest.fixture
def guard(shared: RedisServer) -> Iterator[SyncGuard]:
    client = redis.Redis.from_url(shared.url)
    with SyncGuard(client, cache="users", service="profiles", registry=None) as made:
        yield made


def look(guard: SyncGuard, *keys: str) -> None:
    for key in keys:
        guard.get(key, load=str, ttl=60, group="g")


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*" + journals.SUFFIX))


@pytest.mark.parametrize("report", [True, False])
def test_a_reporter_writes_the_journal_whether_or_not_it_reports(
    guard: SyncGuard, tmp_path: Path, report: bool
) -> None:
    folder = tmp_path / "not" / "there yet"
    with Reporter(guard, every=3600, report=report, journal=folder, journal_every=0.05):
        look(guard, "a", "b", "a")
        until(lambda: files(folder) and journals.read(folder).total == 3, "the journal")
        look(guard, "b", "b")
    [path] = files(folder)
    hot = journals.read(path)
    assert [(one.key, one.group, one.lookups) for one in hot.keys] == [("b", "g", 3), ("a", "g", 2)]
    assert (hot.cache, hot.services, hot.total) == ("users", ("profiles",), 5)
    assert 0 <= time.time() - hot.at < 60
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert list(folder.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_is_said_once_and_once_that_it_can(
    guard: SyncGuard, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "herdwatch.guard")
    folder = tmp_path / "file"
    folder.write_text("in the way")
    with Reporter(guard, every=3600, journal=folder, journal_every=0.01):
        look(guard, "a")
        until(lambda: caplog.messages, "the warning")
        time.sleep(0.1)
        look(guard, "a")
        [said] = caplog.messages
        assert said.startswith(f"no journal of hot keys can be written to {folder}: ")
        folder.unlink()
        until(lambda: files(folder), "the journal")
    assert caplog.messages[1:] == [f"the journal of hot keys is written to {folder} again"]
    assert journals.read(folder).total == 2


def test_a_journal_of_no_lookup_is_not_written(guard: SyncGuard, tmp_path: Path) -> None:
    Reporter(guard, every=3600, journal=tmp_path).close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("every", [0, -1, 3601, float("nan")])
def test_a_time_between_two_journals_that_cannot_be_is_refused(guard: SyncGuard, tmp_path: Path, every: float) -> None:
    with pytest.raises(ValueError, match="journal_every is"):
        Reporter(guard, journal=tmp_path, journal_every=every)


def test_a_journal_of_guards_that_count_no_keys_is_refused(shared: RedisServer, tmp_path: Path) -> None:
    client = redis.Redis.from_url(shared.url)
    with SyncGuard(client, cache="users", service="profiles", registry=None, hot_keys=0) as made:
        with pytest.raises(ValueError, match="hot_keys is 0"):
            Reporter(made, journal=tmp_path)
        Reporter(made).close()


def core(*keys: str, cache: str = "users", service: str = "profiles") -> Core:
    made = Core(Settings(), cache=cache, service=service, registry=None)
    hot = made.counts["g"].hot
    assert hot is not None
    hot.look(keys)
    return made


@pytest.mark.parametrize("name", ["a/../b", "..", "a.b", ".hidden", "ünï cödé", "x" * 100, "ü" * 100, "%2F"])
def test_whatever_a_cache_is_called_its_journal_lies_in_the_folder(tmp_path: Path, name: str) -> None:
    JournalFile(tmp_path, name, "s", [core("a", cache=name, service="s")]).write()
    JournalFile(tmp_path, name + "2" if len(name) < 100 else name[:-1], "s", [core("b")]).write()
    assert [path.name.count(".") for path in files(tmp_path)] == [3, 3]
    assert len({path.name.rsplit(".", 2)[0] for path in files(tmp_path)}) == 2
    assert journals.read(tmp_path, cache=name).cache == name


def test_old_files_of_the_same_cache_and_service_are_removed_and_no_others(tmp_path: Path) -> None:
    now = time.time()

    def put(name: str, age: float, size: int = 10) -> Path:
        path = tmp_path / name
        path.write_bytes(b"x" * size)
        os.utime(path, (now - age, now - age))
        return path

    largest = put("users.profiles.largest.hotkeys", 9000, 10_000)
    many = [put(f"users.profiles.{number}.hotkeys", 100 + number) for number in range(80)]
    old = put("users.profiles.old.hotkeys", MAX_AGE_SECONDS + 60)
    torn, new = put(".users.profiles.x.hotkeys.tmp", 4000), put(".users.profiles.y.hotkeys.tmp", 5)
    others = [put(name, 30 * 86_400) for name in ("users.orders.1.hotkeys", "users2.profiles.1.hotkeys", "mine.txt")]
    file = JournalFile(tmp_path, "users", "profiles", [core("a")])
    file.write()
    left = set(tmp_path.iterdir())
    assert left == {file.path, largest, new, *others, *many[: MAX_FILES - 2]}
    assert old not in left
    assert torn not in left


FORK = """
import os, sys, redis
from herdwatch.guard import Reporter, SyncGuard
url, folder = sys.argv[1:]
guard = SyncGuard(redis.Redis.from_url(url), cache="users", service="profiles", refresh=None)
reporter = Reporter(guard, every=3600, journal=folder, journal_every=0.002)
for key in "aab" * 200:
    guard.get(key, load=str, ttl=60)
child = os.fork()
for key in ("c" if child == 0 else "d",):
    guard.get(key, load=str, ttl=60)
reporter.close()
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.mark.filterwarnings("ignore")
def test_a_child_begins_anew_under_a_name_of_its_own(shared: RedisServer, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", FORK, shared.url, str(tmp_path)], check=True, timeout=60)
    counts = [dict(journals.parse(path.read_bytes()).groups["default"].counts) for path in files(tmp_path)]
    assert sorted(counts, key=len) == [{"c": 1}, {"a": 400, "b": 200, "d": 1}]


WRITER = """
import sys
from herdwatch import journals
from herdwatch.guard.core import Core
from herdwatch.guard.journal import JournalFile
from herdwatch.guard.settings import Settings
from pathlib import Path
core = Core(Settings(), cache="users", service="profiles", registry=None)
hot = core.counts["g"].hot
file = JournalFile(Path(sys.argv[1]), "users", "profiles", [core])
hot.look(f"user:{number}" for number in range(3000))
while True:
    hot.look(["user:0"])
    file.write()
    print("written", flush=True)
"""


def test_a_writer_killed_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    rng = random.Random(11)  # noqa: S311
    for number in range(4):
        folder = tmp_path / str(number)
        with subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            told = 0
            while told < 3:
                told += writer.stdout.readline() == b"written\n"
            time.sleep(rng.uniform(0.0, 0.05))
            writer.send_signal(signal.SIGKILL)
            told += writer.stdout.read().count(b"written\n")
        hot = journals.read(folder)
        assert (hot.files, hot.left_out, len(hot.keys)) == (1, (), 3000)
        # Either the last file that it told of, or the one after that.
        assert hot.total - 3000 in (told, told + 1)
