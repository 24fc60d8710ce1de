"""The journal's format: what is written is what is read, and nothing else passes for it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdwatch import journals
from herdwatch.errors import UsageError
from herdwatch.journals import Group, HotKey, Journal, MalformedJournal

names = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=20)
keys = st.text(st.characters(codec="utf-8"), max_size=20)
counted = st.dictionaries(keys, st.integers(1, 2**40), max_size=8)
groups = st.builds(
    lambda counts, rest, error: Group(sum(counts.values()) + rest, error, counts),
    counted,
    st.integers(0, 2**40),
    st.integers(0, 2**40),
)
whole = st.builds(
    Journal, cache=names, service=names, at=st.floats(0, 2**40), groups=st.dictionaries(names, groups, max_size=4)
)

SMALL = Journal("users", "profiles", 1000.5, {"default": Group(10, 1, {"user:42": 6, "ünï\n\x00": 3}), "o": Group(2)})


def raw(journal: Journal = SMALL) -> bytes:
    return "".join(journals.lines(journal)).encode("ascii")


def write(folder: Path, name: str, journal: Journal) -> Path:
    path = folder / f"{name}{journals.SUFFIX}"
    path.write_bytes(raw(journal))
    return path


def journal(*counts: tuple[str, int], at: float = 1000.0, error: int = 0, cache: str = "users") -> Journal:
    return Journal(cache, "profiles", at, {"default": Group(sum(n for _, n in counts), error, dict(counts))})


@given(whole)
def test_what_is_written_is_what_is_read(written: Journal) -> None:
    assert journals.parse(raw(written)) == written


def test_the_hottest_key_comes_first_and_the_last_line_says_how_many_there_are() -> None:
    header, *rows, end = raw(journal(("user:1", 3), ("user:2", 6), error=1)).decode().splitlines()
    assert json.loads(header)["groups"]["default"] == {"total": 9, "error": 1, "keys": 2}
    assert [json.loads(row) for row in rows] == [["default", "user:2", 6], ["default", "user:1", 3]]
    assert json.loads(end) == {"end": 4}


def test_a_journal_that_was_cut_off_anywhere_is_refused_unless_only_the_last_newline_is_gone() -> None:
    text = raw()
    assert journals.parse(text[:-1]) == SMALL
    for length in range(len(text) - 1):
        with pytest.raises(MalformedJournal, match=r"^/j:\d+: "):
            journals.parse(text[:length], "/j")


@given(st.binary(max_size=300), st.integers(0, 400))
def test_whatever_bytes_there_are_it_is_a_journal_or_one_sentence(garbage: bytes, place: int) -> None:
    text = raw()
    for data in (garbage, text[:place] + garbage + text[place:], text[:place] + garbage):
        said = ""
        try:
            journals.parse(data)
        except MalformedJournal as error:
            said = str(error)
        assert "\n" not in said


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b'{"herdwatch_journal": 1', b'{"herdwatch_journal": 2', "/j:1: a journal of version 2; this herdwatch reads"),
        (b'{"herdwatch_journal": 1', b'{"somebody_else": 1', "/j:1: no journal of herdwatch"),
        (b'{"herdwatch_journal', b'\x00\x01\xff{"herdwatch_journal', "/j:1: no journal of herdwatch"),
        (b'"users"', b'"us\\ners"', "/j:1: 'us\\ners' is no name"),
        (b'"service": "profiles"', b'"service": 7', "/j:1: '' is no name"),
        (b"1000.5", b"-1", "/j:1: at is -1; it must be Unix seconds"),
        (b"1000.5", b"NaN", "/j:1: at is nan"),
        (b'"groups": {', b'"groups": [], "x": {', "/j:1: groups: not an object"),
        (b'"total": 10', b'"total": 8', "/j:1: group 'default': its keys are other than the first line says"),
        (b'"keys": 2', b'"keys": 3', "/j:1: group 'default': its keys are other than the first line says"),
        (b'"error": 1', b'"error": true', "/j:1: group 'default': error is no count"),
        (b'["default","user:42",6]', b'["default","user:42"]', "/j:2: not [group, key, count]"),
        (b'["default","user:42",6]', b'["nowhere","user:42",6]', "/j:2: a group that the first line does not name"),
        (b'["default","user:42",6]', b'["default",42,6]', "/j:2: a key is text"),
        (b'["default","user:42",6]', b'["default","user:42",0]', "/j:2: 0 is no count"),
        (b'["default","user:42",6]', b'["default","user:42",6.5]', "/j:2: 6.5 is no count"),
        (b'"user:42"', b'"\\u00fcn\\u00ef\\n\\u0000"', "/j:3: a key that was there before"),
        (b'["default","user:42",6]', b"\xff\xfe", "/j:2: not JSON"),
        (b'["default","user:42",6]\n', b"", "/j:3: cut off: the last line does not give the number of lines"),
    ],
)
def test_a_journal_with_something_wrong_is_refused_with_its_line(old: bytes, new: bytes, words: str) -> None:
    text = raw()
    assert old in text
    with pytest.raises(MalformedJournal, match="^" + re.escape(words)):
        journals.parse(text.replace(old, new, 1), "/j")


def test_several_files_of_a_cache_are_one_and_what_is_older_counts_for_less(tmp_path: Path) -> None:
    write(tmp_path, "a", journal(("user:1", 40), ("user:2", 7), at=2000.0 + journals.HALF_LIFE_SECONDS))
    write(tmp_path, "b", journal(("user:1", 9), ("user:3", 80), ("user:4", 1), at=2000.0, error=4))
    hot = journals.read(tmp_path)
    assert hot.keys == (
        HotKey("user:1", "default", 44),
        HotKey("user:3", "default", 40),
        HotKey("user:2", "default", 7),
    )
    assert (hot.files, hot.at, hot.services) == (2, 2000.0 + journals.HALF_LIFE_SECONDS, ("profiles",))
    assert (hot.total, hot.errors["default"]) == (47 + 45, 4)
    assert hot.share(2) == 84 / 92


@given(counted, st.integers(0, 2**30), st.floats(0, 80))
def test_an_aged_count_is_within_the_error_that_is_stated(counts: dict[str, int], error: int, halvings: float) -> None:
    """The truth of each key is anything from its count to its count and the error."""
    aged = Group(sum(counts.values()), error, counts).aged(halvings)
    share = 0.5**halvings
    for key, count in counts.items():
        assert aged.counts.get(key, 0) <= count * share
        assert aged.counts.get(key, 0) + aged.error >= (count + error) * share
    assert sum(aged.counts.values()) <= aged.total


def test_journals_of_two_caches_need_a_name(tmp_path: Path) -> None:
    write(tmp_path, "a", journal(("user:1", 4)))
    write(tmp_path, "b", journal(("order:1", 9), cache="orders"))
    with pytest.raises(UsageError, match=r"journals of 2 caches; name one of them: orders, users$"):
        journals.read(tmp_path)
    assert journals.read(tmp_path, cache="orders").keys == (HotKey("order:1", "default", 9),)
    with pytest.raises(UsageError, match=r"no journal of cache 'carts'; there is: orders, users$"):
        journals.read(tmp_path, cache="carts")


def test_of_a_folder_what_is_no_journal_is_left_out_and_said_and_a_named_one_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a", journal(("user:1", 4)))
    broken = write(tmp_path, "b", journal(("user:2", 9)))
    broken.write_bytes(broken.read_bytes()[:-9])
    hot = journals.read(tmp_path)
    assert hot.keys == (HotKey("user:1", "default", 4),)
    [said] = hot.left_out
    assert said.startswith(f"{broken}:3: ")
    for path in (broken, broken.parent):
        (tmp_path / f"a{journals.SUFFIX}").unlink(missing_ok=True)
        with pytest.raises(MalformedJournal, match=re.escape(said)):
            journals.read(path)


@pytest.mark.parametrize("kind", ["missing", "empty folder", "fifo", "empty file", "huge"])
def test_what_cannot_be_a_journal_is_one_sentence_and_nothing_waits(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, words = tmp_path / "one", "no such"
    if kind == "empty folder":
        path, words = tmp_path, "no journal there"
    elif kind == "fifo":
        os.mkfifo(path)
        words = "neither a file nor a folder"
    elif kind == "empty file":
        path.write_bytes(b"")
        words = "no journal of herdwatch"
    elif kind == "huge":
        path.write_bytes(raw())
        monkeypatch.setattr(journals, "MAX_BYTES", 10)
        words = "a journal has at most 10"
    with pytest.raises(UsageError, match=f"(?i){re.escape(str(path))}.*{words}"):
        journals.read(path)


def test_numbers_that_are_no_numbers_and_depth_without_end_do_not_get_past_the_sentence() -> None:
    for line in (b"[" * 100_000, b"1" * 5_000, b'{"end":' + b"[" * 100_000):
        text: Any = raw().replace(b'{"end": 4}', line)
        with pytest.raises(MalformedJournal):
            journals.parse(text)
