"""Distinguishes copies of packets in a capture file by interface, and detects copies without one.

A capture on several interfaces of a router or bridge has a packet once for each interface. Flows count it on one
interface (see :mod:`flowmap.sources.packets.duplicates`), so each frame needs the number of its interface. Linux cooked
captures of version 1 have the direction instead, which distinguishes the two copies of a forwarded packet. Files that
were merged from captures of single interfaces have neither. There a sample of packets shows whether copies exist.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flowmap.model.address import V4_MAPPED
from flowmap.wire.capture_files.reader import CapturedFrames, gather
from flowmap.wire.packets.frames import DecodedFrames
from flowmap.wire.packets.numbers import LinkType

Interfaces = npt.NDArray[np.int32]

FIRST_SAMPLE = 1_024
"""Packets at the start of a file that are compared."""
SAMPLE = 64
"""Packets of each later piece of the file that are compared."""
APART = 0.05
"""Longest time in seconds between a packet and its copy. Retransmissions are later, or have another identification."""
SHARE = 0.01
"""Share of copies above which they are reported: networks duplicate a packet now and then."""

_MIXED = 0x9E3779B1  # multiplier that separates equal interface numbers of different sections
_COOKED = {
    LinkType.SLL: np.dtype({"names": ["type"], "formats": [">u2"], "offsets": [0], "itemsize": 16}),
    LinkType.SLL2: np.dtype(
        {"names": ["interface", "type"], "formats": [">u4", "u1"], "offsets": [4, 10], "itemsize": 20}
    ),
}
_UNSPECIFIED = np.array([0, V4_MAPPED], np.uint64)
_BYTES = 192  # of each frame that are compared


def interfaces_of(frames: CapturedFrames, decoded: DecodedFrames) -> Interfaces:
    """A number for the interface of each packet; in cooked captures each direction is a separate interface.

    Exception: packets from the unspecified address. Hosts without an address share it, so incoming and outgoing packets
    are different ones.
    """
    index, packets = decoded.index, decoded.packets
    numbers = frames.interfaces if len(index) == len(frames.starts) else frames.interfaces[index]
    layout = _COOKED.get(frames.link_type)  # type: ignore[call-overload]
    if layout is None or not len(index):
        return numbers
    head = gather(frames.data, frames.starts[index], layout)
    way = head["type"].astype(np.uint64)  # sll_pkttype: 0 came in, 4 went out
    way[(packets.source_high == 0) & np.isin(packets.source_low, _UNSPECIFIED)] = 0
    if frames.link_type == LinkType.SLL2:
        way |= head["interface"].astype(np.uint64) << np.uint64(3)
    mixed = way + numbers.astype(np.uint64) * np.uint64(_MIXED)
    return (mixed & np.uint64(0x7FFF_FFFF)).astype(np.int32)


class CopyWatch:
    """Detects packets that are repeated at once with the same interface number, so that both count."""

    def __init__(self) -> None:
        self.looked = 0
        """Compared packets."""
        self.copies = 0
        """Compared packets that are copies."""

    @property
    def matters(self) -> bool:
        """Whether there are more copies than usual in a network."""
        return self.copies > self.looked * SHARE

    def look(self, frames: CapturedFrames, decoded: DecodedFrames, interfaces: Interfaces) -> None:
        """Compare some packets of a piece of a file. ``interfaces``: of each packet of ``decoded``."""
        number = SAMPLE if self.looked else FIRST_SAMPLE
        index, packets = decoded.index[:number], decoded.packets.take(slice(number))
        seen: dict[tuple[bytes, int], tuple[_Identity, float]] = {}
        self.looked += len(index)
        for start, size, time, interface, *row in zip(
            frames.starts[index].tolist(),
            frames.captured[index].tolist(),
            (frames.times[index] / 1e9).tolist(),
            interfaces[:number].tolist(),
            packets.source_high.tolist(),
            packets.source_low.tolist(),
            packets.destination_high.tolist(),
            packets.destination_low.tolist(),
            packets.length.tolist(),
            strict=True,
        ):
            found = _identify(frames.data[start : start + min(size, _BYTES)].tobytes(), *row)
            if found is None:
                continue
            key = found.packet, interface
            before, then = seen.get(key, (found, -np.inf))
            self.copies += time - then <= APART and (found.numbered or found.way != before.way)
            seen[key] = found, time


class _Identity(NamedTuple):
    packet: bytes
    """The bytes that are equal in all copies of a packet."""
    way: tuple[bytes, int]
    """The parts that differ between interfaces: the headers before IP, and the hop limit."""
    numbered: bool
    """Whether an IP identification distinguishes a copy from a retransmission."""


def _identify(
    frame: bytes, source_high: int, source_low: int, destination_high: int, destination_low: int, length: int
) -> _Identity | None:
    """The identity of the packet with these addresses and this length; None if its header is not in ``frame``."""
    four = source_high == 0 and source_low >> 32 == V4_MAPPED >> 32
    if four:
        ahead, hops = 12, 8
        addresses = (source_low & 0xFFFF_FFFF).to_bytes(4) + (destination_low & 0xFFFF_FFFF).to_bytes(4)
    else:
        ahead, hops = 8, 7
        addresses = (source_high << 64 | source_low).to_bytes(16) + (destination_high << 64 | destination_low).to_bytes(
            16
        )
    begin = frame.find(addresses) - ahead
    if begin < 0:
        return None
    whole = frame[begin : begin + length]
    # Without the fields that routers change: hop limit, IPv4's checksum, class of service.
    same = whole[2:8] + whole[9:10] if four else whole[4:7]
    return _Identity(same + whole[ahead:], (frame[:begin], whole[hops]), four and whole[4:6] != b"\0\0")
