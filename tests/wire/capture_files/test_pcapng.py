"""Reads pcapng: clocks, interfaces, sections, blocks without a time, and invalid blocks."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowmap.wire.capture_files.pcapng import PcapngReader
from flowmap.wire.capture_files.reader import NO_INTERFACE
from tests.support.capture_files import (
    FRAMES,
    ORDERS,
    SECOND,
    Row,
    block,
    enhanced,
    interface,
    option,
    rows,
    section,
)


@given(FRAMES, st.sampled_from(ORDERS), st.integers(1, 300))
@settings(max_examples=100, deadline=None)
def test_pcapng_in_any_pieces(frames: list[Row], order: str, piece: int) -> None:
    data = section(order) + interface(order)
    for number, frame in enumerate(frames):
        data += enhanced(order, frame.data, ticks=frame.time // 1000, wire=frame.wire)
        data += block(order, 0x0BAD, b"other") * (number % 3 == 0)
    assert rows(PcapngReader(), data, piece=piece) == (frames, len(data), "")


@pytest.mark.parametrize(
    ("resolution", "ticks", "time"),
    [
        (None, 1_500_000, 1_500_000_000),
        (6, 1_500_000, 1_500_000_000),
        (9, 1_500_000_001, 1_500_000_001),
        (3, 1_501, 1_501_000_000),
        (0, 7, 7 * SECOND),
        (12, 1_500_000_002_000, 1_500_000_002),
        (0x80 | 10, 1536, 1_500_000_000),
        (0x80 | 32, 3 << 31, 1_500_000_000),
    ],
)
@pytest.mark.parametrize("order", ORDERS)
def test_clocks_of_interfaces(order: str, resolution: int | None, ticks: int, time: int) -> None:
    data = section(order) + interface(order, resolution=resolution, offset=60) + enhanced(order, b"x", ticks=ticks)
    assert rows(PcapngReader(), data)[0] == [Row(b"x", 1, time + 60 * SECOND)]


def test_interfaces_sections_and_link_types() -> None:
    """Numbers begin anew with each section; frames of one link type stay in order."""
    data = section("<") + interface("<", 1) + interface("<", 113) + interface("<", 1, resolution=9)
    data += (
        enhanced("<", b"a", ticks=1, number=1) + enhanced("<", b"b", ticks=2) + enhanced("<", b"c", ticks=9, number=2)
    )
    data += section(">") + interface(">", 101) + enhanced(">", b"d", ticks=3)
    found, taken, fault = rows(PcapngReader(), data)
    assert sorted(found) == [
        *(Row(b"a", 1, 1000, 113, 1), Row(b"b", 1, 2000, 1, 0), Row(b"c", 1, 9, 1, 2)),
        Row(b"d", 1, 3000, 101, 0),
    ]
    assert (taken, fault) == (len(data), "")


def test_blocks_without_a_time_and_obsolete_ones() -> None:
    data = section("<") + interface("<", snap=2) + enhanced("<", b"a", ticks=5)
    data += block("<", 3, struct.pack("<I", 10) + b"bb")
    data += block("<", 2, struct.pack("<HHIIII", 0, 0, 0, 6, 3, 9) + b"ccc")
    assert rows(PcapngReader(), data)[0] == [Row(b"a", 1, 5000), Row(b"bb", 10, 5000), Row(b"ccc", 9, 6000)]


SIMPLE = block("<", 3, struct.pack("<I", 10) + b"bb")
OBSOLETE = block("<", 2, struct.pack("<HHIIII", 1, 0, 0, 6, 3, 9) + b"ccc")


@pytest.mark.parametrize(
    ("before", "lost", "frame"),
    [
        (interface("<"), enhanced("<", b"x", ticks=9, number=1), Row(b"x", 1, 0, NO_INTERFACE)),
        (interface("<"), OBSOLETE, Row(b"ccc", 9, 0, NO_INTERFACE)),
        (b"", SIMPLE, Row(b"bb\0\0", 10, 0, NO_INTERFACE)),
    ],
)
def test_an_interface_that_the_section_does_not_have(before: bytes, lost: bytes, frame: Row) -> None:
    """Only that frame cannot be read; and the next without a time has that of the last that could be."""
    data = section("<") + before + lost + interface("<") * (not before)
    data += enhanced("<", b"one", ticks=1_000_000) + enhanced("<", b"x", ticks=9, number=7) + SIMPLE
    lost_too, last = Row(b"x", 1, 0, NO_INTERFACE), Row(b"bb\0\0", 10, SECOND)
    found, taken, fault = rows(PcapngReader(), data)
    assert sorted(found) == sorted([frame, ONE, lost_too, last])
    assert (taken, fault) == (len(data), "")


@pytest.mark.parametrize(("data", "timed"), [(SIMPLE, False), (enhanced("<", b"x", ticks=1), True)])
def test_frames_without_a_time_are_told_apart(data: bytes, timed: bool) -> None:
    (frames,) = PcapngReader().read(section("<") + interface("<") + data).frames
    assert (frames.timed, frames.times.tolist()) == (timed, [1000 * timed])


def test_what_the_capture_lost_is_told() -> None:
    reader = PcapngReader()
    statistics = struct.pack("<III", 0, 0, 0) + option("<", 4, bytes(8)) + option("<", 5, struct.pack("<Q", 17))
    rows(reader, section("<") + interface("<") + block("<", 5, statistics))
    assert reader.dropped == 17


ONE = Row(b"one", 3, SECOND)
NEXT = struct.pack("<III", 6, 32, 0)


@pytest.mark.parametrize(
    ("lie", "fault"),
    [
        (struct.pack("<II", 6, 30) + bytes(30), "a block of 30 bytes is impossible"),
        (struct.pack("<II", 9, 8) + bytes(30), "a block of 8 bytes is impossible"),
        (struct.pack("<II", 9, 1 << 25) + bytes(30), "a block of 33554432 bytes is impossible"),
        (struct.pack("<II", 9, 16) + bytes(30), "a block of 16 bytes has the length 0 at its end"),
        (struct.pack("<II", 6, 28) + bytes(16) + struct.pack("<I", 28), "a block of type 6 and 28 bytes is too short"),
        (block("<", 6, struct.pack("<IIIII", 0, 0, 0, 5, 5) + b"four"), "an inconsistent block of a frame"),
        (
            block("<", 2, struct.pack("<HHIIII", 0, 0, 0, 6, 5, 9) + b"ccc"),
            "a block of type 2 and 36 bytes is too short",
        ),
        (block("<", 0x0A0D0D0A, bytes(16)), "a section without a valid byte order"),
        (interface("<", resolution=0xFF), "a clock with 2**127 ticks per second"),
    ],
)
def test_lies_in_pcapng(lie: bytes, fault: str) -> None:
    before = section("<") + interface("<") + enhanced("<", b"one", ticks=1_000_000)
    found, taken, said = rows(PcapngReader(), before + lie + enhanced("<", b"two", ticks=1))
    assert (found, taken) == ([ONE], len(before))
    assert said.startswith(fault)
