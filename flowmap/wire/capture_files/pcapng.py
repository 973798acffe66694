"""Reads the pcapng capture format (draft-ietf-opsawg-pcapng): sections of blocks, interfaces with their own clocks.

Nearly all blocks are enhanced packet blocks. Their chain is walked in Python, and their contents are read as columns.
Other blocks are read one by one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flowmap.wire.capture_files.reader import (
    FRAME_LIMIT,
    NO_INTERFACE,
    Bytes,
    CapturedFrames,
    Data,
    Index,
    Read,
    gather,
)

BLOCK_LIMIT = 1 << 24
"""Largest block in bytes; blocks with names or secrets can be long."""
INTERFACES = 1 << 16
"""Largest number of interfaces in one section."""

_SECTION, _INTERFACE, _PACKET, _SIMPLE, _STATISTICS, _ENHANCED = 0x0A0D0D0A, 1, 2, 3, 5, 6
_MAGIC = 0x1A2B3C4D
_LEAST = 12  # bytes of any block: type, length, and the length again
_HEAD = 28  # bytes before the frame in an enhanced packet block
_RESOLUTION, _OFFSET, _DROPPED = 9, 14, 5  # options: if_tsresol, if_tsoffset, isb_ifdrop


class _Interface(NamedTuple):
    link_type: int
    snap: int
    base: int
    """10 or 2."""
    exponent: int
    """The clock ticks ``base ** exponent`` times per second."""
    offset: int
    """Seconds to add to each time."""


class _Fault(Exception):
    """An impossible block."""


class PcapngReader:
    """A :class:`flowmap.wire.capture_files.reader.Reader`."""

    def __init__(self) -> None:
        self.dropped = 0
        self._order = "<"
        self._interfaces: list[_Interface] = []  # of this section; joined files usually have the same in each section
        self._time = 0  # of the previous frame, for frames without a time

    @classmethod
    def of(cls, head: bytes) -> PcapngReader | None:
        """The reader of a file that starts with ``head``; None for other formats."""
        return cls() if int.from_bytes(head[:4], "big") == _SECTION else None  # equal in both byte orders

    def read(self, data: Data) -> Read:
        """See :class:`flowmap.wire.capture_files.reader.Reader`."""
        found: list[CapturedFrames] = []
        at, before, fault = 0, -1, ""
        while at != before and not fault:
            before = at
            starts, at = self._walk(data, at)
            good = len(starts)
            if starts:
                good = self._enhanced(data, starts, found)
            if good < len(starts):
                at, fault = starts[good], "an inconsistent block of a frame"
                break
            try:
                at += self._other(data, at, found)
            except _Fault as error:
                fault = str(error)
        return Read(found, at, fault)

    def _walk(self, data: Data, at: int) -> tuple[list[int], int]:
        """Offsets of the whole enhanced packet blocks from ``at`` on, and of the first block of another kind."""
        starts: list[int] = []
        append, unpack, end = starts.append, struct.Struct(f"{self._order}II").unpack_from, len(data)
        while at <= end - _LEAST:
            kind, size = unpack(data, at)
            if kind != _ENHANCED or at + size > end or size < _HEAD + 4 or size & 3:
                break
            append(at)
            at += size
        return starts, at

    def _enhanced(self, data: Data, starts: list[int], found: list[CapturedFrames]) -> int:
        """Read these blocks; returns how many are consistent before the first inconsistent one."""
        view, blocks, order = np.frombuffer(data, np.uint8), np.array(starts, np.int64), self._order
        names = ("kind", "size", "interface", "high", "low", "captured", "wire")
        head = gather(view, blocks, np.dtype([(name, f"{order}u4") for name in names]))
        sizes, captured = head["size"].astype(np.int64), head["captured"].astype(np.int64)
        again = gather(view, blocks + sizes - 4, np.dtype([("size", f"{order}u4")]))["size"]
        good = (again == sizes) & (captured <= sizes - _HEAD - 4) & (captured <= FRAME_LIMIT)
        number = len(starts) if good.all() else int(np.argmin(good))
        head, blocks, captured = head[:number], blocks[:number], captured[:number]
        ticks = head["high"].astype(np.uint64) << np.uint64(32) | head["low"]
        interfaces = head["interface"].astype(np.int64)
        wire = head["wire"].astype(np.int64)
        self._add(view, blocks + _HEAD, captured, wire, ticks, interfaces, found)
        return number

    def _add(
        self,
        data: Bytes,
        starts: Index,
        captured: Index,
        wire: Index,
        ticks: npt.NDArray[np.uint64],
        interfaces: Index,
        found: list[CapturedFrames],
    ) -> None:
        """Append frames to ``found``, one item for each link type."""
        if not len(starts):
            return
        times = np.zeros(len(starts), np.int64)
        kinds = np.full(len(starts), NO_INTERFACE, np.int64)
        for index in np.unique(interfaces).tolist():
            if index < len(self._interfaces):
                rows = interfaces == index
                interface = self._interfaces[index]
                times[rows], kinds[rows] = _nanoseconds(ticks[rows], interface), interface.link_type
        known = np.flatnonzero(kinds != NO_INTERFACE)
        self._time = int(times[known[-1]]) if len(known) else self._time
        numbers = np.where(kinds == NO_INTERFACE, 0, interfaces).astype(np.int32)
        for kind in np.unique(kinds).tolist():
            rows = kinds == kind
            found.append(
                CapturedFrames(data, starts[rows], captured[rows], wire[rows], times[rows], kind, numbers[rows])
            )

    def _other(self, data: Data, at: int, found: list[CapturedFrames]) -> int:
        """Read the block at ``at``; returns its size, or 0 if it is incomplete."""
        block = memoryview(data)[at:]
        if len(block) < _LEAST:
            return 0
        if int.from_bytes(block[:4], "big") == _SECTION:
            self._begin_section(block)
        kind, size = struct.unpack_from(f"{self._order}II", block)
        if size < _LEAST or size & 3 or size > BLOCK_LIMIT:
            raise _Fault(f"a block of {size} bytes is impossible")
        if size > len(block):
            return 0
        (again,) = struct.unpack_from(f"{self._order}I", block, size - 4)
        if again != size:
            raise _Fault(f"a block of {size} bytes has the length {again} at its end")
        try:
            self._take(kind, block[8 : size - 4], found, np.frombuffer(data, np.uint8), at + 8)
        except (struct.error, IndexError) as error:
            raise _Fault(f"a block of type {kind} and {size} bytes is too short or inconsistent") from error
        return int(size)

    def _begin_section(self, block: memoryview) -> None:
        for order in ("<", ">"):
            if struct.unpack_from(f"{order}I", block, 8)[0] == _MAGIC:
                self._order = order
                self._interfaces = []
                return
        raise _Fault("a section without a valid byte order")

    def _take(self, kind: int, body: memoryview, found: list[CapturedFrames], data: Bytes, at: int) -> None:
        """Read the ``body`` of a block; it starts at ``at`` in ``data``."""
        unpack = struct.unpack_from
        if kind == _INTERFACE:
            self._begin_interface(body)
        elif kind == _STATISTICS:
            for code, value in self._options(body[12:]):
                if code == _DROPPED:
                    self.dropped += struct.unpack_from(f"{self._order}Q", value)[0]
        elif kind == _SIMPLE:
            (wire,) = unpack(f"{self._order}I", body)
            snap = (self._interfaces[0].snap if self._interfaces else 0) or wire
            found.append(self._single(0, None, min(wire, snap, len(body) - 4), wire, data, at + 4))
        elif kind == _PACKET:
            index, _, high, low, captured, wire = unpack(f"{self._order}HHIIII", body)
            if captured > len(body) - 20:
                raise IndexError
            found.append(self._single(index, high << 32 | low, captured, wire, data, at + 20))
        elif kind == _ENHANCED:
            raise IndexError

    def _single(self, index: int, ticks: int | None, captured: int, wire: int, data: Bytes, at: int) -> CapturedFrames:
        """The columns of the one frame at ``at``; without ``ticks`` it has the time of the previous frame."""
        kind, time = NO_INTERFACE, 0
        if index < len(self._interfaces):
            interface = self._interfaces[index]
            if ticks is not None:
                self._time = int(_nanoseconds(np.array([ticks], np.uint64), interface)[0])
            kind, time = interface.link_type, self._time
        start, size, length, when = np.array([[at], [captured], [wire], [time]], np.int64)
        number = np.array([0 if kind == NO_INTERFACE else index], np.int32)
        return CapturedFrames(data, start, size, length, when, kind, number, timed=ticks is not None)

    def _begin_interface(self, body: memoryview) -> None:
        link_type, _, snap = struct.unpack_from(f"{self._order}HHI", body)
        base, exponent, offset = 10, 6, 0
        for code, value in self._options(body[8:]):
            if code == _RESOLUTION:
                base, exponent = (2 if value[0] & 0x80 else 10), value[0] & 0x7F
            elif code == _OFFSET:
                (offset,) = struct.unpack_from(f"{self._order}q", value)
        if len(self._interfaces) >= INTERFACES:
            raise _Fault(f"more than {INTERFACES} interfaces")
        if exponent > (63 if base == 2 else 19):
            raise _Fault(f"a clock with {base}**{exponent} ticks per second")
        self._interfaces.append(_Interface(link_type, snap, base, exponent, offset))

    def _options(self, body: memoryview) -> Iterator[tuple[int, memoryview]]:
        """Code and value of each option, up to the end or an incomplete one."""
        while len(body) >= 4:
            code, size = struct.unpack_from(f"{self._order}HH", body)
            if code == 0 or 4 + size > len(body):
                return
            yield code, body[4 : 4 + size]
            body = body[4 + (size + 3) // 4 * 4 :]


def _nanoseconds(ticks: npt.NDArray[np.uint64], interface: _Interface) -> Index:
    """Times of an interface's clock in ns since the epoch."""
    per_second = np.uint64(interface.base**interface.exponent)
    seconds = (ticks // per_second).astype(np.int64)
    fraction = (ticks % per_second).astype(np.float64) / float(per_second)
    if per_second <= 1_000_000_000 and 1_000_000_000 % int(per_second) == 0:
        exact = (ticks % per_second) * np.uint64(1_000_000_000 // int(per_second))
        return (seconds + interface.offset) * 1_000_000_000 + exact.astype(np.int64)
    return (seconds + interface.offset) * 1_000_000_000 + np.rint(fraction * 1e9).astype(np.int64)
