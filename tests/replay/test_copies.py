"""Interfaces of cooked frames by direction, and copies under one interface."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from flowmap.replay.copies import APART, CopyWatch, interfaces_of
from flowmap.wire.capture_files.reader import CapturedFrames
from flowmap.wire.packets.frames import DecodedFrames, decode_frames
from flowmap.wire.packets.numbers import LinkType
from tests.support.plain_frames import TCP, ether, ipv4


def captured(frames: list[bytes], times: list[float], link_type: int, interfaces: list[int]) -> CapturedFrames:
    sizes = np.array([len(frame) for frame in frames])
    data = np.frombuffer(b"".join(frames), np.uint8)
    nanoseconds = (np.array(times) * 1e9).astype(np.int64)
    starts = np.cumsum([0, *sizes[:-1]])
    return CapturedFrames(data, starts, sizes, sizes, nanoseconds, link_type, np.array(interfaces, np.int32))


def numbers(frames: CapturedFrames) -> list[int]:
    return list(interfaces_of(frames, decoded(frames)).tolist())


def decoded(frames: CapturedFrames) -> DecodedFrames:
    return decode_frames(frames.data, frames.starts, frames.captured, frames.wire_lengths, frames.link_type)


def cooked(way: int, packet: bytes) -> bytes:
    return struct.pack("!HHH8sH", way, 1, 6, bytes(8), 0x0800) + packet


def cooked2(way: int, interface: int, packet: bytes) -> bytes:
    return struct.pack("!HHIHBB8s", 0x0800, 0, interface, 1, way, 6, bytes(8)) + packet


PACKET = ipv4(TCP)
UNSPECIFIED = PACKET[:12] + bytes(4) + PACKET[16:]


@pytest.mark.parametrize(
    ("frames", "link_type", "interfaces", "distinct"),
    [
        ([ether(0x800, PACKET)] * 2, LinkType.ETHERNET, [0, 1], 2),
        ([ether(0x800, PACKET)] * 2, LinkType.ETHERNET, [3, 3], 1),
        ([cooked(0, PACKET), cooked(4, PACKET)], LinkType.SLL, [0, 0], 2),
        ([cooked(0, PACKET), cooked(0, PACKET)], LinkType.SLL, [0, 0], 1),
        ([cooked(0, PACKET), cooked(0, PACKET)], LinkType.SLL, [0, 1], 2),
        ([cooked(0, UNSPECIFIED), cooked(4, UNSPECIFIED)], LinkType.SLL, [0, 0], 1),
        ([cooked2(0, 1, PACKET), cooked2(0, 2, PACKET)], LinkType.SLL2, [0, 0], 2),
        ([cooked2(0, 1, PACKET), cooked2(4, 1, PACKET)], LinkType.SLL2, [0, 0], 2),
    ],
)
def test_interfaces(frames: list[bytes], link_type: int, interfaces: list[int], distinct: int) -> None:
    assert len(set(numbers(captured(frames, [0, 0], link_type, interfaces)))) == distinct


NUMBERED = PACKET[:4] + b"\0\x09" + PACKET[6:]
UNNUMBERED = PACKET[:4] + b"\0\0" + PACKET[6:]
FORWARDED = NUMBERED[:8] + b"\x3f" + NUMBERED[9:10] + b"\x12\x34" + NUMBERED[12:]
UNNUMBERED_FORWARDED = UNNUMBERED[:8] + b"\x3f" + UNNUMBERED[9:]


@pytest.mark.parametrize(
    ("packets", "apart", "copies"),
    [
        ([NUMBERED, FORWARDED], 0.001, 1),
        ([NUMBERED, NUMBERED], 0.001, 1),
        ([NUMBERED, FORWARDED], APART + 0.01, 0),
        ([UNNUMBERED, UNNUMBERED], 0.001, 0),  # may be sent again
        ([UNNUMBERED, UNNUMBERED_FORWARDED], 0.001, 1),
        ([NUMBERED, NUMBERED[:-1] + b"\x99"], 0.001, 0),
    ],
)
def test_copies(packets: list[bytes], apart: float, copies: int) -> None:
    frames = captured([ether(0x800, one) for one in packets], [1.0, 1.0 + apart], LinkType.ETHERNET, [0, 0])
    watch = CopyWatch()
    watch.look(frames, decoded(frames), interfaces_of(frames, decoded(frames)))
    assert (watch.looked, watch.copies, watch.matters) == (2, copies, copies > 0)
