"""Turns packets into flows: the client, start and end, and counters.

**Client.** The source of a SYN opened the connection; for a SYN-ACK, or a RST that refuses a SYN, it is the
destination. A connection picked up in the middle is a guess: the client has the likelier port (see ``port_roles``),
else the higher one. A handshake on such a flow starts a new flow, since the end of the old one was missed. Protocols
without a handshake: the first sender is the client, unless the other port is likelier the client's. This is a guess
unless the ports agree.

**End.** Flows end after the timeouts of :meth:`PacketTable.timeouts`. A SYN that is not a copy (see ``handshakes``), or
a packet after a longer silence, starts a new flow. TCP ends with the first FIN or RST, even if the other direction
continues: the sender of the FIN may be gone.

**Several interfaces.** A bridge or router shows a packet twice. In each direction a flow is counted on the first
interface that shows it. After :data:`flowmap.sources.packets.duplicates.SILENCE` seconds without packets there, another
interface replaces it. So the first second after a change of route is not counted. If the packets of one connection are
distributed over interfaces, only those on one interface count. Both sides of NAT are separate flows, and both count.

Every decision is made packet by packet and in order, so the result does not depend on how packets are split into calls.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flowmap.flows.index.hash_index import Hasher, Positions, Rows
from flowmap.flows.records.batch import Flag, FlowBatch, Moments, RecordKind
from flowmap.sources.packets.duplicates import Duplicates, Seen
from flowmap.sources.packets.fragments import Fragments
from flowmap.sources.packets.handshakes import FIN, RST, Slice, find_restarts, note_openers
from flowmap.sources.packets.keys import SLOTS, Grouping, Keys, Mask, keys_of
from flowmap.sources.packets.moments import (
    end_moments,
    first_moments,
    note_alive,
    now_moments,
    restart_moments,
    silent_moments,
)
from flowmap.sources.packets.silence import SPAN, may_restart
from flowmap.sources.packets.table import CLOSING, LINGER, LONGEST_SILENCE, TCP, PacketFlowState, PacketTable, Times
from flowmap.sources.port_roles import likelier_client
from flowmap.wire.packets.packets import Mark, Packets

SLICE = SLOTS // 4
"""Packets processed at a time."""
EXPIRE_EVERY = 1.0
"""Seconds between two searches for silent flows."""
RESTARTS = 64
"""Connections of one tuple that are distinguished within a slice; more count as one."""

_FLAGLESS = np.uint16(Mark.FRAGMENT_LATER | Mark.FLAGS_UNKNOWN)


@dataclass(slots=True)
class PacketCounts:
    """Counts of packets and flows that were handled specially."""

    duplicates: int = 0
    """Packets seen on a second interface, not counted again."""
    shed: int = 0
    """Flows closed early because the table was full."""
    lone_fragments: int = 0
    """Later fragments without their first fragment: they count as a flow without ports."""

    def exceptional(self) -> dict[str, int]:
        """The counts for :attr:`flowmap.model.source.SourceStats.exceptional_packets`."""
        return {"duplicate": self.duplicates, "lone_fragment": self.lone_fragments}


class PacketFlows:
    """Takes packets in order and returns records of flows. Not thread-safe; times are seconds of any one clock."""

    def __init__(
        self,
        max_flows: int,
        *,
        seed: bytes = bytes(range(1, 49)),
        ephemeral: tuple[int, int] = (32_768, 60_999),
        report_every: float = 0.0,
        first_id: int = 1,
        timed: bool = False,
    ) -> None:
        """``ephemeral``: first and last port assigned to clients. ``seed``: 48 random bytes, see FlowTable.

        ``report_every``: seconds between reports of growing counters; starts and ends are reported at once.
        ``first_id``: the ``next_id`` of a previous object. ``timed``: records have the times of their packets, so one
        call may take many packets; growing counters wait until :meth:`report`.
        """
        self.counts = PacketCounts()
        self.max_flows = max_flows
        self._table = PacketTable(max_flows + SLICE, first_id=first_id, timed=timed)
        self._hasher = Hasher(seed)
        self._group = Grouping()
        self._sightings = Duplicates(self._table)
        self._fragments = Fragments()
        self._ephemeral = ephemeral
        self._report_every = report_every
        self._timed = timed
        self._now = self._expired = self._reported = self._last = -np.inf
        self._quiet_until = -np.inf  # no flow times out before this time
        self._since = np.inf  # no packet was missed since this time

    def __len__(self) -> int:
        return len(self._table)

    @property
    def next_id(self) -> int:
        """One more than the largest assigned id."""
        return self._table.next_id

    def take(self, packets: Packets, times: Times, interfaces: npt.NDArray[np.int32] | int = 0) -> list[FlowBatch]:
        """Records of the flows that the packets changed, in order.

        ``times``: of each packet; an earlier time than the latest so far is replaced by that. ``interfaces``: the
        number of the interface of each packet, or of all.
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
        """Records of flows that timed out, and of growing counters if due. Cheap if called often."""
        self._now = max(self._now, now)
        batches = []
        if not self._timed and self._now - self._reported >= self._report_every:
            batches.append(self.report())
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

    def report(self) -> FlowBatch:
        """Records of all counters that grew since their last report."""
        self._reported = self._now
        table, rows = self._table, self._table.those(PacketFlowState.CHANGED)
        return table.records(rows, RecordKind.UPDATED, now_moments(table, rows, self._now) if self._timed else None)

    def note_gap(self) -> None:
        """Note that packets before now may be missing: a flow that starts with the next packet may be older."""
        self._since = np.inf

    def mark_doubtful(self) -> FlowBatch:
        """Records that mark every open flow as doubtful: packets were lost, and its end may be among them."""
        self.note_gap()
        table, rows = self._table, self._table.live()
        rows = rows[(table.state[rows] & (CLOSING | np.uint16(PacketFlowState.DOUBTED))) == 0]
        return table.doubtful(rows)

    def close_all(self) -> list[FlowBatch]:
        """Close all flows after a long loss; returns their final records."""
        self.note_gap()
        return self._close(self._table.live())

    def close_on(self, interface: int) -> list[FlowBatch]:
        """Close the flows counted on an interface whose packets are no longer seen; returns their final records.

        They may end unseen, and their endpoints may be reused before the interface is seen again.
        """
        self.note_gap()
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
        """The time of the packet before each packet; the very first packet has its own time."""
        if not self._timed:
            return None
        first = times[0] if np.isinf(self._last) else self._last
        self._last = float(times[-1])
        return np.concatenate(([first], times[:-1]))

    def _count(self, part: Slice, group: Positions, first: Positions, rows: Rows) -> list[FlowBatch]:
        """Count packets. Those that restart a flow wait for the next round, so that the old flow is closed first."""
        table, batches = self._table, []
        for turn in range(RESTARTS):
            starts = self._restarted(part, group, first, rows)
            stops = np.minimum(starts, may_restart(part, group, table, rows))
            if turn == RESTARTS - 1 or not (stops < len(group)).any():
                break
            later = np.arange(len(group)) >= stops[group]
            batches += self._add(part.take(np.flatnonzero(~later)), *_without(group, rows, later))
            again = (starts == stops) & (starts < len(group))
            begin = starts[again]
            batches += self._final_records(rows[again], restart_moments(part, begin, table, rows[again]))
            table.renew(rows[again], self._oriented(part, begin), part.keys.turned[begin], part.time[begin])
            part = part.take(np.flatnonzero(later))
            group, rows = _without(group, rows, ~later)
            first = _firsts(group, len(rows))
        return batches + self._add(part, group, rows)

    def _rows(self, part: Slice, first: Positions) -> Rows:
        """The row of every group; opens flows for groups without one."""
        leaders = part.keys.take(first)
        rows = self._table.find(leaders)
        missing = np.flatnonzero(rows < 0)
        if len(missing):
            position = first[missing]
            state = self._oriented(part, position)
            rows[missing] = self._table.open(leaders.take(missing), state, part.time[position])
        return rows

    def _oriented(self, part: Slice, position: Positions) -> npt.NDArray[np.uint16]:
        """The state of flows that start with these packets: which endpoint is the client, and whether that is a guess.

        A guessed flow may be older than its first packet. Protocols without a handshake count as new after the longest
        timeout without missed packets.
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
        """Position of the first packet of each group that restarts its flow; the number of packets if none does."""
        starts = np.full(len(first), len(group))
        silent = part.time[first] - self._table.last(rows) > LINGER
        if silent.any():
            silent &= part.time[first] - self._table.last(rows) > self._table.timeouts(rows)
            starts[silent] = first[silent]
        begins = find_restarts(part, group, self._table, rows)[::-1]
        starts[group[begins]] = np.minimum(starts[group[begins]], begins)
        return starts

    def _add(self, part: Slice, group: Positions, rows: Rows) -> list[FlowBatch]:
        """Add the packets to the counters; returns the records that must be reported at once."""
        table, n = self._table, len(rows)
        way = group * 2 + part.keys.turned
        # Sums of doubles are exact below 2**53, and a slice holds at most 2**16 lengths of 32 bits.
        table.bytes[rows] += np.bincount(way, part.length, 2 * n).astype(np.uint64).reshape(n, 2)
        packets = np.bincount(way, minlength=2 * n).reshape(n, 2)
        table.packets[rows] += packets.astype(np.uint64)
        last_seen = table.last_seen[rows]
        last_seen.reshape(-1)[way] = part.time  # in order: the last packet counts
        table.last_seen[rows] = last_seen
        if self._timed:
            note_alive(part, group, table, rows)
        state = table.state[rows]
        state &= ~np.uint16(PacketFlowState.DOUBTED)
        state |= np.uint16(PacketFlowState.CHANGED)
        note_openers(part, group, table, rows)
        past_syn = np.bincount(way[part.past_syn()], minlength=2 * n).reshape(n, 2)
        for side in (0, 1):
            state |= (packets[:, side] > 0) * np.uint16(PacketFlowState.SENT_LOWER << side)
            state |= (past_syn[:, side] > 0) * np.uint16(PacketFlowState.PAST_SYN_LOWER << side)
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
        """Records of new flows, and of flows with their first FIN or RST."""
        state = self._table.state[rows]
        new = (state & np.uint16(PacketFlowState.REPORTED)) == 0
        batches = []
        if new.any():
            first = _firsts(group, len(rows))[new] if self._timed else group
            batches += self._openings(rows[new], first_moments(part, first, self._table, rows[new]))
        unreported = ((state & CLOSING) != 0) & ((state & np.uint16(PacketFlowState.ENDING_REPORTED)) == 0)
        if unreported.any():
            self._table.state[rows[unreported]] |= np.uint16(PacketFlowState.ENDING_REPORTED)
            unreported &= ~new | self._timed  # otherwise the opening record contains it
            ends = np.flatnonzero(part.tcp_flags & (FIN | RST))
            first = np.zeros(len(rows), np.intp)
            first[group[ends[::-1]]] = ends[::-1]
            moments = end_moments(part, first[unreported], self._table, rows[unreported])
            batches.append(self._table.records(rows[unreported], RecordKind.UPDATED, moments))
        return batches

    def _openings(self, rows: Rows, moments: Moments | None) -> list[FlowBatch]:
        joined = (self._table.state[rows] & np.uint16(PacketFlowState.PICKED_UP)) != 0
        batches = [
            self._table.records(rows[some], kind, None if moments is None else moments.take(some))
            for some, kind in ((~joined, RecordKind.OPENED), (joined, RecordKind.UPDATED))
            if some.any()
        ]
        if self._timed:  # later packets are reported later, with their own times
            self._table.state[rows] |= np.uint16(PacketFlowState.CHANGED)
            for batch in batches:
                batch.flags &= ~np.uint16(Flag.ENDING)
        return batches

    def _final_records(self, rows: Rows, moments: Moments | None = None) -> list[FlowBatch]:
        """The final records of closed flows."""
        if not len(rows):
            return []
        unreported = (self._table.state[rows] & np.uint16(PacketFlowState.REPORTED)) == 0
        openings = self._openings(rows[unreported], None if moments is None else moments.take(unreported))
        return [*openings, self._table.records(rows, RecordKind.CLOSED, moments)]

    def _close(self, rows: Rows, moments: Moments | None = None) -> list[FlowBatch]:
        batches = self._final_records(rows, moments)
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
    """Groups and rows without the packets ``left_out``; empty groups are removed."""
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
    """The likelier client by port: -1 the lower endpoint, 1 the higher one, 0 unknown. TCP: else the higher port."""
    low, high = low & np.uint64(0xFFFF), high & np.uint64(0xFFFF)
    by_role = likelier_client(high, low, ephemeral).astype(np.int64)
    by_size = np.where(tcp, (high > low).astype(np.int64) - (high < low), 0)
    return np.where(by_role != 0, by_role, by_size)
