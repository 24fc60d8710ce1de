"""The Redis protocol: what hiredis reads we read, however it comes in pieces, and nothing takes more than its bound."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdwatch.collector.resp import (
    MAX_DEPTH,
    MAX_ITEMS,
    MAX_LINE_BYTES,
    MAX_REPLY_BYTES,
    MORE,
    Command,
    ProtocolError,
    Reader,
    ReplyError,
    packed,
    packed_secretly,
)

line = st.binary(max_size=20).map(lambda data: data.replace(b"\r", b"").replace(b"\n", b""))
number = st.integers(-(2**63), 2**63 - 1)
SCALARS = st.one_of(
    st.binary(max_size=50).map(lambda data: b"$%d\r\n%b\r\n" % (len(data), data)),
    number.map(lambda value: b":%d\r\n" % value),
    line.map(lambda text: b"+%b\r\n" % text),
    st.sampled_from(
        [b"$-1\r\n", b"*-1\r\n", b"*0\r\n", b"_\r\n", b"#t\r\n", b"#f\r\n", b",1.5\r\n", b"=7\r\ntxt:abc\r\n"]
    ),
)
REPLIES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4).map(lambda parts: b"*%d\r\n" % len(parts) + b"".join(parts))
)


def read(*pieces: bytes) -> Iterator[Any]:
    reader = Reader()
    for piece in pieces:
        reader.feed(piece)
        while (reply := reader.reply()) is not MORE:
            yield reply
    assert reader.empty or not pieces


@given(st.lists(REPLIES, min_size=1, max_size=5), st.lists(st.integers(0, 400), max_size=6))
def test_what_hiredis_reads_we_read_in_whatever_pieces_it_comes(replies: list[bytes], cuts: list[int]) -> None:
    whole = b"".join(replies)
    ends = sorted(min(cut, len(whole)) for cut in cuts)
    pieces = [whole[begin:end] for begin, end in zip([0, *ends], [*ends, len(whole)], strict=True)]
    theirs = hiredis.Reader()
    theirs.feed(whole)
    assert list(read(*pieces)) == [theirs.gets() for _ in replies]


@pytest.mark.parametrize(
    ("raw", "reply"),
    [
        (b"%2\r\n+a\r\n:1\r\n+b\r\n:2\r\n", [b"a", 1, b"b", 2]),
        (b"~2\r\n+a\r\n+b\r\n", [b"a", b"b"]),
        (b"%0\r\n", []),
        (b"(3492890328409238509324850943850943825024385\r\n", b"3492890328409238509324850943850943825024385"),
    ],
)
def test_maps_and_sets_are_lists(raw: bytes, reply: object) -> None:
    assert list(read(raw)) == [reply]


@pytest.mark.parametrize("raw", [b"-NOPERM this user may not\r\n", b"!25\r\nNOPERM this user may not\n\r\n"])
def test_an_error_is_a_value_with_a_code(raw: bytes) -> None:
    [error] = read(raw)
    assert isinstance(error, ReplyError)
    assert error.code == "NOPERM"


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\x00",
        b"$x\r\n",
        b"$-2\r\n",
        b"$1_0\r\n",
        b"$\xc2\xb2\r\n",
        b"*1.5\r\n",
        b":x\r\n",
        b":" + b"1" * 21 + b"\r\n",
        b",x\r\n",
        b"$3\r\nabcde\r\n",
        b"+" + b"a" * (MAX_LINE_BYTES + 1),
        b"*%d\r\n" % (MAX_ITEMS + 1),
        b"*1000000000\r\n+OK\r\n",
        b"$%d\r\n" % (MAX_REPLY_BYTES + 1),
        b"$" + b"9" * 30 + b"\r\n",
        b"*1\r\n" * (MAX_DEPTH + 1) + b"+OK\r\n",
    ],
)
def test_what_is_no_reply_or_too_large_is_refused_at_once(raw: bytes) -> None:
    with pytest.raises(ProtocolError):
        list(read(raw))


def test_many_arrays_in_one_reply_count_together() -> None:
    half = MAX_ITEMS // 2 + 1
    with pytest.raises(ProtocolError, match="too large"):
        list(read(b"*3\r\n", *([b"*%d\r\n" % half + b"_\r\n" * half] * 3)))


def test_a_reply_is_bounded_as_a_whole_and_the_next_begins_anew() -> None:
    part = b"$1000000\r\n" + b"a" * 1_000_000 + b"\r\n"
    fitting = MAX_REPLY_BYTES // len(part)
    reader = Reader()
    for _ in range(2):
        reader.feed(b"*%d\r\n" % fitting)
        for _ in range(fitting):
            reader.feed(part)
            last = reader.reply()
        assert len(last) == fitting
    with pytest.raises(ProtocolError, match="too large"):
        list(read(b"*%d\r\n" % (fitting + 2), *[part] * (fitting + 2)))


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_garbage_is_a_protocol_error_or_waits_for_more(pieces: list[bytes]) -> None:
    reader = Reader()
    try:
        for piece in pieces:
            reader.feed(piece)
            while reader.reply() is not MORE:
                pass
    except ProtocolError:
        pass


words = st.lists(st.text(max_size=20) | st.binary(max_size=20) | number, min_size=1, max_size=4)


@given(st.lists(words.map(tuple), max_size=4))
def test_commands_are_packed_as_hiredis_packs_them(commands: list[Command]) -> None:
    theirs = b"".join(hiredis.pack_command(command) for command in commands)
    assert packed(*commands) == theirs == b"".join(map(packed_secretly, commands))
