"""Keys of flows, equal for both directions of a connection, and the grouping of packets by key."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flowmap.flows.index.hash_index import Hasher, Hashes, Positions
from flowmap.wire.packets.packets import Packets

U64 = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

WIDE = np.uint16(1 << 8)
"""Flag in ``meta``: an address needs more than 48 bits. An IPv4 address (``::ffff:a.b.c.d``) does not."""
SLOTS = 1 << 18
"""Slots of the hash table for grouping: four times the packets of a slice, so few flows share one."""

_PORT_BITS = np.uint64(16)
_OUTSIDE = np.uint64(48)


@dataclass(frozen=True, slots=True)
class Wide:
    """The address bits of both endpoints that ``Keys.ends`` lacks; zero for IPv4."""

    high: tuple[U64, U64]
    top: tuple[U64, U64]
    """The upper 16 bits of the lower half."""

    def take(self, index: Positions) -> Wide:
        """The elements at ``index``."""
        (a, b), (c, d) = self.high, self.top
        return Wide((a[index], b[index]), (c[index], d[index]))


@dataclass(frozen=True, slots=True)
class Keys:
    """The flow of each packet, equal for both directions."""

    ends: tuple[U64, U64]
    """The lower and the higher endpoint: 48 bits of address, then 16 bits of port."""
    meta: npt.NDArray[np.uint16]
    """IANA protocol and WIDE."""
    wide: Wide | None
    """None if no packet is WIDE."""
    turned: Mask
    """The packet's source is the higher endpoint."""
    hashes: Hashes

    def take(self, index: Positions) -> Keys:
        """The keys at ``index``."""
        low, high = self.ends
        wide = None if self.wide is None else self.wide.take(index)
        return Keys((low[index], high[index]), self.meta[index], wide, self.turned[index], self.hashes[index])

    def same(self, leaders: Positions, positions: Positions | slice) -> Mask:
        """Whether each packet at ``positions`` belongs to the flow of its leader."""
        same: Mask = self.ends[0][leaders] == self.ends[0][positions]
        same &= self.ends[1][leaders] == self.ends[1][positions]
        same &= self.meta[leaders] == self.meta[positions]
        if self.wide is not None:
            for column in (*self.wide.high, *self.wide.top):
                same &= column[leaders] == column[positions]
        return same


def keys_of(packets: Packets, hasher: Hasher) -> Keys:
    """The keys of packets."""
    source = packets.source_low << _PORT_BITS | packets.source_port
    destination = packets.destination_low << _PORT_BITS | packets.destination_port
    meta = packets.protocol.astype(np.uint16)
    high = packets.source_high | packets.destination_high
    top = (packets.source_low | packets.destination_low) >> _OUTSIDE
    is_wide = (high | top) != 0
    if not is_wide.any():
        turned = source > destination
        ends = np.minimum(source, destination), np.maximum(source, destination)
        return Keys(ends, meta, None, turned, hasher((*ends, meta.astype(np.uint64))))
    meta[is_wide] |= WIDE
    tops = packets.source_low >> _OUTSIDE, packets.destination_low >> _OUTSIDE
    turned = _higher(source, packets.source_high, tops[0], destination, packets.destination_high, tops[1])
    ends = _ordered(source, destination, turned)
    wide = Wide(_ordered(packets.source_high, packets.destination_high, turned), _ordered(*tops, turned))
    hashes = hasher((*ends, meta.astype(np.uint64)))
    hashes[is_wide] ^= hasher([column[is_wide] for column in (*wide.high, *wide.top)])
    return Keys(ends, meta, wide, turned, hashes)


def _higher(a: U64, a_high: U64, a_top: U64, b: U64, b_high: U64, b_top: U64) -> Mask:
    by_high = (a_high > b_high) | ((a_high == b_high) & (a_top > b_top))
    higher: Mask = (a > b) | ((a == b) & by_high)
    return higher


def _ordered(source: U64, destination: U64, turned: Mask) -> tuple[U64, U64]:
    return np.where(turned, destination, source), np.where(turned, source, destination)


class Grouping:
    """Groups the packets of a slice by flow, without sorting."""

    def __init__(self) -> None:
        self._slots = np.zeros(SLOTS, np.int32)

    def __call__(self, keys: Keys) -> tuple[Positions, Positions]:
        """The group of each packet, and the first packet of each group; groups are in the order of these.

        Every packet writes its position into the slot of its hash, in reverse order, so the first packet remains.
        Packets that collide with another flow repeat this with other bits of the hash.
        """
        positions = np.arange(len(keys.hashes))
        leaders = self._meet(keys.hashes, positions)
        collided = positions[~keys.same(leaders, slice(None))]
        shift = 0
        while len(collided):
            shift = (shift + 11) % 46
            found = self._meet(keys.hashes[collided] >> np.uint64(shift), collided)
            leaders[collided] = found
            collided = collided[~keys.same(found, collided)]
        leads = leaders == positions
        number = np.cumsum(leads) - 1
        return number[leaders], np.flatnonzero(leads)

    def _meet(self, hashes: Hashes, positions: Positions) -> Positions:
        places = (hashes & np.uint64(SLOTS - 1)).astype(np.intp)
        self._slots[places[::-1]] = positions[::-1]
        return self._slots[places].astype(np.intp)
