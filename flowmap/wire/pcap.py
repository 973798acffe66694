"""The classic capture format (draft-ietf-opsawg-pcap).

Each record says where the next begins: that chain is walked in Python, all else is read by columns.
"""

from __future__ import annotations

import struct
from array import array

import numpy as np

from flowmap.wire.captures import FRAME_LIMIT, Data, Frames, Index, Read, gather

_HEADER, _RECORD = 24, 16
_MAGIC = {0xA1B2C3D4: 1000, 0xA1B23C4D: 1}  # ns of one in the second part of a time


class PcapReader:
    """A :class:`flowmap.wire.captures.Reader`."""

    def __init__(self, order: str, unit: int) -> None:
        """``order`` is that of the bytes, ``<`` or ``>``; ``unit`` is in ns."""
        self.dropped = 0
        self._unit = unit
        self._word = struct.Struct(f"{order}I")
        self._layout = np.dtype([(name, f"{order}u4") for name in ("seconds", "fraction", "captured", "wire")])
        self._link_type = -1

    @classmethod
    def of(cls, head: bytes) -> PcapReader | None:
        """The reader for a file that begins with ``head``; None if it is another format."""
        for order, name in (("<", "little"), (">", "big")):
            unit = _MAGIC.get(int.from_bytes(head[:4], name))  # type: ignore[arg-type]
            if unit is not None:
                return cls(order, unit)
        return None

    def read(self, data: Data) -> Read:
        """See :class:`flowmap.wire.captures.Reader`."""
        at = 0
        if self._link_type < 0:
            if len(data) < _HEADER:
                return Read([], 0)
            (network,) = self._word.unpack_from(data, 20)
            self._link_type = network & 0xFFFF  # the rest tells of a checksum behind each frame
            at = _HEADER
        records, taken, fault = self._walk(data, at)
        view = np.frombuffer(data, np.uint8)
        head = gather(view, records, self._layout)
        captured, wire = head["captured"].astype(np.int64), head["wire"].astype(np.int64)
        times = head["seconds"].astype(np.int64) * 1_000_000_000 + head["fraction"].astype(np.int64) * self._unit
        interfaces = np.zeros(len(records), np.int32)
        frames = Frames(view, records + _RECORD, captured, wire, times, self._link_type, interfaces)
        return Read([frames] if len(records) else [], taken, fault)

    def _walk(self, data: Data, at: int) -> tuple[Index, int, str]:
        """Where the whole records begin, where the first that is not whole does, and why it cannot be one."""
        starts = array("q")
        append, unpack, end = starts.append, self._word.unpack_from, len(data)
        last, fault = end - _RECORD, ""
        while at <= last:
            (size,) = unpack(data, at + 8)
            if size > FRAME_LIMIT:
                fault = f"a frame of {size} bytes cannot be"
                break
            append(at)
            at += _RECORD + size
        if at > end:
            at = starts.pop()
        return np.frombuffer(starts, np.int64), at, fault
