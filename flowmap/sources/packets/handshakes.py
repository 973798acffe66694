"""TCP connections that follow each other on the same endpoints: which packets begin another one.

A connection is known by the initial sequence number of its opener. A SYN with the known number is a copy, whenever it
comes; one with another number is another connection's. The other end's number tells nothing: whoever answers a SYN
that was sent again may choose another one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flowmap.flows.hash_index import Positions, Rows
from flowmap.sources.packets.keys import Keys, Mask
from flowmap.sources.packets.table import CLOSING, PacketFlowState, PacketTable, Times

FIN, SYN, RST, ACK = (np.uint8(1 << bit) for bit in (0, 1, 2, 4))
WITH_DATA = np.uint32(1 << 16)
"""An answer may acknowledge this many bytes besides the SYN: data sent with it (TCP Fast Open, RFC 7413)."""

_TALKED = np.array([PacketFlowState.TALKED_LOWER, PacketFlowState.TALKED_HIGHER], np.uint16)
_GUESSED, _CLIENT_HIGHER = np.uint16(PacketFlowState.GUESSED), np.uint16(PacketFlowState.CLIENT_HIGHER)


@dataclass(frozen=True, slots=True)
class Slice:
    """Packets with what is needed of them, in order."""

    keys: Keys
    length: npt.NDArray[np.uint32]
    tcp_flags: npt.NDArray[np.uint8]
    sequence: npt.NDArray[np.uint32]
    flagless: Mask
    """The packet has TCP flags that were not captured."""
    time: Times
    before: Times | None = None
    """Time of the packet before each, whatever its flow; None if the times of records do not matter."""

    def take(self, index: Positions) -> Slice:
        """The packets at ``index``."""
        length, flags, sequence = self.length[index], self.tcp_flags[index], self.sequence[index]
        before = None if self.before is None else self.before[index]
        return Slice(self.keys.take(index), length, flags, sequence, self.flagless[index], self.time[index], before)

    def handshakes(self, position: Positions) -> tuple[Mask, Mask]:
        """Of each packet: whether it says who opened the connection, and whether that is its receiver.

        A SYN is the opener's; a SYN-ACK, and a RST that answers a SYN, are sent to the opener.
        """
        flags = self.tcp_flags[position]
        shakes = ((flags & SYN) != 0) | (((flags & RST) != 0) & (self.sequence[position] != 0))
        return shakes, shakes & ((flags & ACK) != 0)

    def talk(self) -> Mask:
        """Which packets show that the handshake is over for their sender: all but opening SYNs."""
        talk: Mask = ((self.tcp_flags & (SYN | ACK)) != SYN) & ~self.flagless
        return talk


def begin_another(part: Slice, group: Positions, table: PacketTable, rows: Rows) -> Positions:
    """The packets that begin another connection than the one their flow has been so far, in order.

    These are handshakes with another number of the opener, handshakes on a flow that was picked up in the middle (or
    whose guessed client they contradict), and, where the number is not known to be a copy, opening SYNs after a FIN or
    RST or of an end for which the handshake was over.
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
    """Keep the opener's number of flows that had none."""
    position, opener = _numbers(part, group, table.state[rows])
    if len(position):
        sequence = table.sequence[rows]
        first = np.zeros(2 * len(rows), np.uint32)
        first[opener[::-1]] = part.sequence[position[::-1]]
        table.sequence[rows] = np.where(sequence != 0, sequence, first.reshape(-1, 2))


def _numbers(part: Slice, group: Positions, state: npt.NDArray[np.uint16]) -> tuple[Positions, Positions]:
    """The packets with an opener's number, and whose it is: twice the group, and one more for the higher end.

    A RST answers a SYN that was not seen yet: it says nothing of a flow that was picked up before.
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
    """The number of each SYN's opener that was known before it: from the table, or among these; 0 if none was."""
    known = table.sequence[rows].reshape(-1)
    position, whose = _numbers(part, group, table.state[rows])
    first = np.full(len(known), len(group))
    first[whose[::-1]] = position[::-1]
    earlier = first[opener]
    among = np.where(earlier < syn, part.sequence[np.minimum(earlier, len(group) - 1)], np.uint32(0))
    return np.where(known[opener] != 0, known[opener], among)


def _after_the_handshake(part: Slice, group: Positions, state: npt.NDArray[np.uint16], syn: Positions) -> Mask:
    """Whether each SYN comes after a FIN or RST, or its sender has sent something else than an opening SYN before."""
    over = np.where((state & CLOSING) != 0, -1, len(group))
    ends = np.flatnonzero(part.tcp_flags & (FIN | RST))[::-1]
    over[group[ends]] = np.minimum(over[group[ends]], ends)
    talked = np.where((state[:, None] & _TALKED) != 0, -1, len(group)).reshape(-1)
    way = group * 2 + part.keys.turned
    talk = np.flatnonzero(part.talk())[::-1]
    talked[way[talk]] = np.minimum(talked[way[talk]], talk)
    after: Mask = (syn > over[group[syn]]) | (syn > talked[way[syn]])
    return after
