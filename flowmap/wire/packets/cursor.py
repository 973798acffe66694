"""A read position in a frame, with bounds checks."""

from __future__ import annotations

from flowmap.wire.packets.packets import Skipped, Why


class DecodeStop(Exception):
    """Raised when a frame has no packet that can be decoded."""

    def __init__(self, reason: str, why: Why = Why.MALFORMED) -> None:
        self.skipped = Skipped(why, reason)


class Cursor:
    """A position in a frame, and two ends of it: of the captured bytes (``end``) and on the wire (``wire`` >= ``end``).

    Offsets are relative to the position. Call :meth:`need` before a read.
    """

    __slots__ = ("at", "data", "end", "wire")

    def __init__(self, data: bytes, at: int, end: int, wire: int) -> None:
        self.data, self.at, self.end, self.wire = data, at, end, wire

    def need(self, size: int) -> None:
        """Raise DecodeStop unless ``size`` bytes were captured."""
        if self.at + size > self.wire:
            raise DecodeStop("runt")
        if self.at + size > self.end:
            raise DecodeStop("snapped")

    def has(self, size: int) -> bool:
        """Whether ``size`` bytes were captured."""
        return self.at + size <= self.end

    def ends_before(self, size: int, *, fragment: bool) -> bool:
        """Whether fewer than ``size`` bytes were captured because of the snapshot length or a fragment."""
        return self.at + size > self.end and (fragment or self.at + size <= self.wire)

    def u8(self, offset: int) -> int:
        return self.data[self.at + offset]

    def u16(self, offset: int) -> int:
        return self.data[self.at + offset] << 8 | self.data[self.at + offset + 1]

    def u32(self, offset: int) -> int:
        return self.u16(offset) << 16 | self.u16(offset + 2)

    def u16le(self, offset: int) -> int:
        return self.data[self.at + offset] | self.data[self.at + offset + 1] << 8

    def u32le(self, offset: int) -> int:
        return self.u16le(offset) | self.u16le(offset + 2) << 16

    def limit(self, size: int, least: int) -> None:
        """Apply the length field of a header: ``size`` bytes follow, at least ``least``; DecodeStop if impossible."""
        if size < least:
            raise DecodeStop("length")
        if self.at + size > self.wire:
            raise DecodeStop("length" if self.end < self.wire else "wire_length")
        self.wire = self.at + size
        self.end = min(self.end, self.wire)

    def copy(self, ahead: int) -> Cursor:
        """An independent cursor, ``ahead`` bytes further."""
        return Cursor(self.data, self.at + ahead, self.end, self.wire)
