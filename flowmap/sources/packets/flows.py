"""From packets to flows: who is the client, when a flow begins and ends, and what it carried.

**Client.** A connection whose SYN is seen was opened by the SYN's source; one that begins with a SYN-ACK, or with the
RST that refuses a SYN, by its destination. One that is picked up in the middle is a guess: the client's port is the
likelier one (see ``port_roles``), else the higher one. A handshake on such a flow begins a new one: the old one's end
was missed. Without a handshake (UDP and the rest) the first sender is the client, unless the other port is likelier the
client's; a guess, unless the ports agree.

**End.** Flows leave after the time-outs of :meth:`PacketTable.timeouts`. A new flow begins with a SYN that is no copy
(see ``packet_handshakes``), and with a packet after a longer silence. TCP ends with its first FIN or RST, also where
the other direction goes on: who sent it may be gone.

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

from flowmap.flows.batch import Flag, FlowBatch, Moments, RecordKind
from flowmap.flows.hash_index import Hasher, Positions, Rows
from flowmap.sources.packets.duplicates import Duplicates, Seen
from flowmap.sources.packets.fragments import Fragments
from flowmap.sources.packets.handshakes import FIN, RST, Slice, begin_another, note_openers
from flowmap.sources.packets.keys import SLOTS, Grouping, Keys, Mask, keys_of
from flowmap.sources.packets.moments import (
    end_moments,
    first_moments,
    note_spoken,
    now_moments,
    restart_moments,
    silent_moments,
)
from flowmap.sources.packets.silence import SPAN, may_begin_anew
from flowmap.sources.packets.table import CLOSING, LINGER, LONGEST_SILENCE, TCP, PacketFlowState, PacketTable, Times
from flowmap.sources.port_roles import likelier_client
from flowmap.wire.packets.packets import Mark, Packets

SLICE = SLOTS // 4
"""Packets worked on at a time."""
EXPIRE_EVERY = 1.0
"""Seconds between two looks for flows that fell silent."""
RESTARTS = 64
"""Connections of one tuple that are told apart within a slice; more count as one."""

_FLAGLESS = np.uint16(Mark.FRAGMENT_LATER | Mark.FLAGS_UNKNOWN)


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
        timed: bool = False,
    ) -> None:
        """``ephemeral``: first and last port that clients are given. ``seed``: 48 random bytes, see FlowTable.

        ``tell_every``: seconds for which growing counters may wait; beginnings and ends are told at once.
        ``first_id``: where to go on after another object's ``next_id``. ``timed``: records have the moments of their
        packets, so many packets may be taken at a time; growing counters wait until :meth:`tell`.
        """
        self.counts = PacketCounts()
        self.max_flows = max_flows
        self._table = PacketTable(max_flows + SLICE, first_id=first_id, timed=timed)
        self._hasher = Hasher(seed)
        self._group = Grouping()
        self._sightings = Duplicates(self._table)
        self._fragments = Fragments()
        self._ephemeral = ephemeral
        self._tell_every = tell_every
        self._timed = timed
        self._now = self._expired = self._told = self._last = -np.inf
        self._quiet_until = -np.inf  # before this no flow is over because it is silent
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
            span = SPAN if self._timed else LINGER
            end = start + int(np.searchsorted(times[start:end], times[start] + span, "right"))
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
        if not self._timed and self._now - self._told >= self._tell_every:
            batches.append(self.tell())
        if self._now > self._quiet_until and (self._timed or self._now - self._expired >= EXPIRE_EVERY):
            batches += self._close_silent()
        return [batch for batch in batches if len(batch)]

    def _close_silent(self) -> list[FlowBatch]:
        self._expired = self._now
        rows = self._table.live()
        over = self._table.last(rows) + self._table.timeouts(rows)
        silent = self._now > over
        self._quiet_until = min(float(over[~silent].min(initial=np.inf)), self._now + LINGER)
        rows = rows[silent]
        return self._close(rows, silent_moments(self._table, rows) if self._timed else None)

    def tell(self) -> FlowBatch:
        """Records of all counters that were not told yet."""
        self._told = self._now
        table, rows = self._table, self._table.those(PacketFlowState.CHANGED)
        return table.records(rows, RecordKind.UPDATED, now_moments(table, rows, self._now) if self._timed else None)

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
        part = _slice(packets, keys_of(packets, self._hasher), times, self._before(times))
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
        batches = self._count(part, group, first, rows) + self.expire(self._now)
        return batches + self._make_room()

    def _before(self, times: Times) -> Times | None:
        """The time of the packet before each; that of the first of all is its own."""
        if not self._timed:
            return None
        first = times[0] if np.isinf(self._last) else self._last
        self._last = float(times[-1])
        return np.concatenate(([first], times[:-1]))

    def _count(self, part: Slice, group: Positions, first: Positions, rows: Rows) -> list[FlowBatch]:
        """Count packets; those that begin a flow anew wait for the next round, so that the old one is closed first."""
        table, batches = self._table, []
        for turn in range(RESTARTS):
            starts = self._restarted(part, group, first, rows)
            stops = np.minimum(starts, may_begin_anew(part, group, table, rows))
            if turn == RESTARTS - 1 or not (stops < len(group)).any():
                break
            later = np.arange(len(group)) >= stops[group]
            batches += self._add(part.take(np.flatnonzero(~later)), *_without(group, rows, later))
            again = (starts == stops) & (starts < len(group))
            begin = starts[again]
            batches += self._last_words(rows[again], restart_moments(part, begin, table, rows[again]))
            table.renew(rows[again], self._oriented(part, begin), part.keys.turned[begin], part.time[begin])
            part = part.take(np.flatnonzero(later))
            group, rows = _without(group, rows, ~later)
            first = _firsts(group, len(rows))
        return batches + self._add(part, group, rows)

    def _rows(self, part: Slice, first: Positions) -> Rows:
        """The row of every group; those without one are opened by their first packet."""
        leaders = part.keys.take(first)
        rows = self._table.find(leaders)
        missing = np.flatnonzero(rows < 0)
        if len(missing):
            position = first[missing]
            state = self._oriented(part, position)
            rows[missing] = self._table.open(leaders.take(missing), state, part.time[position])
        return rows

    def _oriented(self, part: Slice, position: Positions) -> npt.NDArray[np.uint16]:
        """The state of flows that begin with these packets: which end is the client, and whether that is a guess.

        Where it is one, the flow may be older; but what never shakes hands is new after a long enough silence.
        """
        keys, protocol = part.keys, part.keys.meta[position] & np.uint16(0xFF)
        tcp = protocol == TCP
        by_ports = _likelier_client(keys.ends[0][position], keys.ends[1][position], tcp, self._ephemeral)
        sender = np.where(keys.turned[position], 1, -1)
        handshake, to_opener = part.handshakes(position)
        client = np.where(by_ports != 0, by_ports, sender)
        client = np.where(handshake, np.where(to_opener, -sender, sender), client)
        guessed = ~handshake & (tcp | (by_ports != sender))
        joined = guessed & (tcp | (part.time[position] - self._since <= LONGEST_SILENCE[protocol]))
        state = (client > 0) * np.uint16(PacketFlowState.CLIENT_HIGHER)
        state |= guessed * np.uint16(PacketFlowState.GUESSED)
        state |= joined * np.uint16(PacketFlowState.PICKED_UP)
        return state

    def _restarted(self, part: Slice, group: Positions, first: Positions, rows: Rows) -> Positions:
        """The first packet of each group that begins its flow anew; one more than the last where none does."""
        starts = np.full(len(first), len(group))
        silent = part.time[first] - self._table.last(rows) > LINGER
        if silent.any():
            silent &= part.time[first] - self._table.last(rows) > self._table.timeouts(rows)
            starts[silent] = first[silent]
        begins = begin_another(part, group, self._table, rows)[::-1]
        starts[group[begins]] = np.minimum(starts[group[begins]], begins)
        return starts

    def _add(self, part: Slice, group: Positions, rows: Rows) -> list[FlowBatch]:
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
        if self._timed:
            note_spoken(part, group, table, rows)
        state = table.state[rows]
        state &= ~np.uint16(PacketFlowState.DOUBTED)
        state |= np.uint16(PacketFlowState.CHANGED)
        note_openers(part, group, table, rows)
        talk = np.bincount(way[part.talk()], minlength=2 * n).reshape(n, 2)
        for side in (0, 1):
            state |= (packets[:, side] > 0) * np.uint16(PacketFlowState.SENT_LOWER << side)
            state |= (talk[:, side] > 0) * np.uint16(PacketFlowState.TALKED_LOWER << side)
        self._note_ends(part, group, state)
        table.state[rows] = state
        return self._announce(part, group, rows)

    def _note_ends(self, part: Slice, group: Positions, state: npt.NDArray[np.uint16]) -> None:
        ends = np.flatnonzero(part.tcp_flags & (FIN | RST))
        if len(ends):
            flags, turned = part.tcp_flags[ends], part.keys.turned[ends]
            bits = np.where(turned, np.uint16(PacketFlowState.FIN_HIGHER), np.uint16(PacketFlowState.FIN_LOWER))
            bits = np.where((flags & FIN) != 0, bits, np.uint16(0))
            bits |= np.where((flags & RST) != 0, np.uint16(PacketFlowState.RESET), np.uint16(0))
            np.bitwise_or.at(state, group[ends], bits)

    def _announce(self, part: Slice, group: Positions, rows: Rows) -> list[FlowBatch]:
        """Flows that are new, and those that began to end."""
        state = self._table.state[rows]
        new = (state & np.uint16(PacketFlowState.TOLD)) == 0
        batches = []
        if new.any():
            first = _firsts(group, len(rows))[new] if self._timed else group
            batches += self._openings(rows[new], first_moments(part, first, self._table, rows[new]))
        untold = ((state & CLOSING) != 0) & ((state & np.uint16(PacketFlowState.ENDING_TOLD)) == 0)
        if untold.any():
            self._table.state[rows[untold]] |= np.uint16(PacketFlowState.ENDING_TOLD)
            untold &= ~new | self._timed  # else the record of the beginning has told it
            ends = np.flatnonzero(part.tcp_flags & (FIN | RST))
            first = np.zeros(len(rows), np.intp)
            first[group[ends[::-1]]] = ends[::-1]
            moments = end_moments(part, first[untold], self._table, rows[untold])
            batches.append(self._table.records(rows[untold], RecordKind.UPDATED, moments))
        return batches

    def _openings(self, rows: Rows, moments: Moments | None) -> list[FlowBatch]:
        joined = (self._table.state[rows] & np.uint16(PacketFlowState.PICKED_UP)) != 0
        batches = [
            self._table.records(rows[some], kind, None if moments is None else moments.take(some))
            for some, kind in ((~joined, RecordKind.OPENED), (joined, RecordKind.UPDATED))
            if some.any()
        ]
        if self._timed:  # what came after the first packet is told later, with its own instants
            self._table.state[rows] |= np.uint16(PacketFlowState.CHANGED)
            for batch in batches:
                batch.flags &= ~np.uint16(Flag.ENDING)
        return batches

    def _last_words(self, rows: Rows, moments: Moments | None = None) -> list[FlowBatch]:
        """The last records of flows, which are over."""
        if not len(rows):
            return []
        untold = (self._table.state[rows] & np.uint16(PacketFlowState.TOLD)) == 0
        openings = self._openings(rows[untold], None if moments is None else moments.take(untold))
        return [*openings, self._table.records(rows, RecordKind.CLOSED, moments)]

    def _close(self, rows: Rows, moments: Moments | None = None) -> list[FlowBatch]:
        batches = self._last_words(rows, moments)
        self._table.close(rows)
        return batches

    def _make_room(self) -> list[FlowBatch]:
        surplus = len(self._table) - self.max_flows
        if surplus <= 0:
            return []
        self.counts.shed += surplus
        rows = self._table.surplus(surplus)
        return self._close(rows, now_moments(self._table, rows, self._now) if self._timed else None)


def _slice(packets: Packets, keys: Keys, times: Times, before: Times | None) -> Slice:
    flagless = (packets.flags & _FLAGLESS) != 0
    return Slice(keys, packets.length, packets.tcp_flags, packets.sequence, flagless, times, before)


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
    """From the ports: -1 the lower end, 1 the higher end, 0 they do not tell. For TCP the higher port decides last."""
    low, high = low & np.uint64(0xFFFF), high & np.uint64(0xFFFF)
    by_role = likelier_client(high, low, ephemeral).astype(np.int64)
    by_size = np.where(tcp, (high > low).astype(np.int64) - (high < low), 0)
    return np.where(by_role != 0, by_role, by_size)
