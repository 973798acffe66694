"""Interfaces as rtnetlink tells them: their names are bytes. Addresses are tested against the kernel."""

from __future__ import annotations

import struct

import pytest

from flowmap.errors import DecodeError
from flowmap.wire.netlink.messages import decode_messages, encode_attribute
from flowmap.wire.netlink.rtnetlink import Link, decode_link, encode_links

NAME, PROPERTIES, OTHER_NAME, MTU = 3, 52, 53, 4  # IFLA_IFNAME, IFLA_PROP_LIST, IFLA_ALT_IFNAME, IFLA_MTU
UP, RUNNING = 1, 0x40


def head(number: int, flags: int) -> bytes:
    return struct.pack("=BxHiII", 0, 1, number, flags, 0)


def named(name: bytes) -> bytes:
    return encode_attribute(NAME, name + b"\0")


def properties(*names: bytes) -> bytes:
    others = b"".join(encode_attribute(OTHER_NAME, name + b"\0") for name in names)
    return encode_attribute(PROPERTIES, others + encode_attribute(99, b"later"), nested=True)


ROWS = [
    ("down", head(3, 0) + named(b"eth0"), Link(3, False, b"eth0", ())),
    ("up", head(3, UP | RUNNING) + encode_attribute(MTU, bytes(4)) + named(b"eth0"), Link(3, True, b"eth0", ())),
    ("any-byte", head(4, UP) + named(b"odd\xff\x1b"), Link(4, True, b"odd\xff\x1b", ())),
    ("others", head(5, UP) + named(b"x") + properties(b"uplink", b"\xff"), Link(5, True, b"x", (b"uplink", b"\xff"))),
    ("no-others", head(5, UP) + named(b"x") + properties(), Link(5, True, b"x", ())),
]


@pytest.mark.parametrize(("payload", "link"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_interfaces(payload: bytes, link: Link) -> None:
    assert decode_link(payload) == link


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (head(1, 0)[:15], "15 bytes, expected at least 16"),
        (head(1, 0), "the name is missing"),
        (head(1, 0) + named(b""), "the name is missing"),
        (head(1, 0) + named(b"eth0")[:-4], "length 9"),
        (head(1, 0) + named(b"x") + encode_attribute(PROPERTIES, b"\xff\xff\x35\0"), "length 65535"),
    ],
)
def test_what_cannot_be_right_is_refused(payload: bytes, words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        decode_link(payload)


def test_the_request_carries_its_number() -> None:
    (message,) = decode_messages(encode_links(sequence=7))
    assert (message.type, message.sequence) == (18, 7)
