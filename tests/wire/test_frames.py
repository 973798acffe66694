"""Frames to packets: rows, and that columns, the general decoder and scapy agree on any frame."""

from __future__ import annotations

import struct

import numpy as np

from flowmap.wire.frames import decode_frames

TCP = struct.pack("!HHIIBBHHH", 40000, 9092, 1, 1, 0x50, 0x18, 100, 0, 0)


def ipv4(payload: bytes, protocol: int = 6) -> bytes:
    head = struct.pack("!BBHHHBBHII", 0x45, 0, 20 + len(payload), 7, 0, 64, protocol, 0, 0x0A000001, 0x0A000002)
    return head + payload


def test_a_plain_frame() -> None:
    frame = bytes(12) + b"\x08\x00" + ipv4(TCP + b"hello") + bytes(9)
    found = decode_frames(frame * 2, [0, len(frame)], [len(frame)] * 2, [len(frame)] * 2, 1)
    ends = (0, 0xFFFF_0A00_0001, 0, 0xFFFF_0A00_0002, 40000, 9092)
    assert found.packets.rows() == [(*ends, 6, 0x18, 0, 45, 0)] * 2
    assert found.index.tolist() == [0, 1]
    assert (found.malformed, found.other, found.general) == ({}, {}, 0)


def test_nothing() -> None:
    found = decode_frames(b"", np.zeros(0), np.zeros(0), np.zeros(0), 1)
    assert (len(found.packets), found.malformed) == (0, {})
