"""Netlink framing: rows, both ways, cut at every byte."""

from __future__ import annotations

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmap.errors import DecodeError
from flowmap.wire.netlink.messages import (
    HEADER,
    AttributeReader,
    Control,
    Message,
    MessageFlag,
    ReplyStatus,
    align,
    decode_messages,
    decode_status,
    encode_attribute,
    encode_message,
)

REQUEST = encode_message(0x0101, MessageFlag.REQUEST | MessageFlag.DUMP, b"abcde", sequence=7, port=9)


def test_message_layout_is_that_of_nlmsghdr() -> None:
    assert struct.pack("=IHHII", 21, 0x0101, 0x301, 7, 9) + b"abcde\0\0\0" == REQUEST


def test_messages_go_two_ways() -> None:
    second = encode_message(0x10, 0, b"")
    first, last = decode_messages(REQUEST + second)
    assert first == Message(0x0101, 0x301, 7, 9, memoryview(b"abcde"))
    assert (last.type, bytes(last.payload)) == (0x10, b"")


def test_a_message_cut_at_any_byte_is_refused() -> None:
    for size in range(1, 21):
        with pytest.raises(DecodeError, match="netlink message at byte 0"):
            list(decode_messages(REQUEST[:size]))
    assert list(decode_messages(b"")) == []
    assert len(list(decode_messages(REQUEST[:21]))) == 1, "the padding is not part of the message"


@pytest.mark.parametrize("length", [0, 15, 25, 0xFFFF_FFFF])
def test_a_length_that_cannot_be_right_is_refused_where_it_stands(length: int) -> None:
    broken = struct.pack("=I", length) + REQUEST[4:]
    found = decode_messages(REQUEST + broken)
    next(found)
    with pytest.raises(DecodeError, match=f"at byte 24: length {length}"):
        next(found)


def status(kind: Control, number: int, flags: int = 0, rest: bytes = b"") -> Message:
    (message,) = decode_messages(encode_message(kind, flags, struct.pack("=i", -number) + rest))
    return message


WORDS = encode_attribute(1, b"no such thing\0") + encode_attribute(2, struct.pack("=I", 24)) + encode_attribute(9, b"?")
TLVS, CAPPED = MessageFlag.ACK_TLVS, MessageFlag.CAPPED


@pytest.mark.parametrize(
    "message, expected",
    [
        (status(Control.ERROR, 0, 0, REQUEST), ReplyStatus(0)),
        (status(Control.ERROR, errno.EPERM, 0, REQUEST), ReplyStatus(errno.EPERM)),
        (status(Control.ERROR, errno.EPERM, CAPPED, REQUEST[:16]), ReplyStatus(errno.EPERM)),
        (status(Control.ERROR, 22, TLVS, REQUEST + WORDS), ReplyStatus(22, "no such thing", 24)),
        (status(Control.ERROR, 22, TLVS | CAPPED, REQUEST[:16] + WORDS), ReplyStatus(22, "no such thing", 24)),
        (status(Control.DONE, 0), ReplyStatus(0)),
        (status(Control.DONE, 4), ReplyStatus(4)),
        (status(Control.DONE, 22, TLVS, WORDS), ReplyStatus(22, "no such thing", 24)),
        (Message(Control.DONE, 0, 0, 0, memoryview(b"")), ReplyStatus(0)),
    ],
)
def test_status(message: Message, expected: ReplyStatus) -> None:
    assert decode_status(message) == expected


@pytest.mark.parametrize(
    "message",
    [
        Message(Control.ERROR, 0, 0, 0, memoryview(b"")),
        Message(Control.DONE, 0, 0, 0, memoryview(b"abc")),
        status(Control.ERROR, 22, TLVS, REQUEST[:12]),
        status(Control.DONE, 22, TLVS, WORDS[:10]),
        status(Control.DONE, 22, TLVS, encode_attribute(2, b"ab")),
    ],
)
def test_a_cut_status_is_refused(message: Message) -> None:
    with pytest.raises(DecodeError):
        decode_status(message)


def test_text_that_is_not_utf8_is_replaced() -> None:
    message = status(Control.DONE, 1, TLVS, encode_attribute(1, b"a\xffb\0c"))
    assert decode_status(message).text == "a\ufffdb"


def test_reader_walks_nested_attributes_with_offsets_from_the_beginning() -> None:
    data = encode_attribute(1, encode_attribute(2, b"\1\2") + encode_attribute(3, b"\0" * 8), nested=True)
    outer = AttributeReader(data, "test")
    assert outer.next()
    assert outer.type == 1
    inner = outer.nested()
    assert inner.next()
    assert (inner.type, inner.start, inner.length, inner.unsigned(2)) == (2, 8, 2, 0x0102)
    assert inner.next()
    assert (inner.type, inner.start, inner.unsigned(8)) == (3, 16, 0)
    assert not inner.next()
    assert not outer.next()
    outer.check()


def test_the_first_fault_is_kept_and_ends_every_walk() -> None:
    data = encode_attribute(1, encode_attribute(2, b"abc"), nested=True) + encode_attribute(3, b"x")
    outer = AttributeReader(data, "test")
    assert outer.next()
    inner = outer.nested()
    assert inner.next()
    assert inner.unsigned(4) == 0
    assert inner.host(2) == 0
    assert not inner.next()
    assert not outer.next()
    with pytest.raises(DecodeError, match="^test: attribute 2 at byte 4: 3 bytes, expected 4$"):
        outer.check()


@pytest.mark.parametrize(
    "data, fault",
    [
        (b"\0\0\1\0", "length 0"),
        (b"\3\0\1\0", "length 3"),
        (b"\5\0\1\0", "length 5, but 4 bytes are left"),
        (b"\5\0\1\0a\0\0\0\4", "1 bytes left over"),
    ],
)
def test_lengths_that_cannot_be_right(data: bytes, fault: str) -> None:
    reader = AttributeReader(data, "test")
    while reader.next():
        pass
    with pytest.raises(DecodeError, match=fault):
        reader.check()


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=40))))
def test_attributes_go_two_ways(attributes: list[tuple[int, bytes]]) -> None:
    data = b"".join(encode_attribute(kind, payload) for kind, payload in attributes)
    reader, found = AttributeReader(data, "test"), []
    while reader.next():
        found.append((reader.type, bytes(reader.bytes())))
    reader.check()
    assert found == attributes


@given(st.binary(max_size=200))
def test_any_bytes_end_in_a_walk_or_a_decode_error(data: bytes) -> None:
    reader, steps = AttributeReader(data, "test"), 0
    while reader.next():
        steps += 1
    assert steps <= len(data) // 4
    try:
        assert all(len(message.payload) <= len(data) - HEADER.size for message in decode_messages(data))
    except DecodeError as error:
        assert "netlink message at byte" in str(error)


@pytest.mark.parametrize("size, aligned", [(0, 0), (1, 4), (4, 4), (5, 8)])
def test_align(size: int, aligned: int) -> None:
    assert align(size) == aligned
