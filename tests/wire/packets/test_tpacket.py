"""Packets in blocks of a ring: the headers found at once are those that a walk finds, and nothing is read beyond."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowmap.wire.packets.tpacket import BLOCK_HEADER, HEADER, RingFrames, find_packets

SIZE = 1 << 14
MAC = 82


def block_of(sizes: list[int], *, seconds: int = 1_700_000_000, payload: bytes = b"") -> bytearray:
    """A block with packets of these captured sizes, a few of them in the next second."""
    data, at = bytearray(SIZE), BLOCK_HEADER
    struct.pack_into("=IIIIII", data, 0, 1, 0, 1, len(sizes), at, 0)
    for n, size in enumerate(sizes):
        step = (MAC + size + 7) & ~7
        then = seconds + (n > len(sizes) // 2)
        following = step if n + 1 < len(sizes) else 0
        struct.pack_into("=IIIIIIHH", data, at, following, then, n, size, size + 9, 0, MAC, MAC + 14)
        struct.pack_into("=HHiHBB", data, at + HEADER, 17, 0x0008, n % 3, 1, 0, 6)
        data[at + MAC : at + MAC + size] = (payload * size)[:size].ljust(size, b"\0")
        at += step
    return data


def words(data: bytearray) -> np.ndarray:
    return np.frombuffer(data, np.uint32)


sizes = st.lists(st.integers(14, 200), max_size=40)


@settings(deadline=None)
@given(sizes, st.sampled_from([b"", struct.pack("=I", 1_700_000_000), bytes(4) + struct.pack("=I", 1_700_000_001)]))
def test_all_packets_of_a_block_are_found(captured: list[int], payload: bytes) -> None:
    data = bytearray(SIZE) + block_of(captured, payload=payload)
    places = find_packets(words(data), SIZE, SIZE)
    assert places is not None and len(places) == len(captured)
    frames = RingFrames.at(np.frombuffer(data, np.uint8), places)
    assert frames.captured.tolist() == captured
    assert frames.length.tolist() == [size + 9 for size in captured]
    assert frames.interface.tolist() == [n % 3 for n in range(len(captured))]
    assert (frames.net - frames.mac == 14).all() and (frames.mac - places == MAC).all()
    assert set(frames.protocol.tolist()) <= {0x0800} and set(frames.hardware.tolist()) <= {1}
    later = sum(n > len(captured) // 2 for n in range(len(captured)))
    assert np.count_nonzero(frames.time >= 1_700_000_001) == later


@pytest.mark.parametrize("step", [0, 4, 7, 1 << 20, 0xFFFF_FFF8])
def test_a_broken_chain_is_nobody_s_packets(step: int) -> None:
    data = block_of([100, 100, 100])
    struct.pack_into("=I", data, BLOCK_HEADER + (MAC + 100 + 7 & ~7), step)
    assert find_packets(words(data), 0, SIZE) is None


@pytest.mark.parametrize("begin", [4, SIZE, 0xFFFF_FFF8])
def test_a_first_packet_outside(begin: int) -> None:
    data = block_of([100])
    struct.pack_into("=I", data, 16, begin)
    assert find_packets(words(data), 0, SIZE) is None
