"""IP packets as columns: the result of decoding frames, and the input of packet flows."""

from __future__ import annotations

from enum import Enum, IntFlag
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Index = npt.NDArray[np.int64]


class Mark(IntFlag):
    """Facts about one packet."""

    FRAGMENT_FIRST = 1
    """First fragment. The later ones have no ports and belong to its flow (``fragment_id``)."""
    FRAGMENT_LATER = 2
    """Later fragment: it does not contain ports and TCP flags, which are 0."""
    UNOPENED = 4
    """A tunnel's packet that could not be opened: it counts as the flow of the tunnel itself."""
    FLAGS_UNKNOWN = 8
    """A TCP packet with ports but without captured flags: cut, or a short first fragment."""


COLUMNS: dict[str, np.dtype[np.generic]] = {
    name: np.dtype(kind)
    for name, kind in {
        # Addresses as in model/address.py.
        "source_high": np.uint64,
        "source_low": np.uint64,
        "destination_high": np.uint64,
        "destination_low": np.uint64,
        "source_port": np.uint16,  # 0 for protocols without ports
        "destination_port": np.uint16,
        "protocol": np.uint8,  # IANA number; for IPv6 the one after the extension headers
        "tcp_flags": np.uint8,  # FIN 1, SYN 2, RST 4, PSH 8, ACK 16, …
        "flags": np.uint16,  # Mark
        "length": np.uint32,  # bytes of the IP packet on the wire, with its header
        "fragment_id": np.uint32,  # of fragments, else 0
        # Initial sequence number of the connection's opener if the packet shows it, else 0.
        # SYN: its own number. SYN-ACK, and RST-ACK with sequence number 0, which answers a SYN (RFC 9293, 3.5.2): the
        # acknowledged number minus 1. With FLAGS_UNKNOWN: its own number, which is the opener's if it is a SYN.
        "sequence": np.uint32,
    }.items()
}
"""Name and type of every column of Packets."""


class Packets:
    """``n`` packets in the order of their frames; one numpy array as attribute for each name in :data:`COLUMNS`."""

    __slots__ = (*COLUMNS, "_n")

    source_high: npt.NDArray[np.uint64]
    source_low: npt.NDArray[np.uint64]
    destination_high: npt.NDArray[np.uint64]
    destination_low: npt.NDArray[np.uint64]
    source_port: npt.NDArray[np.uint16]
    destination_port: npt.NDArray[np.uint16]
    protocol: npt.NDArray[np.uint8]
    tcp_flags: npt.NDArray[np.uint8]
    flags: npt.NDArray[np.uint16]
    length: npt.NDArray[np.uint32]
    fragment_id: npt.NDArray[np.uint32]
    sequence: npt.NDArray[np.uint32]

    def __init__(self, n: int) -> None:
        """``n`` packets with every column zero."""
        self._n = n
        for name, dtype in COLUMNS.items():
            setattr(self, name, np.zeros(n, dtype))

    def __len__(self) -> int:
        return self._n

    def columns(self) -> dict[str, npt.NDArray[np.generic]]:
        """The arrays by name (not copies)."""
        return {name: getattr(self, name) for name in COLUMNS}

    def take(self, index: npt.NDArray[np.generic] | slice) -> Packets:
        """The packets at ``index`` (integers, a mask or a slice), in that order."""
        taken = Packets.__new__(Packets)
        for name in COLUMNS:
            setattr(taken, name, getattr(self, name)[index])
        taken._n = len(taken.flags)
        return taken

    def rows(self) -> list[tuple[int, ...]]:
        """Every packet as a tuple in column order, for comparisons in tests; slow."""
        return list(zip(*(getattr(self, name).tolist() for name in COLUMNS), strict=True))

    @classmethod
    def concatenate(cls, parts: list[Packets]) -> Packets:
        """All packets of the parts, in order; at least one part."""
        joined = cls.__new__(cls)
        for name in COLUMNS:
            setattr(joined, name, np.concatenate([getattr(part, name) for part in parts]))
        joined._n = len(joined.flags)
        return joined


class Packet(NamedTuple):
    """A row of :class:`Packets`, in column order."""

    source_high: int
    source_low: int
    destination_high: int
    destination_low: int
    source_port: int
    destination_port: int
    protocol: int
    tcp_flags: int
    flags: int
    length: int
    fragment_id: int
    sequence: int = 0


class Why(Enum):
    """Why a frame has no decoded packet."""

    MALFORMED = 0
    """The frame is broken or cut."""
    UNREAD = 1
    """The frame is valid and may contain IP, behind a header that is not decoded."""
    LINK = 2
    """The frame may contain IP, but its link type is not decoded."""
    NOT_IP = 3
    """The frame is valid and contains no IP."""


class Skipped(NamedTuple):
    """A frame without a decoded packet."""

    why: Why
    reason: str
    """For malformed frames a key of :data:`MALFORMED`, else the name and number of the content, for users."""


MALFORMED = {
    "runt": "too short for their headers",
    "snapped": "cut before the ports by the snapshot length (tcpdump -s)",
    "length": "with inconsistent lengths",
    "wire_length": "shorter than their IP packet, although not cut according to the file",
    "version": "without an IP header in its place",
    "extensions": "with too many IPv6 extension headers",
    "tags": "with more than 8 tags or labels",
    "interface": "of an interface that the file does not describe",
}
"""Descriptions of malformed frames for users, by reason."""
