"""Decodes blocks of a TPACKET_V3 ring (linux/if_packet.h, since Linux 3.2): offsets and metadata of the packets."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum, IntFlag

import numpy as np
import numpy.typing as npt

from flowmap.wire.packets.packets import Index

Words = npt.NDArray[np.uint32]

BLOCK_STATUS = 2
"""Position of a word in struct tpacket_block_desc (version, offset_to_priv, struct tpacket_hdr_v1), as the next two."""
NUM_PACKETS = 3
_FIRST_PACKET = 4
BLOCK_HEADER = 48

HEADER = 48
"""Bytes of struct tpacket3_hdr; struct sockaddr_ll follows, then the frame."""


class BlockStatus(IntFlag):
    """TP_STATUS_* of a block."""

    KERNEL = 0
    USER = 1


class PacketType(IntEnum):
    """sll_pkttype."""

    OUTGOING = 4


class Hardware(IntEnum):
    """ARPHRD_* (linux/if_arp.h): devices whose frames begin with an Ethernet header."""

    ETHER = 1
    LOOPBACK = 772


_FRAME = np.dtype(
    {
        "names": ["seconds", "nanoseconds", "captured", "length", "mac", "net", "protocol", "interface", "hardware"],
        "formats": ["u4", "u4", "u4", "u4", "u2", "u2", ">u2", "i4", "u2"],
        "offsets": [4, 8, 12, 16, 24, 26, HEADER + 2, HEADER + 4, HEADER + 8],
        "itemsize": HEADER + 20,
    }
)
"""Fields of tpacket3_hdr and sockaddr_ll, in host byte order except for the protocol."""


@dataclass(frozen=True, slots=True)
class RingFrames:
    """The frames of some blocks, in order; offsets are from the start of the ring."""

    time: npt.NDArray[np.float64]
    """Seconds since the epoch."""
    mac: Index
    """Offset of the link layer's header."""
    net: Index
    """Offset of the network layer's header."""
    captured: Index
    """Captured bytes from ``mac`` on."""
    length: Index
    """Bytes on the wire from ``mac`` on."""
    protocol: npt.NDArray[np.uint16]
    """EtherType from the kernel: the one after a VLAN tag that it removed."""
    interface: npt.NDArray[np.int32]
    hardware: npt.NDArray[np.uint16]

    def __len__(self) -> int:
        return len(self.time)

    def take(self, index: Index) -> RingFrames:
        """The frames at ``index``."""
        return RingFrames(*(getattr(self, field.name)[index] for field in fields(self)))

    @classmethod
    def at(cls, ring: npt.NDArray[np.uint8], places: Index) -> RingFrames:
        """The frames whose headers start at ``places``."""
        # Overlapping structures: each field is gathered alone, without copying the unused parts of headers.
        view = np.ndarray(max(len(ring) - _FRAME.itemsize + 8, 0) // 8, _FRAME, ring, strides=(8,))
        at = places >> 3
        net = places + view["net"][at]
        mac = places + view["mac"][at]
        return cls(
            view["seconds"][at] + view["nanoseconds"][at] * 1e-9,
            mac,
            net,
            view["captured"][at].astype(np.int64),
            view["length"][at].astype(np.int64),
            view["protocol"][at].astype(np.uint16),
            view["interface"][at],
            view["hardware"][at],
        )


def find_packets(words: Words, block: int, size: int) -> Index | None:
    """Offset of every packet header in the block of ``size`` bytes at offset ``block``; None if the chain is broken.

    Each header has the offset of the next one. To avoid a step per packet, headers are found by their second word, the
    time in seconds, which is the first packet's or one more. If each offset found leads exactly to the next, a walk
    would find the same headers. Otherwise the chain is walked.
    """
    first, last = block >> 2, (block + size) >> 2
    count, begin = int(words[first + NUM_PACKETS]), int(words[first + _FIRST_PACKET])
    if not count:
        return np.zeros(0, np.int64)
    if begin & 7 or begin + HEADER > size:
        return None
    earliest = words[first + (begin >> 2) + 1]
    seconds = words[first + (begin >> 2) + 1 : last : 2]
    places = np.flatnonzero(seconds - earliest <= 1)  # unsigned: earlier times become large
    found: Index = (places << 3) + (block + begin)
    found = found[:count]
    steps = words[found >> 2]
    if len(found) == count and np.array_equal(found[:-1] + steps[:-1], found[1:]):
        return found
    return _walk(words, block, begin, count, size)


def _walk(words: Words, block: int, begin: int, count: int, size: int) -> Index | None:
    """Walk the chain of headers."""
    inside = memoryview(words.data)[block >> 2 : (block + size) >> 2]
    found: list[int] = []
    at = begin
    for _ in range(count):
        if at & 7 or at + HEADER > size or (found and block + at < found[-1] + HEADER):
            return None
        found.append(block + at)
        at += inside[at >> 2]
    return np.array(found, np.int64)
