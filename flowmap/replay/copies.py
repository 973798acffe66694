"""Copies of packets in a capture file: told apart where they can be, and noticed where they cannot.

A capture on several interfaces of a router or bridge has a packet once for each of them. Flows count it on one
interface (see :mod:`flowmap.sources.packets.duplicates`), so each frame needs the number of its interface. Linux cooked
captures of version 1 have none, but say whether the frame came in or went out, which tells the two copies of a
forwarded packet apart. In files that were merged from captures of single interfaces nothing does. There a sample of
packets shows that copies exist.
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
"""Packets at the beginning of a file that are looked at for copies."""
SAMPLE = 64
"""Packets that are looked at in each later piece of the file."""
APART = 0.05
"""Seconds between a packet and its copy at most. What is sent again comes later, or with another identification."""
SHARE = 0.01
"""Copies among the packets looked at that are worth a word: networks do double a packet now and then."""

_MIXED = 0x9E3779B1  # spreads interfaces of the file, so that those that a frame names are others in each
_COOKED = {
    LinkType.SLL: np.dtype({"names": ["type"], "formats": [">u2"], "offsets": [0], "itemsize": 16}),
    LinkType.SLL2: np.dtype(
        {"names": ["interface", "type"], "formats": [">u4", "u1"], "offsets": [4, 10], "itemsize": 20}
    ),
}
_UNSPECIFIED = np.array([0, V4_MAPPED], np.uint64)
_BYTES = 192  # of a frame that are looked at


def interfaces_of(frames: CapturedFrames, decoded: DecodedFrames) -> Interfaces:
    """A number for the interface of each packet; each way of a cooked capture is an interface of its own.

    Not where the source is the unspecified address: hosts that have none yet share it, so packets that came in and
    packets that went out are different ones.
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
    """Looks for packets that come again at once and under the same number of interface, so that both count."""

    def __init__(self) -> None:
        self.looked = 0
        """Packets that were looked at."""
        self.copies = 0
        """Those of them that came before."""

    @property
    def matters(self) -> bool:
        """Whether there are more copies than a network makes."""
        return self.copies > self.looked * SHARE

    def look(self, frames: CapturedFrames, decoded: DecodedFrames, interfaces: Interfaces) -> None:
        """Look at some packets of a piece of a file. ``interfaces``: of each packet of ``decoded``."""
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
    """What is the same in all copies of a packet."""
    way: tuple[bytes, int]
    """What differs between interfaces: the headers before IP and the hop limit."""
    numbered: bool
    """Whether an identification tells a copy from a packet that was sent again."""


def _identify(
    frame: bytes, source_high: int, source_low: int, destination_high: int, destination_low: int, length: int
) -> _Identity | None:
    """The packet with these addresses and this length, which is in ``frame``; None where its header is not found."""
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
    # Without what is changed on the way: the hop limit, IPv4's checksum, and the class of service before them.
    same = whole[2:8] + whole[9:10] if four else whole[4:7]
    return _Identity(same + whole[ahead:], (frame[:begin], whole[hops]), four and whole[4:6] != b"\0\0")
