"""Reads the classic capture format (draft-ietf-opsawg-pcap).

The records form a chain: each holds its own length. The chain is walked in Python; everything else is read as columns.
"""

from __future__ import annotations

import struct
from array import array
from typing import Literal

import numpy as np

from flowmap.wire.capture_files.reader import FRAME_LIMIT, CapturedFrames, Data, Index, Read, gather

_HEADER = 24
_RECORD = 16
"""Bytes of a record's header: seconds, fraction, captured length, length on the wire."""
_CAPTURED = 8
"""Offset of the captured length in it."""
_LINK_TYPE = 20
_MAGIC = {0xA1B2C3D4: 1000, 0xA1B23C4D: 1}  # ns in one unit of the fraction


class PcapReader:
    """A :class:`flowmap.wire.capture_files.reader.Reader`."""

    def __init__(self, order: Literal["<", ">"], unit: int) -> None:
        """``order``: byte order; ``unit``: ns in one unit of the fraction."""
        self.dropped = 0
        self._order: Literal["<", ">"] = order
        self._unit = unit
        self._word = struct.Struct(f"{order}I")
        self._layout = np.dtype([(name, f"{order}u4") for name in ("seconds", "fraction", "captured", "wire")])
        self._link_type = -1

    @classmethod
    def of(cls, head: bytes) -> PcapReader | None:
        """The reader of a file that starts with ``head``; None for other formats."""
        orders: tuple[tuple[Literal["<", ">"], Literal["little", "big"]], ...] = (("<", "little"), (">", "big"))
        for order, name in orders:
            unit = _MAGIC.get(int.from_bytes(head[:4], name))
            if unit is not None:
                return cls(order, unit)
        return None

    def read(self, data: Data) -> Read:
        """See :class:`flowmap.wire.capture_files.reader.Reader`."""
        at = 0
        if self._link_type < 0:
            if len(data) < _HEADER:
                return Read([], 0)
            (network,) = self._word.unpack_from(data, _LINK_TYPE)
            self._link_type = network & 0xFFFF  # the upper half describes a checksum after each frame
            at = _HEADER
        records, end = _walk(data, at, self._word)
        view = np.frombuffer(data, np.uint8)
        head = gather(view, records, self._layout)
        captured, wire = head["captured"].astype(np.int64), head["wire"].astype(np.int64)
        number, fault = len(records) - (end > len(data)), ""
        if (impossible := captured > FRAME_LIMIT).any():
            number = int(np.argmax(impossible))
            fault = f"a frame of {captured[number]} bytes is impossible"
        times = head["seconds"].astype(np.int64) * 1_000_000_000 + head["fraction"].astype(np.int64) * self._unit
        frames = CapturedFrames(
            view, records + _RECORD, captured, wire, times, self._link_type, np.zeros(len(records), np.int32)
        ).first(number)
        return Read([frames] if number else [], int(records[number]) if number < len(records) else end, fault)


def _walk(data: Data, at: int, word: struct.Struct) -> tuple[Index, int]:
    """Where the records with a whole header start, and where the next one would. The last record may be cut."""
    starts = array("q")
    append, unpack, last = starts.append, word.unpack_from, len(data) - _RECORD
    while at <= last:
        append(at)
        at += _RECORD + unpack(data, at + _CAPTURED)[0]
    return np.frombuffer(starts, np.int64), at
