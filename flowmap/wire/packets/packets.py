"""IP packets in columns: what frames decode to, and what flows are made of."""

from __future__ import annotations

from enum import Enum, IntFlag
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Index = npt.NDArray[np.int64]


class Mark(IntFlag):
    """Facts about one packet."""

    FRAGMENT_FIRST = 1
    """More fragments follow, which carry no ports: they belong to the flow of this one (``fragment_id``)."""
    FRAGMENT_LATER = 2
    """Not the first fragment: ports and TCP flags are 0 because they are not in it."""
    UNOPENED = 4
    """A packet of a tunnel that was to be opened and could not be: it counts as the flow of the tunnel itself."""
    FLAGS_UNKNOWN = 8
    """A TCP packet whose ports were captured and whose flags were not (cut, or a first fragment that is too short)."""


COLUMNS: dict[str, np.dtype[np.generic]] = {
    name: np.dtype(kind)
    for name, kind in {
        # Addresses as in flows/address.py.
        "source_high": np.uint64,
        "source_low": np.uint64,
        "destination_high": np.uint64,
        "destination_low": np.uint64,
        "source_port": np.uint16,  # 0 for protocols without ports
        "destination_port": np.uint16,
        "protocol": np.uint8,  # IANA number; for IPv6 that of what follows the extension headers
        "tcp_flags": np.uint8,  # FIN 1, SYN 2, RST 4, PSH 8, ACK 16, …
        "flags": np.uint16,  # Mark
        "length": np.uint32,  # bytes of the IP packet with its header, as it was on the wire
        "fragment_id": np.uint32,  # of fragments, else 0
        # Initial sequence number of the connection's opener where the packet shows it, else 0.
        # SYN: its own number. SYN-ACK, and RST-ACK with sequence number 0, which answers a SYN (RFC 9293, 3.5.2): the
        # acknowledged number less 1. With FLAGS_UNKNOWN: the packet's own number, which is the opener's if it is a SYN.
        "sequence": np.uint32,
    }.items()
}
"""Name and type of every column of Packets."""


class Packets:
    """``n`` packets in the order of their frames; one numpy array a name in :data:`COLUMNS`, as attributes."""

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
        """Every packet as a tuple in column order: for comparison in tests, not for the hot path."""
        return list(zip(*(getattr(self, name).tolist() for name in COLUMNS), strict=True))

    @classmethod
    def concatenate(cls, parts: list[Packets]) -> Packets:
        """One object of all packets, in order; there must be at least one part."""
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
    """Why a frame gives no packet."""

    MALFORMED = 0
    """It is broken or cut."""
    UNREAD = 1
    """It is sound and may hold IP, behind a header that is not decoded."""
    LINK = 2
    """The same: its link type is not decoded."""
    NOT_IP = 3
    """It is sound and holds no IP."""


class Skipped(NamedTuple):
    """A frame that gives no packet."""

    why: Why
    reason: str
    """Of malformed frames a key of :data:`MALFORMED`; else what it is, as users read it, with its number."""


MALFORMED = {
    "runt": "too short for their headers",
    "snapped": "cut before the ports by the snapshot length (tcpdump -s)",
    "length": "with lengths that contradict each other",
    "wire_length": "shorter than the IP packet in them although the file says that nothing was cut",
    "version": "without an IP header where one must be",
    "extensions": "with more IPv6 extension headers than there are kinds",
    "tags": "with more than 8 tags or labels",
    "interface": "of an interface that the file does not describe",
}
"""What is wrong with malformed frames, by reason."""
