"""The classic capture format (draft-ietf-opsawg-pcap).

Where the records begin is found by :mod:`flowmap.wire.capture_files.pcap_chain`; all else is read by columns.
"""

from __future__ import annotations

import struct
from typing import Literal

import numpy as np

from flowmap.wire.capture_files.pcap_chain import RECORD, find_records
from flowmap.wire.capture_files.reader import CapturedFrames, Data, Read, gather

_HEADER = 24
_MAGIC = {0xA1B2C3D4: 1000, 0xA1B23C4D: 1}  # ns of one in the second part of a time


class PcapReader:
    """A :class:`flowmap.wire.capture_files.reader.Reader`."""

    def __init__(self, order: Literal["<", ">"], unit: int) -> None:
        """``order`` is that of the bytes, ``<`` or ``>``; ``unit`` is in ns."""
        self.dropped = 0
        self._order: Literal["<", ">"] = order
        self._unit = unit
        self._word = struct.Struct(f"{order}I")
        self._layout = np.dtype([(name, f"{order}u4") for name in ("seconds", "fraction", "captured", "wire")])
        self._link_type = -1

    @classmethod
    def of(cls, head: bytes) -> PcapReader | None:
        """The reader for a file that begins with ``head``; None if it is another format."""
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
            (network,) = self._word.unpack_from(data, 20)
            self._link_type = network & 0xFFFF  # the rest tells of a checksum behind each frame
            at = _HEADER
        records, taken, fault = find_records(data, at, self._order)
        view = np.frombuffer(data, np.uint8)
        head = gather(view, records, self._layout)
        captured, wire = head["captured"].astype(np.int64), head["wire"].astype(np.int64)
        times = head["seconds"].astype(np.int64) * 1_000_000_000 + head["fraction"].astype(np.int64) * self._unit
        interfaces = np.zeros(len(records), np.int32)
        frames = CapturedFrames(view, records + RECORD, captured, wire, times, self._link_type, interfaces)
        return Read([frames] if len(records) else [], taken, fault)
