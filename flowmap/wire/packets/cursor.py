"""A place in a frame that cannot leave it."""

from __future__ import annotations

from flowmap.wire.packets.packets import Skipped, Why


class DecodeStop(Exception):
    """The end of a decoding without a packet."""

    def __init__(self, reason: str, why: Why = Why.MALFORMED) -> None:
        self.skipped = Skipped(why, reason)


class Cursor:
    """A place in a frame, and where the frame ends: in the capture (``end``), and on the wire, not before that.

    Numbers are read relative to the place; first ask with :meth:`need` whether they are there.
    """

    __slots__ = ("at", "data", "end", "wire")

    def __init__(self, data: bytes, at: int, end: int, wire: int) -> None:
        self.data, self.at, self.end, self.wire = data, at, end, wire

    def need(self, size: int) -> None:
        """Stop unless ``size`` bytes are there."""
        if self.at + size > self.wire:
            raise DecodeStop("runt")
        if self.at + size > self.end:
            raise DecodeStop("snapped")

    def has(self, size: int) -> bool:
        """Whether ``size`` bytes are there."""
        return self.at + size <= self.end

    def ends_before(self, size: int, *, fragment: bool) -> bool:
        """Whether less than ``size`` bytes are there for a reason: cut by the capture, or only a fragment."""
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
        """A header says that the rest is ``size`` bytes, of which ``least`` are its own."""
        if size < least:
            raise DecodeStop("length")
        if self.at + size > self.wire:
            raise DecodeStop("length" if self.end < self.wire else "wire_length")
        self.wire = self.at + size
        self.end = min(self.end, self.wire)

    def copy(self, ahead: int) -> Cursor:
        """One of its own, ``ahead`` bytes further."""
        return Cursor(self.data, self.at + ahead, self.end, self.wire)
