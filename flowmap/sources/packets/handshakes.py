"""Finds the packets that start another TCP connection on the same endpoints.

A connection is identified by the initial sequence number of its opener. A SYN with this number is a copy, at any time;
a SYN with another number belongs to another connection. The number of the accepting side proves nothing, since it may
differ in the answers to a retransmitted SYN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flowmap.flows.index.hash_index import Positions, Rows
from flowmap.sources.packets.keys import Keys, Mask
from flowmap.sources.packets.table import CLOSING, PacketFlowState, PacketTable, Times

FIN, SYN, RST, ACK = (np.uint8(1 << bit) for bit in (0, 1, 2, 4))
WITH_DATA = np.uint32(1 << 16)
"""Bytes that an answer may acknowledge beyond the SYN: data sent with it (TCP Fast Open, RFC 7413)."""

_PAST_SYN = np.array([PacketFlowState.PAST_SYN_LOWER, PacketFlowState.PAST_SYN_HIGHER], np.uint16)
_GUESSED, _CLIENT_HIGHER = np.uint16(PacketFlowState.GUESSED), np.uint16(PacketFlowState.CLIENT_HIGHER)


@dataclass(frozen=True, slots=True)
class Slice:
    """The needed columns of some packets, in order."""

    keys: Keys
    length: npt.NDArray[np.uint32]
    tcp_flags: npt.NDArray[np.uint8]
    sequence: npt.NDArray[np.uint32]
    flagless: Mask
    """The TCP flags of the packet were not captured."""
    time: Times
    before: Times | None = None
    """Time of the previous packet of any flow; None if records need no times."""

    def take(self, index: Positions) -> Slice:
        """The packets at ``index``."""
        length, flags, sequence = self.length[index], self.tcp_flags[index], self.sequence[index]
        before = None if self.before is None else self.before[index]
        return Slice(self.keys.take(index), length, flags, sequence, self.flagless[index], self.time[index], before)

    def handshakes(self, position: Positions) -> tuple[Mask, Mask]:
        """For each packet: whether it shows who opened the connection, and whether that is its destination.

        A SYN comes from the opener; a SYN-ACK, and a RST that answers a SYN, are sent to the opener.
        """
        flags = self.tcp_flags[position]
        shakes = ((flags & SYN) != 0) | (((flags & RST) != 0) & (self.sequence[position] != 0))
        return shakes, shakes & ((flags & ACK) != 0)

    def past_syn(self) -> Mask:
        """Which packets show that their sender has finished the handshake: all but opening SYNs."""
        past_syn: Mask = ((self.tcp_flags & (SYN | ACK)) != SYN) & ~self.flagless
        return past_syn


def find_restarts(part: Slice, group: Positions, table: PacketTable, rows: Rows) -> Positions:
    """Positions of the packets that start another connection than that of their flow, in order.

    - a handshake with another number of the opener
    - a handshake on a flow picked up in the middle, or one that contradicts its guessed client
    - an opening SYN that is not known to be a copy: after a FIN or RST, or after its sender finished the handshake
    """
    syn = np.flatnonzero(part.tcp_flags & SYN)
    if not len(syn):
        return syn
    groups, state = group[syn], table.state[rows]
    opening = (part.tcp_flags[syn] & ACK) == 0
    opener = 2 * groups + (part.keys.turned[syn] ^ ~opening)
    before, number = _known_before(part, group, table, rows, syn, opener), part.sequence[syn]
    both = (before != 0) & (number != 0)
    copy = both & (number - before < np.where(opening, np.uint32(1), WITH_DATA))
    guessed = (state[groups] & _GUESSED) != 0
    turned = ((state[groups] & _CLIENT_HIGHER) != 0) != (opener % 2 != 0)
    later = opening & _after_the_handshake(part, group, state, syn)
    found: Positions = syn[(both & ~copy) | (~copy & (guessed | later)) | (guessed & turned)]
    return found


def note_openers(part: Slice, group: Positions, table: PacketTable, rows: Rows) -> None:
    """Store the opener's number of flows without one."""
    position, opener = _numbers(part, group, table.state[rows])
    if len(position):
        sequence = table.sequence[rows]
        first = np.zeros(2 * len(rows), np.uint32)
        first[opener[::-1]] = part.sequence[position[::-1]]
        table.sequence[rows] = np.where(sequence != 0, sequence, first.reshape(-1, 2))


def _numbers(part: Slice, group: Positions, state: npt.NDArray[np.uint16]) -> tuple[Positions, Positions]:
    """Positions of packets with an opener's number, and the opener: twice the group, plus one for the higher endpoint.

    A RST that answers an unseen SYN is ignored for flows picked up in the middle: it belongs to another connection.
    """
    position = np.flatnonzero(part.sequence)
    refusal = (part.tcp_flags[position] & (SYN | RST)) == RST
    if refusal.any():
        position = position[~(refusal & ((state[group[position]] & _GUESSED) != 0))]
    _, to_opener = part.handshakes(position)
    return position, 2 * group[position] + (part.keys.turned[position] ^ to_opener)


def _known_before(
    part: Slice, group: Positions, table: PacketTable, rows: Rows, syn: Positions, opener: Positions
) -> npt.NDArray[np.uint32]:
    """The opener's number known before each SYN, from the table or from earlier packets here; 0 if unknown."""
    known = table.sequence[rows].reshape(-1)
    position, whose = _numbers(part, group, table.state[rows])
    first = np.full(len(known), len(group))
    first[whose[::-1]] = position[::-1]
    earlier = first[opener]
    among = np.where(earlier < syn, part.sequence[np.minimum(earlier, len(group) - 1)], np.uint32(0))
    return np.where(known[opener] != 0, known[opener], among)


def _after_the_handshake(part: Slice, group: Positions, state: npt.NDArray[np.uint16], syn: Positions) -> Mask:
    """Whether each SYN follows a FIN or RST, or another packet of its sender than an opening SYN."""
    over = np.where((state & CLOSING) != 0, -1, len(group))
    ends = np.flatnonzero(part.tcp_flags & (FIN | RST))[::-1]
    over[group[ends]] = np.minimum(over[group[ends]], ends)
    past = np.where((state[:, None] & _PAST_SYN) != 0, -1, len(group)).reshape(-1)
    way = group * 2 + part.keys.turned
    past_syn = np.flatnonzero(part.past_syn())[::-1]
    past[way[past_syn]] = np.minimum(past[way[past_syn]], past_syn)
    after: Mask = (syn > over[group[syn]]) | (syn > past[way[syn]])
    return after
