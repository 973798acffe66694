"""The table of packet flows, in columns: one row per flow, 168 bytes of memory each."""

from __future__ import annotations

from enum import IntFlag

import numpy as np
import numpy.typing as npt

from flowmap.flows.index.hash_index import KeyIndex, Positions, Rows
from flowmap.flows.records.batch import Flag, FlowBatch, Moments, RecordKind
from flowmap.sources.packets.keys import WIDE, Keys, Mask

TCP, UDP, ICMP, ICMP6 = 6, 17, 1, 58
Times = npt.NDArray[np.float64]

LINGER = 10.0
"""The shortest timeout in seconds: within it no flow can time out and restart."""
UNREPLIED, REPLIED, ESTABLISHED, OTHER = 30.0, 120.0, 432_000.0, 600.0

LONGEST_SILENCE: Times = np.full(256, OTHER)
"""By protocol, the longest timeout of a flow in seconds."""
LONGEST_SILENCE[[TCP, UDP, ICMP, ICMP6]] = ESTABLISHED, REPLIED, UNREPLIED, UNREPLIED
LEAST_SILENCE: Times = np.full(256, OTHER)
"""By protocol, the shortest timeout of a flow in seconds; for TCP without FIN and RST."""
LEAST_SILENCE[[TCP, UDP, ICMP, ICMP6]] = REPLIED, UNREPLIED, UNREPLIED, UNREPLIED


class PacketFlowState(IntFlag):
    """Facts about one flow. The bits of the higher endpoint are those of the lower one, shifted by one."""

    USED = 1
    CLIENT_HIGHER = 2
    """The client is the higher endpoint."""
    GUESSED = 4
    FIN_LOWER = 8
    FIN_HIGHER = 16
    RESET = 32
    SENT_LOWER = 64
    SENT_HIGHER = 128
    CHANGED = 256
    """Counters grew since the last report."""
    ENDING_REPORTED = 512
    DOUBTED = 1024
    """Packets were lost since its last one; its end may be among them."""
    REPORTED = 2048
    """A record of it was delivered."""
    PICKED_UP = 4096
    """It may be older than its first packet here."""
    PAST_SYN_LOWER = 8192
    """This endpoint sent another packet than an opening SYN: it has finished the handshake."""
    PAST_SYN_HIGHER = 16384


FIN = np.uint16(PacketFlowState.FIN_LOWER | PacketFlowState.FIN_HIGHER)
SENT = np.uint16(PacketFlowState.SENT_LOWER | PacketFlowState.SENT_HIGHER)
CLOSING = np.uint16(PacketFlowState.FIN_LOWER | PacketFlowState.FIN_HIGHER | PacketFlowState.RESET)


