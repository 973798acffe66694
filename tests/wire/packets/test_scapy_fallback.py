"""Frames of link types that only scapy decodes, and frames that must not be passed to it."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowmap.wire.packets.frames import DecodedFrames, decode_frames
from flowmap.wire.packets.scapy_fallback import ScapyFallback
from tests.support.plain_frames import EXAMPLES, TCP, ether, ipv4, row

RADIO = bytes.fromhex("000008000000000008010000") + bytes(20) + b"\xaa\xaa\x03\0\0\0\x08\0" + ipv4(TCP + b"x")
"""802.11 data behind a radiotap header."""


def decode(odd: ScapyFallback, frames: list[bytes], link_type: int = 127) -> DecodedFrames:
    data, size = b"".join(frames), [len(frame) for frame in frames]
    return decode_frames(data, np.cumsum([0, *size[:-1]]), size, size, link_type, fallback=odd)


def test_scapy_finds_the_packet() -> None:
    odd = ScapyFallback()
    assert decode(odd, [RADIO] * 3).packets.rows() == [row(41)] * 3
    assert (odd.tried, odd.found) == (3, 3)


@pytest.mark.parametrize("link_type", [104, 144, 147, 772])
def test_other_link_types_are_not_given_to_it(link_type: int) -> None:
    """Among scapy's numbers are those of interfaces, which mean something else in a file."""
    odd = ScapyFallback()
    decode(odd, [bytes(60)], link_type)
    assert odd.tried == 0


def test_frames_of_known_link_types_are_not_given_to_it() -> None:
    odd = ScapyFallback()
    decode(odd, [ether(0x800, ipv4(TCP)), ether(0x806, bytes(28)), ether(0x1234, bytes(60)), bytes(3)], 1)
    assert odd.tried == 0


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ("80000000" + "ff" * 20 + "0000" + "00" * 12, {"link type 105 (IEEE802_11) without IP": 1}),  # a beacon
        ("08410000" + "02" * 18 + "1000" + "00" * 40, {"link type 105 (IEEE802_11), encrypted": 1}),
    ],
)
def test_radio_frames_without_a_packet(frame: str, expected: dict[str, int]) -> None:
    found = decode(ScapyFallback(), [bytes.fromhex(frame)], 105)
    assert found.other | found.unread == expected
    assert bool(found.unread) is any("encrypted" in what for what in expected)


def test_radio_frames_inside_of_ppi() -> None:
    ppi = struct.pack("<BBHI", 0, 0, 8, 127)
    assert decode(ScapyFallback(), [ppi + RADIO], 192).packets.rows() == [row(41)]
    unknown = struct.pack("<BBHI", 0, 0, 8, 147) + bytes(60)
    assert decode(ScapyFallback(), [unknown], 192).unread == {"link type 147 (USER0)": 1}


@given(st.binary(max_size=80), st.sampled_from([105, 127, 50, 51, 104, 192, 7, 999]))
@settings(max_examples=EXAMPLES, deadline=None)
def test_any_bytes(frame: bytes, link_type: int) -> None:
    found = decode(ScapyFallback(), [frame], link_type)
    counts = (found.malformed, found.unread, found.other)
    assert len(found.packets) + sum(sum(some.values()) for some in counts) == 1
