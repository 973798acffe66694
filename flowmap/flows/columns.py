"""The columns of the flow table: one numpy array per fact, one row per flow."""

from __future__ import annotations

from enum import IntFlag, auto
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flowmap.flows.index.hash_index import Hasher, Hashes, Positions, Rows
from flowmap.flows.index.ports import client_ports, pack, protocols, server_ports, unpack, unpack_nat
from flowmap.flows.records.batch import FlowBatch
from flowmap.model.address import Address, Endpoint

U64 = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

PENDING = -1
"""``series`` of a flow without a decision."""
IGNORED = -2
"""``series`` of a flow that the filters ignore."""

TRANSMIT_BYTES, RECEIVE_BYTES, TRANSMIT_PACKETS, RECEIVE_PACKETS = range(4)
"""Order of the four counters in every array of them."""


class Row(IntFlag):
    """Facts about one row. No file keeps these numbers."""

    USED = auto()
    OPEN = auto()
    """The kernel still has the flow."""
    ENDED = auto()
    """The connection is closed (``ended_after`` and ``ended_by`` are set), even if the kernel keeps its entry."""
    PREEXISTING = auto()
    """The flow is older than the first full read. Its earlier traffic is not counted."""
    GUESSED = auto()
    TRANSLATED = auto()
    READ = auto()
    """Counters were read at least once (``read_at``)."""
    INDEXED = auto()
    """The index finds the row by its tuple."""
    HEALTH_READ = auto()
    """Retransmissions were read at least once."""
    END_UNANNOUNCED = auto()
    """The kernel may not announce the end. Only a full read shows that the flow is alive."""
    PRESENT = auto()
    """The client's socket is on this host, so the client exists while the flow is open."""
    UNANNOUNCED = auto()
    """Found by a full read or an update. The event of its opening may follow."""
    PICKED_UP = auto()
    """Picked up in the middle, so its start is unknown."""
    ASSURED = auto()
    """Both hosts take part; see ``flowmap.flows.eviction``."""
    UNCONFIRMED = auto()
    """Connectionless, with traffic that waits for a confirmation of the owner; see ``flowmap.flows.bursts``."""
    NAMED = auto()
    """A decision about the flow named an owner, or several."""


class FlowColumns:
    """``n`` rows. The arrays start as untouched zero pages, so unused rows take no memory."""

    def __init__(self, n: int) -> None:
        self.flags = np.zeros(n, np.uint32)  # Row
        # Identity: the original tuple, the zone, the network namespace and the kernel's id.
        self.client_high = np.zeros(n, np.uint64)
        self.client_low = np.zeros(n, np.uint64)
        self.server_high = np.zeros(n, np.uint64)
        self.server_low = np.zeros(n, np.uint64)
        self.ports = np.zeros(n, np.uint64)  # with zone and protocol, packed: see ``flows.index.ports``
        self.namespace = np.zeros(n, np.uint32)  # see ``flowmap.flows.namespaces.numbering``
        self.namespaced = False  # whether any row ever had another one than 0; until then nothing is written there
        self.id = np.zeros(n, np.uint64)
        # Written only for flows with NAT.
        self.translated = np.zeros((n, 4), np.uint64)  # client high, low, server high, low
        self.translated_ports = np.zeros(n, np.uint32)  # packed
        # Numbers of the endpoints that questions are about.
        self.client = np.zeros(n, np.int32)
        self.service = np.zeros(n, np.int32)
        self.last = np.zeros((n, 4), np.uint64)  # the kernel's counters when last read
        self.base = np.zeros((n, 4), np.uint64)  # part of ``last`` that is not counted, modulo 2**64
        self.retransmits = np.zeros(n, np.uint32)  # the kernel's count when last read
        self.resent = np.zeros(n, np.uint32)  # the observed part of it
        self.round_trip = np.zeros(n, np.uint32)  # µs, 0 if never measured
        self.client_workload = np.zeros(n, np.uint32)  # see ``flowmap.flows.workloads``
        self.server_workload = np.zeros(n, np.uint32)
        # Time, monotonic seconds. The flow began in (born_after, born_by] and ended in [ended_after, ended_by].
        self.born_after = np.zeros(n, np.float64)
        self.born_by = np.zeros(n, np.float64)
        self.ended_after = np.zeros(n, np.float64)
        self.ended_by = np.zeros(n, np.float64)
        self.active = np.zeros(n, np.float64)  # the client sent something after this instant
        self.changed_at = np.zeros(n, np.float64)  # the counters grew last by this instant
        self.read_at = np.zeros(n, np.float64)  # ``last`` is not older than this
        self.read = np.zeros(n, np.uint32)  # number of the full read that last saw the flow
        self.held = np.zeros(n, np.uint32)  # where its counters are held, 0: nowhere; see ``flows.held_counters``
        # Written only for connectionless flows: see ``flowmap.flows.bursts``.
        self.heard_by = np.zeros(n, np.float64)
        self.burst_after = np.zeros(n, np.float64)
        self.burst_by = np.zeros(n, np.float64)
        self.unsettled = np.zeros((n, 4), np.uint64)
        self.earlier = np.zeros(n, np.int32)  # ``verdict`` before that of the burst
        self.earlier_state = np.zeros(n, np.uint8)
        self.counted = np.zeros(n, np.int32)  # 1 + the series of one owner in which it was counted last; 0: none
        self.series = np.zeros(n, np.int32)  # series id of its traffic, or PENDING, IGNORED
        self.state = np.zeros(n, np.uint8)  # State of the owner as a code of the attribution, 0 while undecided
        self.verdict = np.zeros(n, np.int32)  # number of the decision

    def reset(self, rows: Rows) -> None:
        """Clear the counters, health, workloads, end and decision that an earlier flow left in the rows."""
        for cleared in (self.last, self.base, self.retransmits, self.resent, self.round_trip, self.read_at, self.state):
            cleared[rows] = 0
        self.client_workload[rows] = self.server_workload[rows] = 0
        self.ended_after[rows] = self.active[rows] = self.changed_at[rows] = -np.inf
        self.ended_by[rows] = np.inf
        self.verdict[rows] = -1

    def protocol(self, rows: Rows) -> U64:
        """IANA numbers of the rows."""
        return protocols(self.ports[rows])

    def client_port(self, rows: Rows) -> U64:
        """Client ports of the rows, before NAT."""
        return client_ports(self.ports[rows])

    def server_port(self, rows: Rows) -> U64:
        """Server ports of the rows, before NAT."""
        return server_ports(self.ports[rows])

    def endpoints_of(self, row: int) -> tuple[Endpoint, Endpoint]:
        """Client and server endpoint of one row, before NAT."""
        ports = unpack(int(self.ports[row]))
        client = Address(int(self.client_high[row]), int(self.client_low[row]))
        server = Address(int(self.server_high[row]), int(self.server_low[row]))
        return Endpoint(client, ports.client), Endpoint(server, ports.server)

    def translated_endpoints_of(self, row: int) -> tuple[Endpoint, Endpoint]:
        """Client and server endpoint of one row with NAT, as the server sees them."""
        client_high, client_low, server_high, server_low = self.translated[row].tolist()
        client_port, server_port = unpack_nat(int(self.translated_ports[row]))
        return Endpoint(Address(client_high, client_low), client_port), Endpoint(
            Address(server_high, server_low), server_port
        )

    def total(self, rows: Rows) -> U64:
        """The four observed counters of each row, side by side."""
        total: U64 = self.last[rows] - self.base[rows]
        return total


