"""Copies of packets in a capture file: told apart where they can be, and noticed where they cannot.

A capture on several interfaces of a router or bridge has a packet once for each of them. Flows count it on one
interface (see :mod:`flowmap.collect.packet_once`), so each frame needs the number of its interface. Linux cooked
captures of version 1 have none, but say whether the frame came in or went out, which tells the two copies of a
forwarded packet apart. In files that were merged from captures of single interfaces nothing does. There a sample of
packets shows that copies exist.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flowmap.flows.address import V4_MAPPED, Address
from flowmap.wire.captures import Frames, gather
from flowmap.wire.frame_numbers import LinkType
from flowmap.wire.frames import Decoded
from flowmap.wire.packets import Packets

Interfaces = npt.NDArray[np.int32]

FIRST_SAMPLE = 4_096
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


def interfaces_of(frames: Frames, decoded: Decoded) -> Interfaces:
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

    def look(self, frames: Frames, decoded: Decoded, interfaces: Interfaces) -> None:
        """Look at some packets of a piece of a file. ``interfaces``: of each packet of ``decoded``."""
        number = SAMPLE if self.looked else FIRST_SAMPLE
        index, packets = decoded.index[:number], decoded.packets.take(slice(number))
        times = (frames.times[index] / 1e9).tolist()
        places = zip(frames.starts[index].tolist(), frames.captured[index].tolist(), strict=True)
        seen: dict[tuple[bytes, int], tuple[_Identity, float]] = {}
        self.looked += len(times)
        for row, (start, size) in enumerate(places):
            found = _identify(frames.data[start : start + min(size, _BYTES)].tobytes(), packets, row)
            if found is None:
                continue
            key = found.packet, int(interfaces[row])
            before, time = seen.get(key, (found, -np.inf))
            self.copies += times[row] - time <= APART and (found.numbered or found.way != before.way)
            seen[key] = found, times[row]


class _Identity(NamedTuple):
    packet: bytes
    """What is the same in all copies of a packet."""
    way: tuple[bytes, int]
    """What differs between interfaces: the headers before IP and the hop limit."""
    numbered: bool
    """Whether an identification tells a copy from a packet that was sent again."""


def _identify(frame: bytes, packets: Packets, row: int) -> _Identity | None:
    """The packet ``row``, which is in ``frame``; None where its header is not found."""
    ends = [int(column[row]) for column in (packets.source_high, packets.source_low)]
    ends += [int(column[row]) for column in (packets.destination_high, packets.destination_low)]
    four = Address(ends[0], ends[1]).is_v4
    size, ahead, hops = (4, 12, 8) if four else (16, 8, 7)
    addresses = b"".join((ends[n] << 64 | ends[n + 1]).to_bytes(16)[-size:] for n in (0, 2))
    begin = frame.find(addresses) - ahead
    if begin < 0:
        return None
    whole = frame[begin : begin + int(packets.length[row])]
    # Without what is changed on the way: the hop limit, IPv4's checksum, and the class of service before them.
    same = whole[2:8] + whole[9:10] if four else whole[4:7]
    return _Identity(same + whole[ahead:], (frame[:begin], whole[hops]), four and whole[4:6] != b"\0\0")
