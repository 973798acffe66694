"""Writes pcap and pcapng files in either byte order, for tests of their readers, and lists what a reader returns."""

from __future__ import annotations

import struct
from typing import Literal, NamedTuple

from hypothesis import strategies as st

from flowmap.wire.capture_files.reader import Reader

SECOND = 1_000_000_000
ORDERS: tuple[Literal["<", ">"], ...] = ("<", ">")


class Row(NamedTuple):
    """A frame as it was read."""

    data: bytes
    wire: int
    time: int
    link_type: int = 1
    interface: int = 0


def pcap(frames: list[Row], order: str = "<", *, nano: bool = False, link_type: int = 1) -> bytes:
    magic, unit = (0xA1B23C4D, 1) if nano else (0xA1B2C3D4, 1000)
    data = struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 65535, link_type)
    for frame in frames:
        seconds, rest = divmod(frame.time, SECOND)
        data += struct.pack(f"{order}IIII", seconds, rest // unit, len(frame.data), frame.wire) + frame.data
    return data


def block(order: str, kind: int, body: bytes) -> bytes:
    size = 12 + len(body) + -len(body) % 4
    return struct.pack(f"{order}II", kind, size) + body + bytes(-len(body) % 4) + struct.pack(f"{order}I", size)


def option(order: str, code: int, value: bytes) -> bytes:
    return struct.pack(f"{order}HH", code, len(value)) + value + bytes(-len(value) % 4)


def section(order: str) -> bytes:
    return block(order, 0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1))


def interface(
    order: str, link_type: int = 1, *, snap: int = 0, resolution: int | None = None, offset: int = 0
) -> bytes:
    options = b"" if resolution is None else option(order, 9, bytes([resolution]))
    options += option(order, 14, struct.pack(f"{order}q", offset)) if offset else b""
    return block(order, 1, struct.pack(f"{order}HHI", link_type, 0, snap) + option(order, 2, b"eth0") + options)


def enhanced(order: str, data: bytes, *, ticks: int, wire: int = 0, number: int = 0) -> bytes:
    head = struct.pack(f"{order}IIIII", number, ticks >> 32, ticks & 0xFFFF_FFFF, len(data), wire or len(data))
    return block(order, 6, head + data + bytes(-len(data) % 4) + option(order, 2, b"\0\0\0\0"))


def rows(reader: Reader, data: bytes, *, piece: int = 1 << 20) -> tuple[list[Row], int, str]:
    """All frames of ``data`` given in pieces, how much was read, and the fault."""
    found: list[Row] = []
    taken, given = 0, 0
    while True:
        given = min(given + piece, len(data))
        read = reader.read(data[taken:given])
        for frames in read.frames:
            columns = (frames.starts, frames.captured, frames.wire_lengths, frames.times, frames.interfaces)
            for start, size, wire, time, number in zip(*(column.tolist() for column in columns), strict=True):
                frame = frames.data[start : start + size].tobytes()
                found.append(Row(frame, wire, time, frames.link_type, number))
        taken += read.taken
        if read.fault or given == len(data):
            return found, taken, read.fault


FRAMES = st.lists(
    st.builds(
        lambda data, more, time: Row(data, len(data) + more, time * 1000),
        st.binary(max_size=70),
        st.sampled_from([0, 0, 9]),
        st.integers(0, 4_000_000_000_000_000),
    ),
    max_size=12,
)
