"""Reads the classic format in any pieces, up to an impossible length."""

from __future__ import annotations

import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from flowmap.wire.capture_files.pcap import PcapReader
from flowmap.wire.capture_files.reader import FRAME_LIMIT
from tests.support.capture_files import (
    FRAMES,
    ORDERS,
    SECOND,
    Row,
    pcap,
    rows,
)

ONE = Row(b"one", 3, SECOND)


@given(FRAMES, st.sampled_from(ORDERS), st.booleans(), st.integers(1, 300))
@settings(max_examples=100, deadline=None)
def test_pcap_in_any_pieces(frames: list[Row], order: str, nano: bool, piece: int) -> None:
    data = pcap(frames, order, nano=nano)
    reader = PcapReader.of(data)
    assert reader is not None
    assert rows(reader, data, piece=piece) == (frames, len(data), "")


def test_lies_in_pcap() -> None:
    before = pcap([ONE])
    for size in (FRAME_LIMIT + 1, 0xFFFF_FFFF):
        reader = PcapReader.of(before)
        assert reader is not None
        found, taken, fault = rows(reader, before + struct.pack("<IIII", 0, 0, size, size) + bytes(20))
        assert (found, taken, fault) == ([ONE], len(before), f"a frame of {size} bytes is impossible")