class PacketTable:
    """At most ``rows`` flows, converted to a FlowBatch only when they are reported."""

    def __init__(self, rows: int, *, first_id: int = 1, timed: bool = False) -> None:
        self.ends = np.zeros((rows, 2), np.uint64)
        self.high = np.zeros((rows, 2), np.uint64)  # written and read only where WIDE
        self.top = np.zeros((rows, 2), np.uint64)
        self.meta = np.zeros(rows, np.uint16)
        self.id = np.zeros(rows, np.uint64)
        self.bytes = np.zeros((rows, 2), np.uint64)  # sent by the lower and by the higher endpoint
        self.packets = np.zeros((rows, 2), np.uint64)
        self.last_seen = np.zeros((rows, 2), np.float64)  # time of the last packet of each endpoint
        self.alive = np.zeros((rows if timed else 0, 2), np.float64)  # the same, of packets before the first FIN or RST
        self.interface = np.zeros((rows, 2), np.int32)  # the interface that counts
        self.sequence = np.zeros((rows, 2), np.uint32)  # of each endpoint's opening SYN; 0: unknown
        self.state = np.zeros(rows, np.uint16)
        self._index = KeyIndex(rows)
        self._free = np.arange(rows - 1, -1, -1, dtype=np.int32)
        self._unused = rows
        self._top = 0
        self._next_id = first_id

    def __len__(self) -> int:
        return len(self._free) - self._unused

    @property
    def next_id(self) -> int:
        """One more than the largest assigned id."""
        return self._next_id

    def live(self) -> Rows:
        """Every row in use."""
        return np.flatnonzero(self.state[: self._top]).astype(np.int32)

    def those(self, state: PacketFlowState) -> Rows:
        """Rows with at least one of the bits."""
        return np.flatnonzero(self.state[: self._top] & np.uint16(state)).astype(np.int32)

    def find(self, keys: Keys) -> Rows:
        """The row of each flow; -1 without one."""

        def equal(positions: Positions, rows: Rows) -> Mask:
            same: Mask = self.ends[rows, 0] == keys.ends[0][positions]
            same &= self.ends[rows, 1] == keys.ends[1][positions]
            same &= self.meta[rows] == keys.meta[positions]
            if keys.wide is not None:
                narrow = (keys.meta[positions] & WIDE) == 0  # their rows may have values of earlier flows here
                for column, (low, high) in ((self.high, keys.wide.high), (self.top, keys.wide.top)):
                    same &= narrow | ((column[rows, 0] == low[positions]) & (column[rows, 1] == high[positions]))
            return same

        return self._index.find(keys.hashes, equal)

    def last(self, rows: Rows) -> Times:
        """Time of the last packet of each flow."""
        last_seen = self.last_seen[rows]
        return np.maximum(last_seen[:, 0], last_seen[:, 1])

    def sent(self, rows: Rows) -> Times:
        """Time of the client's last packet before the first FIN or RST; -inf without one. Only for timed tables."""
        side = ((self.state[rows] & np.uint16(PacketFlowState.CLIENT_HIGHER)) != 0).astype(np.intp)
        alive: Times = self.alive[rows, side]
        return alive

    def open(self, keys: Keys, state: npt.NDArray[np.uint16], now: Times) -> Rows:
        """Create rows for new flows that start ``now``; every key occurs once."""
        self._unused -= len(keys.hashes)
        rows = self._free[self._unused : self._unused + len(keys.hashes)][::-1].copy()
        self._top = max(self._top, int(rows.max(initial=-1)) + 1)
        self.ends[rows, 0], self.ends[rows, 1] = keys.ends
        self.meta[rows] = keys.meta
        if keys.wide is not None:
            self.high[rows, 0], self.high[rows, 1] = keys.wide.high
            self.top[rows, 0], self.top[rows, 1] = keys.wide.top
        self.last_seen[rows] = -np.inf
        self.interface[rows] = -1
        self.renew(rows, state, keys.turned, now)
        self._index.insert(rows, keys.hashes)
        return rows

    def renew(self, rows: Rows, state: npt.NDArray[np.uint16], turned: Mask, now: Times) -> None:
        """Replace the flows in ``rows`` by new ones with the same endpoints, which start ``now``."""
        self.id[rows] = np.arange(self._next_id, self._next_id + len(rows), dtype=np.uint64)
        self._next_id += len(rows)
        self.bytes[rows] = self.packets[rows] = self.sequence[rows] = 0
        self.last_seen[rows, turned.astype(np.intp)] = now
        if len(self.alive):
            self.alive[rows] = -np.inf
        self.state[rows] = state | np.uint16(PacketFlowState.USED)

    def close(self, rows: Rows) -> None:
        """Free rows."""
        self._index.remove(rows)
        self.state[rows] = 0
        self._free[self._unused : self._unused + len(rows)] = rows
        self._unused += len(rows)

    def timeouts(self, rows: Rows) -> Times:
        """Seconds of silence after which each flow ends; close to the defaults of conntrack.

        TCP: 10 s after a reset, 30 s after both FINs, 120 s after one FIN or without an answer, five days otherwise.
        UDP: 30 s, 120 s after packets in both directions. ICMP: 30 s. Other protocols: 600 s.
        """
        state, protocol = self.state[rows], self.meta[rows] & np.uint16(0xFF)
        replied = (state & SENT) == SENT
        timeout: Times = LONGEST_SILENCE[protocol]
        timeout[(protocol == UDP) & ~replied] = UNREPLIED
        tcp = protocol == TCP
        fin = state & FIN
        timeout[tcp] = np.where(replied | ((state & np.uint16(PacketFlowState.GUESSED)) != 0), ESTABLISHED, REPLIED)[
            tcp
        ]
        timeout[tcp & (fin != 0)] = REPLIED
        timeout[tcp & (fin == FIN)] = UNREPLIED
        timeout[tcp & ((state & np.uint16(PacketFlowState.RESET)) != 0)] = LINGER
        return timeout

    def surplus(self, count: int) -> Rows:
        """The ``count`` rows to evict: flows with FIN or RST first, then those without an answer, then the others.

        Within each kind the flows with the oldest last packet come first.
        """
        rows = self.live()
        state = self.state[rows]
        grade = np.where((state & CLOSING) != 0, 0, np.where((state & SENT) == SENT, 2, 1))
        order = np.lexsort((self.last(rows), grade))
        chosen: Rows = rows[order[:count]]
        return chosen

    def records(self, rows: Rows, kind: RecordKind, moments: Moments | None = None) -> FlowBatch:
        """The rows as records of ``kind`` with their counters and, if given, the times of their events."""
        batch = FlowBatch(len(rows))
        batch.moments = moments
        state = self.state[rows]
        turned = (state & np.uint16(PacketFlowState.CLIENT_HIGHER)) != 0
        batch.kind[:] = int(kind)
        batch.protocol[:] = self.meta[rows] & np.uint16(0xFF)
        batch.id[:] = self.id[rows]
        batch.flags[:] = self._flags(state)
        self._put_ends(batch, rows, turned)
        for name, column in (("bytes", self.bytes), ("packets", self.packets)):
            pair = column[rows]
            getattr(batch, f"transmit_{name}")[:] = np.where(turned, pair[:, 1], pair[:, 0])
            getattr(batch, f"receive_{name}")[:] = np.where(turned, pair[:, 0], pair[:, 1])
        self.state[rows] = (state & ~np.uint16(PacketFlowState.CHANGED)) | np.uint16(PacketFlowState.REPORTED)
        return batch

    def doubtful(self, rows: Rows) -> FlowBatch:
        """Records that mark these flows as doubtful: their end may have been missed."""
        batch = FlowBatch(len(rows))
        state = self.state[rows]
        batch.kind[:] = int(RecordKind.DUMPED)
        batch.protocol[:] = self.meta[rows] & np.uint16(0xFF)
        batch.id[:] = self.id[rows]
        batch.flags[:] = self._flags(state) & ~np.uint16(Flag.COUNTERS) | np.uint16(Flag.DOUBTFUL | Flag.PICKED_UP)
        self._put_ends(batch, rows, (state & np.uint16(PacketFlowState.CLIENT_HIGHER)) != 0)
        self.state[rows] = state | np.uint16(PacketFlowState.DOUBTED)
        return batch

    def _put_ends(self, batch: FlowBatch, rows: Rows, turned: Mask) -> None:
        ends = self.ends[rows]
        low, high = ends >> np.uint64(16), np.zeros_like(ends)
        wide = np.flatnonzero(self.meta[rows] & WIDE)
        if len(wide):
            low[wide] |= self.top[rows[wide]] << np.uint64(48)
            high[wide] = self.high[rows[wide]]
        ports = ends & np.uint64(0xFFFF)
        for name, lower in (("client", ~turned), ("server", turned)):
            for part, pair in (("high", high), ("low", low), ("port", ports)):
                column = np.where(lower, pair[:, 0], pair[:, 1])
                getattr(batch, f"{name}_{part}")[:] = column
                getattr(batch, f"translated_{name}_{part}")[:] = column

    def _flags(self, state: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
        flags = np.full(len(state), int(Flag.COUNTERS), np.uint16)
        flags[(state & CLOSING) != 0] |= np.uint16(Flag.ENDING)
        flags[(state & SENT) == SENT] |= np.uint16(Flag.REPLIED | Flag.ASSURED)
        flags[(state & np.uint16(PacketFlowState.GUESSED)) != 0] |= np.uint16(Flag.GUESSED)
        flags[(state & np.uint16(PacketFlowState.PICKED_UP)) != 0] |= np.uint16(Flag.PICKED_UP)
        return flags
