"""Messages between daemon and opener: both directions, and everything that is none."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmap.errors import DecodeError
from flowmap.opener.protocol import (
    MESSAGE_LIMIT,
    VERSION,
    Gone,
    Hello,
    Message,
    Named,
    Opened,
    Range,
    Refused,
    Report,
    Tracking,
    Welcome,
    decode,
    decode_hello,
    encode,
)

numbers = st.integers(0, 2**63)
texts = st.text(max_size=40)
times = st.floats(allow_nan=False, allow_infinity=False)
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Hello, st.just(VERSION), numbers, st.none() | st.tuples(texts, texts), st.booleans(), numbers, times),
    st.builds(Welcome, numbers),
    st.builds(Refused, numbers, texts),
    st.builds(
        Opened,
        numbers,
        st.none() | texts,
        st.none() | times,
        st.none() | st.builds(Range, numbers, numbers),
        st.builds(Tracking, st.integers(-1, 9), st.integers(-1, 2), st.integers(-1, 2)),
        st.integers(0, 6),
    ),
    st.builds(Named, numbers, st.none() | texts),
    st.builds(Gone, numbers),
    st.builds(Report, numbers, numbers, numbers, numbers, numbers, st.tuples(texts), texts),
)


@given(messages)
def test_round_trip(message: Message) -> None:
    assert decode(encode(message)) == message
    assert len(encode(message)) < MESSAGE_LIMIT


@given(messages, st.data())
def test_a_cut_message_is_an_error(message: Message, data: st.DataObject) -> None:
    packet = encode(message)
    with pytest.raises(DecodeError):
        decode(packet[: data.draw(st.integers(0, len(packet) - 1))])


@given(st.binary(max_size=200))
def test_any_bytes_are_an_error_or_a_message(packet: bytes) -> None:
    try:
        decode(packet)
    except DecodeError:
        return
    assert isinstance(json.loads(packet), dict)


@pytest.mark.parametrize(
    "packet",
    [
        {"type": "nothing"},
        {"type": "gone"},
        {"type": "gone", "inode": -1},
        {"type": "gone", "inode": True},
        {"type": "gone", "inode": "7"},
        {"type": ["gone"], "inode": 7},
        {"type": "hello", "version": VERSION, "own": 1, "wanted": "all", "conntrack": True, "limit": 1, "clock": 0.0},
        {"type": "hello", "version": VERSION, "own": 1, "wanted": [1], "conntrack": True, "limit": 1, "clock": 0.0},
        {"type": "hello", "version": VERSION, "own": 1, "wanted": ["a"] * 2000, "conntrack": 1, "limit": 1, "clock": 0},
        {"type": "hello", "version": VERSION, "own": 1, "wanted": None, "conntrack": 1, "limit": 1, "clock": None},
        ["gone", 7],
        7,
    ],
)
def test_what_is_no_message(packet: object) -> None:
    with pytest.raises(DecodeError, match="message of the opener"):
        decode(json.dumps(packet).encode())


def test_a_hello_of_another_version_keeps_its_version_only() -> None:
    packet = json.dumps({"type": "hello", "version": VERSION + 1, "new": "field"}).encode()
    assert decode_hello(packet).version == VERSION + 1


def test_the_first_message_must_be_a_hello() -> None:
    with pytest.raises(DecodeError, match="no hello"):
        decode_hello(encode(Gone(1)))