class FlowKeys(NamedTuple):
    """The original tuple of many records, with zone and protocol among the ports, and their network namespace."""

    client_high: U64
    client_low: U64
    server_high: U64
    server_low: U64
    ports: U64
    namespace: npt.NDArray[np.uint32]

    def take(self, positions: Positions) -> FlowKeys:
        """The keys at some positions."""
        return FlowKeys._make(column[positions] for column in self)

    def hashes(self, hasher: Hasher) -> Hashes:
        """One hash for each key."""
        return hasher(self[:-1], apart=self.namespace)

    def same(self, columns: FlowColumns, keys: Positions, rows: Rows) -> Mask:
        """Whether the key at each position equals that of each row."""
        same: Mask = columns.ports[rows] == self.ports[keys]
        same &= columns.client_low[rows] == self.client_low[keys]
        same &= columns.server_low[rows] == self.server_low[keys]
        same &= columns.client_high[rows] == self.client_high[keys]
        same &= columns.server_high[rows] == self.server_high[keys]
        if columns.namespaced or self.namespace.any():
            same &= columns.namespace[rows] == self.namespace[keys]
        return same

    def write(self, columns: FlowColumns, rows: Rows) -> None:
        """Make these the keys of the rows."""
        columns.namespaced = columns.namespaced or bool(self.namespace.any())
        for name, values in zip(self._fields[: None if columns.namespaced else -1], self, strict=False):
            getattr(columns, name)[rows] = values


def key_columns(batch: FlowBatch) -> FlowKeys:
    """The columns that identify a flow within its host: addresses, packed ports, and the network namespace."""
    ports = pack(batch.client_port, batch.server_port, batch.zone, batch.protocol)
    return FlowKeys(batch.client_high, batch.client_low, batch.server_high, batch.server_low, ports, batch.namespace)


def occurrence_rounds(hashes: Hashes) -> list[Positions] | None:
    """Split a batch into parts without repeated keys; the records of a key keep their order.

    The n-th record of every key goes to the n-th part. None if no key repeats, as in nearly all full reads.
    """
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    repeated = ordered[1:] == ordered[:-1]
    if not repeated.any():
        return None
    position = np.arange(len(hashes))
    first = np.concatenate(([True], ~repeated))
    rank = np.empty(len(hashes), np.intp)
    rank[order] = position - np.maximum.accumulate(np.where(first, position, 0))
    return np.split(np.argsort(rank, kind="stable"), np.cumsum(np.bincount(rank))[:-1])
