"""From packets to flows: who is the client, when a flow begins and ends, and what it carried.

**Client.** A connection whose SYN is seen was opened by the SYN's source; one that begins with a SYN-ACK, by its
destination. One that is picked up in the middle is a guess: if one port alone is in the range of ephemeral ports, it
is the client's; else the higher port is. A handshake on such a flow begins a new one: the old one's end was missed.
Without a handshake (UDP and the rest) the first sender is the client, unless one port alone is ephemeral and it is the
other's; a guess, unless the ports agree.

**End.** Flows leave after the time-outs of :meth:`PacketTable.timeouts`. A new flow begins with a SYN after a FIN or
RST, with a SYN of an end that sent something else before or a SYN with another sequence number, and with a packet after
a longer silence.

**Several interfaces.** What a bridge or router passes on is seen twice. A flow is counted, in each direction, on the
interface that showed it first; another takes over once that one has been silent for :data:`SILENCE` seconds. So the
first second after a change of route is not counted; where the packets of one connection are spread over interfaces,
only those of one are. Under NAT both sides are flows of their own, and both count.

Everything is decided packet by packet and in order, so it makes no difference how packets come in pieces.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flowmap.flows.batch import FlowBatch, RecordKind
from flowmap.flows.hash_index import Hasher, Positions, Rows
from flowmap.sources.packets.duplicates import Duplicates, Seen
from flowmap.sources.packets.fragments import Fragments
from flowmap.sources.packets.keys import SLOTS, Grouping, Keys, Mask, keys_of
from flowmap.sources.packets.table import (
    CLOSING,
    LINGER,
    LONGEST_SILENCE,
    TCP,
    PacketFlowState,
    PacketTable,
    Times,
    gone,
)
from flowmap.wire.packets.packets import Packets

SLICE = SLOTS // 4
"""Packets worked on at a time."""
EXPIRE_EVERY = 1.0
"""Seconds between two looks for flows that fell silent."""
RESTARTS = 64
"""Connections of one tuple that are told apart within a slice; more count as one."""

_FIN, _SYN, _RST, _ACK = (np.uint8(1 << bit) for bit in (0, 1, 2, 4))
_SPECIAL = np.uint8(_FIN | _SYN | _RST)
_TALKED = np.array([PacketFlowState.TALKED_LOWER, PacketFlowState.TALKED_HIGHER], np.uint16)


@dataclass(slots=True)
class PacketCounts:
    """What became of packets, besides being counted."""

    duplicates: int = 0
    """Seen on a second interface, and not counted."""
    shed: int = 0
    """Flows that left before their time for want of room."""
    lone_fragments: int = 0
    """Later fragments whose first was not seen: they count as a flow without ports."""

    def exceptional(self) -> dict[str, int]:
        """Those of :attr:`flowmap.sources.base.SourceStats.exceptional_packets`."""
        return {"duplicate": self.duplicates, "lone_fragment": self.lone_fragments}


@dataclass(frozen=True, slots=True)
class _Slice:
    """Packets with what is needed of them, in order."""

    keys: Keys
    length: npt.NDArray[np.uint32]
    tcp_flags: npt.NDArray[np.uint8]
    sequence: npt.NDArray[np.uint32]
    time: Times

    def take(self, index: Positions) -> _Slice:
        length, flags, sequence = self.length[index], self.tcp_flags[index], self.sequence[index]
        return _Slice(self.keys.take(index), length, flags, sequence, self.time[index])


class PacketFlows:
    """Takes packets in order, gives records of flows. One thread uses it; times are seconds of any one clock."""

    def __init__(
        self,
        max_flows: int,
        *,
        seed: bytes = bytes(range(1, 49)),
        ephemeral: tuple[int, int] = (32_768, 60_999),
        tell_every: float = 0.0,
        first_id: int = 1,
    ) -> None:
        """``ephemeral``: first and last port that clients are given. ``seed``: 48 random bytes, see FlowTable.

        ``tell_every``: seconds for which growing counters may wait; beginnings and ends are told at once.
        ``first_id``: where to go on after another object's ``next_id``.
        """
        self.counts = PacketCounts()
        self.max_flows = max_flows
        self._table = PacketTable(max_flows + SLICE, first_id=first_id)
        self._hasher = Hasher(seed)
        self._group = Grouping()
        self._sightings = Duplicates(self._table)
        self._fragments = Fragments()
        self._ephemeral = ephemeral
        self._tell_every = tell_every
        self._now = self._expired = self._told = -np.inf
        self._since = np.inf  # from when on no packet was missed

    def __len__(self) -> int:
        return len(self._table)

    @property
    def next_id(self) -> int:
        """One more than the largest id given so far."""
        return self._table.next_id

    def take(self, packets: Packets, times: Times, interfaces: npt.NDArray[np.int32] | int = 0) -> list[FlowBatch]:
        """Records of what the packets changed, in order.

        ``times``: of each packet; one that is before the latest so far counts as at that time. ``interfaces``: number
        of the interface of each packet, or of all.
        """
        times = np.maximum(np.maximum.accumulate(times), self._now)
        self._since = min(self._since, float(times[0])) if len(times) else self._since
        batches: list[FlowBatch] = []
        start = 0
        while start < len(packets):
            end = min(start + SLICE, len(packets))
            end = start + int(np.searchsorted(times[start:end], times[start] + LINGER, "right"))
            whole = start == 0 and end == len(packets)
            part = packets if whole else packets.take(slice(start, end))
            some = interfaces if isinstance(interfaces, int) else interfaces[start:end]
            batches += self._take(part, times[start:end], some)
            start = end
        return [batch for batch in batches if len(batch)]

    def expire(self, now: float) -> list[FlowBatch]:
        """Records of flows that fell silent, and of counters that waited long enough. Cheap if called often."""
        self._now = max(self._now, now)
        batches = []
        if self._now - self._told >= self._tell_every:
            batches.append(self.tell())
        if self._now - self._expired >= EXPIRE_EVERY:
            self._expired = self._now
            batches += self._close(gone(self._table, self._table.live(), self._now))
        return [batch for batch in batches if len(batch)]

    def tell(self) -> FlowBatch:
        """Records of all counters that were not told yet."""
        self._told = self._now
        return self._table.records(self._table.those(PacketFlowState.CHANGED), RecordKind.UPDATED)

    def missed(self) -> None:
        """Packets before now may not have been seen: what begins with the next may be older."""
        self._since = np.inf

    def doubt(self) -> FlowBatch:
        """Packets were lost: records that say of every open flow that its end may have been among them."""
        self.missed()
        table, rows = self._table, self._table.live()
        rows = rows[(table.state[rows] & (CLOSING | np.uint16(PacketFlowState.DOUBTED))) == 0]
        return table.doubtful(rows)

    def begin_anew(self) -> list[FlowBatch]:
        """So much was lost that no flow is taken to have gone on: the last records of all."""
        self.missed()
        return self._close(self._table.live())

    def lose_sight(self, interface: int) -> list[FlowBatch]:
        """What passes an interface is not seen any more: its flows may end, and others have their ends when it is seen
        again, so none is taken to have gone on. The last records of all that were counted there."""
        self.missed()
        return self._close(self._sightings.counted_on(interface))

    def _take(self, packets: Packets, times: Times, interfaces: npt.NDArray[np.int32] | int) -> list[FlowBatch]:
        packets, lone = self._fragments.settle(packets, times)
        self.counts.lone_fragments += lone
        seen = self._sightings.interfaces(interfaces, len(packets))
        part = _Slice(keys_of(packets, self._hasher), packets.length, packets.tcp_flags, packets.sequence, times)
        group, first = self._group(part.keys)
        rows = self._rows(part, first)
        if seen is not None:
            kept = self._sightings.first(Seen(rows, group, first, part.keys.turned, times, seen))
            if not kept.all():
                self.counts.duplicates += len(kept) - int(np.count_nonzero(kept))
                part = part.take(np.flatnonzero(kept))
                group, first = self._group(part.keys)
                rows = self._table.find(part.keys.take(first))
        self._now = float(times[-1])
        batches = self._count(part, group, first, rows)
        batches += self._make_room()
        return batches + self.expire(self._now)

    def _count(self, part: _Slice, group: Positions, first: Positions, rows: Rows) -> list[FlowBatch]:
        """Count packets; those that begin a flow anew wait for the next round, so that the old one is closed first."""
        table, batches = self._table, []
        for turn in range(RESTARTS):
            starts = self._restarted(part, group, first, rows)
            again = starts < len(group)
            if turn == RESTARTS - 1 or not again.any():
                break
            later = np.arange(len(group)) >= starts[group]
            batches += self._add(part.take(np.flatnonzero(~later)), *_without(group, rows, later))
            batches += self._last_words(rows[again])
            begin = starts[again]
            table.renew(rows[again], self._oriented(part, begin), part.keys.turned[begin], part.time[begin])
            part = part.take(np.flatnonzero(later))
            group, rows = _without(group, rows, ~later)
            first = _firsts(group, len(rows))
        return batches + self._add(part, group, rows)

    def _rows(self, part: _Slice, first: Positions) -> Rows:
        """The row of every group; those without one are opened by their first packet."""
        leaders = part.keys.take(first)
        rows = self._table.find(leaders)
        missing = np.flatnonzero(rows < 0)
        if len(missing):
            position = first[missing]
            state = self._oriented(part, position)
            rows[missing] = self._table.open(leaders.take(missing), state, part.time[position])
        return rows

    def _oriented(self, part: _Slice, position: Positions) -> npt.NDArray[np.uint16]:
        """The state of flows that begin with these packets: which end is the client, and whether that is a guess.

        Where it is one, the flow may be older; but what never shakes hands is new after a long enough silence.
        """
        keys, flags, protocol = part.keys, part.tcp_flags[position], part.keys.meta[position] & np.uint16(0xFF)
        tcp = protocol == TCP
        by_ports = _likelier_client(keys.ends[0][position], keys.ends[1][position], tcp, self._ephemeral)
        sender = np.where(keys.turned[position], 1, -1)
        handshake = (flags & _SYN) != 0
        client = np.where(by_ports != 0, by_ports, sender)
        client = np.where(handshake, np.where((flags & _ACK) != 0, -sender, sender), client)
        guessed = ~handshake & (tcp | (by_ports != sender))
        joined = guessed & (tcp | (part.time[position] - self._since <= LONGEST_SILENCE[protocol]))
        state = (client > 0) * np.uint16(PacketFlowState.CLIENT_HIGHER)
        state |= guessed * np.uint16(PacketFlowState.GUESSED)
        state |= joined * np.uint16(PacketFlowState.PICKED_UP)
        return state

    def _restarted(self, part: _Slice, group: Positions, first: Positions, rows: Rows) -> Positions:
        """The first packet of each group that begins its flow anew; one more than the last where none does."""
        starts = np.full(len(first), len(group))
        silent = part.time[first] - self._table.last(rows) > LINGER
        if silent.any():
            silent &= part.time[first] - self._table.last(rows) > self._table.timeouts(rows)
            starts[silent] = first[silent]
        special = np.flatnonzero(part.tcp_flags & _SPECIAL)
        if len(special):
            begins = self._handshakes(part, group, rows, special)[::-1]
            starts[group[begins]] = np.minimum(starts[group[begins]], begins)
        return starts

    def _handshakes(self, part: _Slice, group: Positions, rows: Rows, special: Positions) -> Positions:
        """SYNs that come after a FIN or RST, or of an end for which the handshake was over; and any part of a handshake
        with another sequence number than its end's before (not one sent again: who had the address vanished without a
        word, and who has it now begins), or on a flow that was picked up before it."""
        flags, state = part.tcp_flags[special], self._table.state[rows]
        syn = special[(flags & _SYN) != 0]
        if not len(syn):
            return np.zeros(0, np.intp)
        over = np.where((state & CLOSING) != 0, -1, len(group))
        ends = special[(flags & (_FIN | _RST)) != 0][::-1]
        over[group[ends]] = np.minimum(over[group[ends]], ends)
        talked = np.where((state[:, None] & _TALKED) != 0, -1, len(group)).reshape(-1)
        way = group * 2 + part.keys.turned
        others = np.flatnonzero((part.tcp_flags & _SYN) == 0)[::-1]
        talked[way[others]] = np.minimum(talked[way[others]], others)
        opening = (part.tcp_flags[syn] & _ACK) == 0
        guessed = (state[group[syn]] & np.uint16(PacketFlowState.GUESSED)) != 0
        again = (syn > over[group[syn]]) | (syn > talked[way[syn]])
        found: Positions = syn[(opening & again) | guessed | self._other_sequence(part, rows, syn, way[syn])]
        return found

    def _other_sequence(self, part: _Slice, rows: Rows, syn: Positions, way: Positions) -> Mask:
        """Whether each SYN differs from that of its end before, in the table or among these."""
        known, sequence = self._table.sequence[rows].reshape(-1), part.sequence[syn]
        first = known.copy()
        first[way[::-1]] = sequence[::-1]
        before = np.where(known != 0, known, first)[way]
        other: Mask = (before != 0) & (sequence != before)
        return other

    def _add(self, part: _Slice, group: Positions, rows: Rows) -> list[FlowBatch]:
        """Sum up what the packets carried; records of what has to be told at once."""
        table, n = self._table, len(rows)
        way = group * 2 + part.keys.turned
        # Sums of doubles are exact below 2**53, and a slice holds at most 2**16 lengths of 32 bits.
        table.bytes[rows] += np.bincount(way, part.length, 2 * n).astype(np.uint64).reshape(n, 2)
        packets = np.bincount(way, minlength=2 * n).reshape(n, 2)
        table.packets[rows] += packets.astype(np.uint64)
        heard = table.heard[rows]
        heard.reshape(-1)[way] = part.time  # in order: the last one stays
        table.heard[rows] = heard
        state = table.state[rows]
        state &= ~np.uint16(PacketFlowState.DOUBTED)
        state |= np.uint16(PacketFlowState.CHANGED)
        syn = np.flatnonzero(part.tcp_flags & _SYN)
        if len(syn):
            sequence = table.sequence[rows]
            sequence.reshape(-1)[way[syn]] = part.sequence[syn]
            table.sequence[rows] = sequence
        others = packets - np.bincount(way[syn], minlength=2 * n).reshape(n, 2)
        for side in (0, 1):
            state |= (packets[:, side] > 0) * np.uint16(PacketFlowState.SENT_LOWER << side)
            state |= (others[:, side] > 0) * np.uint16(PacketFlowState.TALKED_LOWER << side)
        self._note_ends(part, group, state)
        table.state[rows] = state
        return self._announce(rows, state)

    def _note_ends(self, part: _Slice, group: Positions, state: npt.NDArray[np.uint16]) -> None:
        ends = np.flatnonzero(part.tcp_flags & np.uint8(_FIN | _RST))
        if len(ends):
            flags, turned = part.tcp_flags[ends], part.keys.turned[ends]
            bits = np.where(turned, np.uint16(PacketFlowState.FIN_HIGHER), np.uint16(PacketFlowState.FIN_LOWER))
            bits = np.where((flags & _FIN) != 0, bits, np.uint16(0))
            bits |= np.where((flags & _RST) != 0, np.uint16(PacketFlowState.RESET), np.uint16(0))
            np.bitwise_or.at(state, group[ends], bits)

    def _announce(self, rows: Rows, state: npt.NDArray[np.uint16]) -> list[FlowBatch]:
        """Flows that are new, and those that began to end."""
        new = (state & np.uint16(PacketFlowState.TOLD)) == 0
        batches = self._openings(rows[new])
        untold = ((state & CLOSING) != 0) & ((state & np.uint16(PacketFlowState.ENDING_TOLD)) == 0)
        if untold.any():
            self._table.state[rows[untold]] |= np.uint16(PacketFlowState.ENDING_TOLD)
            batches.append(self._table.records(rows[untold & ~new], RecordKind.UPDATED))
        return batches

    def _openings(self, rows: Rows) -> list[FlowBatch]:
        joined = (self._table.state[rows] & np.uint16(PacketFlowState.PICKED_UP)) != 0
        return [
            self._table.records(some, kind)
            for some, kind in ((rows[~joined], RecordKind.OPENED), (rows[joined], RecordKind.UPDATED))
            if len(some)
        ]

    def _last_words(self, rows: Rows) -> list[FlowBatch]:
        """The last records of flows, which are over."""
        if not len(rows):
            return []
        untold = (self._table.state[rows] & np.uint16(PacketFlowState.TOLD)) == 0
        return [*self._openings(rows[untold]), self._table.records(rows, RecordKind.CLOSED)]

    def _close(self, rows: Rows) -> list[FlowBatch]:
        batches = self._last_words(rows)
        self._table.close(rows)
        return batches

    def _make_room(self) -> list[FlowBatch]:
        surplus = len(self._table) - self.max_flows
        if surplus <= 0:
            return []
        self.counts.shed += surplus
        return self._close(self._table.surplus(surplus))


def _without(group: Positions, rows: Rows, left_out: Mask) -> tuple[Positions, Rows]:
    """The groups without some of their packets; those that lose all of them are left out."""
    remaining = group[~left_out]
    there = np.zeros(len(rows), np.bool_)
    there[remaining] = True
    return (np.cumsum(there) - 1)[remaining], rows[there]


def _firsts(group: Positions, count: int) -> Positions:
    first = np.empty(count, np.intp)
    first[group[::-1]] = np.arange(len(group))[::-1]
    return first


def _likelier_client(
    low: npt.NDArray[np.uint64], high: npt.NDArray[np.uint64], tcp: Mask, ephemeral: tuple[int, int]
) -> npt.NDArray[np.int64]:
    """From the ports: -1 the lower end, 1 the higher end, 0 they do not tell."""
    first, last = ephemeral
    low, high = low & np.uint64(0xFFFF), high & np.uint64(0xFFFF)
    of_low, of_high = (low >= first) & (low <= last), (high >= first) & (high <= last)
    by_size = np.where(tcp, (high > low).astype(np.int64) - (high < low), 0)
    return np.where(of_low == of_high, by_size, np.where(of_high, 1, -1))
